"""What eight bits cost, part by part: errors of maps and scores, and decisions that change.

    python tools/bench/eight_bits.py RUN ROOT --category Copper_Stator

Good training images measure the ranges; others of them, without and with a synthetic defect, are
compared with the float32 graph. No test image is looked at.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np
import torch

from cfrg.defects.pairs import PairKey, random_stream
from cfrg.export.graph import DetectionGraph
from cfrg.export.quantization import quantize
from cfrg.network.model import CFRG
from cfrg.network.processing import decide, resize
from cfrg.runtimes.formats import write_onnx
from cfrg.runtimes.sessions import open_session
from cfrg.training.options import TrainingOptions
from cfrg.training.recipes import make_defects
from threecad import scan
from threecad.images.files import read_image

IMAGES, CALIBRATION, COMPARED = 120, 40, 60  # all, the first, the last of them
QUANTILE = 0.95  # of the good scores: the threshold of decisions
STREAM = 99

PARTS = {
    "U-Net": ("unet",),
    "fusion": ("fusion",),
    "decoder": ("decoder",),
    "student": ("student",),
    "teacher": ("teacher",),
    "all": ("unet", "fusion", "decoder", "student", "adapters", "teacher"),
}


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--category")
@click.option("--seed", default=0, show_default=True)
def main(run: Path, root: Path, category: str | None, seed: int) -> None:
    """Compare graphs with one part in eight bits with the float32 graph."""
    model = CFRG.from_pretrained(run)
    files = [s.image for s in scan(root).select(category=category, split="train", label=0)]
    files = files[:: max(1, len(files) // IMAGES)][:IMAGES]
    pictures = [resize(read_image(file), model.config.image_size) for file in files]
    calibration, good = pictures[:CALIBRATION], pictures[-COMPARED:]
    images = np.stack([*good, *_draw_defects(pictures, seed)])
    with tempfile.TemporaryDirectory() as name:
        source, path = Path(name, "float32.onnx"), Path(name, "int8.onnx")
        graph = DetectionGraph(model, None, input_size=model.config.image_size)
        example = torch.from_numpy(images[:1])
        write_onnx(graph, example, source, {}, outputs=("anomaly_map", "score"))
        maps, scores = _run(source, images)
        scale, threshold = np.ptp(maps), np.quantile(scores[: len(good)], QUANTILE)
        decisions = decide(scores, threshold)
        click.echo("in eight bits  99.9 % of map errors  mean score error  changed  own threshold")
        for part, modules in PARTS.items():
            quantize(source, path, (image[None] for image in calibration), modules)
            new_maps, new = _run(path, images)
            click.echo(
                f"{part:13}  {np.quantile(np.abs(new_maps - maps), 0.999) / scale:20.4f}  "
                f"{np.abs(new - scores).mean() / scale:16.4f}  "
                f"{(decide(new, threshold) != decisions).sum():7}  "
                f"{(decide(new, np.quantile(new[: len(good)], QUANTILE)) != decisions).sum():13}"
            )


def _draw_defects(pictures: list[np.ndarray], seed: int) -> list[np.ndarray]:
    """Draw defects on the last of the pictures."""
    make_defect = make_defects(TrainingOptions.preset("lite", clean_share=0.0, seed=seed), pictures)
    defective = []
    for i in range(max(0, len(pictures) - COMPARED), len(pictures)):
        for attempt in range(100):  # what nobody could see is drawn again
            rng = random_stream(STREAM, seed, i, attempt)
            drawn, mask = make_defect(pictures[i], rng, PairKey(0, i), None)
            if mask.any():
                break
        defective.append(drawn)
    return defective


def _run(path: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = open_session(path)
    maps, scores = zip(*(session.run(image[None]) for image in images), strict=True)
    return np.concatenate(maps), np.concatenate(scores)


if __name__ == "__main__":
    main()

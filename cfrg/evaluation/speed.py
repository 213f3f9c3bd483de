"""How long an image takes from file to decision, stage by stage and runtime by runtime."""

from __future__ import annotations

import os
import platform
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from cfrg.evaluation.latency import VARIANTS, Task, Variation, measure
from cfrg.export.graph import DetectionGraph
from cfrg.export.quantization import quantize
from cfrg.images.sources import find_images
from cfrg.inference.loading import load_model
from cfrg.network.pretrained import read_config
from cfrg.runtimes.formats import onnx_to_openvino, write_onnx
from cfrg.runtimes.sessions import find_runtime
from threecad.errors import UsageError
from threecad.images.files import read_image, write_png
from threecad.procedural import write_sample
from threecad.system.versions import find_versions

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Benchmark", "benchmark_run"]

Size = tuple[int, int]

IMAGES = 8  # different files that are cycled through


@dataclass(frozen=True)
class Benchmark:
    """What was measured, on what.

    Attributes:
        image_size: Height and width of the PNG files.
        network_size: Height and width the network computes at.
        repetitions: Of each measurement.
        threads: Given to each runtime.
        machine: Processor, cores, system, versions.
        variants: One for each that was asked for.
    """

    image_size: Size
    network_size: Size
    repetitions: int
    threads: int
    machine: dict[str, Any]
    variants: tuple[Variation, ...]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-able data."""
        return asdict(self)


def benchmark_run(
    run: str | os.PathLike[str],
    *,
    variants: Sequence[str] = (),
    images: str | os.PathLike[str] | None = None,
    input_size: Size | None = None,
    repetitions: int = 50,
    threads: int | None = None,
) -> Benchmark:
    """Time a run in each runtime, one image at a time, each runtime in a process of its own.

    Args:
        run: The run folder.
        variants: Keys of ``cfrg.evaluation.latency.VARIANTS``; all when empty.
        images: A tree, a folder or a file; drawn images when ``None``.
        input_size: Height and width that the images are brought to; the first one's when ``None``.
        repetitions: Of each measurement.
        threads: Of each runtime; one per core when ``None``.

    Raises:
        UsageError: If a variant is unknown.
        ModelError: If the run cannot be read.
    """
    if unknown := [name for name in variants if name not in VARIANTS]:
        raise UsageError(f"No variant {unknown[0]!r}. There are: {', '.join(VARIANTS)}.")
    run, wanted = Path(run), list(variants or VARIANTS)
    threads = threads or os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="cfrg-bench-") as name:
        folder = Path(name)
        files, size = _write_images(images, input_size, folder)
        graphs = _write_graphs(run, files, size, wanted, folder)
        tasks = [
            Task(variant, run, graphs.get(variant, {}), tuple(files), repetitions, threads)
            for variant in wanted
        ]
        results = []
        for task in tqdm(tasks, "measure", unit="runtime"):
            # A fresh process each: memory is its own, and no runtime disturbs another's threads.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                results.append(process.submit(measure, task).result())
    return Benchmark(
        image_size=size,
        network_size=read_config(run).image_size,
        repetitions=repetitions,
        threads=threads,
        machine=_describe_machine(),
        variants=tuple(results),
    )


def _write_images(
    images: str | os.PathLike[str] | None, size: Size | None, folder: Path
) -> tuple[list[Path], Size]:
    """Write a few images as PNG files of one size."""
    if images is None:
        images = write_sample(folder / "sample", per_category=1, workers=0)
    found = find_images([images])
    chosen = found[:: max(1, len(found) // IMAGES)][:IMAGES]
    files = []
    for position, (_, path) in enumerate(chosen):
        image = read_image(path)
        height, width = size = size or (image.shape[0], image.shape[1])
        if image.shape[:2] != size:
            scaled = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
            image = np.array(scaled)
        files.append(folder / f"image-{position}.png")
        write_png(files[-1], image)
    assert size is not None  # find_images finds at least one
    return files, size


def _write_graphs(
    run: Path, files: Sequence[Path], size: Size, wanted: Sequence[str], folder: Path
) -> dict[str, dict[str, Path]]:
    """Export the stages and the whole for the variants that need it: file by variant and stage."""
    graphs: dict[str, dict[str, Path]] = {}
    needed = [v for v in wanted if VARIANTS[v] != "torch" and find_runtime(VARIANTS[v])]
    if not needed:
        return graphs
    model = load_model(run)
    graph = DetectionGraph(model, None, input_size=size)
    value: Any = torch.from_numpy(np.stack([read_image(path) for path in files]))
    inputs = {"whole": value}
    for stage, module in zip(("preprocess", "model", "post"), graph, strict=True):
        inputs[stage] = value
        with torch.no_grad():
            value = module(value)
    modules = dict(zip(("preprocess", "model", "post"), graph, strict=True)) | {"whole": graph}
    plain: dict[str, Path] = {}
    for stage, module in tqdm(modules.items(), "export", unit="graph"):
        plain[stage] = folder / f"{stage}.onnx"
        write_onnx(module, inputs[stage][:1], plain[stage], {})
    small = dict(plain)
    if any(variant.endswith("int8") for variant in needed):
        for stage in ("model", "whole"):
            small[stage] = folder / f"{stage}-int8.onnx"
            quantize(plain[stage], small[stage], np.split(inputs[stage].numpy(), len(files)))
    for variant in needed:
        chosen = small if variant.endswith("int8") else plain
        if VARIANTS[variant] == "openvino":
            graphs[variant] = {}
            for stage, source in chosen.items():
                graphs[variant][stage] = source.with_suffix(".xml")
                onnx_to_openvino(source, graphs[variant][stage], {}, half=False)
        else:
            graphs[variant] = chosen
    return graphs


def _describe_machine() -> dict[str, Any]:
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        names = [
            line.partition(":")[2].strip()
            for line in information.read_text().splitlines()
            if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        **find_versions(),
    }

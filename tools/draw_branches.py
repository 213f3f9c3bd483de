"""Draw docs/images/branches.png: the maps that make up CFRG's anomaly map, on drawn parts.

threecad demo --out demo
python tools/draw_branches.py demo/runs/Aluminum_Ipad demo/3cad [OUT.png]
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from PIL import Image

from cfrg import CFRG
from cfrg.network.processing import prepare
from threecad import read_mask, scan
from threecad.images.files import read_image
from threecad.pages.figures import figure_bytes, outline, styled

ROWS = 4
COLUMNS = ("image, defect outlined", "coarse", "recovery", "fine", "anomaly map")
DEFAULT = Path(__file__).parent.parent / "docs" / "images" / "branches.png"

Array = npt.NDArray[np.float32]


def draw(run: str, root: str) -> Figure:
    model = CFRG.from_pretrained(run)
    category = Path(run).name
    index = scan(root, categories=[category]).select(split="test")
    good = list(index.select(label=0))
    pictures = {sample.id: read_image(sample.image) for sample in index}
    maps = {sample.id: branch_maps(model, pictures[sample.id]) for sample in index}
    scales = [
        (np.median(values), np.quantile(values, 0.999) * 1.6)
        for values in (np.stack([maps[s.id][i] for s in good]) for i in range(len(COLUMNS) - 1))
    ]
    ranked = sorted(index.select(label=1), key=lambda sample: -maps[sample.id][-1].max())
    shown = [*ranked[:: max(1, len(ranked) // (ROWS - 1))][: ROWS - 1], good[len(good) // 2]]
    with styled({"axes.grid": False}):
        figure = Figure(figsize=(8.6, 1.55 * ROWS + 0.3), layout="constrained")
        axes = figure.subplots(ROWS, len(COLUMNS), squeeze=False)
        for row, sample in zip(axes, shown, strict=True):
            picture = pictures[sample.id]
            mask = read_mask(sample.mask) if sample.mask else np.zeros(picture.shape[:2], bool)
            row[0].imshow(outline(picture, mask))
            for axis, values, (low, high) in zip(row[1:], maps[sample.id], scales, strict=True):
                height, width = picture.shape[:2]
                axis.imshow(
                    values, cmap="inferno", vmin=low, vmax=high, extent=(0, width, height, 0)
                )
            row[0].set_ylabel("good" if sample.label == 0 else sample.defect_type)
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for axis, name in zip(axes[0], COLUMNS, strict=True):
            axis.set_title(name, fontsize=9)
    return figure


def branch_maps(model: CFRG, picture: npt.NDArray[np.uint8]) -> list[Array]:
    """Return the coarse, recovery and fine map of one image, and the anomaly map."""
    image = prepare(picture, model.config)
    branches = {name: values[0, 0].numpy() for name, values in model.branches(image).items()}
    config = model.config
    kind = "recovery" if config.recovery_distance == "cosine" else "difference"
    coarse = np.asarray(sum(branches[f"coarse_{level}"] for level in (1, 2, 3)))
    levels = zip((1, 2, 3), config.recovery_weights, strict=True)
    recovery = np.asarray(sum(weight * branches[f"{kind}_{level}"] for level, weight in levels))
    anomaly_map, _ = model.predict(image)
    return [coarse, recovery, branches["segmentation"], anomaly_map[0, 0].numpy()]


def main() -> None:
    run, root, *rest = sys.argv[1:]
    out = Path(rest[0]) if rest else DEFAULT
    torch.set_num_threads(1)
    drawn = Image.open(io.BytesIO(figure_bytes(draw(run, root), format="png"))).convert("RGB")
    small = drawn.resize((drawn.width * 3 // 5, drawn.height * 3 // 5), Image.Resampling.LANCZOS)
    small.quantize(kmeans=2).save(out, optimize=True)
    print(out)


if __name__ == "__main__":
    main()

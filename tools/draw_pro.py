"""Draw docs/images/pro.svg: pooled PRO and the paper's PRO under scores that drift.

python tools/draw_pro.py [OUT.svg]

The maps are made up: smooth noise, raised on the defects of the embedded sample. Every figure is
computed by threecad.Evaluator.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from threecad import Evaluator
from threecad.pages.figures import figure_bytes, styled
from threecad.procedural import render

IMAGES = 30  # of each kind
SIZE = 256  # that of the paper's protocol
DRIFTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
SHOWN = (0.0, 0.5, 1.0)
COLOURS = ("#0f766e", "#d97706", "#b91c1c")
LIMITS = tuple(np.round(np.arange(1, 31) / 100, 2))
DEFAULT = Path(__file__).parent.parent / "docs" / "images" / "pro.svg"

Maps = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]


def make_up_maps() -> tuple[Maps, Masks]:
    """Return ``(2N, S, S)`` maps and masks, defective images first."""
    generator = np.random.default_rng(0)
    masks = np.zeros((2 * IMAGES, SIZE, SIZE), bool)
    for number in range(IMAGES):
        mask = render("Aluminum_Ipad", "test", "bruise", number, size=SIZE)[1]
        masks[number] = cv2.resize(mask, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST) > 0
    maps = np.empty(masks.shape, np.float32)
    for mask, out in zip(masks, maps, strict=True):
        noise = cv2.GaussianBlur(generator.normal(size=(SIZE, SIZE)), (0, 0), 6)
        raised = cv2.GaussianBlur(mask.astype(np.float64), (0, 0), 3)
        out[:] = noise / noise.std() + 3.5 * raised
    return maps, masks


def drift(maps: Maps, amount: float) -> Maps:
    """Return the maps with an offset for each image, as other light or another part would add."""
    offsets = np.random.default_rng(1).normal(size=len(maps))
    return (maps + amount * offsets[:, None, None]).astype(np.float32)


def pooled_areas(maps: Maps, masks: Masks) -> npt.NDArray[np.float64]:
    """Return the area under the pooled PRO curve up to each of ``LIMITS``."""
    evaluator = Evaluator(pro_limits=LIMITS, breakdowns=False)
    evaluator.update(maps, masks, maps.max(axis=(1, 2)), masks.any(axis=(1, 2)))
    result = evaluator.compute()
    return np.array([limit * result[f"pro_{round(100 * limit):02}"].value for limit in LIMITS])


def paper_pro(maps: Maps, masks: Masks) -> float:
    evaluator = Evaluator(protocol="paper")
    evaluator.update(maps, masks, maps.max(axis=(1, 2)), masks.any(axis=(1, 2)))
    value = evaluator.compute()["pro_per_image"].value
    assert value is not None
    return value


def draw() -> Figure:
    maps, masks = make_up_maps()
    areas = {amount: pooled_areas(drift(maps, amount), masks) for amount in DRIFTS}
    paper = [paper_pro(drift(maps, amount), masks) for amount in DRIFTS]
    with styled():
        figure = Figure(figsize=(8.6, 5.4), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.25))
        draw_maps(top.subplots(1, 4), drift(maps, SHOWN[-1]), masks)
        curves, drifts = bottom.subplots(1, 2)
        draw_curves(curves, areas)
        pooled = [areas[amount][-1] / LIMITS[-1] for amount in DRIFTS]
        draw_drifts(drifts, pooled, paper)
    for amount, ours, theirs in zip(DRIFTS, pooled, paper, strict=True):
        print(f"drift {amount:4.2f}: pooled PRO@0.3 {ours:.3f}, the paper's {theirs:.3f}")
    return figure


def draw_maps(axes: npt.NDArray[np.object_], maps: Maps, masks: Masks) -> None:
    """Show two defective and two good images that drifted, flagged at one threshold."""
    level = np.quantile(maps[~masks], 0.9)
    peaks = maps.max(axis=(1, 2))
    defective, good = np.argsort(peaks[:IMAGES]), IMAGES + np.argsort(peaks[IMAGES:])
    picks = [defective[2], defective[-4], good[3], good[-2]]
    titles = ("defective, scores low", "defective, scores high", "good, low", "good, high")
    for axis, pick, title in zip(axes, picks, titles, strict=True):
        axis.imshow(maps[pick], cmap="gray", vmin=-4, vmax=6, interpolation="none")
        flagged = np.zeros((SIZE, SIZE, 4))
        flagged[maps[pick] > level] = to_rgba(COLOURS[1], 0.55)
        axis.imshow(flagged, interpolation="none")
        if masks[pick].any():
            axis.contour(masks[pick], levels=[0.5], colors=["#22d3ee"], linewidths=1.2)
        axis.set_title(title)
        axis.set_axis_off()


def draw_curves(axis: Axes, areas: dict[float, npt.NDArray[np.float64]]) -> None:
    """Show the mean overlap between neighbouring limits: the slope of the area."""
    middles = np.array(LIMITS) - 0.005
    for amount, colour in zip(SHOWN, COLOURS, strict=True):
        overlap = np.diff(areas[amount], prepend=0) / 0.01
        axis.plot(middles, overlap, color=colour, label=f"drift {amount:g}")
        axis.fill_between(middles, overlap, color=colour, alpha=0.07, linewidth=0)
    axis.set(xlim=(0, 0.3), ylim=(0, 1.02), xlabel="false positive rate, all images pooled")
    axis.set(ylabel="mean overlap of regions", title="Pooled: good images count")
    axis.legend(loc="lower right")


def draw_drifts(axis: Axes, pooled: list[float], paper: list[float]) -> None:
    axis.plot(DRIFTS, paper, "s--", color="#6b7280", label="PRO per image (the paper's code)")
    axis.plot(DRIFTS, pooled, "o-", color=COLOURS[0], label="PRO@0.3 (pooled)")
    axis.set(ylim=(0, 1.02), xlabel="drift of an image's scores, in deviations of the noise")
    axis.set(title="The same maps, two figures called PRO")
    axis.legend(loc="lower left")


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    out.write_bytes(figure_bytes(draw()))
    print(out)


if __name__ == "__main__":
    main()

"""Draw docs/images/cfrg.svg: how CFRG gets from an image to an anomaly map.

python tools/draw_cfrg.py [OUT.svg]
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

from threecad.pages.figures import figure_bytes, styled

DEFAULT = Path(__file__).parent.parent / "docs" / "images" / "cfrg.svg"
FROZEN, TRAINED, NUMBER, LOSS = "#e5e7eb", "#ccfbf1", "#ffffff", "#b91c1c"
INK, LINE = "#111827", "#374151"

# Name, centre, width, height, colour, text.
BOXES = (
    ("x", (0.7, 3.0), 1.0, 0.9, NUMBER, "image\n$x$"),
    ("S", (2.9, 5.0), 1.9, 0.95, TRAINED, "student $S$\n+ adapters"),
    ("T", (2.9, 3.0), 1.9, 0.95, FROZEN, "teacher $T$\nfrozen, 3 levels"),
    ("F", (2.9, 1.0), 1.5, 0.95, TRAINED, "fusion"),
    ("R", (5.0, 1.0), 1.6, 0.95, TRAINED, "decoder $R$"),
    ("U", (8.35, 3.0), 1.35, 0.95, TRAINED, "U-Net"),
    ("G", (11.55, 1.0), 1.35, 0.95, NUMBER, "Gaussian\n$\\sigma = 4$"),
    ("A", (13.4, 1.0), 1.3, 0.95, NUMBER, "anomaly\nmap"),
)
# Name, centre, text.
NODES = (
    ("t", (5.0, 5.0), "$1-\\cos$"),
    ("r", (6.9, 1.0), "$1-\\cos$"),
    ("m", (6.55, 3.0), "$\\times$"),
    ("s", (9.9, 3.0), "sigmoid"),
    ("+", (9.9, 1.0), "$\\Sigma$"),
)
RADIUS = 0.42


def draw() -> Figure:
    with styled({"axes.grid": False, "mathtext.fontset": "dejavusans"}):
        figure = Figure(figsize=(9.6, 4.4), layout="constrained")
        axis = figure.subplots()
        axis.set(xlim=(0, 14.2), ylim=(-0.35, 6.2), aspect="equal")
        axis.set_axis_off()
        for _, centre, width, height, colour, text in BOXES:
            draw_box(axis, centre, width, height, colour, text)
        for _, centre, text in NODES:
            axis.add_patch(Circle(centre, RADIUS, facecolor="white", edgecolor=LINE, zorder=2))
            size = 12 if text in ("$\\times$", "$\\Sigma$") else 6.5
            axis.text(*centre, text, ha="center", va="center", fontsize=size, color=INK)
        draw_lines(axis)
        draw_words(axis)
    return figure


def draw_box(
    axis: Axes, centre: tuple[float, float], width: float, height: float, colour: str, text: str
) -> None:
    corner = (centre[0] - width / 2, centre[1] - height / 2)
    box = FancyBboxPatch(corner, width, height, boxstyle="round,pad=0,rounding_size=0.12")
    box.set(facecolor=colour, edgecolor=LINE, linewidth=1, zorder=2)
    axis.add_patch(box)
    axis.text(*centre, text, ha="center", va="center", fontsize=8.5, color=INK, zorder=3)


def draw_lines(axis: Axes) -> None:
    """Join the boxes; each line is a list of corners, the last with an arrow head."""
    for corners in (
        [(1.2, 3.0), (1.95, 3.0)],  # image to teacher
        [(1.55, 3.0), (1.55, 5.0), (1.95, 5.0)],  # image to student
        [(2.9, 2.525), (2.9, 1.475)],  # teacher to fusion
        [(3.65, 1.0), (4.2, 1.0)],  # fusion to decoder
        [(3.85, 5.0), (4.58, 5.0)],  # student to coarse
        [(3.85, 3.0), (6.13, 3.0)],  # teacher to product
        [(5.0, 3.0), (5.0, 4.58)],  # teacher to coarse
        [(5.8, 1.0), (6.48, 1.0)],  # decoder to recovery
        [(5.4, 3.0), (5.4, 2.05), (6.9, 2.05), (6.9, 1.42)],  # teacher to recovery
        [(5.42, 5.0), (6.55, 5.0), (6.55, 3.42)],  # coarse to product
        [(7.32, 1.0), (7.65, 1.0), (7.65, 2.35), (6.85, 2.7)],  # recovery to product
        [(6.97, 3.0), (7.675, 3.0)],  # product to U-Net
        [(9.025, 3.0), (9.48, 3.0)],  # U-Net to sigmoid
        [(9.9, 2.58), (9.9, 1.42)],  # sigmoid to sum
        [(7.65, 1.0), (9.48, 1.0)],  # recovery to sum
        [(10.32, 1.0), (10.875, 1.0)],  # sum to Gaussian
        [(12.225, 1.0), (12.75, 1.0)],  # Gaussian to map
    ):
        axis.plot(*zip(*corners[:-1], strict=True), color=LINE, linewidth=1, zorder=1)
        axis.annotate(
            "", corners[-1], corners[-2], zorder=1,
            arrowprops={"arrowstyle": "-|>", "color": LINE, "lw": 1, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


def draw_words(axis: Axes) -> None:
    for place, text in (
        ((5.95, 5.2), "coarse $w_t$"),
        ((8.55, 1.2), "recovery $w_r$, resized"),
        ((7.35, 3.2), "$w_r w_t T$"),
        ((9.25, 3.25), "$L$"),
        ((10.3, 2.0), "fine"),
    ):
        axis.text(*place, text, ha="center", fontsize=8, color=INK)
    for place, text in (
        ((5.0, 5.75), "$L_{dis}$: agree with $T$ off the synthetic defect, disagree on it"),
        (
            (5.0, 0.05),
            "$L_{rec}$: from the defective image's features, recover the good one's",
        ),
        ((8.35, 3.85), "$L_{seg}$: segment the\nsynthetic defect"),
    ):
        axis.text(*place, text, ha="center", fontsize=8, color=LOSS)
    for left, colour, text in ((10.4, FROZEN, "frozen"), (12.2, TRAINED, "trained")):
        box = FancyBboxPatch((left, 5.05), 0.35, 0.3, boxstyle="round,pad=0,rounding_size=0.06")
        box.set(facecolor=colour, edgecolor=LINE, linewidth=0.8)
        axis.add_patch(box)
        axis.text(left + 0.5, 5.2, text, va="center", fontsize=8, color=INK)
    axis.text(10.4, 4.6, "red: what is minimised in training", fontsize=8, color=LOSS)


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    out.write_bytes(figure_bytes(draw()))
    print(out)


if __name__ == "__main__":
    main()

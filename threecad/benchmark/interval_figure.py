"""Differences between methods with their intervals, as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from threecad.pages.figures import PALETTE, save_figure, styled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from threecad.benchmark.significance import Difference

__all__ = ["draw_differences"]


def draw_differences(differences: Sequence[Difference], path: Path) -> None:
    """Draw each difference of image AUROC with its 95 % interval; the suffix says which format.

    A filled mark is an established difference, an open one is not.
    """
    from matplotlib.figure import Figure

    with styled({"axes.grid.axis": "x"}):
        figure = Figure(figsize=(5.5, 1.0 + 0.3 * len(differences)), layout="constrained")
        axes = figure.subplots()
        for row, difference in enumerate(differences):
            low, high = (100 * limit for limit in difference.interval)
            axes.plot([low, high], [row, row], color=PALETTE[0], linewidth=1.5)
            face = PALETTE[0] if difference.established else "white"
            axes.plot(100 * difference.difference, row, "o", color=PALETTE[0], markerfacecolor=face)
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.set_yticks(
            range(len(differences)), [f"{d.better} over {d.worse}" for d in differences]
        )
        axes.set_ylim(len(differences) - 0.5, -0.5)
        axes.set_xlabel("Points of image AUROC, 95 % interval; filled: established")
    save_figure(figure, path.parent, path.stem, formats=[path.suffix.lstrip(".")])

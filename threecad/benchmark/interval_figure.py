"""Differences between methods with their intervals, and their ranks, as figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from threecad.benchmark.significance import ALPHA
from threecad.pages.figures import PALETTE, save_figure, styled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from threecad.benchmark.significance import Difference, Ranks

__all__ = ["draw_differences", "draw_ranks"]


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


def draw_ranks(ranks: Ranks, path: Path) -> None:
    """Draw mean ranks over categories as a critical-difference diagram (Demšar, 2006).

    The best method stands left. A bar joins methods that no test tells apart: their mean ranks
    differ by no more than the critical difference, or Friedman's test finds no difference at all.
    """
    from matplotlib.figure import Figure

    names, values = list(ranks.mean), list(ranks.mean.values())
    groups = _alike(values, math.inf if ranks.p >= ALPHA else ranks.critical_difference)
    depth = len(names) / 2
    with styled({"axes.grid": False}):
        figure = Figure(figsize=(6.5, 1.3 + 0.22 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.set(xlim=(0.5, len(names) + 0.5), ylim=(-1.2 - depth - 0.4 * len(groups), 1.2))
        axes.set(yticks=[], xticks=range(1, len(names) + 1))
        axes.xaxis.tick_top()
        axes.spines[["left", "right", "bottom"]].set_visible(False)
        low = 1.0
        axes.plot([low, low + ranks.critical_difference], [0.7, 0.7], color="0.4", linewidth=2)
        axes.text(low, 0.85, f"critical difference {ranks.critical_difference:.2f}", fontsize=7)
        for row, (first, last) in enumerate(groups):
            place = -0.4 * (row + 1)
            span = [values[first] - 0.04, values[last] + 0.04]
            axes.plot(span, [place, place], color=PALETTE[0], linewidth=3.5)
        for i, (name, value) in enumerate(zip(names, values, strict=True)):
            left = i < (len(names) + 1) // 2
            below = i if left else len(names) - 1 - i
            place = -0.4 * (len(groups) + 1) - 0.5 - 0.9 * below
            edge = 0.55 if left else len(names) + 0.45
            axes.plot([value, value, edge], [1.2, place, place], color="0.3", linewidth=0.9)
            side = "left" if left else "right"
            axes.text(edge, place + 0.1, f"{name}  {value:.2f}", ha=side, va="bottom", fontsize=8)
    save_figure(figure, path.parent, path.stem, formats=[path.suffix.lstrip(".")])


def _alike(values: Sequence[float], reach: float) -> list[tuple[int, int]]:
    """Return first and last of each longest run of ascending values that lie within ``reach``."""
    runs: list[tuple[int, int]] = []
    for first, value in enumerate(values):
        last = max(i for i, other in enumerate(values) if other - value <= reach)
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs

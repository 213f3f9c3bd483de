"""What the monitor found, to look at: a figure over time and one self-contained HTML page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.pages.figures import PALETTE, figure_bytes, styled
from threecad.pages.rendering import render_template
from threecad.system import atomic
from threecad.version import __version__

if TYPE_CHECKING:
    import os

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cfrg.monitoring.watching import Report, Watched

__all__ = ["NAMES", "describe_watched", "draw_report", "write_report"]

NAMES = {
    "score": "image score",
    "x": "place of the part, x",
    "y": "place of the part, y",
    "stopped": "share stopped",
}
"""How statistics are called before people, where it is not their own name."""

_WINDOW = 25
"""Parts over which the drawn line is averaged."""


def draw_report(report: Report) -> Figure:
    """Show each statistic over the parts, and beside it the capital that was won by betting."""
    from matplotlib.figure import Figure

    rows = max(len(report.watched), 1)
    with styled():
        figure = Figure(figsize=(9, 0.6 + 1.25 * rows), layout="constrained")
        axes = figure.subplots(rows, 2, squeeze=False, width_ratios=(2, 1), sharex=True)
        for (left, right), watched in zip(axes, report.watched, strict=False):
            _draw_values(left, watched)
            _draw_capital(right, watched)
        for axis in axes[-1]:
            axis.set_xlabel("part")
    return figure


def _draw_values(axis: Axes, watched: Watched) -> None:
    colour = PALETTE[3] if watched.alarm else PALETTE[0]
    if watched.name != "stopped":
        axis.plot(watched.parts, watched.values, ".", color=colour, alpha=0.35, markersize=3)
    if len(watched.values) >= _WINDOW:
        smooth = np.convolve(watched.values, np.full(_WINDOW, 1 / _WINDOW), "valid")
        axis.plot(watched.parts[_WINDOW - 1 :], smooth, color=colour)
    axis.axhline(watched.usual, color="black", linewidth=0.8, linestyle="--")
    if watched.since:
        axis.axvline(watched.since, color=PALETTE[3], linewidth=1)
    axis.set_title(NAMES.get(watched.name, watched.name))


def _draw_capital(axis: Axes, watched: Watched) -> None:
    colour = PALETTE[3] if watched.alarm else PALETTE[0]
    axis.plot(watched.parts, watched.capital / math.log(10), color=colour)
    axis.axhline(watched.needed / math.log(10), color="black", linewidth=0.8, linestyle=":")
    axis.set_title("log₁₀ of the capital")


def write_report(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the report as one HTML page that needs no network."""
    figure = figure_bytes(draw_report(report)).decode() if report.watched else ""
    page = render_template(
        "monitor.html",
        package="cfrg.monitoring",
        report=report,
        rows=[describe_watched(watched) for watched in report.watched],
        figure=figure[figure.find("<svg") :],
        version=__version__,
    )
    atomic.write_text(path, page)


def describe_watched(watched: Watched) -> dict[str, Any]:
    """Return the cells of a table's row: name, usual, now, since and capital."""
    kind = "{:.1%}" if watched.name == "stopped" else "{:.4g}"
    capital = float(watched.capital.max()) / math.log(10) if len(watched.capital) else 0.0
    return {
        "name": NAMES.get(watched.name, watched.name),
        "usual": ("at most " if watched.name == "stopped" else "") + kind.format(watched.usual),
        "now": "–" if math.isnan(watched.now) else kind.format(watched.now),
        "since": f"{watched.since:,}" if watched.since else "–",
        "alarm": f"{watched.alarm:,}" if watched.alarm else "–",
        "capital": f"10^{capital:.1f} of 10^{watched.needed / math.log(10):.1f}",
    }

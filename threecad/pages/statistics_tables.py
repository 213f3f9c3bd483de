"""The statistics as text: the cells that the terminal and the HTML page share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.images.regions import SIZES

if TYPE_CHECKING:
    from collections.abc import Callable

    from threecad.statistics.overview import CategoryOverview
    from threecad.statistics.summaries import DefectGroup, Quantiles

__all__ = [
    "EXPLANATION",
    "GROUP_COLUMNS",
    "OVERVIEW_COLUMNS",
    "format_percent",
    "group_cells",
    "overview_cells",
]

OVERVIEW_COLUMNS = {
    "train": "train",
    "test_good": "test good",
    "test_defective": "test defective",
    "defect_types": "types",
    "heights": "height",
    "widths": "width",
    "regions_per_image": "NE",
    "types_per_image": "TE",
}
"""Field of a ``CategoryOverview`` -> heading."""

GROUP_COLUMNS = (
    "images",
    "regions",
    "area, %",
    "aspect ratio",
    "S/M/L, %",
    "contrast",
    "border, %",
)
"""Headings of a table of groups, after the group's name; ``EXPLANATION`` says what they mean."""

EXPLANATION = (
    "Area (of the image) and aspect ratio: median (5–95 %). S/M/L: shares of small (under 0.05 % "
    "of the image), medium and large (over 0.5 %) defects. Contrast: median brightness less that "
    "of the surround, in standard deviations of the surround. Border: share that touches it."
)


def overview_cells(row: CategoryOverview) -> list[tuple[str, str | None]]:
    """Return, per column, this tree's value and the published one where it differs."""
    cells = []
    for field in OVERVIEW_COLUMNS:
        text = _range(getattr(row, field))
        other = _range(row.differences[field][1]) if field in row.differences else None
        cells.append((text, other))
    return cells


def _range(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, tuple):
        low, high = value
        return str(low) if low == high else f"{low}–{high}"
    return str(value)


def format_percent(fraction: float) -> str:
    """Return a fraction as percent with two significant digits: 0.012, 4.7, 83."""
    percent = 100 * fraction
    if percent == 0:
        return "0"
    digits = max(0, 1 - int(np.floor(np.log10(abs(percent)))))
    return f"{percent:.{digits}f}"


def group_cells(group: DefectGroup) -> list[str]:
    """Return the cells of a group, in the order of ``GROUP_COLUMNS``."""
    count, contrast = max(group.count, 1), group.contrast_ratio
    return [
        f"{group.images:,}",
        f"{group.regions:,}",
        _spread(group.area_ratio, format_percent),
        _spread(group.aspect_ratio, lambda value: f"{value:.1f}"),
        "/".join(f"{100 * group.sizes[size] / count:.0f}" for size in SIZES),
        "–" if contrast is None else f"{round(contrast.median, 1) + 0.0:+.1f}".replace("-", "−"),
        f"{100 * group.border / count:.0f}",
    ]


def _spread(quantiles: Quantiles | None, text: Callable[[float], str]) -> str:
    if quantiles is None:
        return "–"
    return f"{text(quantiles.median)} ({text(quantiles.q05)}–{text(quantiles.q95)})"

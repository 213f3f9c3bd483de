"""The statistics as text: tables for the terminal, and the cells they share with the HTML page."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.images.regions import SIZES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from threecad.statistics.collecting import DefectStatistics
    from threecad.statistics.overview import CategoryOverview
    from threecad.statistics.summaries import DefectGroup, Grouping, Quantiles, Unit

__all__ = [
    "EXPLANATION",
    "GROUP_COLUMNS",
    "OVERVIEW_COLUMNS",
    "format_percent",
    "group_cells",
    "overview_cells",
    "print_statistics",
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

_BARS = " ▁▂▃▄▅▆▇█"


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


def print_statistics(
    statistics: DefectStatistics, by: Grouping = "category", per: Unit = "region"
) -> None:
    """Print the overview, the groups and two histograms on stdout."""
    from rich.console import Console

    console = Console()
    _print_overview(console, statistics)
    if not statistics.records(per):
        console.print("\nThere is no mask with a defect pixel: no statistics of defects.")
    else:
        _print_groups(console, statistics, by, per)
        _print_histograms(console, statistics, per)
    _print_remarks(console, statistics)


def _print_overview(console: Console, statistics: DefectStatistics) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=statistics.root,
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("category", overflow="fold")
    for heading in OVERVIEW_COLUMNS.values():
        table.add_column(heading, justify="right", overflow="fold")
    for row in statistics.overview:
        cells = overview_cells(row)
        table.add_row(row.name, *(text for text, _ in cells))
        if row.differences:
            table.add_row("  published", *(other or "" for _, other in cells), style="yellow")
    console.print(table)
    console.print(
        "NE: regions, TE: defect types per defective image; –: not determinable.", style="dim"
    )


def _print_groups(console: Console, statistics: DefectStatistics, by: Grouping, per: Unit) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = f"per {per}, by {by.replace('_', ' ')}"
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column(by.replace("_", " "), overflow="fold")
    for heading in GROUP_COLUMNS:
        table.add_column(heading, justify="right", overflow="fold")
    groups = statistics.groups(by, per)
    names = {group.category for group in groups}
    for number, group in enumerate(groups):
        if number and by == "defect_type" and group.category != groups[number - 1].category:
            table.add_section()
        name = group.defect_type if by == "defect_type" and len(names) == 1 else group.name
        table.add_row(name, *group_cells(group))
    if len(groups) > 1:
        table.add_section()
        table.add_row("All", *group_cells(statistics.total(per)))
    console.print(table)
    console.print(EXPLANATION, style="dim")


def _print_histograms(console: Console, statistics: DefectStatistics, per: Unit) -> None:
    records = statistics.records(per)
    areas = np.log10([record.area_ratio for record in records])
    shapes = np.log2([record.aspect_ratio for record in records])
    console.print()
    console.print(f"area, % of image   0.0001 {_bars(areas, -6, 0)} 100", highlight=False)
    console.print(f"aspect ratio            1 {_bars(shapes, 0, 6)} 64", highlight=False)


def _bars(values: Sequence[float] | Any, low: float, high: float) -> str:
    """Draw a histogram of 48 characters; what lies outside falls into the outermost ones."""
    counts, _ = np.histogram(np.clip(values, low, high), bins=48, range=(low, high))
    heights = np.ceil(counts / counts.max() * (len(_BARS) - 1)).astype(int)
    return "".join(_BARS[height] for height in heights)


def _print_remarks(console: Console, statistics: DefectStatistics) -> None:
    if statistics.rules:
        rules = ", ".join(f"{count:,} {rule}" for rule, count in statistics.rules.items())
        console.print(f"Masks by rule: {rules}.", style="dim")
    for (severity, code), number in sorted(
        Counter((finding.severity, finding.code) for finding in statistics.findings).items()
    ):
        first = next(finding for finding in statistics.findings if finding.code == code)
        more = f" (and {number - 1} more)" if number > 1 else ""
        console.print(f"{severity}: {code}: {first.message}{more}", soft_wrap=True, markup=False)

"""The statistics of defects as tables in the terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.pages.statistics_tables import (
    EXPLANATION,
    GROUP_COLUMNS,
    OVERVIEW_COLUMNS,
    group_cells,
    overview_cells,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from threecad.statistics.collecting import DefectStatistics
    from threecad.statistics.summaries import Grouping, Unit

__all__ = ["print_statistics"]

_BARS = " ▁▂▃▄▅▆▇█"


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

"""``threecad info``: what is in a tree."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from threecad.cli.group import (
    examples,
    json_option,
    print_json,
    selection_options,
)
from threecad.dataset.catalog import find_category
from threecad.dataset.overview import CategoryCounts, Overview, expected_size, known_differences

if TYPE_CHECKING:
    from threecad.dataset.catalog import Category
    from threecad.dataset.findings import Finding
    from threecad.dataset.scanning import Selection

__all__ = ["print_overview"]


@click.command(epilog=examples("threecad info 3cad", "threecad info 3cad --json"))
@selection_options()
@json_option
def info(selection: Selection, as_json: bool) -> None:
    """Count the images of ROOT per category and defect type, beside the published counts."""
    from threecad.dataset.overview import count

    counts = count(selection.scan())
    if as_json:
        print_json(counts.to_dict())
    else:
        print_overview(counts)


def print_overview(overview: Overview) -> None:
    """Print the counts on stdout; for a download, those of the archive where they differ."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(overview.root, style="bold", soft_wrap=True)
    table = Table(box=box.SIMPLE)
    table.add_column("category", no_wrap=True)
    columns = {"train": "train", "validation": "val", "test_good": "test good",
               "test_defective": "test defective", "defect_types": "types"}  # fmt: skip
    if not any(category.validation for category in overview.categories):
        del columns["validation"]
    for title in columns.values():
        table.add_column(title, justify="right")
    for category in overview.categories:
        compared = find_category(category.name) if overview.compared else None
        table.add_row(category.name, *(_cell(category, field, compared) for field in columns))
    if len(overview.categories) > 1:
        table.add_section()
        table.add_row("All", *(str(_total(overview.categories, field)) for field in columns))
    console.print(table)
    if overview.compared:
        console.print("In brackets: the published count, where it differs.", style="dim")
        for line in known_differences(overview):
            console.print(line, style="dim", soft_wrap=True)
    console.print("Images per defect type")
    for category in overview.categories:
        console.print(f"  {category.name}: {_types(category)}", highlight=False, soft_wrap=True)
    _print_findings(console, overview.findings)


def _cell(category: CategoryCounts, field: str, published: Category | None) -> str:
    value = category.size_of(field)
    expected = value if published is None else expected_size(category, field, published)
    return str(value) if expected == value else f"{value} ({expected})"


def _total(categories: tuple[CategoryCounts, ...], field: str) -> int:
    return sum(category.size_of(field) for category in categories)


def _types(category: CategoryCounts) -> str:
    types = [f"{name} {number}" for name, number in category.defect_types.items()]
    if category.multiple_defects:
        types.append(f"several at once {category.multiple_defects}")
    return ", ".join(types) or "none"


def _print_findings(console: Any, findings: tuple[Finding, ...]) -> None:
    counts = Counter((finding.severity, finding.code) for finding in findings)
    for (severity, code), number in sorted(counts.items()):
        first = next(finding for finding in findings if finding.code == code)
        more = f" (and {number - 1} more)" if number > 1 else ""
        console.print(f"{severity}: {code}: {first.message}{more}", soft_wrap=True)
    if findings:
        console.print("`threecad verify` lists them all.", style="dim")

"""Counts of a tree per category and defect type, in the form of the published table."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from threecad.catalog import find_category, is_multiple_defects

if TYPE_CHECKING:
    from threecad.findings import Finding
    from threecad.indexing import Index

__all__ = ["CategoryCounts", "Overview", "count", "print_overview"]


@dataclass(frozen=True)
class CategoryCounts:
    """The images of one category.

    Attributes:
        name: Folder name.
        code: Published code, ``None`` for a category that is not one of 3CAD's eight.
        train: Training images.
        validation: Validation images (only with a split file).
        test_good: Defect-free test images.
        test_defective: Defective test images.
        masks: Images that have a mask.
        defect_types: Test images per defect type, the multiple-defects label left out.
        multiple_defects: Images under the multiple-defects label; their types are unknown.
    """

    name: str
    code: str | None
    train: int
    validation: int
    test_good: int
    test_defective: int
    masks: int
    defect_types: dict[str, int]
    multiple_defects: int


@dataclass(frozen=True)
class Overview:
    """The counts of a tree, and what ``scan`` found wrong with it."""

    root: str
    categories: tuple[CategoryCounts, ...]
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the overview as JSON-able data."""
        return {
            "schema": "threecad.overview/1",
            "root": self.root,
            "categories": [asdict(category) for category in self.categories],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def count(index: Index) -> Overview:
    """Return the counts of ``index``."""
    return Overview(
        str(index.root),
        tuple(_count_category(index.select(category=name), name) for name in index.categories),
        index.findings,
    )


def _count_category(index: Index, name: str) -> CategoryCounts:
    splits = Counter((sample.split, sample.label) for sample in index)
    types = Counter(sample.defect_type for sample in index if sample.label)
    multiple = sum(types.pop(label) for label in list(types) if is_multiple_defects(label))
    published = find_category(name)
    return CategoryCounts(
        name=name,
        code=published.code if published else None,
        train=splits["train", 0] + splits["train", 1],
        validation=splits["val", 0] + splits["val", 1],
        test_good=splits["test", 0],
        test_defective=splits["test", 1],
        masks=sum(sample.mask is not None for sample in index),
        defect_types=dict(sorted(types.items())),
        multiple_defects=multiple,
    )


def print_overview(overview: Overview) -> None:
    """Print the counts as a table on stdout, the published ones in brackets where they differ."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{overview.root}", title_justify="left")
    table.add_column("category")
    for column in ("train", "val", "test good", "test defective", "types"):
        table.add_column(column, justify="right")
    table.add_column("images per defect type")
    for category in overview.categories:
        table.add_row(*_cells(category))
    if len(overview.categories) > 1:
        table.add_section()
        table.add_row("All", *_totals(overview.categories))
    console.print(table)
    if any(category.code for category in overview.categories):
        console.print("In brackets: the published count, where it differs.", style="dim")
    _print_findings(console, overview.findings)


def _cells(category: CategoryCounts) -> list[str]:
    published = find_category(category.name)
    types = ", ".join(f"{name} {n}" for name, n in category.defect_types.items())
    if category.multiple_defects:
        types += f"{', ' if types else ''}several at once {category.multiple_defects}"

    def cell(value: int, field: str) -> str:
        expected = getattr(published, field, value)
        return str(value) if expected == value else f"{value} ({expected})"

    return [
        category.name,
        cell(category.train, "train"),
        str(category.validation or "–"),
        cell(category.test_good, "test_good"),
        cell(category.test_defective, "test_defective"),
        cell(len(category.defect_types), "defect_types"),
        types or "–",
    ]


def _totals(categories: tuple[CategoryCounts, ...]) -> list[str]:
    fields = ("train", "validation", "test_good", "test_defective")
    sums = [str(sum(getattr(category, field) for category in categories)) for field in fields]
    return [*sums, str(sum(len(category.defect_types) for category in categories)), ""]


def _print_findings(console: Any, findings: tuple[Finding, ...]) -> None:
    counts = Counter((finding.severity, finding.code) for finding in findings)
    for (severity, code), number in sorted(counts.items()):
        first = next(finding for finding in findings if finding.code == code)
        more = f" (and {number - 1} more)" if number > 1 else ""
        console.print(f"{severity}: {code}: {first.message}{more}", soft_wrap=True)
    if findings:
        console.print("`threecad verify` lists them all.", style="dim")

"""Counts of a tree per category and defect type, in the form of the published table."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from threecad.catalog import find_category, is_multiple_defects
from threecad.locations import is_marked

if TYPE_CHECKING:
    from threecad.catalog import Category
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
    """The counts of a tree, and what ``scan`` found wrong with it.

    Attributes:
        root: The tree.
        categories: Its categories, by name.
        findings: What is wrong with it.
        compared: Whether the published counts apply: 3CAD itself, not the sample or an import.
    """

    root: str
    categories: tuple[CategoryCounts, ...]
    findings: tuple[Finding, ...]
    compared: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the overview as JSON-able data."""
        return {
            "schema": "threecad.overview/1",
            "root": self.root,
            "compared_with_published": self.compared,
            "categories": [asdict(category) for category in self.categories],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def count(index: Index) -> Overview:
    """Return the counts of ``index``."""
    return Overview(
        str(index.root),
        tuple(_count_category(index.select(category=name), name) for name in index.categories),
        index.findings,
        compared=any(find_category(name) for name in index.categories)
        and not is_marked(index.root),
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
    """Print the counts on stdout; for a download, the published ones where they differ."""
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
    console.print("Images per defect type")
    for category in overview.categories:
        console.print(f"  {category.name}: {_types(category)}", highlight=False, soft_wrap=True)
    _print_findings(console, overview.findings)


def _cell(category: CategoryCounts, field: str, published: Category | None) -> str:
    value = _size(category, field)
    expected = getattr(published, field, value)
    return str(value) if expected == value else f"{value} ({expected})"


def _total(categories: tuple[CategoryCounts, ...], field: str) -> int:
    return sum(_size(category, field) for category in categories)


def _size(category: CategoryCounts, field: str) -> int:
    value = getattr(category, field)
    return len(value) if isinstance(value, dict) else int(value)


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

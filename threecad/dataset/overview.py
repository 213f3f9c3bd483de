"""Counts of a tree per category and defect type, in the form of the published table."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from threecad.dataset.catalog import find_category, is_multiple_defects
from threecad.dataset.editions import expected_types
from threecad.system.locations import is_marked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from threecad.dataset.catalog import Category
    from threecad.dataset.findings import Finding
    from threecad.dataset.scanning import Index

__all__ = ["CategoryCounts", "Overview", "count", "expected_size", "known_differences"]


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

    def size_of(self, field: str) -> int:
        """Return a count by the name of its field; of defect types, how many there are."""
        value = getattr(self, field)
        return len(value) if isinstance(value, dict) else int(value)


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


def expected_size(category: CategoryCounts, field: str, published: Category) -> int:
    """Return what a count is in the archive; the tree's own where nobody knows."""
    unknown = field == "defect_types" and expected_types(published, category.defect_types) is None
    if unknown or not hasattr(published, field):
        return category.size_of(field)
    return int(published.expected(field))


def known_differences(overview: Overview) -> Iterator[str]:
    """Say where a count that is right differs from the published table."""
    for category in overview.categories:
        published = find_category(category.name)
        known = published.known_differences.get("defect_types") if published else None
        if known is not None and len(category.defect_types) == known.archive:
            yield (
                f"{category.name}: the published table says {known.published} types; the archive "
                f"is known to have {known.archive}."
            )

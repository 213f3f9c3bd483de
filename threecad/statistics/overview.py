"""The published table of the dataset, recomputed from a tree and its masks."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from threecad.dataset.catalog import find_category
from threecad.dataset.editions import expected_types
from threecad.dataset.overview import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from threecad.dataset.catalog import Category
    from threecad.dataset.scanning import Index
    from threecad.statistics.summaries import DefectiveImage

__all__ = ["CategoryOverview", "CoOccurrence", "co_occurrence", "describe_categories"]

Range = tuple[int, int]


@dataclass(frozen=True)
class CategoryOverview:
    """One row of the table.

    Attributes:
        name: Folder name.
        code: Published code; ``None`` for a category that is not one of 3CAD's eight.
        train: Training images.
        test_good: Defect-free test images.
        test_defective: Defective test images.
        defect_types: Number of defect folders, the label for several types left out.
        multiple_defects: Images under that label.
        heights: ``(lowest, highest)`` over all images, in pixels; ``None`` if none can be read.
        widths: The same for the widths.
        regions_per_image: Fewest and most regions in a defective image ("NE"); ``None`` if no mask
            can be read.
        types_per_image: Fewest and most defect types in a defective image ("TE"); ``None`` if the
            folders do not tell.
        types_named: Whether it is known which folders are types: not where their names are those of
            an edition that nobody has published, as one of them may be the label for several.
    """

    name: str
    code: str | None
    train: int
    test_good: int
    test_defective: int
    defect_types: int
    multiple_defects: int
    heights: Range | None
    widths: Range | None
    regions_per_image: Range | None
    types_per_image: Range | None
    types_named: bool = True

    @property
    def published(self) -> Category | None:
        """The published facts of this category."""
        return find_category(self.name)

    @property
    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Field -> (this tree's value, the archive's), where both are known and differ.

        The archive's value is the published one, save where others found it to be another.
        """
        if self.published is None:
            return {}
        pairs = {field: (getattr(self, field), self.published.expected(field)) for field in FIELDS}
        return {
            field: pair
            for field, pair in pairs.items()
            if pair[0] is not None
            and pair[0] != pair[1]
            and (self.types_named or field not in ("defect_types", "types_per_image"))
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON-able data, with the published values and the differences."""
        return {
            **asdict(self),
            "published": None
            if self.published is None
            else {field: getattr(self.published, field) for field in FIELDS},
            "differences": sorted(self.differences),
        }


FIELDS = (
    "train",
    "test_good",
    "test_defective",
    "defect_types",
    "heights",
    "widths",
    "regions_per_image",
    "types_per_image",
)
"""The published quantities."""


def describe_categories(
    index: Index, images: Sequence[DefectiveImage], sizes: Mapping[Path, tuple[int, int]]
) -> tuple[CategoryOverview, ...]:
    """Return the table of ``index``.

    Args:
        index: The samples.
        images: Its defective images whose masks could be read.
        sizes: ``(height, width)`` of each image of the index; (0, 0) where unknown.
    """
    rows = []
    for counts in count(index).categories:
        known = [
            sizes[sample.image]
            for sample in index
            if sample.category == counts.name and all(sizes[sample.image])
        ]
        mine = [image for image in images if image.category == counts.name]
        types = [image.type_count for image in mine]
        published = find_category(counts.name)
        rows.append(
            CategoryOverview(
                name=counts.name,
                code=counts.code,
                train=counts.train,
                test_good=counts.test_good,
                test_defective=counts.test_defective,
                defect_types=len(counts.defect_types),
                multiple_defects=counts.multiple_defects,
                heights=_range(height for height, _ in known),
                widths=_range(width for _, width in known),
                regions_per_image=_range(len(i.regions) for i in mine if i.regions),
                types_per_image=None
                if None in types
                else _range(number for number in types if number is not None),
                types_named=published is None
                or expected_types(published, counts.defect_types) is not None,
            )
        )
    return tuple(rows)


def _range(values: Iterable[int]) -> Range | None:
    seen = list(values)
    return (min(seen), max(seen)) if seen else None


@dataclass(frozen=True)
class CoOccurrence:
    """How often types of defect come together in one image of a category.

    Attributes:
        category: Name of the category folder.
        types: The types, sorted.
        images: ``images[i][j]``: images that show both type i and type j; the diagonal counts the
            images of a type.
        unknown: Images whose types nothing tells; they are not in ``images``.
    """

    category: str
    types: tuple[str, ...]
    images: tuple[tuple[int, ...], ...]
    unknown: int


def co_occurrence(category: str, images: Iterable[DefectiveImage]) -> CoOccurrence:
    """Count the pairs of types in the images of one category."""
    mine = [image for image in images if image.category == category]
    types = sorted({name for image in mine for name in image.defect_types})
    pairs = Counter(
        (first, second)
        for image in mine
        for first in image.defect_types
        for second in image.defect_types
    )
    return CoOccurrence(
        category,
        tuple(types),
        tuple(tuple(pairs[first, second] for second in types) for first in types),
        sum(not image.defect_types for image in mine),
    )

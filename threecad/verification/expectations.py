"""What a tree holds, in the terms of the published table, and how it differs from that table."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from threecad.dataset.catalog import CATEGORIES, find_category
from threecad.dataset.findings import Finding
from threecad.dataset.overview import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from threecad.dataset.catalog import Category
    from threecad.dataset.findings import Severity
    from threecad.dataset.overview import CategoryCounts
    from threecad.dataset.samples import Index
    from threecad.images.facts import ImageFacts, MaskFacts

__all__ = ["Figures", "check_completeness", "check_counts", "measure"]

_Range = tuple[int, int]


@dataclass(frozen=True)
class Figures:
    """What was counted in one category, in the terms of the published table.

    Attributes:
        counts: Numbers of images.
        heights: Lowest and highest, in pixels; ``None`` if no image decodes.
        widths: Likewise.
        regions: 8-connected regions per defective image with a mask that is not empty.
        types: Defect types per defective image; ``None`` where the folders do not tell.
    """

    counts: CategoryCounts
    heights: _Range | None
    widths: _Range | None
    regions: _Range | None
    types: _Range | None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-able data."""
        counts = self.counts
        return {
            "train": counts.train,
            "test_good": counts.test_good,
            "test_defective": counts.test_defective,
            "defect_types": len(counts.defect_types),
            "multiple_defects": counts.multiple_defects,
            "heights": self.heights,
            "widths": self.widths,
            "regions_per_image": self.regions,
            "types_per_image": self.types or "not determinable",
        }


def measure(
    index: Index, images: Mapping[Path, ImageFacts], masks: Mapping[Path, MaskFacts]
) -> list[Figures]:
    """Return the figures of each category of ``index``, sorted by name."""
    members = defaultdict(list)
    for sample in index:
        members[sample.category].append(sample)
    figures = []
    for counts in count(index).categories:
        samples = members[counts.name]
        sizes = [images[sample.image] for sample in samples if images[sample.image].width]
        known = [masks[s.mask] for s in samples if s.mask and not masks[s.mask].problem]
        types = [
            _types_of(s.defect_types, masks.get(s.mask) if s.mask else None)
            for s in samples
            if s.label
        ]
        figures.append(
            Figures(
                counts,
                _range(fact.height for fact in sizes),
                _range(fact.width for fact in sizes),
                _range(len(fact.areas) for fact in known if fact.areas),
                _range(types) if all(types) else None,
            )
        )
    return figures


def _types_of(defect_types: tuple[str, ...], mask: MaskFacts | None) -> int:
    """Return how many types of defect an image shows; 0 if neither folder nor label map tells."""
    return len(defect_types) or (mask.classes if mask else 0)


def _range(values: Iterable[int]) -> _Range | None:
    known = list(values)
    return (min(known), max(known)) if known else None


def check_counts(figures: list[Figures], *, errors: bool) -> Iterator[Finding]:
    """Compare figures with the published table.

    Args:
        figures: One for each category.
        errors: Whether a number of images or types that differs is an error, not a warning. A range
            that differs is always a warning: how regions and types were counted is not published.
    """
    for figure in figures:
        name, published = figure.counts.name, find_category(figure.counts.name)
        if published is None:
            yield Finding(
                "category-unpublished",
                "info",
                f"{name} is none of 3CAD's categories; its counts are compared with nothing.",
                path=name,
            )
            continue
        severity: Severity = "error" if errors else "warning"
        for what, found, expected in _count_pairs(figure, published):
            if found != expected:
                yield Finding(
                    "count-differs",
                    severity,
                    f"{name} has {found:,} {what}; published are {expected:,}.",
                    path=name,
                    advice="Run `threecad download` again if files are missing.",
                )
        for what, span, limits in _range_pairs(figure, published):
            if span and span != limits:
                yield Finding(
                    "range-differs",
                    "warning",
                    f"{name} has {what} from {span[0]} to {span[1]}; published are "
                    f"{limits[0]} to {limits[1]}.",
                    path=name,
                )


def _count_pairs(figure: Figures, published: Category) -> list[tuple[str, int, int]]:
    counts = figure.counts
    return [
        ("training images", counts.train, published.train),
        ("good test images", counts.test_good, published.test_good),
        ("defective test images", counts.test_defective, published.test_defective),
        ("defect types", len(counts.defect_types), published.defect_types),
    ]


def _range_pairs(figure: Figures, published: Category) -> list[tuple[str, _Range | None, _Range]]:
    return [
        ("heights", figure.heights, published.heights),
        ("widths", figure.widths, published.widths),
        ("regions per defective image", figure.regions, published.regions_per_image),
        ("defect types per image", figure.types, published.types_per_image),
    ]


def check_completeness(index: Index) -> Iterator[Finding]:
    """Say which of the eight categories are not there, if some are."""
    there = {published.name for name in index.categories if (published := find_category(name))}
    missing = sorted(CATEGORIES.keys() - there)
    if there and missing:
        yield Finding(
            "categories-subset",
            "info",
            f"This is a subset: {len(there)} of {len(CATEGORIES)} categories; not there: "
            f"{', '.join(missing)}.",
            advice="`threecad download` adds the others.",
        )

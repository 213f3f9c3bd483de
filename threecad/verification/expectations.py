"""What a tree holds, in the terms of the published table, and how it differs from the archive.

Where others found that the archive differs from the published table, the archive goes first.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from threecad.dataset.catalog import CATEGORIES, find_category
from threecad.dataset.editions import expected_types
from threecad.dataset.findings import Finding
from threecad.dataset.overview import count
from threecad.dataset.samples import GOOD
from threecad.verification.type_checks import Stems, check_folders, is_numbered, name_differences

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from threecad.dataset.catalog import Category
    from threecad.dataset.findings import Severity
    from threecad.dataset.overview import CategoryCounts
    from threecad.dataset.samples import Index, Sample
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
        stems: Names of the images of each folder.
    """

    counts: CategoryCounts
    heights: _Range | None
    widths: _Range | None
    regions: _Range | None
    types: _Range | None
    stems: Stems

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
                _stems(samples),
            )
        )
    return figures


def _stems(samples: Iterable[Sample]) -> Stems:
    stems: dict[tuple[str, str], set[str]] = defaultdict(set)
    for sample in samples:
        _, split, folder, stem = sample.id.split("/")
        stems[split, folder].add(stem)
    return {place: frozenset(found) for place, found in stems.items()}


def _types_of(defect_types: tuple[str, ...], mask: MaskFacts | None) -> int:
    """Return how many types of defect an image shows; 0 if neither folder nor label map tells."""
    return len(defect_types) or (mask.classes if mask else 0)


def _range(values: Iterable[int]) -> _Range | None:
    known = list(values)
    return (min(known), max(known)) if known else None


def check_counts(figures: list[Figures], *, errors: bool) -> Iterator[Finding]:
    """Compare figures with the archive and the published table.

    Args:
        figures: One for each category.
        errors: Whether a number of images or types that differs is an error, not a warning. A range
            that differs is always a warning: how regions and types were counted is not published.
    """
    severity: Severity = "error" if errors else "warning"
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
        yield from _check_numbers(name, figure, published, severity)
        yield from check_folders(name, figure.stems, published, severity)
        yield from _check_ranges(name, figure, published)
        yield from _known_differences(name, figure, published)


def _check_numbers(
    name: str, figure: Figures, published: Category, severity: Severity
) -> Iterator[Finding]:
    numbered = is_numbered(figure.stems)
    for field, (what, found) in _numbers(figure).items():
        expected = published.expected(field)
        if found == expected or (field == "defect_types" and not _names_known(figure, published)):
            continue
        known = field in published.known_differences
        place = _FOLDERS.get(field)
        names = ""
        if place and numbered:
            names = name_differences(figure.stems.get(place, frozenset()), expected)
        yield Finding(
            "count-differs",
            severity,
            f"{name} has {found:,} {what}; "
            f"{'in the archive' if known else 'published'} are {expected:,}.{names}",
            path=name,
            advice="Run `threecad download` again if files are missing.",
        )


def _names_known(figure: Figures, published: Category) -> bool:
    """Whether the folders tell types from the label for several: not where nobody knows names."""
    return expected_types(published, figure.counts.defect_types) is not None


_FOLDERS = {"train": ("train", GOOD), "test_good": ("test", GOOD)}


def _check_ranges(name: str, figure: Figures, published: Category) -> Iterator[Finding]:
    for field, (what, span) in _ranges(figure).items():
        limits = published.expected(field)
        if field == "types_per_image" and not _names_known(figure, published):
            continue
        if span and span != limits:
            by = "the archive has" if field in published.known_differences else "published are"
            yield Finding(
                "range-differs",
                "warning",
                f"{name} has {what} from {span[0]} to {span[1]}; {by} {limits[0]} to {limits[1]}.",
                path=name,
            )


def _known_differences(name: str, figure: Figures, published: Category) -> Iterator[Finding]:
    found = {**_numbers(figure), **_ranges(figure)}
    for field, known in published.known_differences.items():
        what, value = found[field]
        if value is not None and value == known.archive:
            yield Finding(
                "difference-known",
                "info",
                f"{name} has {_say(value)} {what}; the published table says "
                f"{_say(known.published)}. The archive is known to differ there.",
                path=name,
                advice=f"Nothing is to be done. Source: {known.source}.",
            )


def _say(value: int | _Range) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value[0]} to {value[1]}"


def _numbers(figure: Figures) -> dict[str, tuple[str, int]]:
    """Return field of the table -> its name for people, and the tree's number."""
    counts = figure.counts
    return {
        "train": ("training images", counts.train),
        "test_good": ("good test images", counts.test_good),
        "test_defective": ("defective test images", counts.test_defective),
        "defect_types": ("defect types", len(counts.defect_types)),
    }


def _ranges(figure: Figures) -> dict[str, tuple[str, _Range | None]]:
    return {
        "heights": ("heights", figure.heights),
        "widths": ("widths", figure.widths),
        "regions_per_image": ("regions per defective image", figure.regions),
        "types_per_image": ("defect types per image", figure.types),
    }


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

"""From an index to its defect statistics."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from threecad.dataset.file_checks import odd_mask, unlike_size, unreadable
from threecad.dataset.samples import relative_path
from threecad.statistics.contrast import Contrast, measure_contrasts
from threecad.statistics.measurement import GRID, measure_masks, read_sizes
from threecad.statistics.overview import CategoryOverview, co_occurrence, describe_categories
from threecad.statistics.summaries import (
    DefectGroup,
    DefectiveImage,
    DefectRecord,
    group_defects,
    position_map,
    records_of,
    summarise,
)
from threecad.system import atomic

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from threecad.dataset.findings import Finding
    from threecad.dataset.scanning import Index, Sample
    from threecad.images.masks import MaskRule
    from threecad.statistics.measurement import MaskMeasures
    from threecad.statistics.overview import CoOccurrence
    from threecad.statistics.summaries import Grouping, Unit

__all__ = ["DefectStatistics", "stats"]


@dataclass(frozen=True)
class DefectStatistics:
    """The statistics of the defects of a tree.

    Attributes:
        root: The tree.
        overview: The published table, recomputed.
        images: The defective images whose masks could be read.
        rules: How many masks were decoded by each rule.
        findings: What is wrong with the tree or odd about its masks.
        errata: SHA-256 of the corrections that were applied, if any.
    """

    root: str
    overview: tuple[CategoryOverview, ...]
    images: tuple[DefectiveImage, ...]
    rules: dict[str, int]
    findings: tuple[Finding, ...]
    errata: str | None = None

    def groups(self, by: Grouping = "category", per: Unit = "region") -> tuple[DefectGroup, ...]:
        """Return the summary of each category, defect type of a category, or size.

        Args:
            by: ``"category"``, ``"defect_type"`` or ``"size"``.
            per: Whether a region or an image (the union of its regions) is counted as one.
        """
        return group_defects(self.images, by, per)

    def total(self, per: Unit = "region") -> DefectGroup:
        """Return the summary of all defects together."""
        return summarise(self.records(per))

    def records(self, per: Unit = "region") -> list[DefectRecord]:
        """Return one record per region, or per image that has any defect pixel."""
        return records_of(self.images, per)

    def positions(
        self, category: str | None = None, defect_type: str | None = None
    ) -> NDArray[np.float64]:
        """Return where on the part defects sit.

        Returns:
            ``(32, 32)`` float64. For each cell of a grid over the image, the part of it that is
            defect, averaged over the images.
        """
        return position_map(
            (
                image
                for image in self.images
                if category in (None, image.category) and defect_type in (None, image.defect_type)
            ),
            GRID,
        )

    def co_occurrence(self, category: str) -> CoOccurrence:
        """Return how often types of defect come together in an image of ``category``."""
        return co_occurrence(category, self.images)

    def to_dict(self, by: Grouping = "category", per: Unit = "region") -> dict[str, Any]:
        """Return the statistics as JSON-able data; ratios are fractions, not percent."""
        return {
            "schema": "threecad.statistics/1",
            "root": self.root,
            "errata": self.errata,
            "overview": [row.to_dict() for row in self.overview],
            "by": by,
            "per": per,
            "groups": [asdict(group) for group in self.groups(by, per)],
            "total": asdict(self.total(per)),
            "co_occurrence": [asdict(self.co_occurrence(row.name)) for row in self.overview],
            "mask_rules": self.rules,
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def write_csv(self, path: str | os.PathLike[str], per: Unit = "region") -> None:
        """Write one row per region, or per image that has any defect pixel."""
        rows = [_row(record) for record in self.records(per)]
        with (
            atomic.replacing(path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            columns = _COLUMNS[per]
            writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)


def stats(
    index: Index,
    *,
    contrast: bool = True,
    mask_rule: MaskRule | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    progress: bool = False,
) -> DefectStatistics:
    """Measure every defect of an index.

    What was measured is kept in ``ROOT/.threecad`` and used again while the files are unchanged.
    Masks that cannot be read or do not have the size of their image are findings; they are left
    out of the statistics and do not stop them.

    Args:
        index: The samples; defective ones without a mask are counted but not measured.
        contrast: Also decode the images, to compare each region with its surround and to find
            copies of an image in several folders, which tell that it shows several types.
            Without, only masks and the headers of images are read.
        mask_rule: Decode all masks by this rule (see ``threecad.decode_mask``).
        workers: Worker processes; see ``threecad.system.parallel.map``.
        cluster: Where to run them, if not here.
        progress: Whether to show progress bars on stderr.
    """
    options: dict[str, Any] = {"workers": workers, "cluster": cluster, "progress": progress}
    root = index.root
    sizes = read_sizes(root, [sample.image for sample in index], **options)
    masked = [sample for sample in index if sample.label and sample.mask is not None]
    measures = measure_masks(root, [_mask(s) for s in masked], rule=mask_rule, **options)
    findings = list(index.findings)
    usable = [
        s for s in masked if _is_usable(s, measures[_mask(s)], sizes[s.image], root, findings)
    ]
    contrasts: Mapping[Path, Contrast] = {}
    if contrast:
        pairs = [(sample.image, _mask(sample)) for sample in usable]
        contrasts = measure_contrasts(root, pairs, rule=mask_rule, **options)
        findings += _unreadable(usable, contrasts, root)
    types = _types_by_copies(usable, contrasts)
    images = tuple(
        _describe(sample, measures[_mask(sample)], contrasts.get(sample.image), types[sample.id])
        for sample in usable
    )
    return DefectStatistics(
        root=str(root),
        overview=describe_categories(index, images, sizes),
        images=images,
        rules=dict(Counter(image.rule for image in images).most_common()),
        findings=tuple(findings),
        errata=index.errata_digest,
    )


def _mask(sample: Sample) -> Path:
    assert sample.mask is not None
    return sample.mask


def _is_usable(
    sample: Sample,
    measures: MaskMeasures,
    size: tuple[int, int],
    root: Path,
    findings: list[Finding],
) -> bool:
    """Whether a mask can be measured; what is odd about it is added to ``findings``."""
    path = relative_path(_mask(sample), root)
    if measures.problem is not None:
        findings.append(unreadable("mask", sample, path, measures.problem))
        return False
    if all(size) and size != (measures.height, measures.width):
        image = relative_path(sample.image, root)
        findings.append(unlike_size(sample, path, (measures.height, measures.width), image, size))
        return False
    area = sum(region.area for region in measures.regions)
    findings += [odd_mask(code, sample, path, measures.rule, area) for code in measures.findings]
    return True


def _unreadable(
    samples: Iterable[Sample], contrasts: Mapping[Path, Contrast], root: Path
) -> list[Finding]:
    return [
        unreadable("image", sample, relative_path(sample.image, root), problem)
        for sample in samples
        if (problem := contrasts[sample.image].problem) is not None
    ]


def _types_by_copies(
    samples: Iterable[Sample], contrasts: Mapping[Path, Contrast]
) -> dict[str, tuple[str, ...]]:
    """Return the defect types of each sample: its own and those of the copies of its image."""
    samples = list(samples)
    copies: dict[tuple[str, str], set[str]] = defaultdict(set)

    def key(sample: Sample) -> tuple[str, str]:
        known = contrasts.get(sample.image)
        return sample.category, (known.pixels if known else "") or sample.id

    for sample in samples:
        copies[key(sample)].update(sample.defect_types)
    return {sample.id: tuple(sorted(copies[key(sample)])) for sample in samples}


def _describe(
    sample: Sample, measures: MaskMeasures, contrast: Contrast | None, types: tuple[str, ...]
) -> DefectiveImage:
    image = DefectiveImage(
        id=sample.id,
        category=sample.category,
        defect_type=sample.defect_type,
        defect_types=types,
        type_count=max(len(types), measures.classes) or None,
        height=measures.height,
        width=measures.width,
        rule=measures.rule,
        regions=measures.regions,
        rectangle=measures.rectangle,
        cells=measures.cells,
    )
    if contrast is None or contrast.problem is not None:
        return image
    return replace(image, contrasts=contrast.differences, contrast_ratios=contrast.ratios)


_SHARED = ["id", "category", "defect_type", "image_height", "image_width", "mask_rule"]
_MEASURED = ["area", "area_ratio", "size", "aspect_ratio", "contrast", "contrast_ratio"]
_RECTANGLE = ["rect_x", "rect_y", "rect_long", "rect_short", "rect_angle"]
_COLUMNS = {
    "region": [
        *_SHARED, "region", *_MEASURED, *_RECTANGLE, "x", "y", "width", "height",
        "centroid_x", "centroid_y", "perimeter", "holes", "touches_border",
    ],
    "image": [*_SHARED, "regions", *_MEASURED, *_RECTANGLE],
}  # fmt: skip


def _row(record: DefectRecord) -> dict[str, Any]:
    image = record.image
    row: dict[str, Any] = {
        "id": image.id,
        "category": image.category,
        "defect_type": image.defect_type,
        "image_height": image.height,
        "image_width": image.width,
        "mask_rule": image.rule,
        "regions": len(image.regions),
        "region": record.number,
        **{name: getattr(record, name) for name in _MEASURED},
    }
    rectangle = image.rectangle
    if record.number:
        region = image.regions[record.number - 1]
        rectangle = region.rotated_rect
        row |= dict(zip(("x", "y", "width", "height"), region.bbox, strict=True))
        row |= dict(zip(("centroid_x", "centroid_y"), region.centroid, strict=True))
        row |= {
            "perimeter": region.perimeter,
            "holes": region.holes,
            "touches_border": int(region.touches_border),
        }
    if rectangle is not None:
        numbers = (*rectangle.center, *rectangle.sides, rectangle.angle)
        row |= dict(zip(_RECTANGLE, numbers, strict=True))
    return row

"""Defective images and regions, and what groups of them have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from threecad.dataset.catalog import is_multiple_defects
from threecad.images.regions import SIZES, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from threecad.images.regions import Region, RotatedRect

__all__ = [
    "DefectGroup",
    "DefectRecord",
    "DefectiveImage",
    "Grouping",
    "Quantiles",
    "Unit",
    "group_defects",
    "position_map",
    "records_of",
    "summarise",
]

Grouping = Literal["category", "defect_type", "size"]
Unit = Literal["region", "image"]


@dataclass(frozen=True)
class DefectiveImage:
    """A defective test image whose mask could be read.

    Attributes:
        id: Sample id.
        category: Name of the category folder.
        defect_type: Name of the defect folder.
        defect_types: The types seen in the image; empty where nothing tells.
        type_count: How many types; ``None`` where nothing tells. More than ``defect_types`` has
            where a label map has classes without names.
        height: Pixels.
        width: Pixels.
        rule: The rule by which the mask was decoded.
        regions: The 8-connected regions of the mask, at least one unless the mask is empty.
        rectangle: The rectangle of minimum area round all defect pixels; ``None`` if there is none.
        cells: Where the defect is (see ``threecad.statistics.measurement.MaskMeasures``).
        contrasts: Per region, its brightness less that of its surround, in ``[-1, 1]``.
        contrast_ratios: Per region, the same over the standard deviation of the surround.
    """

    id: str
    category: str
    defect_type: str
    defect_types: tuple[str, ...]
    type_count: int | None
    height: int
    width: int
    rule: str
    regions: tuple[Region, ...]
    rectangle: RotatedRect | None
    cells: tuple[tuple[int, float], ...] = ()
    contrasts: tuple[float | None, ...] = ()
    contrast_ratios: tuple[float | None, ...] = ()

    @property
    def area(self) -> int:
        """Number of defect pixels."""
        return sum(region.area for region in self.regions)


@dataclass(frozen=True)
class DefectRecord:
    """One row of the statistics: a region, or all defect pixels of an image.

    Attributes:
        image: The image it is in.
        number: Position of the region in ``image.regions``, from 1; 0 for the image as a whole.
        area: Pixels.
        area_ratio: Area over the area of the image.
        size: ``small``, ``medium`` or ``large``.
        aspect_ratio: Long over short side of the rectangle of minimum area.
        contrast: Brightness less that of the surround, in ``[-1, 1]``; for an image the mean over
            its regions by area. ``None`` where it is unknown.
        contrast_ratio: The same over the standard deviation of the surround.
    """

    image: DefectiveImage
    number: int
    area: int
    area_ratio: float
    size: str
    aspect_ratio: float
    contrast: float | None
    contrast_ratio: float | None


def records_of(images: Iterable[DefectiveImage], per: Unit) -> list[DefectRecord]:
    """Return one record per region, or per image that has any defect pixel."""
    if per == "image":
        return [_image_record(image) for image in images if image.regions]
    return [record for image in images for record in _region_records(image)]


def _region_records(image: DefectiveImage) -> list[DefectRecord]:
    pixels = image.height * image.width
    unknown: tuple[None, ...] = (None,) * len(image.regions)
    return [
        DefectRecord(
            image=image,
            number=number,
            area=region.area,
            area_ratio=region.area_ratio,
            size=size_of(region.area, pixels),
            aspect_ratio=region.aspect_ratio,
            contrast=contrast,
            contrast_ratio=ratio,
        )
        for number, (region, contrast, ratio) in enumerate(
            zip(
                image.regions,
                image.contrasts or unknown,
                image.contrast_ratios or unknown,
                strict=True,
            ),
            start=1,
        )
    ]


def _image_record(image: DefectiveImage) -> DefectRecord:
    pixels = image.height * image.width
    assert image.rectangle is not None  # images without defect pixels are left out before
    return DefectRecord(
        image=image,
        number=0,
        area=image.area,
        area_ratio=image.area / pixels,
        size=size_of(image.area, pixels),
        aspect_ratio=image.rectangle.aspect_ratio,
        contrast=_mean_by_area(image, image.contrasts),
        contrast_ratio=_mean_by_area(image, image.contrast_ratios),
    )


def _mean_by_area(image: DefectiveImage, values: Sequence[float | None]) -> float | None:
    pairs = [
        (value, region.area)
        for value, region in zip(values, image.regions, strict=False)
        if value is not None
    ]
    total = sum(area for _, area in pairs)
    return sum(value * area for value, area in pairs) / total if total else None


@dataclass(frozen=True)
class Quantiles:
    """The distribution of a quantity, by linear interpolation between the observations."""

    n: int
    mean: float
    minimum: float
    q05: float
    q25: float
    median: float
    q75: float
    q95: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quantiles | None:
        """Return the quantiles of some values; ``None`` if there are none."""
        if not len(values):
            return None
        array = np.asarray(values, np.float64)
        low, q05, q25, q50, q75, q95, high = np.quantile(array, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
        numbers = (array.mean(), low, q05, q25, q50, q75, q95, high)
        return cls(len(array), *(float(number) for number in numbers))


@dataclass(frozen=True)
class DefectGroup:
    """What a group of regions or images has in common.

    Attributes:
        category: ``None`` where the group runs over all categories.
        defect_type: ``None`` where it runs over all types.
        size: ``None`` where it runs over all sizes.
        images: Number of images.
        regions: Number of regions.
        area: Quantiles of the area in pixels.
        area_ratio: Quantiles of the area over the area of the image.
        aspect_ratio: Quantiles of the aspect ratio of the rectangle of minimum area.
        sizes: How many are small, medium and large.
        contrast: Quantiles of brightness less that of the surround.
        contrast_ratio: Quantiles of the same over the standard deviation of the surround.
        border: How many touch the border of the image.
        holes: How many have a hole.
    """

    category: str | None
    defect_type: str | None
    size: str | None
    images: int
    regions: int
    area: Quantiles | None
    area_ratio: Quantiles | None
    aspect_ratio: Quantiles | None
    sizes: dict[str, int]
    contrast: Quantiles | None
    contrast_ratio: Quantiles | None
    border: int
    holes: int

    @property
    def name(self) -> str:
        """What the group is called in tables."""
        parts = [part for part in (self.category, self.defect_type, self.size) if part]
        return " / ".join(parts) or "All"

    @property
    def count(self) -> int:
        """How many regions or images the quantiles are over."""
        return sum(self.sizes.values())


def group_defects(
    images: Sequence[DefectiveImage], by: Grouping, per: Unit
) -> tuple[DefectGroup, ...]:
    """Return one summary per category, per defect type of a category, or per size."""
    groups: dict[tuple[str | None, str | None, str | None], list[DefectRecord]] = {}
    if by == "size":
        groups = {(None, None, size): [] for size in SIZES}
    for record in records_of(images, per):
        image = record.image
        key: tuple[str | None, str | None, str | None] = {
            "category": (image.category, None, None),
            "defect_type": (image.category, image.defect_type, None),
            "size": (None, None, record.size),
        }[by]
        groups.setdefault(key, []).append(record)
    if by != "size":
        groups = dict(sorted(groups.items(), key=lambda item: _by_name(item[0])))
    return tuple(
        summarise(records, category=category, defect_type=defect_type, size=size)
        for (category, defect_type, size), records in groups.items()
    )


def _by_name(key: tuple[str | None, str | None, str | None]) -> tuple[str, bool, str]:
    """Sort by category, then type, with the label for several types last."""
    category, defect_type = str(key[0]), str(key[1])
    return category, is_multiple_defects(defect_type), defect_type


def summarise(
    records: Sequence[DefectRecord],
    *,
    category: str | None = None,
    defect_type: str | None = None,
    size: str | None = None,
) -> DefectGroup:
    """Return the summary of some regions or images."""
    regions = [region for record in records for region in _regions(record)]
    return DefectGroup(
        category=category,
        defect_type=defect_type,
        size=size,
        images=len({record.image.id for record in records}),
        regions=len(regions),
        area=Quantiles.of([record.area for record in records]),
        area_ratio=Quantiles.of([record.area_ratio for record in records]),
        aspect_ratio=Quantiles.of([record.aspect_ratio for record in records]),
        sizes={name: sum(record.size == name for record in records) for name in SIZES},
        contrast=Quantiles.of([r.contrast for r in records if r.contrast is not None]),
        contrast_ratio=Quantiles.of(
            [r.contrast_ratio for r in records if r.contrast_ratio is not None]
        ),
        border=sum(any(g.touches_border for g in _regions(record)) for record in records),
        holes=sum(any(g.holes for g in _regions(record)) for record in records),
    )


def _regions(record: DefectRecord) -> tuple[Region, ...]:
    if record.number:
        return (record.image.regions[record.number - 1],)
    return record.image.regions


def position_map(images: Iterable[DefectiveImage], grid: int) -> NDArray[np.float64]:
    """Return where on the part defects sit.

    Returns:
        ``(grid, grid)`` float64: for each cell of a grid over the image, which part of it is
        defect on average over the images. 0 everywhere if there is no image.
    """
    total = np.zeros(grid * grid)
    count = 0
    for image in images:
        count += 1
        for cell, part in image.cells:
            total[cell] += part
    return (total / max(count, 1)).reshape(grid, grid)

"""From what was counted to figures and their means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from threecad.evaluation.bootstrap import Deviations, add_confidence, mean_deviations, resample
from threecad.evaluation.counting.pixels import SIZES
from threecad.evaluation.definitions import PAPER_PRO, define_image_figures, define_pixel_figures
from threecad.evaluation.plausibility import find_background, find_inverted
from threecad.evaluation.results import Result
from threecad.evaluation.scores import Figure, Scores
from threecad.evaluation.tallies import (
    DETAIL_SLACK,
    CategoryTally,
    Ranking,
    count_images,
)
from threecad.system.versions import find_versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from threecad.evaluation.counting.partitions import Partition
    from threecad.evaluation.curves import Counts
    from threecad.evaluation.definitions import Definition
    from threecad.evaluation.operation.point import OperatingPoint
    from threecad.evaluation.tallies import ImageRecord

__all__ = ["CategoryScores", "ImageName", "assemble", "mean_scores"]


@dataclass(frozen=True)
class CategoryScores:
    """All scores of one category, and what a bootstrap adds."""

    name: str
    scores: Scores
    by_type: dict[str, Scores]
    by_size: dict[str, Scores]
    deviations: Deviations
    size_deviations: dict[str, Deviations]

    @classmethod
    def of(
        cls,
        name: str,
        tally: CategoryTally,
        *,
        pro_limits: Sequence[float],
        point: OperatingPoint,
        bootstrap: int = 0,
        seed: int = 0,
    ) -> CategoryScores:
        """Compute all scores of a category."""
        scores = _category_scores(tally, pro_limits, point)
        by_type: dict[str, Scores] = {}
        by_size: dict[str, Scores] = {}
        if tally.detailed:
            by_type = {
                kind: _type_scores(tally, kind, pro_limits, point) for kind in tally.defect_types
            }
            by_size = {each: _size_scores(tally, each, pro_limits, point) for each in SIZES}
        if not bootstrap:
            return cls(name, scores, by_type, by_size, {}, {})
        draw = partial(
            resample, replicates=bootstrap, seed=seed, pro_limits=pro_limits, point=point
        )
        deviations = draw(tally.images, name=name)
        size_deviations = {each: draw(tally.images, name=name, size_class=each) for each in by_size}
        for kind in by_type:
            images = [i for i in tally.images if not i.label or i.defect_type == kind]
            moved = draw(images, name=f"{name}/{kind}")
            by_type[kind] = add_confidence(by_type[kind], moved)
        return cls(
            name,
            add_confidence(scores, deviations),
            by_type,
            {each: add_confidence(by_size[each], size_deviations[each]) for each in by_size},
            deviations,
            size_deviations,
        )

    def add_image_figure(
        self,
        key: str,
        values: Mapping[ImageName, float],
        moved: NDArray[np.float64] | None,
        reason: str,
    ) -> CategoryScores:
        """Return the scores with a figure that is a mean over defective images.

        Args:
            key: Its key.
            values: Its value for each image, by type and sizes.
            moved: Its deviation in each replicate.
            reason: Why it is undefined where no image has a value.
        """

        def add(scores: Scores, chosen: list[float]) -> Scores:
            mean = float(np.mean(chosen)) if chosen else None
            figure = Figure.undefined(reason) if mean is None else Figure(mean, mean, mean)
            return replace(scores, figures={**scores.figures, key: figure})

        deviations = {} if moved is None else {key: moved}
        of_all = [value for _, value in sorted(values.items())]
        return replace(
            self,
            scores=add_confidence(add(self.scores, of_all), deviations),
            by_type={
                kind: add(scores, [v for n, v in sorted(values.items()) if n.defect_type == kind])
                for kind, scores in self.by_type.items()
            },
            by_size={
                each: add(scores, [v for n, v in sorted(values.items()) if each in n.sizes])
                for each, scores in self.by_size.items()
            },
            deviations={**self.deviations, **deviations},
        )


class ImageName(NamedTuple):
    """An image, and the groups that it belongs to."""

    sample_id: str
    defect_type: str
    sizes: tuple[str, ...]


def assemble(
    categories: Sequence[CategoryScores],
    pooled: CategoryScores,
    *,
    protocol: str,
    settings: dict[str, Any],
    provenance: dict[str, Any] | None = None,
    warnings: Iterable[str] = (),
) -> Result:
    """Return the result of an evaluation from the scores of its categories.

    Its warnings are those given, and those of figures below chance or beside the defects.
    """
    mean = mean_scores(category.scores for category in categories)
    moved = mean_deviations(category.deviations for category in categories)
    by_size: dict[str, Scores] = {}
    for size_class in categories[0].by_size:
        of_size = mean_scores(category.by_size[size_class] for category in categories)
        moved_size = [c.size_deviations.get(size_class, {}) for c in categories]
        by_size[size_class] = add_confidence(of_size, mean_deviations(moved_size))
    for category in categories:
        by_size |= {
            f"{category.name}/{size_class}": s for size_class, s in category.by_size.items()
        }
    return Result(
        mean=add_confidence(mean, moved),
        by_category={category.name: category.scores for category in categories},
        by_defect_type={
            f"{category.name}/{kind}": scores
            for category in categories
            for kind, scores in category.by_type.items()
        },
        by_size=by_size,
        pooled=pooled.scores,
        protocol=protocol,
        settings=settings,
        provenance={**(provenance or {}), **_describe_software()},
        warnings=[
            *warnings,
            *(w for c in categories for w in find_inverted(c.name, c.scores)),
            *(w for c in categories for w in find_background(c.name, c.scores)),
        ],
    )


def _category_scores(
    tally: CategoryTally, pro_limits: Sequence[float], point: OperatingPoint
) -> Scores:
    """Return the scores of all images of a category."""
    figures = _image_figures(tally.images, point)
    figures |= _pixel_figures(tally, None, None, pro_limits)
    if tally.paper:
        figures = _paper_figures(figures, tally.images)
    return Scores(figures, _count(tally, tally.images, Ranking("pixels")))


def _type_scores(
    tally: CategoryTally, defect_type: str, pro_limits: Sequence[float], point: OperatingPoint
) -> Scores:
    """Return the scores of one defect type's images and all good ones."""
    images = [
        image for image in tally.images if not image.label or image.defect_type == defect_type
    ]
    figures = _image_figures(images, point)
    figures |= _pixel_figures(tally, defect_type, None, pro_limits)
    return Scores(figures, _count(tally, images, Ranking("pixels", defect_type)))


def _size_scores(
    tally: CategoryTally, size_class: str, pro_limits: Sequence[float], point: OperatingPoint
) -> Scores:
    """Return the scores of the regions of one size against all defect-free pixels."""
    figures = _pixel_figures(tally, None, size_class, pro_limits)
    images = [image for image in tally.images if not image.label or size_class in image.sizes]
    figures |= _image_figures(images, point, of_sizes=True)
    pixels = tally.by_size[size_class]
    counts = {"regions": pixels.found.total, "defective_pixels": pixels.defective.total}
    return Scores(figures, counts)


def mean_scores(parts: Iterable[Scores]) -> Scores:
    """Return the unweighted mean of each figure over the parts for which it is defined."""
    parts = list(parts)
    shared = [key for key in parts[0].figures if all(key in part.figures for part in parts)]
    figures = {key: _mean_figure([part.figures[key] for part in parts]) for key in shared}
    counts = {key: sum(part.counts[key] for part in parts) for key in parts[0].counts}
    return Scores(figures, counts)


def _image_figures(
    images: Sequence[ImageRecord], point: OperatingPoint, *, of_sizes: bool = False
) -> dict[str, Figure]:
    definitions = [
        definition
        for definition in define_image_figures(point)
        if definition.positives == "peaks" or not of_sizes
    ]
    defective = sum(image.label for image in images)
    if defective in (0, len(images)):
        reason = "no good images" if defective else "no defective images"
        return {definition.key: Figure.undefined(reason) for definition in definitions}
    counts = count_images(images)
    return {
        definition.key: _figure(definition, counts[definition.positives])
        for definition in definitions
    }


def _pixel_figures(
    tally: CategoryTally,
    defect_type: str | None,
    size_class: str | None,
    pro_limits: Sequence[float],
) -> dict[str, Figure]:
    pixels = tally.partition(Ranking("pixels", defect_type, size_class))
    definitions = [
        definition
        for definition in define_pixel_figures(pro_limits)
        if size_class is None or definition.of_sizes
    ]
    if reason := _why_undefined(tally, pixels, size_class):
        return {definition.key: Figure.undefined(reason) for definition in definitions}
    slack = 1.0 if defect_type is None and size_class is None else DETAIL_SLACK
    counts = {
        "pixels": pixels.descending(),
        "regions": tally.partition(Ranking("regions", defect_type, size_class)).descending(),
    }
    return {
        definition.key: _figure(definition, counts[definition.positives], slack)
        for definition in definitions
    }


def _why_undefined(tally: CategoryTally, pixels: Partition, size_class: str | None) -> str | None:
    negatives, positives = pixels.counts[:, 0].sum(), pixels.counts[:, 1].sum()
    if negatives and positives:
        return None
    unmasked = tally.unmasked
    if unmasked == len(tally.images):
        return "no masks"
    if not positives:
        reason = "no defective pixels" if size_class is None else f"no {size_class} regions"
    else:
        reason = "no defect-free pixels"
    return f"{reason} ({unmasked} images have no mask)" if unmasked else reason


def _paper_figures(figures: dict[str, Figure], images: Sequence[ImageRecord]) -> dict[str, Figure]:
    """Put the paper's PRO in the place of ours."""
    kept = {key: figure for key, figure in figures.items() if not key.startswith("region_recall")}
    reason = f"the paper's protocol has another PRO, under the key {PAPER_PRO}"
    for key in kept:
        if key.startswith("pro_"):
            kept[key] = Figure.undefined(reason)
    values = sorted(image.paper_pro for image in images if image.paper_pro is not None)
    if values:
        mean = float(np.mean(values))
        kept[PAPER_PRO] = Figure(mean, mean, mean)
    else:
        kept[PAPER_PRO] = Figure.undefined("it is undefined for every image")
    return kept


def _count(tally: CategoryTally, images: Sequence[ImageRecord], ranking: Ranking) -> dict[str, int]:
    pixels = tally.partition(ranking)
    defective = sum(image.label for image in images)
    negatives, positives = (int(total) for total in pixels.counts[:, :2].sum(axis=0))
    return {
        "good": len(images) - defective,
        "defective": defective,
        "regions": pixels.regions,
        "pixels": negatives + positives,
        "defective_pixels": positives,
    }


def _figure(definition: Definition, counts: Counts, slack: float = 1.0) -> Figure:
    interval = definition.measure(counts)
    if np.isnan(interval.value):
        nothing = "no defective image with a mask is decided defective"
        return Figure.undefined(nothing if counts.positives.any() else "no masks")
    low, high = float(interval.low), float(interval.high)
    within = high - low <= definition.tolerance * slack
    return Figure(float(interval.value), low, high, within_tolerance=within)


def _mean_figure(parts: list[Figure]) -> Figure:
    defined = [part for part in parts if part.value is not None]
    n = len(defined)
    if not n:
        return Figure.undefined("; ".join(sorted({part.reason or "" for part in parts})), n=0)
    value, low, high = (
        float(np.mean([getattr(part, name) for part in defined]))
        for name in ("value", "low", "high")
    )
    within = all(part.within_tolerance for part in defined)
    return Figure(value, low, high, n=n, within_tolerance=within)


def _describe_software() -> dict[str, Any]:
    """Return the versions that a result depends on."""
    return {**find_versions(("numpy", "numba")), "opencv": cv2.__version__}

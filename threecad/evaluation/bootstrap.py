"""Confidence intervals: how far would the figures move with other images of the same kind?

Images are drawn with replacement, good and defective ones each as many as there are (a stratified
bootstrap). Every replicate's figures are computed from the images' histograms in few bins; what is
kept of a replicate is its deviation from the same figure of all images in the same bins, so that
the width of the bins cancels.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from threecad.evaluation.counting.bins import Bins, join_bins
from threecad.evaluation.curves import OVERLAP_SCALE, Counts
from threecad.evaluation.definitions import PAPER_PRO, define_image_figures, define_pixel_figures
from threecad.evaluation.tallies import ROW_BINS, ImageRecord, count_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from threecad.evaluation.operation.point import OperatingPoint
    from threecad.evaluation.scores import Scores

__all__ = [
    "LEVEL",
    "Deviations",
    "add_confidence",
    "add_mean_confidence",
    "mean_deviations",
    "resample",
]

LEVEL = 0.95
"""Confidence level of the intervals."""

BLOCK = 100
"""Replicates computed at a time."""

WEIGHT_SCALE = 2**20
"""The pixels of one region weigh this much here: sums of weights stay exact in float64."""

Deviations = dict[str, "NDArray[np.float64]"]
"""Key of a figure → its deviation in each replicate, NaN where it is undefined there."""


def resample(
    images: Sequence[ImageRecord],
    *,
    replicates: int,
    seed: int,
    name: str,
    pro_limits: Sequence[float],
    point: OperatingPoint,
    size_class: str | None = None,
) -> Deviations:
    """Return the deviations of every figure of a group of images.

    Args:
        images: The images, in any order: the result does not depend on it.
        replicates: How many times to draw.
        seed: Seed; together with ``name`` it decides the draws.
        name: Name of the category or group.
        pro_limits: False positive rates up to which PRO is integrated.
        point: Where the figures of decisions are taken.
        size_class: Only regions of this size, and images that have one, are positives, if not
            ``None``; of the image figures there are only those of peaks then.
    """
    images = sorted(images, key=ImageRecord.sort_key)
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    parts: list[Callable[[NDArray[np.float64]], Deviations]] = []
    if any(image.row is not None for image in images):
        parts.append(_PixelFigures(images, pro_limits, size_class))
    parts.append(_ImageFigures(images, point, size_class))
    if size_class is None and any(image.paper_pro is not None for image in images):
        parts.append(_PaperFigure(images))
    everything = np.ones((1, len(images)))
    with np.errstate(all="ignore"):
        centre = {key: value[0] for part in parts for key, value in part(everything).items()}
        blocks = []
        for start in range(0, replicates, BLOCK):
            weights = _draw(images, min(BLOCK, replicates - start), generator)
            blocks.append({key: v for part in parts for key, v in part(weights).items()})
    return {
        key: np.concatenate([block[key] for block in blocks]) - value
        for key, value in centre.items()
    }


def add_confidence(scores: Scores, deviations: Deviations) -> Scores:
    """Return the scores with the interval of each figure."""
    figures = dict(scores.figures)
    for key, figure in figures.items():
        moved = deviations.get(key, np.empty(0))
        moved = moved[np.isfinite(moved)]
        if figure.value is None or moved.size == 0:
            continue
        tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        low, high = np.clip(figure.value + np.quantile(moved, tails), 0, 1)
        figures[key] = replace(figure, confidence=(float(low), float(high)))
    return replace(scores, figures=figures)


def mean_deviations(parts: Iterable[Deviations]) -> Deviations:
    """Return the deviations of the mean over categories, which are drawn independently."""
    keys: dict[str, list[NDArray[np.float64]]] = {}
    for part in parts:
        for key, moved in part.items():
            if np.isfinite(moved).any():
                keys.setdefault(key, []).append(moved)
    return {key: np.mean(moved, axis=0) for key, moved in keys.items()}


def add_mean_confidence(mean: Scores, parts: Sequence[Scores]) -> Scores:
    """Return the mean over categories with intervals made from theirs, as drawn independently.

    For results whose replicates are no longer there: each limit of the mean lies from it at the
    root of the sum of squares of the parts' distances, over their number (MOVER; Zou and Donner,
    2008, Statistics in Medicine 27, 1693).
    """
    figures = dict(mean.figures)
    for key, figure in figures.items():
        defined = [f for f in (part.figures[key] for part in parts) if f.value is not None]
        limits = [
            (f.value - f.confidence[0], f.confidence[1] - f.value)
            for f in defined
            if f.value is not None and f.confidence is not None
        ]
        if figure.value is None or len(limits) < len(defined):
            continue
        below, above = np.linalg.norm(np.array(limits), axis=0) / len(limits)
        low, high = np.clip([figure.value - below, figure.value + above], 0, 1)
        figures[key] = replace(figure, confidence=(float(low), float(high)))
    return replace(mean, figures=figures)


def _draw(
    images: Sequence[ImageRecord], replicates: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return how often each image is drawn in each replicate, ``(replicates, N)``."""
    weights = np.zeros((replicates, len(images)))
    labels = np.array([image.label for image in images])
    for label in (0, 1):
        group = np.flatnonzero(labels == label)
        if group.size:
            even = np.full(group.size, 1 / group.size)
            weights[:, group] = generator.multinomial(group.size, even, size=replicates)
    return weights


class _ImageFigures:
    """All figures over image scores."""

    def __init__(
        self, images: Sequence[ImageRecord], point: OperatingPoint, size_class: str | None
    ) -> None:
        self.images = images
        self.chosen = np.array(
            [not i.label or size_class is None or size_class in i.sizes for i in images]
        )
        self.figures = [
            figure
            for figure in define_image_figures(point)
            if size_class is None or figure.positives == "peaks"
        ]

    def __call__(self, weights: NDArray[np.float64]) -> Deviations:
        counts = count_images(self.images, weights * self.chosen)
        return {figure.key: figure.replicates(counts[figure.positives]) for figure in self.figures}


class _PaperFigure:
    """The mean of the paper's PRO over the images for which it is defined."""

    def __init__(self, images: Sequence[ImageRecord]) -> None:
        self.defined = np.array([image.paper_pro is not None for image in images])
        self.values = np.array([image.paper_pro or 0.0 for image in images])

    def __call__(self, weights: NDArray[np.float64]) -> Deviations:
        return {PAPER_PRO: (weights @ self.values) / (weights @ self.defined)}


class _PixelFigures:
    """All figures over pixels and regions, from the images' rows."""

    def __init__(
        self, images: Sequence[ImageRecord], pro_limits: Sequence[float], size_class: str | None
    ) -> None:
        self.figures = define_pixel_figures(pro_limits)
        rows = [image.row for image in images]
        grid, shift = _common_bins([row.every for row in rows if row is not None])
        shape = (len(images), grid.size)
        self.negatives, self.positives = np.zeros(shape), np.zeros(shape)
        self.overlap, self.found = np.zeros(shape), np.zeros(shape)
        for i, row in enumerate(rows):
            if row is None:
                continue
            _spread(self.negatives[i], row.every, 0, grid, shift)
            for name, bins in row.defective.items():
                _spread(self.negatives[i], bins, 0, grid, shift, factor=-1)
                if size_class in (None, name):
                    _spread(self.positives[i], bins, 0, grid, shift)
                    _spread(self.overlap[i], bins, 1, grid, shift)
                    _spread(self.found[i], row.found[name], 0, grid, shift)
        self.overlap = np.rint(self.overlap * (WEIGHT_SCALE / OVERLAP_SCALE))

    def __call__(self, weights: NDArray[np.float64]) -> Deviations:
        negatives, found = weights @ self.negatives, weights @ self.found
        exact = np.ones(negatives.shape[-1], np.bool_)
        overlap = (weights @ self.overlap) * (OVERLAP_SCALE / WEIGHT_SCALE)
        counts = Counts(negatives, weights @ self.positives, overlap, exact, found.sum(-1))
        regions = Counts(negatives, found, found, exact)
        return {
            figure.key: figure.replicates(counts if figure.positives == "pixels" else regions)
            for figure in self.figures
        }


def _common_bins(parts: Sequence[Bins]) -> tuple[NDArray[np.uint64], int]:
    """Return the ids of the bins that hold anything, descending in score, and their shift."""
    union = parts[0]
    for part in parts[1:]:
        union = join_bins(union, part)
        while union.ids.size > ROW_BINS:
            union = union.at(union.shift + 1)
    return union.ids[::-1], union.shift


def _spread(
    row: NDArray[np.float64],
    bins: Bins,
    channel: int,
    grid: NDArray[np.uint64],
    shift: int,
    factor: int = 1,
) -> None:
    """Add one image's counts to its row of the common grid."""
    wide = bins.at(shift)
    place = grid.size - 1 - np.searchsorted(grid[::-1], wide.ids)
    row[place] += factor * wide.counts[:, channel]

"""AUPIMO: how much of each defect is flagged where good images are all but free of false alarms.

Bertoldo et al., 2024, "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and
Low Tolerance" (arXiv 2401.01984). The false positive rate is the mean over good images of the share
of their pixels at or above a threshold. The figure of a defective image is the share of its
defective pixels there, averaged over the logarithm of that rate between two bounds. It is computed
over all distinct scores, which is the limit that thresholds at equal distances tend to.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["AUPIMO_BOUNDS", "GoodTail", "describe", "resample_overlaps"]

AUPIMO_BOUNDS = (1e-5, 1e-4)
"""False positive rates between which overlap is averaged."""

SPARE = 3.0
"""The tail reaches this much further than the upper bound, for replicates of other images."""

LEAST_PIXELS = 10.0
"""Good pixels at the lower bound below which one of them moves it too far."""

COARSE_LEVELS = 2000
"""Levels that replicates are computed from."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class GoodTail:
    """The highest scores of good images, as many as the bounds ask for.

    Args:
        images: How many good images there will be.
        bounds: The least and the highest false positive rate.
    """

    def __init__(self, images: int, bounds: tuple[float, float] = AUPIMO_BOUNDS) -> None:
        self.images = images
        self.bounds = bounds
        self.pixels = 0
        self._added = 0
        self._scores, self._weights = np.empty(0), np.empty(0)
        self._image = np.empty(0, np.intp)

    def add(self, anomaly_map: NDArray[np.floating[Any]]) -> None:
        """Add the map of a good image, ``(H, W)``."""
        values = anomaly_map.reshape(-1)
        area = values.size
        needed = ceil(SPARE * self.bounds[1] * self.images * area) + 1
        if needed < area:
            values = values[values >= np.partition(values, area - needed)[area - needed]]
        scores, counts = np.unique(values.astype(np.float64), return_counts=True)
        self._scores = np.concatenate([self._scores, scores])
        self._weights = np.concatenate([self._weights, counts / area])
        self._image = np.concatenate([self._image, np.full(scores.size, self._added)])
        self._added += 1
        self.pixels += area
        self._prune()

    def _prune(self) -> None:
        """Drop what lies below the highest rate of interest."""
        order = np.argsort(-self._scores, kind="stable")
        rates = np.cumsum(self._weights[order]) / self.images
        end = int(np.searchsorted(rates, SPARE * self.bounds[1]))
        if end < order.size:
            lowest = self._scores[order[end]]
            order = order[self._scores[order] >= lowest]
        self._scores, self._weights = self._scores[order], self._weights[order]
        self._image = self._image[order]

    @property
    def resolved(self) -> bool:
        """Whether there are good pixels enough for the lower bound."""
        return self.pixels * self.bounds[0] >= LEAST_PIXELS

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the distinct scores, descending, and the false positive rate at each, ``(K,)``."""
        first = np.flatnonzero(np.diff(self._scores, prepend=np.inf))
        weights = np.add.reduceat(self._weights, first)
        return self._scores[first], np.cumsum(weights) / self.images

    def overlap(self, defective: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the share of the scores at each level, ``(K,)``; of ties, one half."""
        ordered = np.sort(defective.astype(np.float64))
        levels, _ = self.curve()
        above = ordered.size - np.searchsorted(ordered, levels, side="right")
        reached = ordered.size - np.searchsorted(ordered, levels, side="left")
        share: NDArray[np.float64] = (above + reached) / (2 * ordered.size)
        return share

    def score(self, defective: NDArray[np.floating[Any]]) -> float:
        """Return AUPIMO of an image from the scores ``(M,)`` of its defective pixels."""
        _, rates = self.curve()
        return float(_integrate(self.overlap(defective), rates, self.bounds))

    def coarse(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return some of the levels, ``(C,)``, and each good image's rate there, ``(N, C)``."""
        levels, _ = self.curve()
        chosen = np.unique(np.linspace(0, levels.size - 1, COARSE_LEVELS).astype(np.intp))
        place = np.searchsorted(-levels[chosen], -self._scores)
        rates = np.zeros((self.images, chosen.size + 1))
        np.add.at(rates, (self._image, place), self._weights)
        return chosen, np.cumsum(rates[:, :-1], axis=1)


def _integrate(
    overlap: NDArray[np.float64], rates: NDArray[np.float64], bounds: tuple[float, float]
) -> Any:
    """Return the mean of overlap ``(…, K)`` over the logarithm of the rates ``(…, K)``."""
    low, high = bounds
    ends = np.clip(rates, low, high)
    ends[..., -1] = high  # what follows the last level is the whole image
    starts = np.concatenate([np.full((*ends.shape[:-1], 1), low), ends[..., :-1]], axis=-1)
    return (overlap * np.log(ends / starts)).sum(-1) / np.log(high / low)


def resample_overlaps(
    tail: GoodTail,
    overlaps: Sequence[NDArray[np.float64]],
    replicates: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the deviation of mean AUPIMO in each replicate of good and defective images, ``(R,)``.

    Args:
        tail: The good images.
        overlaps: Of each defective image, its overlap at the levels of ``tail.coarse``.
        replicates: How many times to draw.
        generator: Draws.
    """
    _, rates = tail.coarse()
    shares = np.array(overlaps)

    def draw(n: int) -> NDArray[np.float64]:
        return generator.multinomial(n, np.full(n, 1 / n), size=replicates) / n

    centre = _integrate(shares.mean(0), rates.mean(0), tail.bounds)
    moved = _integrate(draw(len(shares)) @ shares, draw(len(rates)) @ rates, tail.bounds)
    return np.asarray(moved - centre)


def describe(values: Sequence[float]) -> dict[str, float]:
    """Return the quantiles of AUPIMO over images, by their percents."""
    found = np.quantile(np.array(values), QUANTILES)
    return {f"{100 * q:g}": float(value) for q, value in zip(QUANTILES, found, strict=True)}

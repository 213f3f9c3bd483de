"""From counts per bin to figures with certified intervals.

The scores of a bin are ordered among themselves in a way the histogram does not know, unless it is
exact (all of its scores are equal). Each figure is therefore bounded by its best and its worst
order; the exact value lies between. ``docs/evaluation.md`` defines the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "OVERLAP_SCALE",
    "Counts",
    "Interval",
    "auroc",
    "average_precision",
    "f1_max",
    "pro",
    "recall_at",
]

OVERLAP_SCALE = 2**44
"""The pixels of one region weigh this much together."""

ROUNDING = 2.0**-42
"""More than float64 rounding can move any of the sums below."""


class Interval(NamedTuple):
    """Bounds that contain the exact value, and the best single number between them."""

    low: float
    high: float
    value: float

    @property
    def width(self) -> float:
        """How much is not known."""
        return self.high - self.low


@dataclass(frozen=True)
class Counts:
    """Counts per bin, in descending order of score.

    Attributes:
        negatives: ``(B,)`` int64, defect-free pixels (or good images).
        positives: ``(B,)`` int64, defective pixels (or images).
        overlap: ``(B,)`` int64, the same pixels, each weighing ``OVERLAP_SCALE`` divided by the
            area of its region, rounded.
        exact: ``(B,)`` bool, whether all scores of the bin are equal.
        regions: Number of regions.
    """

    negatives: NDArray[np.int64]
    positives: NDArray[np.int64]
    overlap: NDArray[np.int64]
    exact: NDArray[np.bool_]
    regions: int = 0

    def thresholds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return true and false positives before each bin and after the last, (B + 1,) each."""
        return _running(self.positives), _running(self.negatives)


def auroc(counts: Counts) -> Interval:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties half."""
    _, false = counts.thresholds()
    negatives, positives = counts.negatives.astype(np.float64), counts.positives.astype(np.float64)
    pairs = negatives.sum() * positives.sum()
    sure = (positives * (false[-1] - false[1:])).sum()
    within = positives * negatives
    ties = within[counts.exact].sum() / 2
    open_ = within[~counts.exact].sum()
    return _interval((sure + ties) / pairs, (sure + ties + open_) / pairs)


def average_precision(counts: Counts) -> Interval:
    """Average precision: the sum over thresholds of the recall gained times the precision."""
    true, false = counts.thresholds()
    positives = counts.positives.astype(np.float64)
    keep = counts.positives > 0
    start, end = true[:-1][keep], true[1:][keep]
    false_before, false_after = false[:-1][keep], false[1:][keep]
    gained, exact = positives[keep], counts.exact[keep]
    # Worst order of a bin: its negatives first, then its positives one by one; the i-th positive
    # has precision (start + i) / (start + i + false_after). The sum of the reciprocals is bounded
    # by an integral, as the reciprocal is convex.
    worst = gained - false_after * np.log1p(gained / (start + false_after + 0.5))
    single = gained == 1
    worst[single] = (end / (end + false_after))[single]
    tied = gained * end / (end + false_after)
    best = gained * end / (end + false_before)
    total = true[-1]
    low = np.where(exact, tied, worst).sum() / total
    high = np.where(exact, tied, best).sum() / total
    return _interval(low, high)


def f1_max(counts: Counts) -> Interval:
    """The largest F1 score over all thresholds."""
    true, false = counts.thresholds()
    total = true[-1]
    reached = 2 * true[1:] / (total + true[1:] + false[1:])
    # At best, all positives of a bin come before its negatives.
    best = 2 * true[1:] / (total + true[1:] + false[:-1])
    return _interval(reached.max(), max(reached.max(), best[~counts.exact].max(initial=0.0)))


def pro(counts: Counts, limit: float) -> Interval:
    """Area under mean region overlap against false positive rate up to ``limit``, over ``limit``.

    The curve joins the points of all distinct thresholds by straight lines, starts in the origin
    and is cut at ``limit`` exactly.
    """
    _, false = counts.thresholds()
    rate = false / false[-1]
    overlap = _running(counts.overlap) / (OVERLAP_SCALE * counts.regions)
    left, right = rate[:-1], np.minimum(rate[1:], limit)
    inside = right > left
    width = (right - left)[inside]
    full = (rate[1:] - left)[inside]
    before, after = overlap[:-1][inside], overlap[1:][inside]
    exact = counts.exact[inside]
    middle = before + (after - before) * (width / full) / 2
    low = (width * np.where(exact, middle, before)).sum() / limit
    high = (width * np.where(exact, middle, after)).sum() / limit
    # Each pixel's weight is rounded by at most one half.
    rounding = 0.5 * float(counts.positives.sum()) / (OVERLAP_SCALE * counts.regions)
    return _interval(low, high, rounding)


def recall_at(counts: Counts, rate: float) -> Interval:
    """Recall at the lowest threshold whose false positive rate does not exceed ``rate``."""
    true, false = counts.thresholds()
    allowed = np.floor(rate * false[-1] * (1 + 1e-12))
    # The bin of the first negative that must not be flagged: nothing of its score or below is.
    crossing = int(np.searchsorted(false[1:], allowed, side="right"))
    if crossing == counts.negatives.size:
        return Interval(1.0, 1.0, 1.0)
    sure, possible = true[crossing], true[crossing + 1]
    if counts.exact[crossing]:
        possible = sure
    low, high = float(sure / true[-1]), float(possible / true[-1])
    return Interval(low, high, (low + high) / 2)


def _running(values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sums of the first 0, 1, … values."""
    return np.concatenate([[0], np.cumsum(values)]).astype(np.float64)


def _interval(low: float, high: float, rounding: float = 0.0) -> Interval:
    """Round outwards, inside [0, 1]."""
    rounding += ROUNDING
    value = min(max((float(low) + float(high)) / 2, 0.0), 1.0)
    return Interval(max(0.0, float(low) - rounding), min(1.0, float(high) + rounding), value)

"""From counts per bin to figures with certified intervals.

The scores of a bin are ordered among themselves in a way the histogram does not know, unless it is
exact (all of its scores are equal). Each figure is therefore bounded by its best and its worst
order; the exact value lies between. ``docs/evaluation.md`` defines the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "OVERLAP_SCALE",
    "Counts",
    "Interval",
    "allowed_bins",
    "auroc",
    "auroc_doubts",
    "average_precision",
    "enclose",
    "f1_doubts",
    "f1_max",
    "interpolated_recall",
    "precision_doubts",
    "pro",
    "pro_doubts",
    "recall_at",
    "recall_doubts",
]

OVERLAP_SCALE = 2**44
"""The pixels of one region weigh this much together."""

ROUNDING = 2.0**-42
"""More than float64 rounding can move any of the sums below."""


class Interval(NamedTuple):
    """Bounds that contain the exact value, and the best single number between them.

    Each is a float, or an array ``(R,)`` where the counts are those of R replicates.
    """

    low: Any
    high: Any
    value: Any


@dataclass(frozen=True)
class Counts:
    """Counts per bin, in descending order of score.

    The last axis runs over the bins; an axis before it over replicates of the same bins.

    Attributes:
        negatives: ``(B,)`` or ``(R, B)``, defect-free pixels (or good images).
        positives: The same for defective pixels (or images, or regions).
        overlap: The same pixels, each weighing ``OVERLAP_SCALE`` divided by the area of its
            region, rounded.
        exact: ``(B,)`` bool, whether all scores of the bin are equal.
        regions: Number of regions, one or ``(R,)``.
        scores: ``(B,)``, the score of each bin, where all bins are exact and that is known.
    """

    negatives: NDArray[Any]
    positives: NDArray[Any]
    overlap: NDArray[Any]
    exact: NDArray[np.bool_]
    regions: Any = 0
    scores: Any = None

    def thresholds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return true and false positives before each bin and after the last."""
        return _running(self.positives), _running(self.negatives)


def auroc(counts: Counts) -> Interval:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties half."""
    _, false = counts.thresholds()
    total = false[..., -1:]
    positives = counts.positives.astype(np.float64)
    pairs = total[..., 0] * positives.sum(-1)
    within = positives * counts.negatives
    sure = (positives * (total - false[..., 1:])).sum(-1)
    ties = sure + np.where(counts.exact, within, 0).sum(-1) / 2
    open_ = np.where(counts.exact, 0, within).sum(-1)
    return enclose(ties / pairs, (ties + open_) / pairs)


def average_precision(counts: Counts) -> Interval:
    """Average precision: the sum over thresholds of the recall gained times the precision."""
    worst, best = _precision_bounds(counts)
    total = counts.positives.sum(-1)
    return enclose(worst.sum(-1) / total, best.sum(-1) / total)


def f1_max(counts: Counts) -> Interval:
    """The largest F1 score over all thresholds."""
    reached, best = _f1_bounds(counts)
    return enclose(reached.max(-1), best.max(-1))


def pro(counts: Counts, limit: float) -> Interval:
    """Area under mean region overlap against false positive rate up to ``limit``, over ``limit``.

    The curve joins the points of all distinct thresholds by straight lines, starts in the origin
    and is cut at ``limit`` exactly.
    """
    worst, best = _overlap_bounds(counts, limit)
    # Each pixel's weight is rounded by at most one half.
    rounding = counts.positives.sum(-1) / (2.0 * OVERLAP_SCALE * counts.regions)
    return enclose(worst.sum(-1) / limit, best.sum(-1) / limit, rounding)


def recall_at(counts: Counts, rate: float) -> Interval:
    """Recall at the lowest threshold whose false positive rate does not exceed ``rate``."""
    true, _ = counts.thresholds()
    bins = counts.positives.shape[-1]
    crossing = allowed_bins(counts, rate)
    possible = np.where(np.append(counts.exact, True)[crossing], crossing, crossing + 1)
    total = true[..., -1]
    low = np.take_along_axis(true, crossing[..., None], -1)[..., 0] / total
    high = np.take_along_axis(true, np.minimum(possible, bins)[..., None], -1)[..., 0] / total
    return enclose(low, high)


def interpolated_recall(counts: Counts, rate: float) -> NDArray[np.float64]:
    """Return recall at a false positive rate, ``(R,)``, as if a bin's scores were spread evenly.

    What ``recall_at`` gives jumps with the threshold from bin to bin, which is more than
    replicates in few bins differ by.
    """
    true, false = counts.thresholds()
    crossing = np.minimum(allowed_bins(counts, rate), counts.positives.shape[-1] - 1)[..., None]
    true_before, true_after, false_before, false_after = (
        np.take_along_axis(sums, at, -1)[..., 0]
        for sums, at in product((true, false), (crossing, crossing + 1))
    )
    part = (rate * false[..., -1] - false_before) / np.maximum(false_after - false_before, 1)
    found: NDArray[np.float64] = true_before + np.clip(part, 0, 1) * (true_after - true_before)
    return found / true[..., -1]


def auroc_doubts(counts: Counts) -> NDArray[np.float64]:
    """Return how much each bin of ``counts``, ``(B,)``, leaves AUROC open."""
    within = counts.positives.astype(np.float64) * counts.negatives
    pairs = float(counts.positives.sum()) * float(counts.negatives.sum())
    return np.where(counts.exact, 0, within) / pairs


def precision_doubts(counts: Counts) -> NDArray[np.float64]:
    """Return how much each bin of ``counts``, ``(B,)``, leaves average precision open."""
    worst, best = _precision_bounds(counts)
    doubts: NDArray[np.float64] = (best - worst) / counts.positives.sum()
    return doubts


def f1_doubts(counts: Counts, tolerance: float) -> NDArray[np.float64]:
    """Return by how much each bin of ``counts``, ``(B,)``, may exceed the F1 score reached.

    F1-max is a maximum, which one bin alone can keep open: what is within tolerance counts as 0.
    """
    reached, best = _f1_bounds(counts)
    hope = best - reached.max()
    return np.where(hope > tolerance, hope, 0)


def pro_doubts(counts: Counts, limit: float) -> NDArray[np.float64]:
    """Return how much each bin of ``counts``, ``(B,)``, leaves PRO up to ``limit`` open."""
    worst, best = _overlap_bounds(counts, limit)
    return (best - worst) / limit


def recall_doubts(counts: Counts, rate: float) -> NDArray[np.float64]:
    """Return how much each bin of ``counts``, ``(B,)``, leaves recall at ``rate`` open."""
    doubts = np.zeros(counts.positives.size)
    crossing = int(allowed_bins(counts, rate))
    if crossing < doubts.size and not counts.exact[crossing]:
        doubts[crossing] = counts.positives[crossing] / counts.positives.sum()
    return doubts


def _precision_bounds(counts: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the least and the largest sum of precisions over the positives of each bin.

    At best all positives of a bin come first, as ties; at worst its negatives come first and the
    positives one by one: the i-th then has precision ``(start + i) / (start + i + false)``. That
    sum is bounded by an integral, since the reciprocal is convex.
    """
    true, false = counts.thresholds()
    gained = counts.positives.astype(np.float64)
    start, end, before, after = true[..., :-1], true[..., 1:], false[..., :-1], false[..., 1:]
    some = gained > 0
    tied = gained * end / np.where(some, end + after, 1)
    best = gained * end / np.where(some, end + before, 1)
    worst = gained - after * np.log1p(gained / (start + after + 0.5))
    worst = np.where(gained == 1, tied, worst)
    return np.where(counts.exact, tied, worst), np.where(counts.exact, tied, best)


def _f1_bounds(counts: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the F1 score at the end of each bin, and the best inside it."""
    true, false = counts.thresholds()
    end = true[..., 1:]
    reached = 2 * end / (true[..., -1:] + end + false[..., 1:])
    best = 2 * end / (true[..., -1:] + end + false[..., :-1])
    return reached, np.where(counts.exact, reached, best)


def _overlap_bounds(
    counts: Counts, limit: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the least and the largest area that each bin adds below the PRO curve."""
    _, false = counts.thresholds()
    rate = false / false[..., -1:]
    regions = np.asarray(counts.regions, np.float64)[..., None]
    overlap = _running(counts.overlap) / (OVERLAP_SCALE * regions)
    full = rate[..., 1:] - rate[..., :-1]
    width = np.clip(limit - rate[..., :-1], 0, full)
    before, after = overlap[..., :-1], overlap[..., 1:]
    middle = before + (after - before) * width / np.where(full > 0, full, 1) / 2
    worst = width * np.where(counts.exact, middle, before)
    best = width * np.where(counts.exact, middle, after)
    return worst, best


def allowed_bins(counts: Counts, rate: float) -> NDArray[np.intp]:
    """Return how many bins, from the highest score on, may be flagged at a false positive rate.

    It is the bin of the highest negative that may not be flagged; B if all may.
    """
    _, false = counts.thresholds()
    allowed = np.floor(rate * false[..., -1:] * (1 + 1e-12))
    return np.asarray((false[..., 1:] <= allowed).sum(-1))


def _running(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the sums of the first 0, 1, … values of the last axis."""
    sums = np.zeros((*values.shape[:-1], values.shape[-1] + 1))
    sums[..., 1:] = np.cumsum(values, axis=-1)
    return sums


def enclose(low: Any, high: Any, rounding: Any = 0.0) -> Interval:
    """Return an interval rounded outwards, inside [0, 1]."""
    margin = rounding + ROUNDING
    return Interval(
        np.maximum(low - margin, 0.0),
        np.minimum(high + margin, 1.0),
        np.clip((low + high) / 2, 0.0, 1.0),
    )

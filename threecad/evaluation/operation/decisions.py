"""Figures of decisions: the threshold is given, or set by the images of one kind alone.

The counts are those of images, a bin for each distinct score, so every figure is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.evaluation.curves import Counts, allowed_bins, enclose, recall_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from threecad.evaluation.curves import Interval
    from threecad.evaluation.operation.point import Costs

__all__ = ["expected_cost", "good_passed", "least_cost", "right_reason"]


def good_passed(counts: Counts, rate: float) -> Interval:
    """Share of good images below the highest threshold that misses at most ``rate`` of the others.

    It is the recall of good images as if they were the positives and low scores the high ones.
    """
    good, defective = counts.negatives[..., ::-1], counts.positives[..., ::-1]
    return recall_at(Counts(defective, good, good, counts.exact[::-1]), rate)


def right_reason(counts: Counts, rate: float, threshold: float | None) -> Interval:
    """Share of the defective images decided defective whose highest point is in a region.

    Args:
        counts: Its positives are the defective images with labelled regions, its overlap the sum of
            their credits.
        rate: The false alarm rate at which the good images set the threshold.
        threshold: The threshold, if it is not ``None``.

    Returns:
        The share; NaN where no image is decided defective.
    """
    decided = _decided(counts, rate, threshold)
    right, all_ = (counts.overlap * decided).sum(-1), (counts.positives * decided).sum(-1)
    share = np.divide(right, all_, out=np.full(np.shape(all_), np.nan), where=all_ > 0)
    return enclose(share, share)


def expected_cost(counts: Counts, costs: Costs, rate: float, threshold: float | None) -> Interval:
    """Expected cost of a part at the threshold, as a part of the dearer mistake's cost."""
    decided = _decided(counts, rate, threshold)
    found = (counts.positives * decided).sum(-1) / counts.positives.sum(-1)
    stopped = (counts.negatives * decided).sum(-1) / counts.negatives.sum(-1)
    cost = _weigh(found, stopped, costs)
    return enclose(cost, cost)


def least_cost(counts: Counts, costs: Costs) -> Interval:
    """Least expected cost of a part over all thresholds, passing or stopping all among them."""
    found, stopped = (sums / sums[..., -1:] for sums in counts.thresholds())
    cost = _weigh(found, stopped, costs).min(-1)
    return enclose(cost, cost)


def _weigh(found: Any, stopped: Any, costs: Costs) -> Any:
    missed = costs.defect_rate * costs.miss * (1 - found)
    return (missed + (1 - costs.defect_rate) * costs.alarm * stopped) / costs.dearer


def _decided(counts: Counts, rate: float, threshold: float | None) -> NDArray[Any]:
    """Return which bins, ``(B,)`` or ``(R, B)``, lie above the threshold."""
    if threshold is not None:
        return np.asarray(counts.scores > threshold)
    return np.arange(counts.exact.size) < allowed_bins(counts, rate)[..., None]

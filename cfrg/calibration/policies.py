"""From the scores of good images to a policy whose rates hold with confidence."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from cfrg.calibration.tolerance import CONFIDENCE, needed, rate_interval, tolerance_rank
from cfrg.inference.policy import DecisionPolicy
from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Values = npt.NDArray[np.float64]

__all__ = ["check_numbers", "check_rates", "find_interval", "find_policy", "review_rank"]


def check_rates(false_alarm_rate: float, review_rate: float | None) -> None:
    """Refuse rates that no thresholds can keep.

    Raises:
        UsageError: If a rate is not between 0 and 1, or both are 1 or more together.
    """
    needed(false_alarm_rate)
    if review_rate is None:
        return
    needed(review_rate)
    if false_alarm_rate + review_rate >= 1:
        raise UsageError(
            f"A false-alarm rate of {false_alarm_rate:g} and a review rate of {review_rate:g} are "
            "all images. Expected a sum below 1."
        )


def check_numbers(
    groups: Sequence[str | None], false_alarm_rate: float, review_rate: float | None
) -> None:
    """Refuse too few good images, by the name of the category.

    Args:
        groups: The category of each image; ``None`` where all are taken together.
        false_alarm_rate: The share that may be stopped.
        review_rate: The share that may be sent to review.

    Raises:
        UsageError: Names the categories, how many images each has, and how many are needed.
    """
    smallest = min(false_alarm_rate, review_rate or 1.0)
    least = needed(smallest)
    few = {name: n for name, n in sorted(Counter(groups).items(), key=str) if n < least}
    if not few:
        return
    counts = ", ".join(f"{name or 'the run'} has {n}" for name, n in few.items())
    raise UsageError(
        f"A rate of {smallest:.2%} needs {least} different good images: {counts}. Ask for a larger "
        "rate, or name more good images with `on`."
    )


def find_policy(
    groups: Sequence[str | None],
    scores: Values,
    peaks: Values,
    *,
    false_alarm_rate: float,
    review_rate: float | None = None,
    least_area: int = 0,
) -> DecisionPolicy:
    """Return the policy that good images support.

    At most ``false_alarm_rate`` of later good images are above the upper threshold, and at most
    ``review_rate`` between both, each with 95 % confidence and in each category by itself. Regions
    begin where review does: whoever reviews an image is to see why.

    Args:
        groups: The category of each image; ``None`` where all are taken together.
        scores: ``(N,)`` image scores.
        peaks: ``(N,)`` highest values of the maps.
        false_alarm_rate: Largest share of good images that may be called defective.
        review_rate: Largest share of them that may be sent to review; no review when ``None``.
        least_area: Regions of fewer pixels do not count. Images are good that would be stopped
            otherwise, and none is stopped that would be good, so both rates hold all the more.

    Raises:
        UsageError: If there are too few images.
    """
    check_numbers(groups, false_alarm_rate, review_rate)
    names = np.array([name or "" for name in groups])
    policies = {}
    for name in sorted(set(names.tolist())):
        chosen = np.flatnonzero(names == name)
        ordered, highest = np.sort(scores[chosen]), np.sort(peaks[chosen])
        rank = _rank(len(chosen), false_alarm_rate)
        lower = rank if review_rate is None else review_rank(rank, len(chosen), review_rate)
        policies[name] = DecisionPolicy(
            defective=float(ordered[rank - 1]),
            review=None if review_rate is None else float(ordered[lower - 1]),
            pixel_threshold=float(highest[lower - 1]),
            least_area=least_area,
            false_alarm_rate=false_alarm_rate,
            review_rate=review_rate,
            confidence=CONFIDENCE,
        )
    if set(policies) == {""}:
        return policies[""]
    return DecisionPolicy.strictest(policies)


def find_interval(groups: Sequence[str | None], false_alarm_rate: float) -> tuple[float, float]:
    """Return the 95 % interval of the false-alarm rate; what spans those of all categories."""
    numbers = Counter(groups).values()
    intervals = [rate_interval(_rank(n, false_alarm_rate), n) for n in numbers]
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def review_rank(rank: int, number: int, review_rate: float) -> int:
    """Return the rank of the lower threshold.

    The share of later scores between the ``j``-th and the ``k``-th smallest of ``n`` is
    Beta(k − j, n − k + j + 1) distributed if scores never tie: as the share above the
    (n + 1 − k + j)-th. See Wilks, Determination of sample sizes for setting tolerance limits, 1941.

    Args:
        rank: Of the upper threshold, from 1.
        number: Number of scores.
        review_rate: Largest share of later scores that may lie between both.

    Returns:
        The smallest rank, from 1, for which that holds with 95 % confidence.
    """
    return max(1, rank - (number + 1 - _rank(number, review_rate)))


def _rank(number: int, rate: float) -> int:
    rank = tolerance_rank(number, rate)
    assert rank is not None  # by check_numbers
    return rank

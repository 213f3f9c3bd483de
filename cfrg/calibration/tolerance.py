"""How far a threshold found on a sample holds for what comes later.

Nothing is assumed of the scores but that they are drawn independently from one distribution. Of
``n`` of them, let the threshold be the ``k``-th smallest. The share of later scores above it is
then Beta(n − k + 1, k) distributed, whatever the distribution, if scores never tie; if they do, it
is smaller. See Wilks, Determination of sample sizes for setting tolerance limits, 1941.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CONFIDENCE",
    "average_rank",
    "clopper_pearson",
    "needed",
    "rate_interval",
    "tolerance_rank",
]

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2  # of either side of a two-sided interval


def needed(rate: float) -> int:
    """Return how many scores a threshold needs so that ``tolerance_rank`` exists.

    Raises:
        UsageError: If the rate is not between 0 and 1.
    """
    _check(rate)
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-rate))


def tolerance_rank(number: int, rate: float) -> int | None:
    """Return the rank of the threshold that holds with confidence.

    Args:
        number: Number of scores.
        rate: Largest share of later scores that may be above the threshold.

    Returns:
        The smallest ``k`` (from 1) for which that share is at most ``rate`` with a probability of
        at least 95 %; ``None`` if there are fewer than ``needed(rate)`` scores.

    Raises:
        UsageError: If the rate is not between 0 and 1.
    """
    if number < needed(rate):
        return None
    # The k-th smallest is above the quantile 1 − rate if at most k − 1 scores are below that.
    low, high = 1, number
    while low < high:
        middle = (low + high) // 2
        if binomial_cdf(middle - 1, number, 1 - rate) >= CONFIDENCE:
            high = middle
        else:
            low = middle + 1
    return low


def average_rank(number: int, rate: float) -> int | None:
    """Return the rank of the threshold that holds on average.

    The expected share of later scores above it is at most ``rate`` (split conformal prediction).

    Args:
        number: Number of scores.
        rate: That share.

    Returns:
        The smallest such rank, from 1; ``None`` if there are too few scores.
    """
    _check(rate)
    rank = math.ceil((number + 1) * (1 - rate) - 1e-9)
    return rank if rank <= number else None


def rate_interval(rank: int, number: int) -> tuple[float, float]:
    """Return the two-sided 95 % interval of the share of later scores above the ``rank``-th."""

    def at_most(share: float) -> float:
        return binomial_cdf(rank - 1, number, 1 - share)

    return _solve(at_most, TAIL), _solve(at_most, 1 - TAIL)


def clopper_pearson(count: int, number: int) -> tuple[float, float]:
    """Return the exact two-sided 95 % interval of a share of which ``count`` in ``number`` is seen.

    See Clopper & Pearson, The use of confidence or fiducial limits, 1934.
    """
    low = _solve(lambda p: 1 - binomial_cdf(count - 1, number, p), TAIL) if count else 0.0
    high = _solve(lambda p: 1 - binomial_cdf(count, number, p), 1 - TAIL)
    return low, high if count < number else 1.0


def binomial_cdf(count: int, number: int, share: float) -> float:
    """Return the probability of at most ``count`` in ``number``, each with the chance ``share``."""
    if count < 0:
        return 0.0
    if count >= number or share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    terms = (
        math.lgamma(number + 1)
        - math.lgamma(i + 1)
        - math.lgamma(number - i + 1)
        + i * math.log(share)
        + (number - i) * math.log1p(-share)
        for i in range(count + 1)
    )
    return min(1.0, math.fsum(map(math.exp, terms)))


def _solve(rising: Callable[[float], float], value: float) -> float:
    """Return where a function that rises on [0, 1] reaches a value."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return (low + high) / 2


def _check(rate: float) -> None:
    if not 0 < rate < 1:
        raise UsageError(f"A false-alarm rate of {rate} is impossible; expected above 0, below 1.")

"""Betting against exchangeability: capital that hardly ever grows large unless something changed.

A conformal p-value ranks a value among all before it, the calibration's included. While all of them
are exchangeable, p-values are independent and uniform, and nobody can grow rich by betting on them:
the capital is a martingale, so that by Ville's inequality the chance that it *ever* reaches 1/α is
at most α, however long it is watched and however often it is looked at.

References:
    Vovk, Nouretdinov & Gammerman, Testing exchangeability on-line, ICML 2003.
    Vovk et al., Retrain or not retrain: conformal test martingales for change-point detection, 2021
    (the simple jumper, whose moves between bets are taken over here).
    Ville, Étude critique de la notion de collectif, 1939.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    Values = npt.NDArray[np.float64]

__all__ = ["bet_on_ranks", "bet_on_rate", "find_change", "rank"]

JUMP = 0.01
"""Share of the capital that is spread anew over all bets at each step."""


def rank(reference: Iterable[float], stream: Iterable[float], seed: int) -> Values:
    """Return the conformal p-value of each value of a stream: its rank from below, from 0 to 1.

    Ties are broken at random, the same way for the same seed, whatever is appended later.

    Args:
        reference: What came before the stream.
        stream: In its order.
        seed: Of the ties.
    """
    rng = np.random.default_rng(seed)
    before = sorted(reference)
    ranks = []
    for value in stream:
        below, up_to = bisect_left(before, value), bisect_right(before, value)
        ranks.append((below + rng.random() * (up_to - below + 1)) / (len(before) + 1))
        insort(before, value)
    return np.array(ranks, np.float64)


def bet_on_ranks(ranks: Values) -> Values:
    """Return the logarithm of the capital after each p-value; the capital before is 1.

    The bets are the densities 1 ± (p - ½), for shifts that last, and ½/√p and ½/√(1 - p), for
    values beyond nearly all before. Money is invested a little at each step, so that a change after
    thousands of parts is not met by capital that was lost before: after t steps 1/(1 + ln(1 + t))
    is still in the purse.
    """
    p = np.clip(ranks, 1e-12, 1 - 1e-12)
    bets = np.stack([0.5 + p, 1.5 - p, 0.5 / np.sqrt(p), 0.5 / np.sqrt(1 - p)], axis=1)
    return _invest(bets)


def bet_on_rate(events: npt.NDArray[np.bool_], most: float) -> Values:
    """Return the logarithm of a capital that grows where events are more frequent than ``most``.

    While each event has a probability of at most ``most``, given all before, the capital is a
    supermartingale, and Ville's inequality holds as for ``bet_on_ranks``.

    Args:
        events: Whether each came to pass.
        most: Greatest probability, between 0 and 1.
    """
    shares = np.array([0.1, 0.5, 0.9]) / most
    return _invest(1 + shares * (events.astype(np.float64)[:, None] - most))


def _invest(bets: Values) -> Values:
    """Return the log-capital of factors (T, K), each of mean 1 or less given all before."""
    purse, invested, scale = 1.0, np.zeros(bets.shape[1]), 0.0
    capital = np.empty(len(bets))
    for step, factors in enumerate(bets):
        left = 1 / (1 + np.log1p(step + 1))
        invested += (purse - left) * np.exp(-scale) / len(invested)
        purse = left
        invested = ((1 - JUMP) * invested + JUMP * invested.mean()) * factors
        total = invested.sum()  # kept near 1, as ever larger capital would overflow
        if total > 1:
            invested, scale = invested / total, scale + np.log(total)
            total = 1.0
        capital[step] = np.logaddexp(np.log(purse), np.log(total) + scale)
    return capital


def find_change(values: Values, mean: float, deviation: float) -> int:
    """Return the position from which the values differ most from what they should be.

    It maximises |sum of (value - mean)| / √(number) / deviation over all ends of the stream.
    """
    tail = np.cumsum((values - mean)[::-1])
    strength = np.abs(tail) / np.sqrt(np.arange(1, len(values) + 1)) / deviation
    return len(values) - 1 - int(np.argmax(strength))

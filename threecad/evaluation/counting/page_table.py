"""Counting many scores fast, in bins that lie close together.

Bins live in pages that exist only where scores are. Pages are looked up without a search: ordinals
with the same sign and exponent make a *binade*, and each binade that holds a score has a run of
entries in one table, an entry for every page that could be in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.evaluation.counting import kernels
from threecad.evaluation.counting.bins import MANTISSA, Bins

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PAGE_BITS", "Pages"]

PAGE_BITS = kernels.PAGE_BITS

MAX_ENTRIES = 2**20
"""Size of the look-up table, 4 bytes each. Scores that need more are counted by sorting."""

MAX_TOTAL = 2**31 - 1
"""Counts are int32."""


class Pages:
    """Counts of scores in bins of one width.

    Args:
        shift: Bins are ``ordinal >> shift``.
        max_pages: Budget.

    Attributes:
        total: Number of scores counted.
        full: Whether scores were refused for want of room in the budget.
    """

    def __init__(self, shift: int, max_pages: int) -> None:
        self.shift = shift
        self.max_pages = max_pages
        self.total = 0
        self.full = False
        self._per_binade = 1 << max(MANTISSA - shift - PAGE_BITS, 0)
        self._binades = np.full(4096, -1, np.int32)  # where its entries start
        self._entries = np.empty(0, np.int32)  # slot of each page, -1 without one
        self._ids = np.empty(0, np.uint64)  # page of each slot
        self._counts = np.zeros((0, 1 << PAGE_BITS), np.int32)

    def count(self, scores: NDArray[np.floating[Any]]) -> int:
        """Count finite scores, (N,) float32 or float64; return how many were, the first ones.

        The others lie too far apart for these pages, or these are ``full``.
        """
        if self.shift + PAGE_BITS > MANTISSA:
            return 0
        if self.total + scores.size > MAX_TOTAL:
            self.full = True
            return 0
        done = 0
        while True:
            lookup = (self.shift, self._binades, self._entries)
            done += kernels.count(scores[done:], *lookup, self._counts.reshape(-1))
            if done == scores.size or not self._open(scores[done:]):
                self.total += done
                return done

    def bins(self, alignment: int) -> Bins:
        """Return the occupied bins, ascending."""
        ids, counts = kernels.list_occupied(self._counts, np.argsort(self._ids), self._ids)
        return Bins(ids, counts, self.shift, alignment)

    def _open(self, scores: NDArray[np.floating[Any]]) -> bool:
        """Make every page that ``scores`` need; return whether there was room for them."""
        binades = np.flatnonzero(kernels.find_binades(scores) & (self._binades < 0))
        size = self._entries.size + binades.size * self._per_binade
        if size > MAX_ENTRIES:
            return False
        starts = self._entries.size + np.arange(binades.size) * self._per_binade
        self._binades[binades] = starts
        entries = np.full(size, -1, np.int32)
        entries[: self._entries.size] = self._entries
        self._entries = entries
        used = self._ids.size
        places, pages = kernels.find_new_pages(
            scores, self.shift, self._binades, self._entries, self.max_pages - used
        )
        needed = used + pages.size
        if needed > self.max_pages:
            self.full = True
            return False
        self._entries[places] = np.arange(used, needed)
        self._ids = np.concatenate([self._ids, pages])
        capacity = len(self._counts)
        if needed > capacity:  # doubled, so that the cost is even
            grown = np.zeros(
                (min(max(needed, 2 * capacity), self.max_pages), 1 << PAGE_BITS), np.int32
            )
            grown[:capacity] = self._counts
            self._counts = grown
        return True

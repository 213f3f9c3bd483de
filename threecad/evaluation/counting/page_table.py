"""Counting many scores fast, in bins that lie close together.

Bins live in pages that exist only where scores are. Pages are looked up without a search: ordinals
with the same sign and exponent make a *binade*, and each binade that holds a score has a run of
entries in one table, an entry for every page that could be in it. Where the budget of pages is
spent, neighbouring bins join, two by two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.evaluation.counting import kernels
from threecad.evaluation.counting.bins import MANTISSA, Bins

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_TOTAL", "PAGE_BITS", "Pages"]

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
        self.max_pages = max_pages
        self.total = 0
        self.full = False
        self._ids = np.empty(0, np.uint64)  # page of each slot
        self._counts = np.zeros((0, 1 << PAGE_BITS), np.int32)
        self._used = np.empty(0, np.intp)  # binades, in the order of their entries
        self._lay_out(shift)

    def _lay_out(self, shift: int) -> None:
        """Make the look-up table of the pages in bins of this width."""
        self.shift = shift
        self._per_binade = 1 << max(MANTISSA - shift - PAGE_BITS, 0)
        if not self.fits:
            return
        # The first entries are those of all binades without scores: none of them has a slot.
        self._binades = -np.arange(4096, dtype=np.int64) * self._per_binade
        self._entries = np.full(self._per_binade, -1, np.int32)
        self._add_binades(self._used)
        places = self._ids.astype(np.int64)
        places += self._binades[places // self._per_binade]
        self._entries[places] = np.arange(self._ids.size)

    @property
    def fits(self) -> bool:
        """Whether a page lies within a binade, and the entries of a binade in the table."""
        return self.shift + PAGE_BITS <= MANTISSA and self._per_binade <= MAX_ENTRIES

    def count(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Count finite scores, (N,) float32 or float64; return those that could not be.

        These lie too far apart for the pages, or the pages are ``full``.
        """
        if not self.fits or self.total + scores.size > MAX_TOTAL:
            return scores
        left = self._count(scores)
        if left.size and self._open(left):
            left = self._count(left)
        self.total += scores.size - left.size
        return left

    def _count(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        flat = self._counts.reshape(-1)
        return kernels.count(scores, self.shift, self._binades, self._entries, flat)

    def widen(self) -> None:
        """Join every two neighbouring bins, to make room."""
        ids, slots = np.unique(self._ids >> np.uint64(1), return_inverse=True)
        half = 1 << (PAGE_BITS - 1)
        joined = np.zeros((len(ids), 2, half), np.int32)
        counts = self._counts[: self._ids.size]
        joined[slots, (self._ids & np.uint64(1)).astype(np.intp)] = counts[:, ::2] + counts[:, 1::2]
        self._ids, self._counts, self.full = ids, joined.reshape(-1, 2 * half), False
        self._lay_out(self.shift + 1)

    def bins(self, alignment: int) -> Bins:
        """Return the occupied bins, ascending."""
        ids, counts = kernels.list_occupied(self._counts, np.argsort(self._ids), self._ids)
        return Bins(ids, counts, self.shift, alignment)

    def _open(self, scores: NDArray[np.floating[Any]]) -> bool:
        """Make every page that ``scores`` need; return whether there was room for them."""
        found = kernels.find_binades(scores)
        found[self._used] = False
        binades = np.flatnonzero(found)
        if (self._used.size + binades.size) * self._per_binade > MAX_ENTRIES:
            return False
        self._used = np.concatenate([self._used, binades])
        self._add_binades(binades)
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

    def _add_binades(self, binades: NDArray[np.intp]) -> None:
        """Give binades entries behind the others."""
        if binades.size:
            first = self._entries.size + np.arange(binades.size) * self._per_binade
            self._binades[binades] += first
            more = np.full(binades.size * self._per_binade, -1, np.int32)
            self._entries = np.concatenate([self._entries, more])

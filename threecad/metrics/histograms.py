"""Histograms of scores whose bins find their own width, in bounded memory, free of order.

A score is mapped to an integer *key* in the order of the numbers: the bits of its float64 value,
so that float16, float32 and float64 share one scale and nothing is rounded. A *bin* is
``key >> shift``. Bins live in pages that exist only where scores are; when the pages would outgrow
their budget, the shift grows by one and neighbouring bins join. The final state is a function of
the multiset of scores alone:

* ``alignment`` is the number of low bits that are zero in every key (29 or more for float32, 42 or
  more for float16): two different keys cannot share a bin while ``shift <= alignment``;
* ``shift`` is the smallest number, not below ``alignment``, at which the pages fit the budget.

The number of pages never shrinks as scores are added, so the order and grouping of additions and
merges cannot matter. Counts are int64 and never rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from threecad.metrics import kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Bins", "ScoreHistogram", "join_bins"]

PAGE_BITS = 8

CACHED_BINS = 2**18
"""Up to so many counts, the processor's cache makes the order of counting indifferent."""

MAX_SPAN = 2**18
"""Pages over which the slots are looked up directly, without hashing."""

MAX_INT32 = 2**31 - 1

MAX_SLOT = 2**15
"""The direct look-up holds slots below this."""


class Bins(NamedTuple):
    """The occupied bins of a histogram, in ascending order of score."""

    ids: NDArray[np.uint64]  # (B,) key >> shift
    counts: NDArray[np.int64]  # (B, channels)
    shift: int
    alignment: int

    @property
    def exact(self) -> bool:
        """Whether all scores of a bin are equal, in every bin."""
        return self.shift <= self.alignment

    def at(self, shift: int) -> Bins:
        """Return the same counts in bins of another shift: wider ones, or any if exact."""
        if shift == self.shift:
            return self
        if shift < self.shift:
            assert self.exact
            ids = self.ids << np.uint64(self.shift - shift)
            return Bins(ids, self.counts, shift, self.alignment)
        ids, counts = _sum_equal(self.ids >> np.uint64(shift - self.shift), self.counts)
        return Bins(ids, counts, shift, self.alignment)


class ScoreHistogram:
    """Counts of scores in bins that are as narrow as the memory budget allows.

    Args:
        channels: Numbers counted per bin: the first counts scores, further ones sum the integer
            weights given to :meth:`add`.
        max_bins: Budget: at most this many bins exist (4 to 8 bytes per bin and channel).
        page_bits: A page holds ``2 ** page_bits`` bins.
    """

    def __init__(
        self, *, channels: int = 1, max_bins: int = 2**21, page_bits: int = PAGE_BITS
    ) -> None:
        self.channels = channels
        self.page_bits = page_bits
        self.max_pages = max_bins >> page_bits
        self.total = 0  # number of scores, those about to be counted included
        self._clear()

    def _clear(self) -> None:
        self.shift = self.alignment = kernels.MANTISSA
        self._table = kernels.empty_table(0)
        self._near = np.empty(0, np.int16)  # slots of neighbouring pages, see kernels
        self._first = np.uint64(0)
        self._pages: NDArray[np.uint64] = np.empty(0, np.uint64)  # in order of allocation
        self._store = self._pages
        self._counts = self._zeros(0)

    def _zeros(self, pages: int) -> NDArray[Any]:
        """Return counts of nothing: int32 while the total fits, unless they sum weights."""
        wide = self.channels > 1 or self.total > MAX_INT32
        shape = (self.channels, pages, 1 << self.page_bits)
        return np.zeros(shape, np.int64 if wide else np.int32)

    def add(
        self, scores: NDArray[np.floating[Any]], weights: NDArray[np.int64] | None = None
    ) -> None:
        """Count finite scores, (N,) float32 or float64; ``weights``, (N,), go to channel 1."""
        if scores.size == 0:
            return
        self._grow_total(scores.size)
        zeros = kernels.trailing_zeros(kernels.scan(scores)[0])
        if zeros < self.alignment:
            self._align(zeros)
        done = 0
        while True:
            done += self._count(scores[done:], None if weights is None else weights[done:])
            if done == scores.size:
                return
            self._open_pages(scores[done:])

    def merge(self, other: ScoreHistogram) -> None:
        """Add the counts of ``other``; the result is the histogram of all scores of both."""
        if other._pages.size == 0:
            return
        self._grow_total(other.total)
        joined = join_bins(self.bins(), other.bins()) if self._pages.size else other.bins()
        self._load(joined)

    def bins(self) -> Bins:
        """Return the occupied bins, ascending."""
        order = np.argsort(self._pages)
        slots, columns = np.nonzero(self._counts[0, order])
        ids = (self._pages[order][slots] << np.uint64(self.page_bits)) + columns.astype(np.uint64)
        counts = np.stack([channel[order[slots], columns] for channel in self._counts], axis=1)
        counts = counts.astype(np.int64, copy=False)
        return Bins(ids, counts, self.shift, self.alignment)

    def count_below(self, ids: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many scores lie in bins below each of ``ids``, and how many in it.

        Args:
            ids: ``(B,)`` bins that are occupied.
        """
        order = np.argsort(self._pages)
        totals = self._counts[0, order].sum(axis=1, dtype=np.int64)
        pages, place = np.unique(ids >> np.uint64(self.page_bits), return_inverse=True)
        rows = np.searchsorted(self._pages[order], pages)
        counts = self._counts[0, order[rows]]
        columns = (ids & np.uint64((1 << self.page_bits) - 1)).astype(np.intp)
        within = counts.cumsum(axis=1, dtype=np.int64)[place, columns]
        at = counts[place, columns].astype(np.int64)
        return (totals.cumsum() - totals)[rows][place] + within - at, at

    def _align(self, alignment: int) -> None:
        """Lower the alignment; bins that were exact so far may become narrower."""
        if self._pages.size == 0:
            self.shift = self.alignment = alignment
        elif self.shift > self.alignment:  # inexact already
            self.alignment = alignment
        else:
            self._load(self.bins().at(alignment)._replace(alignment=alignment))

    def _grow_total(self, scores: int) -> None:
        """Note that so many scores are coming, and widen the counts if they might overflow."""
        self.total += scores
        if self.total > MAX_INT32 and self._counts.dtype == np.int32:
            self._counts = self._counts.astype(np.int64)

    def _count(self, scores: NDArray[np.floating[Any]], weights: NDArray[np.int64] | None) -> int:
        """Count scores up to the first that has no page; return how many were counted."""
        counts = self._counts[0].reshape(-1)
        lookup = (self.shift, self.page_bits, self._table, self._near, self._first)
        if weights is not None:
            sums = self._counts[1].reshape(-1)
            done = kernels.count_weighted(scores, weights, *lookup, counts, sums)
        elif counts.size > CACHED_BINS:
            done = kernels.count_in_order(scores, *lookup, counts)
        else:
            done = kernels.count(scores, *lookup, counts)
        return int(done)

    def _open_pages(self, scores: NDArray[np.floating[Any]]) -> None:
        """Make every page that ``scores`` need, widening the bins if they would be too many."""
        room = self.max_pages - self._pages.size
        lookup = (self._table, self.shift, self.page_bits)
        pages = kernels.new_pages(scores, *lookup, room)
        if pages.size > room:
            pages, shift = kernels.find_pages(
                scores, self._pages, self.shift, self.page_bits, self.max_pages
            )
            self._load(self.bins().at(int(shift)))
            lookup = (self._table, self.shift, self.page_bits)
            pages = kernels.new_pages(scores, *lookup, self.max_pages)
        self._append(pages)

    def _append(self, pages: NDArray[np.uint64]) -> None:
        """Make pages that do not exist yet. Room for them doubles, so that the cost is even."""
        if pages.size == 0:
            return
        used = self._pages.size
        needed = used + pages.size
        capacity = self._counts.shape[1]
        if needed > capacity:
            grown = self._zeros(min(max(needed, 2 * capacity), self.max_pages))
            grown[:, :capacity] = self._counts
            self._counts = grown
            store = np.empty(grown.shape[1], np.uint64)
            store[:used] = self._pages
            self._store = store
        self._store[used:needed] = pages
        self._pages = self._store[:needed]
        if 2 * needed > len(self._table):
            self._table = kernels.empty_table(2 * needed)
            kernels.insert(self._table, self._pages, 0)
        else:
            kernels.insert(self._table, pages, used)
        self._place_near(pages, used)

    def _place_near(self, pages: NDArray[np.uint64], first_slot: int) -> None:
        """Enter new pages into the direct look-up, if all pages are near enough for one."""
        if first_slot and not self._near.size:  # they were too far apart or too many already
            return
        ahead = pages - self._first  # wraps round below the first
        if first_slot + pages.size <= MAX_SLOT and int(ahead.max()) < self._near.size:
            self._near[ahead.astype(np.intp)] = np.arange(first_slot, first_slot + pages.size)
            return
        self._first = self._pages.min()
        span = int(self._pages.max() - self._first) + 1
        direct = span <= MAX_SPAN and self._pages.size <= MAX_SLOT
        # A quarter of the span lies free at either end.
        margin = min(span // 4, int(self._first))
        self._first = self._first - np.uint64(margin)
        self._near = np.full(span + 2 * margin + 1 if direct else 0, -1, np.int16)
        if direct:
            self._near[(self._pages - self._first).astype(np.intp)] = np.arange(self._pages.size)

    def _load(self, bins: Bins) -> None:
        """Become the histogram of ``bins``, in bins at least as wide."""
        shift = bins.shift
        pages = np.unique(bins.ids >> np.uint64(self.page_bits))
        while pages.size > self.max_pages:
            shift += 1
            pages = np.unique(pages >> np.uint64(1))
        bins = bins.at(shift)
        self._clear()
        self.shift, self.alignment = shift, bins.alignment
        self._append(pages)
        rows = np.searchsorted(pages, bins.ids >> np.uint64(self.page_bits))
        columns = bins.ids & np.uint64((1 << self.page_bits) - 1)
        self._counts[:, rows, columns.astype(np.intp)] = bins.counts.T

    def __getstate__(self) -> dict[str, Any]:
        return {
            "channels": self.channels,
            "page_bits": self.page_bits,
            "max_pages": self.max_pages,
            "bins": self.bins(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.channels, self.page_bits = state["channels"], state["page_bits"]
        self.max_pages = state["max_pages"]
        self.total = int(state["bins"].counts[:, 0].sum())
        self._clear()
        if state["bins"].ids.size:
            self._load(state["bins"])


def join_bins(first: Bins, second: Bins) -> Bins:
    """Return the sum of two sets of bins, at the narrowest width that both allow."""
    shift = alignment = min(first.alignment, second.alignment)
    for bins in (first, second):
        if not bins.exact:
            shift = max(shift, bins.shift)
    first, second = first.at(shift), second.at(shift)
    ids, counts = _sum_equal(
        np.concatenate([first.ids, second.ids]), np.concatenate([first.counts, second.counts])
    )
    return Bins(ids, counts, shift, alignment)


def _sum_equal(
    ids: NDArray[np.uint64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the distinct ids, ascending, and the sum of the counts of each."""
    if ids.size == 0:
        return ids, counts
    if np.any(ids[1:] < ids[:-1]):
        order = np.argsort(ids, kind="stable")
        ids, counts = ids[order], counts[order]
    first = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    return ids[first], np.add.reduceat(counts, first, axis=0)

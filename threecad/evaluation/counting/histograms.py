"""Histograms of scores whose bins find their own width, in bounded memory, free of order.

Bins are as narrow as the scores themselves until they outgrow their budget; then the shift grows by
one and neighbouring bins join. The final state is a function of the multiset of scores alone:

* ``alignment`` is the number of low bits that are zero in every ordinal;
* ``shift`` is the smallest number, not below ``alignment``, at which the bins fit the budget.

The number of bins of a width never shrinks as scores are added, so the order and grouping of
additions and merges cannot matter. Counts are int64 and never rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.evaluation.counting import kernels
from threecad.evaluation.counting.bins import Bins, count_ordinals, join_bins, trailing_zeros
from threecad.evaluation.counting.page_table import MAX_TOTAL, PAGE_BITS, Pages

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ScoreHistogram"]

MAX_WAITING = 2**18
"""Keys that wait to be sorted into the bins, 8 or 16 bytes each."""


class ScoreHistogram:
    """Counts of scores in bins that are as narrow as the memory budget allows.

    Args:
        max_bins: Budget: at most this many bins exist.
        channels: Numbers counted per bin: the first counts scores, a second one sums the integer
            weights given to ``add``.
        dense: For many scores that lie close together: they are counted without sorting, and the
            budget is counted in pages of 256 neighbouring bins.

    Attributes:
        total: Number of scores.
    """

    def __init__(self, *, max_bins: int, channels: int = 1, dense: bool = False) -> None:
        self.channels = channels
        self.page_bits = PAGE_BITS if dense else 0
        self.max_pages = max_bins >> self.page_bits
        self.total = 0
        self._bins = Bins.empty(channels)
        self._pages: Pages | None = None  # counted, but not in the bins yet
        self._summed: tuple[Bins, NDArray[np.int64]] | None = None  # bins and their running sum
        self._waiting: list[tuple[NDArray[np.uint64], NDArray[np.int64] | None]] = []
        self._number_waiting = 0
        self._union = 0  # of the magnitude bits of the scores waiting

    def add(
        self,
        scores: NDArray[np.floating[Any]],
        weights: NDArray[np.int64] | None = None,
        *,
        union: int | None = None,
    ) -> None:
        """Count finite scores.

        Args:
            scores: (N,) float32 or float64.
            weights: (N,), for channel 1.
            union: Their magnitude bits, or-ed, where they are known (``kernels.scan``).
        """
        if scores.size == 0:
            return
        self.total += scores.size
        if union is None:
            union = kernels.scan(scores)[0]
        if self.page_bits:
            scores = self._count_on_pages(scores, trailing_zeros(union))
        for start in range(0, scores.size, MAX_WAITING):
            part = slice(start, start + MAX_WAITING)
            self._wait(scores[part], None if weights is None else weights[part], union)

    def merge(self, other: ScoreHistogram) -> None:
        """Add the counts of ``other``; the result is the histogram of all scores of both."""
        self.add_bins(other.bins())

    def add_bins(self, bins: Bins) -> None:
        """Add counts in bins that are no wider than this budget asks for."""
        if bins.ids.size == 0:
            return
        self._fold()
        self.total += int(bins.counts[:, 0].sum())
        self._bins = self._fit(join_bins(self._bins, bins))

    def bins(self) -> Bins:
        """Return the occupied bins, ascending."""
        self._fold()
        return self._bins

    def shift_for(self, alignment: int) -> int:
        """Return the shift of bins that scores of such an alignment can be added in."""
        bins = self._bins
        return min(bins.alignment, alignment) if bins.exact else bins.shift

    def count_below(self, ids: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many scores lie in bins below each of ``ids``, and how many in it.

        Args:
            ids: ``(B,)`` bins that are occupied.
        """
        bins = self.bins()
        if self._summed is None or self._summed[0] is not bins:
            self._summed = bins, bins.counts[:, 0].cumsum()
        place = np.searchsorted(bins.ids, ids)
        at = bins.counts[place, 0]
        return self._summed[1][place] - at, at

    def _count_on_pages(
        self, scores: NDArray[np.floating[Any]], alignment: int
    ) -> NDArray[np.floating[Any]]:
        """Count scores on pages; return those that could not be."""
        if alignment < self._bins.alignment:
            self._fold()
            if self._bins.exact:  # they may become narrower
                self._bins = self._fit(self._bins.at(alignment))
            self._bins = self._bins._replace(alignment=alignment)
        if self._pages is not None and self._pages.total + scores.size > MAX_TOTAL:
            self._fold()
        if self._pages is None:
            self._pages = Pages(self._bins.shift, self.max_pages)
        scores = self._pages.count(scores)
        while self._pages.full:
            self._pages.widen()
            scores = self._pages.count(scores)
        return scores

    def _wait(
        self,
        scores: NDArray[np.floating[Any]],
        weights: NDArray[np.int64] | None,
        union: int,
    ) -> None:
        """Keep scores until there are enough to sort."""
        self._waiting.append((kernels.ordinals_of(scores), weights))
        self._number_waiting += scores.size
        self._union |= int(union)
        if self._number_waiting >= MAX_WAITING or (self.page_bits and not self._bins.ids.size):
            self._fold()

    def _fold(self) -> None:
        """Put what was counted or waits into the bins."""
        bins = self._bins
        if self._pages is not None:
            counted, self._pages = self._pages, None
            bins = self._fit(join_bins(bins, counted.bins(bins.alignment)))
        if self._waiting:
            ordinals = np.concatenate([ordinals for ordinals, _ in self._waiting])
            weights = [weights for _, weights in self._waiting if weights is not None]
            alignment = trailing_zeros(self._union)
            self._bins = bins
            shift = self.shift_for(alignment)
            joined = np.concatenate(weights) if weights else None
            bins = self._fit(join_bins(bins, count_ordinals(ordinals, joined, shift, alignment)))
            self._waiting, self._number_waiting, self._union = [], 0, 0
        self._bins = bins

    def _fit(self, bins: Bins) -> Bins:
        return bins.fit(self.max_pages, self.page_bits)

    def __getstate__(self) -> dict[str, Any]:
        self._fold()
        return {**self.__dict__, "_summed": None}

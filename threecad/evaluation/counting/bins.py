"""Counts of scores in bins: what histograms become, add up to and are read from.

A score is mapped to an integer, its *ordinal* in the order of the numbers: the bits of its float64
value, so that float16, float32 and float64 share one scale and nothing is rounded. A *bin* is
``ordinal >> shift``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from threecad.evaluation.counting import kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MANTISSA", "Bins", "count_ordinals", "join_bins", "trailing_zeros", "window_shift"]

MANTISSA = 52
"""Bits of a float64 below its exponent."""


class Bins(NamedTuple):
    """Occupied bins, in ascending order of score.

    Attributes:
        ids: ``(B,)`` uint64, ``ordinal >> shift``.
        counts: ``(B, channels)`` int64.
        shift: Number of low bits that an ordinal loses.
        alignment: Number of low bits that are zero in all ordinals (29 or more for float32, 42 or
            more for float16): two different ones cannot share a bin while ``shift <= alignment``.
    """

    ids: NDArray[np.uint64]
    counts: NDArray[np.int64]
    shift: int
    alignment: int

    @classmethod
    def empty(cls, channels: int) -> Bins:
        """Return no bins."""
        nothing = np.empty((0, channels), np.int64)
        return cls(np.empty(0, np.uint64), nothing, MANTISSA, MANTISSA)

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
        ids, counts = kernels.sum_equal(self.ids, self.counts, shift - self.shift)
        return Bins(ids, counts, shift, self.alignment)

    def fit(self, max_pages: int, page_bits: int) -> Bins:
        """Return the counts in the narrowest bins, no narrower, that lie on so few pages.

        A page is ``2 ** page_bits`` neighbouring bins.
        """
        if self.ids.size <= max_pages:  # no more pages than bins
            return self
        shift = self.shift
        pages = _distinct(self.ids >> np.uint64(page_bits))
        while pages.size > max_pages:
            shift += 1
            pages = _distinct(pages >> np.uint64(1))
        return self.at(shift)


def trailing_zeros(bits: int) -> int:
    """Return the number of zero bits below the lowest one of ``bits``, at most 52: the mantissa."""
    bits = int(bits)
    return min((bits & -bits).bit_length() - 1, MANTISSA) if bits else MANTISSA


def count_ordinals(
    ordinals: NDArray[np.uint64], weights: NDArray[np.int64] | None, shift: int, alignment: int
) -> Bins:
    """Count ordinals, ``(N,)``, in bins, and sum their weights, ``(N,)``, in a second channel."""
    ids = ordinals >> np.uint64(shift)
    if weights is not None:
        order = np.argsort(ids, kind="stable")
        counts = np.stack([np.ones_like(weights), weights[order]], axis=1)
        ids, counts = kernels.sum_equal(ids[order], counts, 0)
        return Bins(ids, counts, shift, alignment)
    ids.sort()
    first = _starts(ids)
    return Bins(ids[first], np.diff(first, append=ids.size)[:, None], shift, alignment)


def window_shift(lowest: int, highest: int, most: int) -> int:
    """Return the smallest shift at which ``most`` bins reach from one ordinal to another."""
    shift = 0
    while (highest >> shift) - (lowest >> shift) >= most:
        shift += 1
    return shift


def join_bins(first: Bins, second: Bins) -> Bins:
    """Return the sum of two sets of bins, at the narrowest width that both allow."""
    shift = alignment = min(first.alignment, second.alignment)
    for bins in (first, second):
        if not bins.exact:
            shift = max(shift, bins.shift)
    first, second = first.at(shift), second.at(shift)
    if not first.ids.size:
        return second._replace(alignment=alignment)
    ids, counts = kernels.join_sorted(first.ids, first.counts, second.ids, second.counts)
    return Bins(ids, counts, shift, alignment)


def _distinct(ordered: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return ordered[_starts(ordered)]


def _starts(ordered: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Return where each run of equal values starts."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))

"""Compiled inner loops of the histograms.

An ordinal is the place of a float64 value in the order of all float64 values: ``2**63 + bits`` for
positive numbers and ``2**63 - magnitude bits`` for negative ones, so that -0.0 equals 0.0 and the
trailing zero bits of the magnitude stay trailing zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.system.compiling import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "PAGE_BITS",
    "count",
    "count_inside",
    "find_binades",
    "find_new_pages",
    "join_sorted",
    "list_occupied",
    "measure_regions",
    "ordinals_of",
    "scan",
    "sum_equal",
]

PAGE_BITS = 8
"""A page holds ``2 ** PAGE_BITS`` bins."""

BLOCK = 1024
"""Scores whose places are found before any is counted: what waits for memory then overlaps."""

_MAGNITUDE = np.uint64(0x7FFFFFFFFFFFFFFF)
_SIGN = np.uint64(0x8000000000000000)
_INFINITY = np.uint64(0x7FF0000000000000)
_MANTISSA = np.uint64(52)
_PAGE_BITS = np.uint64(PAGE_BITS)
_PAGE_SHIFT = np.int64(PAGE_BITS)
_IN_PAGE = np.uint64((1 << PAGE_BITS) - 1)
_ONE = np.uint64(1)


@compiled
def _ordinal(score: float) -> Any:
    bits = np.float64(score).view(np.uint64)
    magnitude = bits & _MAGNITUDE
    return _SIGN - magnitude if bits & _SIGN else _SIGN + magnitude


@compiled
def scan(scores: NDArray[np.floating[Any]]) -> tuple[Any, Any]:
    """Return the magnitude bits of all scores, or-ed, and whether all scores are finite."""
    union = np.uint64(0)
    largest = np.uint64(0)
    for i in range(scores.size):
        magnitude = np.float64(scores[i]).view(np.uint64) & _MAGNITUDE
        union |= magnitude
        largest = max(largest, magnitude)
    return union, largest < _INFINITY


@compiled
def ordinals_of(scores: NDArray[np.floating[Any]]) -> NDArray[np.uint64]:
    """Return the ordinal of every score."""
    ordinals = np.empty(scores.size, np.uint64)
    for i in range(scores.size):
        ordinals[i] = _ordinal(scores[i])
    return ordinals


@compiled
def find_binades(scores: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return, of the 4096 binades, whether each holds a score."""
    found = np.zeros(4096, np.bool_)
    for i in range(scores.size):
        found[_ordinal(scores[i]) >> _MANTISSA] = True
    return found


@compiled
def _entry(ordinal: Any, shift: Any, binades: NDArray[np.int64]) -> Any:
    """Return the entry of the page that holds ``ordinal``."""
    page = np.int64(ordinal >> (shift + _PAGE_BITS))
    return np.uint64(page + binades[ordinal >> _MANTISSA])


@compiled
def count(
    scores: NDArray[np.floating[Any]],
    shift: int,
    binades: NDArray[np.int64],
    entries: NDArray[np.int32],
    counts: NDArray[np.int32],
) -> NDArray[np.floating[Any]]:
    """Count the scores that have a page; return the others.

    ``counts[slot, bin]`` is flat. See ``Pages`` in ``page_table`` for the look-up.
    """
    down = np.uint64(shift)
    others = np.empty_like(scores)
    left = 0
    places = np.empty(BLOCK, np.int64)
    for block in range(0, scores.size, BLOCK):
        n = min(BLOCK, scores.size - block)
        for i in range(n):
            ordinal = _ordinal(scores[block + i])
            slot = np.int64(entries[_entry(ordinal, down, binades)])
            places[i] = (slot << _PAGE_SHIFT) + np.int64((ordinal >> down) & _IN_PAGE)
        for i in range(n):
            if places[i] < 0:
                others[left] = scores[block + i]
                left += 1
            else:
                counts[np.uint64(places[i])] += 1
    return others[:left]


@compiled
def find_new_pages(
    scores: NDArray[np.floating[Any]],
    shift: int,
    binades: NDArray[np.int64],
    entries: NDArray[np.int32],
    room: int,
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the entries and the ids of the pages that ``scores`` need and that have no slot yet.

    Their binades must have entries. At most one page more than ``room`` is returned. The entries
    are marked with -2.
    """
    down = np.uint64(shift)
    found = np.empty(room + 1, np.int64)
    pages = np.empty(room + 1, np.uint64)
    n = 0
    for i in range(scores.size):
        ordinal = _ordinal(scores[i])
        entry = _entry(ordinal, down, binades)
        if entries[entry] == -1:
            entries[entry] = -2
            found[n] = entry
            pages[n] = ordinal >> (down + _PAGE_BITS)
            n += 1
            if n > room:
                break
    return found[:n], pages[:n]


@compiled
def list_occupied(
    counts: NDArray[np.int32], order: NDArray[np.intp], pages: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the ids and counts ``(B, 1)`` of the bins that hold anything, page by page.

    Args:
        counts: ``(slots, 2**PAGE_BITS)``.
        order: Slots in the order of their pages.
        pages: Page of each slot.
    """
    occupied = 0
    for number in counts.ravel():
        if number:
            occupied += 1
    ids = np.empty(occupied + 1, np.uint64)  # one more, which what holds nothing is written to
    listed = np.empty((occupied + 1, 1), np.int64)
    n = 0
    for slot in order:
        start = pages[slot] << _PAGE_BITS
        for column in range(counts.shape[1]):
            ids[n] = start + np.uint64(column)
            listed[n, 0] = counts[slot, column]
            n += counts[slot, column] > 0
    return ids[:n], listed[:n]


@compiled
def measure_regions(
    labels: NDArray[np.int32], scores: NDArray[np.floating[Any]], count: int
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.floating[Any]]]:
    """Return the region ``(M,)`` of each pixel, and areas and middle scores of regions, ``(R,)``.

    Half of a region's pixels, or one more, have its middle score or a higher one.

    Args:
        labels: ``(H, W)``: 0, or 1 + the region.
        scores: ``(M,)``, of the pixels with a region, by row.
        count: R.
    """
    region = np.empty(scores.size, np.intp)
    areas = np.zeros(count, np.int64)
    n = 0
    for label in labels.ravel():
        if label:
            region[n] = label - 1
            areas[label - 1] += 1
            n += 1
    ends = np.cumsum(areas)
    starts = ends - areas
    sorted_in = np.empty_like(scores)
    for i in range(n):
        sorted_in[starts[region[i]]] = scores[i]
        starts[region[i]] += 1
    middle = np.empty(count, scores.dtype)
    for i in range(count):
        ordered = np.sort(sorted_in[ends[i] - areas[i] : ends[i]])
        middle[i] = ordered[areas[i] - (areas[i] + 1) // 2]
    return region, areas, middle


@compiled
def sum_equal(
    ids: NDArray[np.uint64], counts: NDArray[np.int64], shift: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the distinct ``ids >> shift`` of ascending ids, and the sums of their counts."""
    down = np.uint64(shift)
    joined = np.empty(ids.size, np.uint64)
    sums = np.empty(counts.shape, np.int64)
    n = -1
    for i in range(ids.size):
        wide = ids[i] >> down
        new = n < 0 or joined[n] != wide
        n += new
        joined[n] = wide
        for channel in range(counts.shape[1]):
            before = np.int64(0) if new else sums[n, channel]
            sums[n, channel] = before + counts[i, channel]
    return joined[: n + 1].copy(), sums[: n + 1].copy()


@compiled
def join_sorted(
    first: NDArray[np.uint64],
    first_counts: NDArray[np.int64],
    second: NDArray[np.uint64],
    second_counts: NDArray[np.int64],
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the union of two ascending lists of distinct ids, and the sum of their counts."""
    most = first.size + second.size
    joined = np.empty(most, np.uint64)
    sums = np.empty((most, first_counts.shape[1]), np.int64)
    i = k = n = 0
    while i < first.size or k < second.size:
        from_first = k == second.size or (i < first.size and first[i] <= second[k])
        from_second = i == first.size or (k < second.size and second[k] <= first[i])
        joined[n] = first[i] if from_first else second[k]
        for channel in range(sums.shape[1]):
            count = np.int64(0)
            if from_first:
                count += first_counts[i, channel]
            if from_second:
                count += second_counts[k, channel]
            sums[n, channel] = count
        i += from_first
        k += from_second
        n += 1
    return joined[:n].copy(), sums[:n].copy()


@compiled
def count_inside(
    scores: NDArray[np.floating[Any]],
    weights: NDArray[np.int64],
    starts: NDArray[np.uint64],
    shifts: NDArray[np.uint64],
    offsets: NDArray[np.int64],
    depths: NDArray[np.uint64],
    index: NDArray[np.int64],
    index_shift: int,
    sums: NDArray[np.int64],
) -> None:
    """Add weights to the parts of chosen bins; scores outside these bins are passed over.

    Bin ``i`` covers the ordinals from ``starts[i]`` on, ``2 ** shifts[i]`` of them, and is cut into
    ``2 ** depths[i]`` parts whose sums start at ``offsets[i]``. ``index[k]`` is the first bin that
    ends behind the k-th stretch of ``2 ** index_shift`` ordinals. One weight serves all scores.
    """
    first = starts[0]
    last = starts[starts.size - 1] + ((_ONE << shifts[starts.size - 1]) - _ONE)
    down = np.uint64(index_shift)
    single = weights.size == 1
    for i in range(scores.size):
        ordinal = _ordinal(scores[i])
        if ordinal < first or ordinal > last:
            continue
        stretch = np.int64((ordinal - first) >> down)
        low, high = index[stretch], index[stretch + 1]
        while low < high:  # the last bin that starts at or before the ordinal
            middle = (low + high + 1) >> 1
            if starts[middle] <= ordinal:
                low = middle
            else:
                high = middle - 1
        inside = ordinal - starts[low]
        if inside >> shifts[low] == 0:
            part = inside >> (shifts[low] - depths[low])
            sums[offsets[low] + np.int64(part)] += weights[0] if single else weights[i]

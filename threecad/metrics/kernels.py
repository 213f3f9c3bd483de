"""Compiled inner loops of the histograms.

A key is the position of a float64 value in the order of all float64 values: ``2**63 + bits`` for
positive numbers and ``2**63 - magnitude bits`` for negative ones, so that -0.0 equals 0.0 and the
trailing zero bits of the magnitude stay trailing zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "count",
    "count_in_order",
    "count_inside",
    "count_weighted",
    "empty_table",
    "find_pages",
    "insert",
    "keys_of",
    "new_pages",
    "scan",
    "trailing_zeros",
]

Function = TypeVar("Function", bound=Callable[..., Any])

EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_MAGNITUDE = np.uint64(0x7FFFFFFFFFFFFFFF)
_SIGN = np.uint64(0x8000000000000000)
_INFINITY = np.uint64(0x7FF0000000000000)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)

BLOCK = 1 << 16
STRETCH = 14  # 2**14 counts are 128 KiB

MANTISSA = 52
"""Bits of a float64 below its exponent. A shift by this and a page still fits 64 bits."""


def compiled(function: Function) -> Function:
    """Compile ``function``, and cache the result on disk where some folder can be written."""
    try:
        return cast("Function", numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # numba found no place for its cache
        return cast("Function", numba.njit(nogil=True)(function))


def trailing_zeros(bits: int) -> int:
    """Return the number of zero bits below the lowest one of ``bits``, at most 52: the mantissa."""
    bits = int(bits)
    return min((bits & -bits).bit_length() - 1, MANTISSA) if bits else MANTISSA


def empty_table(pages: int) -> NDArray[np.uint64]:
    """Return an open-addressing hash table with room for ``pages``: rows of page id and slot."""
    size = 1 << max(4, (2 * pages - 1).bit_length())
    table = np.zeros((size, 2), np.uint64)
    table[:, 0] = EMPTY
    return table


@compiled
def _key(score: float) -> Any:
    bits = np.float64(score).view(np.uint64)
    magnitude = bits & _MAGNITUDE
    return _SIGN - magnitude if bits & _SIGN else _SIGN + magnitude


@compiled
def _find(table: NDArray[np.uint64], page: Any) -> Any:
    """Return the row of ``page``, or the free row where it belongs."""
    last = np.int64(table.shape[0] - 1)
    at = np.int64((page * _GOLDEN) >> np.uint64(32)) & last
    while table[at, 0] != page and table[at, 0] != EMPTY:
        at = (at + 1) & last
    return at


@compiled
def scan(scores: NDArray[np.floating[Any]]) -> tuple[int, bool]:
    """Return the magnitude bits of all scores, or-ed, and whether all scores are finite."""
    union = np.uint64(0)
    largest = np.uint64(0)
    for i in range(scores.size):
        magnitude = np.float64(scores[i]).view(np.uint64) & _MAGNITUDE
        union |= magnitude
        largest = max(largest, magnitude)
    return union, largest < _INFINITY


@compiled
def keys_of(scores: NDArray[np.floating[Any]]) -> NDArray[np.uint64]:
    """Return the key of every score."""
    keys = np.empty(scores.size, np.uint64)
    for i in range(scores.size):
        keys[i] = _key(scores[i])
    return keys


@compiled
def insert(table: NDArray[np.uint64], pages: NDArray[np.uint64], first_slot: int) -> None:
    """Enter new pages into the table with consecutive slots."""
    for i in range(pages.size):
        at = _find(table, pages[i])
        table[at, 0] = pages[i]
        table[at, 1] = np.uint64(first_slot + i)


@compiled
def _set_of(pages: NDArray[np.uint64], down: Any) -> tuple[NDArray[np.uint64], Any]:
    """Return a hash set of ``pages >> down`` with room for as many again, and its size."""
    size = 16
    while size < 4 * pages.size:
        size *= 2
    table = np.full((size, 1), EMPTY, np.uint64)
    found = 0
    for i in range(pages.size):
        page = pages[i] >> down
        at = _find(table, page)
        if table[at, 0] == EMPTY:
            table[at, 0] = page
            found += 1
    return table, found


@compiled
def new_pages(
    scores: NDArray[np.floating[Any]],
    table: NDArray[np.uint64],
    shift: int,
    page_bits: int,
    room: int,
) -> NDArray[np.uint64]:
    """Return the pages of ``scores`` that ``table`` lacks; at most one more than ``room``."""
    down = np.uint64(shift + page_bits)
    found, used = _set_of(np.empty(0, np.uint64), np.uint64(0))
    for i in range(scores.size):
        page = _key(scores[i]) >> down
        if table[_find(table, page), 0] == page:
            continue
        at = _find(found, page)
        if found[at, 0] == page:
            continue
        found[at, 0] = page
        used += 1
        if used > room:
            break
        if 2 * used > found.shape[0]:
            found, used = _set_of(found[found[:, 0] != EMPTY, 0], np.uint64(0))
    pages: NDArray[np.uint64] = found[found[:, 0] != EMPTY, 0]
    return pages


@compiled
def find_pages(
    scores: NDArray[np.floating[Any]],
    known: NDArray[np.uint64],
    shift: int,
    page_bits: int,
    max_pages: int,
) -> tuple[NDArray[np.uint64], int]:
    """Return the pages of ``known`` and ``scores`` together, and the shift at which they fit."""
    down = np.uint64(shift + page_bits)
    table, found = _set_of(known, np.uint64(0))
    for i in range(scores.size):
        page = _key(scores[i]) >> down
        at = _find(table, page)
        if table[at, 0] == page:
            continue
        table[at, 0] = page
        found += 1
        while found > max_pages:
            down += _ONE
            pages = table[:, 0]
            table, found = _set_of(pages[pages != EMPTY], _ONE)
        if 2 * found > table.shape[0]:
            pages = table[:, 0]
            table, found = _set_of(pages[pages != EMPTY], np.uint64(0))
    pages = table[:, 0]
    return pages[pages != EMPTY], np.int64(down) - page_bits


@compiled
def _place(cell: Any, width: Any, table: Any, near: NDArray[np.int16], first: Any) -> Any:
    """Return where ``cell`` is counted, or -1 if it has no page.

    ``near`` holds the slots of the pages from ``first`` on; it is empty where the pages are too far
    apart for that, and then the hash table is asked.
    """
    page = cell >> width
    if near.size:
        ahead = page - first
        slot = np.int64(near[ahead]) if ahead < np.uint64(near.size) else np.int64(-1)
    else:
        at = _find(table, page)
        slot = np.int64(table[at, 1]) if table[at, 0] == page else np.int64(-1)
    if slot < 0:
        return np.int64(-1)
    return (slot << np.int64(width)) + np.int64(cell & ((_ONE << width) - _ONE))


@compiled
def count(
    scores: NDArray[np.floating[Any]],
    shift: int,
    page_bits: int,
    table: NDArray[np.uint64],
    near: NDArray[np.int16],
    first: Any,
    counts: NDArray[np.integer[Any]],
) -> int:
    """Count scores until one has no page; return how many were counted."""
    down, width = np.uint64(shift), np.uint64(page_bits)
    for i in range(scores.size):
        place = _place(_key(scores[i]) >> down, width, table, near, first)
        if place < 0:
            return i
        counts[place] += 1
    return scores.size


@compiled
def count_in_order(
    scores: NDArray[np.floating[Any]],
    shift: int,
    page_bits: int,
    table: NDArray[np.uint64],
    near: NDArray[np.int16],
    first: Any,
    counts: NDArray[np.integer[Any]],
) -> int:
    """Do what :func:`count` does, faster where the counts do not fit the processor's cache.

    The places of a block of scores are sorted by stretch of memory before they are visited.
    """
    down, width = np.uint64(shift), np.uint64(page_bits)
    places = np.empty(BLOCK, np.int32)
    ordered = np.empty(BLOCK, np.int32)
    starts = np.empty((counts.size >> STRETCH) + 2, np.int64)
    for block in range(0, scores.size, BLOCK):
        n = min(BLOCK, scores.size - block)
        starts[:] = 0
        missing = False
        for i in range(n):
            place = _place(_key(scores[block + i]) >> down, width, table, near, first)
            if place < 0:
                n = i
                missing = True
                break
            places[i] = place
        for i in range(n):
            starts[(places[i] >> STRETCH) + 1] += 1
        for k in range(1, starts.size):
            starts[k] += starts[k - 1]
        for i in range(n):
            stretch = places[i] >> STRETCH
            ordered[starts[stretch]] = places[i]
            starts[stretch] += 1
        for i in range(n):
            counts[ordered[i]] += 1
        if missing:
            return block + n
    return scores.size


@compiled
def count_weighted(
    scores: NDArray[np.floating[Any]],
    weights: NDArray[np.int64],
    shift: int,
    page_bits: int,
    table: NDArray[np.uint64],
    near: NDArray[np.int16],
    first: Any,
    counts: NDArray[np.int64],
    sums: NDArray[np.int64],
) -> int:
    """Count scores and sum their weights until one has no page; return how many were counted."""
    down, width = np.uint64(shift), np.uint64(page_bits)
    for i in range(scores.size):
        place = _place(_key(scores[i]) >> down, width, table, near, first)
        if place < 0:
            return i
        counts[place] += 1
        sums[place] += weights[i]
    return scores.size


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

    Bin ``i`` covers the keys from ``starts[i]`` on, ``2 ** shifts[i]`` of them, and is cut into
    ``2 ** depths[i]`` parts whose sums start at ``offsets[i]``. ``index[k]`` is the first bin that
    ends behind the k-th stretch of ``2 ** index_shift`` keys. One weight serves all scores.
    """
    first = starts[0]
    last = starts[starts.size - 1] + ((_ONE << shifts[starts.size - 1]) - _ONE)
    down = np.uint64(index_shift)
    single = weights.size == 1
    for i in range(scores.size):
        key = _key(scores[i])
        if key < first or key > last:
            continue
        stretch = np.int64((key - first) >> down)
        low, high = index[stretch], index[stretch + 1]
        while low < high:  # the last bin that starts at or before the key
            middle = (low + high + 1) >> 1
            if starts[middle] <= key:
                low = middle
            else:
                high = middle - 1
        inside = key - starts[low]
        if inside >> shifts[low] == 0:
            part = inside >> (shifts[low] - depths[low])
            sums[offsets[low] + np.int64(part)] += weights[0] if single else weights[i]

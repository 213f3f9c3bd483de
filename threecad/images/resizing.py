"""From one mask size to another, without losing the small defects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from threecad.errors import UsageError
from threecad.images.regions import Runs, find_runs, label_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ResizeRule", "coverage", "resize_mask"]

ResizeRule = Literal["keep", "majority", "any", "nearest"]


def resize_mask(
    mask: NDArray[Any], size: tuple[int, int], rule: ResizeRule = "keep"
) -> NDArray[np.bool_]:
    """Resize a mask; with the default rule no region can vanish.

    Each pixel of the result covers a rectangle of the mask, and what part of it is defect is known
    exactly (in integers).

    Args:
        mask: ``(H, W)`` bool, or any dtype where non-zero is defect.
        size: ``(height, width)`` of the result.
        rule: ``"majority"``: defect where at least half of a pixel is. ``"keep"``: the same, and
            of every 8-connected region that no such pixel meets, the pixel it covers most.
            ``"any"``: wherever a pixel meets a defect at all. ``"nearest"``: what lies under the
            pixel's centre, as most published evaluations do; small regions can vanish.

    Returns:
        ``(height, width)`` bool.

    Raises:
        UsageError: If ``size`` is not positive or ``rule`` is unknown.
        MaskError: If ``mask`` is not two-dimensional or has no pixels.
    """
    if rule not in get_args(ResizeRule):
        raise UsageError(
            f"Resize rule {rule!r} is unknown. Expected one of {', '.join(get_args(ResizeRule))}."
        )
    height, width = size
    if height < 1 or width < 1:
        raise UsageError(f"Size {size} is impossible. Expected (height, width), both at least 1.")
    runs = find_runs(mask)
    defect: NDArray[np.bool_] = np.asarray(mask) != 0
    if runs.size == (height, width):
        return defect
    if rule == "nearest":
        nearest: NDArray[np.bool_] = defect[
            np.ix_(_centres(runs.size[0], height), _centres(runs.size[1], width))
        ]
        return nearest
    resized = np.zeros((height, width), np.bool_)
    if not len(runs.row):
        return resized
    first, shares = _shares(runs, size)
    rows = slice(first, first + len(shares))
    if rule == "any":
        resized[rows] = shares > 0
        return resized
    resized[rows] = 2 * shares >= runs.size[0] * runs.size[1]
    if rule == "keep":
        _revive(resized, runs)
    return resized


def coverage(runs: Runs, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return what part of each cell of a grid laid over a mask is defect.

    Args:
        runs: The mask, as ``threecad.images.regions.find_runs`` cuts it.
        size: ``(height, width)`` of the grid, in cells.

    Returns:
        ``(height, width)`` float64 in [0, 1].
    """
    cells = np.zeros(size)
    if len(runs.row):
        first, shares = _shares(runs, size)
        cells[first : first + len(shares)] = shares / (runs.size[0] * runs.size[1])
    return cells


def _centres(old: int, new: int) -> NDArray[np.int64]:
    """Return the index under the centre of each of ``new`` pixels spread over ``old`` ones."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def _shares(runs: Runs, size: tuple[int, int]) -> tuple[int, NDArray[np.int64]]:
    """Measure how much of each pixel of a new grid the runs cover.

    Returns:
        The first row of the new grid that the runs meet, and for it and the following rows the
        covered share of each pixel, in units of 1 / (H · W): ``(rows, width)`` int64.
    """
    old_height, old_width = runs.size
    new_height, new_width = size
    top, bottom = int(runs.row[0]), int(runs.row[-1]) + 1
    row = (runs.row - top) * (new_width + 1)
    # In a unit of which an old pixel has new_width and a new one old_width, the part of a row left
    # of an edge is all of the pixels before the one it falls in, and a rest of that one.
    before = np.zeros((bottom - top) * (new_width + 1), np.int64)
    rest = np.zeros_like(before)
    for edges, sign in ((runs.stop, 1), (runs.start, -1)):
        pixel, part = np.divmod(edges * new_width, old_width)
        np.add.at(before, row + pixel, sign * old_width)
        np.add.at(rest, row + pixel, sign * part)
    shape = (bottom - top, new_width + 1)
    full = np.cumsum(before.reshape(shape)[:, :0:-1], axis=1)[:, ::-1]
    across = rest.reshape(shape)[:, :-1] + full
    first, last = top * new_height // old_height, -(-bottom * new_height // old_height)
    # The same downwards: the sum of all above an edge, and a part of the row it falls in.
    above = np.zeros((bottom - top + 1, new_width), np.int64)
    np.cumsum(across, axis=0, out=above[1:])
    edges = np.arange(first, last + 1) * old_height - top * new_height
    whole, part = np.divmod(np.clip(edges, 0, (bottom - top) * new_height), new_height)
    partial = across[np.minimum(whole, bottom - top - 1)]
    shares: NDArray[np.int64] = np.diff(new_height * above[whole] + part[:, None] * partial, axis=0)
    return first, shares


def _revive(resized: NDArray[np.bool_], runs: Runs) -> None:
    """Give every region that meets no pixel of ``resized`` the one it covers most."""
    (height, width), size = runs.size, (resized.shape[0], resized.shape[1])
    labels, count = label_runs(runs)
    # Pixels set in any window of the new grid, from the sums over all windows at its corner.
    summed = np.zeros((size[0] + 1, size[1] + 1), np.int64)
    np.cumsum(np.cumsum(resized, axis=0), axis=1, out=summed[1:, 1:])
    top, bottom = runs.row * size[0] // height, -(-(runs.row + 1) * size[0] // height)
    left, right = runs.start * size[1] // width, -(-runs.stop * size[1] // width)
    met = summed[bottom, right] - summed[top, right] - summed[bottom, left] + summed[top, left]
    alive = np.zeros(count, np.bool_)
    alive[labels[met > 0]] = True
    for lost in np.flatnonzero(~alive):
        chosen = labels == lost
        part = Runs(runs.row[chosen], runs.start[chosen], runs.stop[chosen], runs.size)
        first, shares = _shares(part, size)
        row, column = np.unravel_index(int(np.argmax(shares)), shares.shape)
        resized[first + row, column] = True

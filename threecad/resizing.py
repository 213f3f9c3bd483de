"""From one mask size to another, without losing the small defects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from threecad.errors import UsageError
from threecad.geometry import find_runs, label_regions

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ResizeRule", "resize_mask"]

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
    y = slice(int(runs.row[0]), int(runs.row[-1]) + 1)
    x = slice(int(runs.start.min()), int(runs.stop.max()))
    rows, columns, shares = _coverage(defect, y, x, size)
    if rule == "any":
        resized[rows, columns] = shares > 0
        return resized
    resized[rows, columns] = 2 * shares >= runs.size[0] * runs.size[1]
    if rule == "keep":
        _revive(resized, defect)
    return resized


def _centres(old: int, new: int) -> NDArray[np.int64]:
    """Return the index under the centre of each of ``new`` pixels spread over ``old`` ones."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def _window(part: slice, old: int, new: int) -> slice:
    """Return the pixels of the new grid that meet ``part`` of the old one."""
    return slice(part.start * new // old, -(-part.stop * new // old))


def _coverage(
    mask: NDArray[np.bool_], y: slice, x: slice, size: tuple[int, int]
) -> tuple[slice, slice, NDArray[np.int64]]:
    """Measure how much of each new pixel is covered by the part ``mask[y, x]``.

    Returns:
        The rows and columns of the new grid that meet that part, and for each of their pixels the
        covered share in units of 1 / (H · W).
    """
    rows, columns = _window(y, mask.shape[0], size[0]), _window(x, mask.shape[1], size[1])
    part = mask[y, x].astype(np.int64)
    down = _integrate(part, y.start, rows, mask.shape[0], size[0])
    across = _integrate(down.T, x.start, columns, mask.shape[1], size[1]).T
    return rows, columns, across


def _integrate(
    counts: NDArray[np.int64], first: int, window: slice, old: int, new: int
) -> NDArray[np.int64]:
    """Sum rows ``first, first + 1, …`` of an old grid over the rows ``window`` of a new one.

    A row of the old grid is ``new`` units high and one of the new grid ``old`` units.
    """
    length = len(counts)
    below = np.zeros((length + 1, counts.shape[1]), np.int64)
    np.cumsum(counts, axis=0, out=below[1:])
    edges = np.clip(np.arange(window.start, window.stop + 1) * old - first * new, 0, length * new)
    whole, rest = np.divmod(edges, new)
    level = new * below[whole] + rest[:, None] * counts[np.minimum(whole, length - 1)]
    sums: NDArray[np.int64] = np.diff(level, axis=0)
    return sums


def _revive(resized: NDArray[np.bool_], mask: NDArray[np.bool_]) -> None:
    """Give every region of ``mask`` that meets no pixel of ``resized`` the one it covers most."""
    size = resized.shape[0], resized.shape[1]
    labels = label_regions(mask)
    y, x = np.nonzero(labels)
    # Pixels set in a window of the new grid, from the sums over all windows at its corner.
    summed = np.zeros((size[0] + 1, size[1] + 1), np.int64)
    np.cumsum(np.cumsum(resized, axis=0), axis=1, out=summed[1:, 1:])
    top, bottom = y * size[0] // mask.shape[0], -(-(y + 1) * size[0] // mask.shape[0])
    left, right = x * size[1] // mask.shape[1], -(-(x + 1) * size[1] // mask.shape[1])
    met = summed[bottom, right] - summed[top, right] - summed[bottom, left] + summed[top, left]
    region = labels[y, x]
    alive = np.zeros(int(region.max()) + 1, np.bool_)
    alive[region[met > 0]] = True
    for lost in np.flatnonzero(~alive[1:]) + 1:
        here = region == lost
        part_y = slice(int(y[here].min()), int(y[here].max()) + 1)
        part_x = slice(int(x[here].min()), int(x[here].max()) + 1)
        rows, columns, shares = _coverage(labels == lost, part_y, part_x, size)
        best = np.unravel_index(int(np.argmax(shares)), shares.shape)
        resized[rows, columns][best] = True

"""Connected regions of a mask, measured exactly on the pixels' own corners.

A mask is cut into *runs*, the horizontal stretches of defect pixels. Everything a region is asked
for follows from its runs in integers, so the cost grows with a defect's height and not with the
area of the image: the area is the sum of the lengths, the Euler number is the number of runs less
the number of pairs of runs that touch, and the convex hull is that of the runs' end corners.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from threecad.errors import MaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "SIZES",
    "Region",
    "RotatedRect",
    "as_mask",
    "enclosing_rectangle",
    "label_regions",
    "regions",
    "size_of",
]


SIZES = ("small", "medium", "large")
"""Sizes of a region: under 0.05 %, from 0.05 to 0.5 %, over 0.5 % of the image."""


def as_mask(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask, ``(H, W)`` of any dtype where non-zero is defect, as bool.

    Raises:
        MaskError: If it is not two-dimensional or has no pixels.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or not mask.size:
        raise MaskError(
            f"A mask of shape {mask.shape} was given; expected (height, width), both at least 1."
        )
    return mask if mask.dtype == np.bool_ else mask != 0


def size_of(area: int, pixels: int) -> str:
    """Return which of ``SIZES`` a region of ``area`` in an image of ``pixels`` has."""
    if 2000 * area < pixels:
        return "small"
    return "medium" if 200 * area <= pixels else "large"


@dataclass(frozen=True, slots=True)
class RotatedRect:
    """A rectangle of minimum area round some pixels.

    Attributes:
        center: ``(x, y)`` in pixel corners: the centre of the first pixel is ``(0.5, 0.5)``.
        sides: ``(long, short)`` in pixels.
        angle: Direction of the long side in degrees, from the x axis towards the y axis (clockwise
            on the screen), in ``[0, 180)``; in ``[0, 90)`` for a square.
    """

    center: tuple[float, float]
    sides: tuple[float, float]
    angle: float

    @property
    def aspect_ratio(self) -> float:
        """Long over short side; 1 for a single pixel."""
        return self.sides[0] / self.sides[1]


@dataclass(frozen=True, slots=True)
class Region:
    """One 8-connected region of a mask.

    Attributes:
        area: Number of pixels.
        area_ratio: Area over the number of pixels of the image.
        bbox: ``(x, y, width, height)`` in pixels.
        rotated_rect: The rectangle of minimum area; of several, the one closest to a square.
        aspect_ratio: Long over short side of ``rotated_rect``, at least 1.
        centroid: ``(x, y)``, the mean of the pixel indices: ``(0, 0)`` for the first pixel.
        perimeter: Length of the outline of the union of the region's unit squares, holes included:
            the number of pixel sides between the region and anything else. 4 for one pixel.
        holes: Number of 4-connected pieces of background that the region encloses.
        touches_border: Whether a pixel lies in the first or last row or column of the image.
    """

    area: int
    area_ratio: float
    bbox: tuple[int, int, int, int]
    rotated_rect: RotatedRect
    aspect_ratio: float
    centroid: tuple[float, float]
    perimeter: int
    holes: int
    touches_border: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the region as JSON-able data."""
        return asdict(self)


def regions(mask: NDArray[Any]) -> list[Region]:
    """Return the 8-connected regions of a mask, in the order of their first pixel, row by row.

    Args:
        mask: ``(H, W)`` bool, or any dtype where non-zero is defect.

    Raises:
        MaskError: If ``mask`` is not two-dimensional or has no pixels.
    """
    runs = find_runs(mask)
    pairs = _touching(runs)
    return _measure(runs, pairs, *_join(len(runs.row), pairs))


def label_regions(mask: NDArray[Any]) -> NDArray[np.int32]:
    """Return an ``(H, W)`` int32 image: 0 for background, k for ``regions(mask)[k - 1]``.

    Raises:
        MaskError: If ``mask`` is not two-dimensional or has no pixels.
    """
    runs = find_runs(mask)
    labels, _ = label_runs(runs)
    image = np.zeros(runs.size, np.int32)
    image[pixels_of(runs)] = np.repeat(labels + 1, runs.stop - runs.start)
    return image


def enclosing_rectangle(mask: NDArray[Any]) -> RotatedRect | None:
    """Return the rectangle of minimum area round all defect pixels; ``None`` for an empty mask.

    Raises:
        MaskError: If ``mask`` is not two-dimensional or has no pixels.
    """
    return _enclose(find_runs(mask))


class Runs(NamedTuple):
    """The horizontal runs of a mask, row by row and from left to right.

    Attributes:
        row: ``(R,)`` int64.
        start: ``(R,)`` int64, first column.
        stop: ``(R,)`` int64, one past the last column.
        size: ``(height, width)`` of the mask.
    """

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    size: tuple[int, int]


class _Pairs(NamedTuple):
    """Pairs of runs in neighbouring rows that touch, at least at a corner.

    Attributes:
        upper: ``(P,)`` int64, index of the run above.
        lower: ``(P,)`` int64, index of the run below.
        shared: ``(P,)`` int64, number of columns they have in common; 0 at a corner.
    """

    upper: NDArray[np.int64]
    lower: NDArray[np.int64]
    shared: NDArray[np.int64]


def find_runs(mask: NDArray[Any]) -> Runs:
    """Cut a mask into its horizontal runs.

    Args:
        mask: ``(H, W)`` bool, or any dtype where non-zero is defect.

    Raises:
        MaskError: If ``mask`` is not two-dimensional or has no pixels.
    """
    mask = as_mask(mask)
    height, width = mask.shape
    filled = np.flatnonzero(mask.any(axis=1))
    if not filled.size:
        none = np.empty(0, np.int64)
        return Runs(none, none, none, (height, width))
    top, bottom = int(filled[0]), int(filled[-1]) + 1
    band = mask[top:bottom]
    # A run begins and ends where the value changes; the columns outside the image are background.
    change = np.empty((bottom - top, width + 1), np.bool_)
    change[:, 0] = band[:, 0]
    change[:, -1] = band[:, -1]
    np.not_equal(band[:, 1:], band[:, :-1], out=change[:, 1:-1])
    edges = np.flatnonzero(change)
    row, start = np.divmod(edges[0::2], width + 1)
    stop = edges[1::2] - row * (width + 1)
    return Runs(row + top, start, stop, (height, width))


def measure(runs: Runs) -> tuple[list[Region], RotatedRect | None]:
    """Return the regions of a mask and the rectangle of minimum area round all of them."""
    pairs = _touching(runs)
    found = _measure(runs, pairs, *_join(len(runs.row), pairs))
    return found, found[0].rotated_rect if len(found) == 1 else _enclose(runs)


def label_runs(runs: Runs) -> tuple[NDArray[np.int64], int]:
    """Return each run's region, ``(R,)`` from 0 in ``regions``' order, and their number."""
    return _join(len(runs.row), _touching(runs))


def pixels_of(runs: Runs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ``(rows, columns)`` of every pixel of the runs, in order."""
    lengths = runs.stop - runs.start
    return np.repeat(runs.row, lengths), _ranges(runs.start, lengths)


def _ranges(start: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ranges ``start[i], start[i] + 1, …`` of the given lengths, one after another."""
    before = np.cumsum(lengths) - lengths
    ranges: NDArray[np.int64] = np.arange(lengths.sum()) + np.repeat(start - before, lengths)
    return ranges


def _touching(runs: Runs) -> _Pairs:
    """Find the pairs of runs that are 8-adjacent, by bisection in the row below."""
    pitch = runs.size[1] + 2
    first = runs.row * pitch + runs.start
    last = runs.row * pitch + runs.stop
    # Of the row below, a run touches those that end at or after its start and start at or
    # before its end.
    low = np.searchsorted(last, first + pitch, side="left")
    high = np.searchsorted(first, last + pitch, side="right")
    count = np.maximum(high - low, 0)
    upper = np.repeat(np.arange(len(count)), count)
    lower = _ranges(low, count)
    shared = np.minimum(runs.stop[upper], runs.stop[lower]) - np.maximum(
        runs.start[upper], runs.start[lower]
    )
    return _Pairs(upper, lower, shared)


def _join(count: int, pairs: _Pairs) -> tuple[NDArray[np.int64], int]:
    """Return the region of each run, numbered by first run, and the number of regions."""
    root = np.arange(count)
    while True:
        upper, lower = root[pairs.upper], root[pairs.lower]
        apart = upper != lower
        if not apart.any():
            break
        upper, lower = upper[apart], lower[apart]
        np.minimum.at(root, np.maximum(upper, lower), np.minimum(upper, lower))
        while not np.array_equal(root, parent := root[root]):
            root = parent
    is_root = root == np.arange(count)
    number = np.cumsum(is_root) - 1
    return number[root], int(is_root.sum())


def _measure(runs: Runs, pairs: _Pairs, labels: NDArray[np.int64], count: int) -> list[Region]:
    if not count:
        return []
    height, width = runs.size
    by_region = np.argsort(labels, kind="stable")
    row, start, stop = runs.row[by_region], runs.start[by_region], runs.stop[by_region]
    bounds = np.searchsorted(labels[by_region], np.arange(count + 1))
    at = bounds[:-1]

    length = stop - start
    area = np.add.reduceat(length, at)
    # start + stop - 1 is twice the mean column of a run, so both moments stay integers.
    twice_x = np.add.reduceat(length * (start + stop - 1), at)
    sum_y = np.add.reduceat(length * row, at)
    left, right = np.minimum.reduceat(start, at), np.maximum.reduceat(stop, at)
    top, bottom = row[at], row[bounds[1:] - 1] + 1

    pair_region = labels[pairs.upper]
    shared = np.zeros(count, np.int64)
    np.add.at(shared, pair_region, np.maximum(pairs.shared, 0))
    runs_in = np.diff(bounds)
    # A run has two vertical sides; a pixel two horizontal ones, less those inside the region.
    perimeter = 2 * runs_in + 2 * area - 2 * shared
    holes = 1 - (runs_in - np.bincount(pair_region, minlength=count))
    border = (left == 0) | (top == 0) | (right == width) | (bottom == height)

    found = []
    for k in range(count):
        x, y, w, h, pixels = (int(v[k]) for v in (left, top, right - left, bottom - top, area))
        if pixels == w * h:
            rectangle = _upright_rect(x, y, w, h)
        else:
            part = slice(int(bounds[k]), int(bounds[k + 1]))
            rectangle = _rotated_rect(_corners(row[part], start[part], stop[part]))
        found.append(
            Region(
                area=pixels,
                area_ratio=pixels / (height * width),
                bbox=(x, y, w, h),
                rotated_rect=rectangle,
                aspect_ratio=rectangle.aspect_ratio,
                centroid=(int(twice_x[k]) / (2 * pixels), int(sum_y[k]) / pixels),
                perimeter=int(perimeter[k]),
                holes=int(holes[k]),
                touches_border=bool(border[k]),
            )
        )
    return found


def _enclose(runs: Runs) -> RotatedRect | None:
    if not len(runs.row):
        return None
    return _rotated_rect(_corners(runs.row, runs.start, runs.stop))


def _corners(
    row: NDArray[np.int64], start: NDArray[np.int64], stop: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Return the corners of the runs as ``(4 R, 2)`` int32 points ``(x, y)``."""
    corners = np.empty((4, len(row), 2), np.int32)
    corners[0::2, :, 0] = start
    corners[1::2, :, 0] = stop
    corners[:2, :, 1] = row
    corners[2:, :, 1] = row + 1
    return corners.reshape(-1, 2)


def _upright_rect(x: int, y: int, w: int, h: int) -> RotatedRect:
    angle = 0.0 if w >= h else 90.0
    return RotatedRect((x + w / 2, y + h / 2), (float(max(w, h)), float(min(w, h))), angle)


def _rotated_rect(corners: NDArray[np.int32]) -> RotatedRect:
    """Return the smallest rectangle round some corners; one of its sides lies on the hull.

    Extents along and across every side of the hull are integers (times the side's length), so
    nothing is lost before the last division. Ties go to the rectangle closest to a square, then to
    the smallest angle: mirrored or turned by 90°, a region keeps its aspect ratio.
    """
    # Float64 holds these integers exactly and multiplies them much faster.
    hull = cv2.convexHull(corners).reshape(-1, 2).astype(np.float64)  # (P, 2)
    side = np.roll(hull, -1, axis=0) - hull  # (P, 2)
    normal = side[:, ::-1] * (-1.0, 1.0)
    along, across = hull @ side.T, hull @ normal.T  # (P corners, P sides)
    extent_u, extent_v = np.ptp(along, axis=0), np.ptp(across, axis=0)
    squared = np.einsum("ij,ij->i", side, side)
    area = extent_u * extent_v / squared

    def preference(k: int) -> tuple[float, float]:
        ratio = max(extent_u[k], extent_v[k]) / min(extent_u[k], extent_v[k])
        return ratio, _angle(side[k], extent_u[k], extent_v[k])

    k = min(np.flatnonzero(area <= area.min() * (1 + 1e-12)).tolist(), key=preference)
    mid_u = (along[:, k].min() + along[:, k].max()) / 2 / squared[k]
    mid_v = (across[:, k].min() + across[:, k].max()) / 2 / squared[k]
    (ux, uy), (vx, vy) = side[k], normal[k]
    length = math.sqrt(squared[k])
    short, long = sorted((float(extent_u[k]) / length, float(extent_v[k]) / length))
    return RotatedRect(
        center=(float(mid_u * ux + mid_v * vx), float(mid_u * uy + mid_v * vy)),
        sides=(long, short),
        angle=_angle(side[k], extent_u[k], extent_v[k]),
    )


def _angle(side: NDArray[np.float64], extent_u: float, extent_v: float) -> float:
    """Return the direction of the longer extent, where ``side`` is that of the first."""
    angle = math.degrees(math.atan2(side[1], side[0]))
    if extent_u == extent_v:
        return angle % 90
    return (angle if extent_u > extent_v else angle + 90) % 180

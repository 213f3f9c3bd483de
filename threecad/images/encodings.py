"""Masks as COCO run-length strings and as polygons, and back.

Both keep every pixel. Polygons follow the outline of the pixels' unit squares: pixel ``(x, y)`` is
the square from ``(x, y)`` to ``(x + 1, y + 1)``, so one pixel is a polygon of area 1 and a region's
polygon has the region's area. (Tools that put vertices on pixel centres lose half a pixel on each
side, and one pixel or a line has no area at all.)
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import shapely
from pycocotools import mask as coco

from threecad.errors import MaskError, UsageError
from threecad.images.regions import as_mask, find_runs, label_runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["RLE", "mask_to_polygons", "mask_to_rle", "polygons_to_mask", "rle_to_mask"]


class RLE(TypedDict):
    """COCO's compressed run-length encoding, ready for JSON.

    Attributes:
        size: ``[height, width]``.
        counts: The compressed run lengths, column by column.
    """

    size: list[int]
    counts: str


def mask_to_rle(mask: NDArray[Any]) -> RLE:
    """Encode a mask as COCO's compressed run lengths.

    Args:
        mask: ``(H, W)`` bool, or any dtype where non-zero is defect.

    Raises:
        MaskError: If ``mask`` is not two-dimensional or has no pixels.
    """
    mask = as_mask(mask)
    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "size": [int(mask.shape[0]), int(mask.shape[1])],
        "counts": encoded["counts"].decode("ascii"),
    }


def rle_to_mask(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Decode COCO run lengths, compressed (a string or bytes) or not (a list), to ``(H, W)`` bool.

    Raises:
        MaskError: If the run lengths are damaged or do not fill the size they come with.
    """
    height, width = _size_of(rle)
    counts = rle.get("counts")
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", "replace")
    lengths = _uncompress(counts) if isinstance(counts, str) else _listed(counts)
    if min(lengths, default=0) < 0 or sum(lengths) != height * width:
        raise MaskError(
            f"Run lengths add up to {sum(lengths):,} pixels; expected {height * width:,} for "
            f"{height} × {width}. The encoding is damaged or belongs to another size."
        )
    value = np.arange(len(lengths)) % 2 == 1
    flat = np.repeat(value, lengths)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _size_of(rle: Mapping[str, Any]) -> tuple[int, int]:
    size = rle.get("size")
    if (
        isinstance(size, (list, tuple))
        and len(size) == 2
        and all(isinstance(side, int) and 0 < side < 2**20 for side in size)
        and size[0] * size[1] <= 2**28
    ):
        return size[0], size[1]
    raise MaskError(f"A run-length encoding has size {size!r}; expected [height, width].")


def _listed(counts: Any) -> list[int]:
    if isinstance(counts, (list, tuple)) and all(isinstance(count, int) for count in counts):
        return list(counts)
    raise MaskError(
        "A run-length encoding has no usable counts; expected a string or a list of integers."
    )


def _uncompress(text: str) -> list[int]:
    """Expand COCO's counts: 5 bits a character, differences to the run before last from the third.

    pycocotools' own decoder trusts its input and writes out of bounds on damaged strings.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise MaskError(
                f"A run-length encoding has the unexpected character {character!r}. Expected "
                "COCO's compressed counts."
            )
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        if len(lengths) > 2:
            value += lengths[-2]
        lengths.append(value)
        value = shift = 0
    if shift:
        raise MaskError("A run-length encoding ends in the middle of a number: it is cut off.")
    return lengths


def mask_to_polygons(mask: NDArray[Any], *, tolerance: float = 0.0) -> list[shapely.MultiPolygon]:
    """Return the outline of every 8-connected region, in the order of ``regions(mask)``.

    The parts of a region that touch only at a corner are the parts of its multi-polygon; what it
    encloses are holes. Coordinates are ``(x, y)`` on pixel corners, integers unless simplified.

    Args:
        mask: ``(H, W)`` bool, or any dtype where non-zero is defect.
        tolerance: 0 keeps every corner, and ``polygons_to_mask`` gives back the same mask. Above 0
            the outlines lose corners (Douglas–Peucker, topology kept): none of the lost ones is
            farther than this many pixels from the result.

    Raises:
        MaskError: If ``mask`` is not two-dimensional or has no pixels.
        UsageError: If ``tolerance`` is negative.
    """
    if not tolerance >= 0:
        raise UsageError(f"tolerance is {tolerance}; expected 0 (exact) or more, in pixels.")
    runs = find_runs(mask)
    labels, count = label_runs(runs)
    boxes = shapely.box(runs.start, runs.row, runs.stop, runs.row + 1)
    outlines = []
    for region in range(count):
        # Normalised, every ring begins at a corner that all versions of GEOS keep. Vertices in the
        # middle of a straight side come from the runs; tolerance 0 drops just them.
        outline = shapely.normalize(shapely.union_all(boxes[labels == region]))
        parts = shapely.get_parts(_simplify(outline, tolerance))
        outlines.append(shapely.MultiPolygon(list(shapely.normalize(parts))))
    return outlines


def _simplify(outline: Any, tolerance: float) -> Any:
    """Drop corners of an outline; those lost stay within ``tolerance`` of the result.

    GEOS may also drop the first corner of a ring, and then exceeds the tolerance it was given.
    """
    allowed = tolerance
    while allowed > 0.05:
        simple = shapely.simplify(outline, allowed, preserve_topology=True)
        if shapely.hausdorff_distance(simple.boundary, outline.boundary) <= tolerance:
            return simple
        allowed /= 2
    return shapely.simplify(outline, 0, preserve_topology=True)


def polygons_to_mask(
    polygons: Iterable[shapely.Polygon | shapely.MultiPolygon], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return the pixels whose centre lies inside any of the polygons.

    The centre of pixel ``(x, y)`` is ``(x + 0.5, y + 0.5)``. A centre exactly on an outline belongs
    to the polygon on its right. Holes stay open; what lies outside the image is cut off.

    Args:
        polygons: In pixel coordinates ``(x, y)``, as ``mask_to_polygons`` returns them.
        size: ``(height, width)`` of the mask.

    Returns:
        ``(height, width)`` bool.

    Raises:
        UsageError: If ``size`` is not positive.
        MaskError: If a geometry is no polygon or has coordinates that are not finite.
    """
    height, width = size
    if height < 1 or width < 1:
        raise UsageError(f"Size {size} is impossible. Expected (height, width), both at least 1.")
    mask = np.zeros((height, width), np.bool_)
    for polygon in polygons:
        if not isinstance(polygon, (shapely.Polygon, shapely.MultiPolygon)):
            raise MaskError(f"A {type(polygon).__name__} was given; expected polygons.")
        for part in shapely.get_parts(polygon):
            mask |= _fill(part, height, width)
    return mask


def _fill(polygon: shapely.Polygon, height: int, width: int) -> NDArray[np.bool_]:
    """Fill one polygon by the even-odd rule: a pixel is inside after an odd number of crossings."""
    rings = [np.asarray(ring.coords)[:, :2] for ring in (polygon.exterior, *polygon.interiors)]
    crossings = np.zeros((height, width + 1), np.int32)
    for ring in rings:
        if not np.isfinite(ring).all():
            raise MaskError("A polygon has coordinates that are not finite numbers.")
        for (x0, y0), (x1, y1) in itertools.pairwise(ring):
            # The pixel rows whose centre line this side crosses, its upper end included.
            low, high = np.ceil(np.clip(sorted((y0, y1)), 0, height) - 0.5).astype(int)
            if low >= high:
                continue
            rows = np.arange(low, high)
            x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            # The first pixel whose centre is not left of the crossing.
            columns = np.ceil(np.clip(x, 0, width) - 0.5).astype(int)
            np.add.at(crossings, (rows, columns), 1)
    inside: NDArray[np.bool_] = np.cumsum(crossings, axis=1)[:, :width] % 2 == 1
    return inside

"""Masks that an annotation file describes by run lengths or outlines."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely

from threecad.errors import MaskError
from threecad.images.encodings import mask_to_polygons, polygons_to_mask, rle_to_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from threecad.images.masks import MaskRule

__all__ = ["Drawing", "Ring", "box_ring", "check_ring", "ellipse_ring", "outer_rings", "turned"]

Ring = tuple[float, ...]
"""One closed outline: x and y of its corners in turn, in pixels."""


@dataclass(frozen=True)
class Drawing:
    """The union of shapes on an image of ``height`` × ``width`` pixels.

    Attributes:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        run_lengths: COCO's compressed (text) or plain (numbers) run lengths, column by column.
        rings: Closed outlines, each filled.
    """

    height: int
    width: int
    run_lengths: tuple[str | tuple[int, ...], ...] = ()
    rings: tuple[Ring, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.height, self.width

    def decode(self, rule: MaskRule | None) -> tuple[NDArray[np.bool_], str, tuple[str, ...]]:
        """Return the mask, ``(H, W) bool``, the rule used and the codes of what is odd."""
        del rule  # there are no grey values to judge
        mask = np.zeros((self.height, self.width), np.bool_)
        for counts in self.run_lengths:
            listed = counts if isinstance(counts, str) else list(counts)
            mask |= rle_to_mask({"size": [self.height, self.width], "counts": listed})
        if self.rings:
            polygons = [shapely.Polygon(_corners(ring)) for ring in self.rings]
            mask |= polygons_to_mask(polygons, (self.height, self.width))
        return mask, "drawn", () if mask.any() else ("mask-empty",)

    def stamp(self) -> str:
        """Return a digest of the shapes."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def __str__(self) -> str:
        """Return how messages name it."""
        return f"drawn with {len(self.run_lengths) + len(self.rings)} shapes"


def box_ring(left: float, top: float, right: float, bottom: float) -> Ring:
    """Return the outline of a box."""
    return left, top, right, top, right, bottom, left, bottom


def ellipse_ring(x: float, y: float, across: float, down: float) -> Ring:
    """Return the outline of an ellipse from its centre and its half axes."""
    corners = shapely.Point(0, 0).buffer(1, quad_segs=64).exterior.coords[:-1]
    return tuple(v for cx, cy in corners for v in (x + across * cx, y + down * cy))


def turned(ring: Ring, degrees: float, centre: tuple[float, float]) -> Ring:
    """Return an outline turned clockwise, as seen, round a point."""
    if not degrees:
        return ring
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = centre
    pairs = zip(ring[::2], ring[1::2], strict=True)
    moved = ((px - x, py - y) for px, py in pairs)
    return tuple(v for dx, dy in moved for v in (x + cos * dx - sin * dy, y + sin * dx + cos * dy))


def check_ring(ring: Ring, size: tuple[int, int], where: str) -> Ring:
    """Return an outline that can be one on an image of ``size`` (height, width).

    Raises:
        MaskError: If it has too few corners or lies far outside; ``where`` says who draws it.
    """
    if len(ring) < 6 or len(ring) % 2:
        raise MaskError(
            f"{where}: an outline has {len(ring)} numbers; expected x and y of three or more "
            "corners."
        )
    height, width = size
    if max(ring) <= 1 and min(size) > 4:
        raise MaskError(f"{where}: an outline lies between 0 and 1; expected pixels.")
    for values, side in ((ring[::2], width), (ring[1::2], height)):
        if min(values) >= side or max(values) <= 0 or max(values) > 2 * side or min(values) < -side:
            raise MaskError(
                f"{where}: an outline reaches from {min(values):g} to {max(values):g}, outside its "
                f"image of {width} × {height} pixels."
            )
    return ring


def outer_rings(mask: NDArray[np.bool_]) -> list[tuple[list[Ring], int]]:
    """Return, for every region, its outer outlines and how many holes they fill.

    Corners lie on pixel corners, so the outlines enclose exactly the region and its holes.
    """
    found = []
    for region in mask_to_polygons(mask):
        rings = [
            tuple(float(v) for corner in part.exterior.coords[:-1] for v in corner)
            for part in region.geoms
        ]
        found.append((rings, sum(len(part.interiors) for part in region.geoms)))
    return found


def _corners(ring: Sequence[float]) -> list[tuple[float, float]]:
    if len(ring) < 6 or len(ring) % 2:
        raise MaskError(
            f"An outline has {len(ring)} numbers; expected x and y of three or more corners."
        )
    return list(zip(ring[::2], ring[1::2], strict=True))

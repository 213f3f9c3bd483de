"""What the page shows of one image: a thumbnail, the outline of its mask, its anomaly map."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from threecad.errors import EvaluationError, ImageError, MaskError
from threecad.evaluation.predictions import read_map
from threecad.images.encodings import mask_to_polygons
from threecad.images.files import read_image
from threecad.images.masks import decode_mask
from threecad.images.regions import SIZES, regions, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import shapely
    from numpy.typing import NDArray

    from threecad.images.masks import MaskRule

__all__ = ["HeatMaker", "OutlineMaker", "ThumbnailMaker", "reduce_map", "svg_path"]

HEAT_SIDE = 96
"""Longer side of an anomaly map on the page, in cells."""

_HALF = 0.0005
"""How far an outline may stray from the mask, as part of the image's longer side."""


@dataclass(frozen=True)
class ThumbnailMaker:
    """Makes the record of an image: its size and a WebP thumbnail.

    Args:
        side: Longer side of a thumbnail, pixels.
    """

    side: int

    def __call__(self, path: Path) -> dict[str, Any]:
        """Return ``width``, ``height``, ``picture`` (base64) and ``problem``."""
        try:
            pixels = read_image(path)
        except ImageError as error:
            return {"width": 0, "height": 0, "picture": "", "problem": _told(error, path)}
        image = Image.fromarray(pixels)
        image.thumbnail((self.side, self.side), Image.Resampling.BICUBIC, reducing_gap=3)
        height, width = pixels.shape[:2]
        return {"width": width, "height": height, "picture": _webp(image, 75), "problem": ""}


@dataclass(frozen=True)
class OutlineMaker:
    """Makes the record of a mask: its regions and their outline.

    Args:
        rule: Decode the mask by this rule (see ``threecad.decode_mask``).
    """

    rule: MaskRule | None = None

    def __call__(self, path: Path) -> dict[str, Any]:
        """Return ``width``, ``height``, ``regions``, ``outline`` (an SVG path) and ``problem``.

        A region is ``[area, x, y, width, height, place of its size in SIZES]``, in pixels.
        """
        try:
            mask = decode_mask(path, rule=self.rule).mask
        except MaskError as error:
            problem = _told(error, path)
            return {"width": 0, "height": 0, "regions": [], "outline": "", "problem": problem}
        height, width = mask.shape
        found = [
            [region.area, *region.bbox, SIZES.index(size_of(region.area, mask.size))]
            for region in regions(mask)
        ]
        outline = svg_path(mask_to_polygons(mask, tolerance=_HALF * max(mask.shape)))
        return {
            "width": width,
            "height": height,
            "regions": found,
            "outline": outline,
            "problem": "" if found else "The mask has no defect pixel.",
        }


@dataclass(frozen=True)
class HeatMaker:
    """Makes the picture of an anomaly map, on a scale that all maps share.

    Args:
        low: What is black.
        high: What is at its brightest.
        step: The predictions folder's ``scale``, for maps in PNG files.
        offset: The predictions folder's ``offset``, for maps in PNG files.
    """

    low: float
    high: float
    step: float
    offset: float

    def __call__(self, path: Path | None) -> dict[str, Any]:
        """Return ``picture`` (base64 WebP, grey levels), ``highest`` value and ``problem``."""
        if path is None:
            return {"picture": "", "highest": None, "problem": ""}
        try:
            stored = read_map(path, scale=self.step, offset=self.offset)
        except EvaluationError as error:
            return {"picture": "", "highest": None, "problem": _told(error, path)}
        values = stored.astype(np.float32)
        if not np.isfinite(values).all():
            problem = f"The anomaly map {path.name} has values that are not finite."
            return {"picture": "", "highest": None, "problem": problem}
        cells = (reduce_map(values, HEAT_SIDE) - self.low) / (self.high - self.low)
        levels = np.rint(np.clip(cells, 0, 1) * 255).astype(np.uint8)
        picture = _webp(Image.fromarray(levels), 70)
        return {"picture": picture, "highest": float(values.max()), "problem": ""}


def reduce_map(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return the highest value in each cell of a grid over a map; peaks survive.

    Args:
        values: ``(H, W)`` float32.
        side: Cells along the longer side; a smaller map is returned as it is.
    """
    height, width = values.shape
    scale = min(1.0, side / max(height, width))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    top = np.arange(rows) * height // rows
    left = np.arange(columns) * width // columns
    reduced: NDArray[np.float32] = np.maximum.reduceat(
        np.maximum.reduceat(values, top, axis=0), left, axis=1
    )
    return reduced


def svg_path(outlines: Iterable[shapely.MultiPolygon]) -> str:
    """Return outlines as the ``d`` of one SVG path, in whole or half pixels."""
    return "".join(
        _ring(ring.coords)
        for outline in outlines
        for part in outline.geoms
        for ring in (part.exterior, *part.interiors)
    )


def _ring(points: Iterable[tuple[float, ...]]) -> str:
    steps = [(round(x * 2), round(y * 2)) for x, y, *_ in points]
    (x, y), text = steps[0], []
    for next_x, next_y in steps[1:-1]:  # the last point is the first again
        text.append(f"{_halves(next_x - x)} {_halves(next_y - y)}")
        x, y = next_x, next_y
    return f"M{_halves(steps[0][0])} {_halves(steps[0][1])}l{' '.join(text)}z"


def _halves(twice: int) -> str:
    return f"{twice // 2}" if twice % 2 == 0 else f"{twice / 2}"


def _webp(image: Image.Image, quality: int) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=4)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _told(error: Exception, path: Path) -> str:
    """Return an error's message without the path, which the page shows anyway."""
    return str(error).replace(f"{path}: ", "").replace(str(path), path.name)

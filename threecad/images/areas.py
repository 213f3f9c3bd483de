"""Areas that people draw on images: what to ignore, where to look.

One file holds the area of all images, a folder that of each category or image:

    area.png | area.json           for every image
    DIR/<Category>.png | .json     for the images of a category
    DIR/<id>.png | .json           for one image, before that of its category

A PNG (or any image that ``threecad.images.files`` reads) marks the area by what is not black.
A ``.json`` is LabelMe's, of polygons, rectangles and circles whatever their labels, or COCO's of a
single image (polygons, run lengths, or boxes where an annotation has nothing else). An area that
was drawn on an image of another size is scaled to it by the nearest pixel; one of another shape is
refused, as it would lie somewhere else.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from threecad.errors import DataError, MaskError
from threecad.images.encodings import polygons_to_mask, rle_to_mask
from threecad.images.hashing import hash_file
from threecad.images.masks import read_mask
from threecad.system.json_files import read_object

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Size = tuple[int, int]
    Mask = NDArray[np.bool_]

__all__ = ["Areas", "fit_area", "read_area", "same_shape"]

SAME_ASPECT = 0.02
"""Aspects that differ by less, as rounded sides of small images do, count as equal."""

MOST_PIXELS = 2**28

CIRCLE = 128
"""Corners of the polygon that stands for a circle."""


class Areas:
    """The areas in a file or folder, by sample id.

    Args:
        source: The file or folder.

    Raises:
        DataError: If there is no such file or folder, or the folder holds no area.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        self.source = Path(source)
        if self.source.is_file():
            self.files = {"": self.source}
        elif self.source.is_dir():
            self.files = _list(self.source)
        else:
            raise DataError(f"There is no file or folder {self.source} to read areas from.")
        self._read = lru_cache(maxsize=8)(read_area)

    def check(self, ids: Iterable[str]) -> None:
        """Refuse areas that belong to none of these samples: a misspelt name hides nothing.

        Raises:
            DataError: Names the first of them.
        """
        known = set(self._categories(ids))
        unused = sorted(name for name in self.files if name and name not in known)
        if unused:
            raise DataError(
                f"{len(unused)} of the areas in {self.source} belong to no image, first "
                f"{self.files[unused[0]]}. Name them after a category, or after the id of an "
                "image, `Category/test/type/name`."
            )

    @staticmethod
    def _categories(ids: Iterable[str]) -> Iterable[str]:
        for sample_id in ids:
            yield sample_id
            yield sample_id.partition("/")[0]

    def of(self, sample_id: str, size: Size) -> Mask | None:
        """Return the area of an image, ``size`` bool; ``None`` if it has none.

        Args:
            sample_id: Its id.
            size: Its height and width.

        Raises:
            DataError: If the file cannot be used, or was drawn on an image of another shape.
        """
        for name in (sample_id, sample_id.partition("/")[0], ""):
            if name in self.files:
                path = self.files[name]
                return fit_area(self._read(path), size, f"{path}, for {sample_id},")
        return None

    @property
    def digest(self) -> str:
        """SHA-256 over the names and contents of the files, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for name, path in sorted(self.files.items()):
            digest.update(f"{name}\t{hash_file(path)}\n".encode())
        return digest.hexdigest()

    def __getstate__(self) -> Path:
        return self.source

    def __setstate__(self, source: Path) -> None:
        self.__init__(source)  # type: ignore[misc]


def read_area(path: str | os.PathLike[str]) -> Mask:
    """Return the area in an image or a ``.json``, ``(H, W)`` bool, True inside.

    Raises:
        DataError: If it cannot be read, or nothing is drawn in it.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".json":
            area = _read_drawing(read_object(path))
        else:
            area = read_mask(path, rule="binary")
    except MaskError as error:
        raise DataError(str(error)) from None
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise DataError(
            f"{path} holds no area: {reason}. Expected an image that is black outside the area, or "
            "polygons of LabelMe or COCO for one image."
        ) from None
    if not area.any():
        raise DataError(f"{path} marks no pixel. Draw the area in white on black.")
    return area


def fit_area(area: Mask, size: Size, what: str = "The area") -> Mask:
    """Return an area at the size of an image, by the nearest pixel.

    Args:
        area: ``(H, W)`` bool.
        size: ``(height, width)``.
        what: Named in errors.

    Raises:
        DataError: If the image has another shape than what the area was drawn on.
    """
    height, width = area.shape
    if (height, width) == size:
        return area
    if not same_shape((height, width), size):
        raise DataError(
            f"{what} was drawn on {width} × {height} pixels; the image has {size[1]} × {size[0]} "
            "and so another shape. Draw one for it: name its file after the image."
        )
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for old, new in zip((height, width), size, strict=True)
    )
    return area[np.ix_(rows, columns)]


def same_shape(first: Size, second: Size) -> bool:
    """Whether two ``(height, width)`` have the same aspect, up to the rounding of their sides."""
    ratio = (first[0] * second[1]) / (first[1] * second[0])
    rounding = 1 / min(*first, *second)
    return abs(math.log(ratio)) <= SAME_ASPECT + rounding


def _list(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise DataError(f"{files[name]} and {path} are areas of the same images. Remove one.")
        files[name] = path
    if not files:
        raise DataError(f"{folder} holds no area: expected <Category>.png or <id>.png in it.")
    return files


def _read_drawing(content: dict[str, Any]) -> Mask:
    if "shapes" in content:
        size = _size(content["imageHeight"], content["imageWidth"])
        return polygons_to_mask([_labelme_polygon(shape) for shape in content["shapes"]], size)
    images, annotations = content["images"], content["annotations"]
    if len(images) != 1:
        raise ValueError(f"it is of {len(images)} images; expected one, and a file for each image")
    size = _size(images[0]["height"], images[0]["width"])
    area = np.zeros(size, np.bool_)
    for annotation in annotations:
        area |= _coco_mask(annotation, size)
    return area


def _size(height: Any, width: Any) -> Size:
    if not all(isinstance(side, int) and side > 0 for side in (height, width)):
        raise ValueError(f"an image of {height} by {width} pixels is impossible")
    if height * width > MOST_PIXELS:
        raise ValueError(f"{height} by {width} pixels are too many")
    return height, width


def _labelme_polygon(shape: dict[str, Any]) -> shapely.Polygon:
    points = _points(shape["points"])
    kind = shape.get("shape_type") or "polygon"
    if kind == "rectangle" and len(points) == 2:
        return shapely.box(*points.min(0), *points.max(0))
    if kind == "circle" and len(points) == 2:
        reach = float(np.hypot(*(points[1] - points[0])))
        return shapely.Point(points[0]).buffer(reach, quad_segs=CIRCLE // 4)
    if kind == "polygon" and len(points) >= 3:
        return shapely.Polygon(points)
    raise ValueError(f"a shape {str(kind)[:40]!r} of {len(points)} points encloses no area")


def _coco_mask(annotation: dict[str, Any], size: Size) -> Mask:
    drawn = annotation.get("segmentation")
    if isinstance(drawn, dict):
        mask = rle_to_mask(drawn)
        if mask.shape != size:
            raise ValueError(f"run lengths of {mask.shape} in an image of {size}")
        return mask
    if drawn:
        rings = [_points(np.reshape(ring, (-1, 2))) for ring in drawn]
        return polygons_to_mask([shapely.Polygon(ring) for ring in rings], size)
    x, y, width, height = (float(value) for value in annotation["bbox"])
    return polygons_to_mask([shapely.box(x, y, x + width, y + height)], size)


def _points(points: Any) -> NDArray[np.float64]:
    array = np.array(points, np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all():
        raise ValueError("an outline is no list of points (x, y)")
    return array

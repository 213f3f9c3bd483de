"""``labelme``: one JSON file beside every image, masks as lossless mask shapes."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from threecad.errors import ConversionError, ImageError, MaskError
from threecad.formats.contents import File, read_image_size
from threecad.formats.reading.options import foreign_id, inside, is_sample_id, item_of_id, load_json
from threecad.formats.writing import (
    Tally,
    encode_mask,
    place_image,
    read_item_mask,
    work_through,
    write_new,
)
from threecad.images.encodings import polygons_to_mask
from threecad.images.files import open_image
from threecad.images.regions import label_regions, regions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.writing import WriteOptions
    from threecad.images.masks import MaskRule

__all__ = ["looks_like", "read", "write"]

_VERSION = "5.5.0"
"""Version of labelme whose files ours are like; it only reads the number."""


def looks_like(source: Path) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    for path in _files(source):
        content = load_json(path) if path.stat().st_size < 1 << 26 else None
        if isinstance(content, dict) and {"shapes", "imagePath"} <= set(content):
            return f"{path.relative_to(source).as_posix()} has shapes and imagePath"
        return None
    return None


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write every image at its id, with its JSON file."""
    tally = Tally()
    place = partial(_place, folder=folder, options=options)
    for part in work_through(place, items, options, "writing labelme"):
        tally.add(part)
    return tally


def _place(item: Item, folder: Path, options: WriteOptions) -> Tally:
    tally = Tally()
    height, width = read_image_size(item.image)
    image = place_image(item, folder, item.id + item.image.suffix, options, tally)
    name = image.rsplit("/", 1)[1]
    if options.placement == "reference":
        # imagePath is seen from the JSON file, which is as deep as its id.
        name = "../" * item.id.count("/") + image
    document = {
        "version": _VERSION,
        "flags": {"good": not item.label, item.split: True},
        "shapes": list(_shapes(item, options, tally)) if item.label else [],
        "imagePath": name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    data = json.dumps(document, ensure_ascii=False, indent=2)
    write_new(folder / f"{item.id}.json", data.encode())
    return tally


def _shapes(item: Item, options: WriteOptions, tally: Tally) -> Iterator[dict[str, Any]]:
    mask = read_item_mask(item, options.mask_rule, tally)
    labels = label_regions(mask)
    for number, region in enumerate(regions(mask), start=1):
        x, y, width, height = region.bbox
        part = labels[y : y + height, x : x + width] == number
        yield {
            "label": item.defect_type,
            "points": [[x, y], [x + width - 1, y + height - 1]],
            "group_id": None,
            "description": "",
            "shape_type": "mask",
            "flags": {},
            "mask": base64.b64encode(encode_mask(part)).decode("ascii"),
        }


def read(source: Path, options: ReadOptions) -> list[Item]:
    """Return the image of every JSON file, the union of its shapes as its mask.

    In files from elsewhere an image without shapes is good, and labels are defect types.

    Raises:
        ConversionError: If there is no file, or one is not labelme's.
    """
    files = _files(source)
    if not files:
        raise ConversionError(f"{source} holds no JSON file of labelme.")
    items = [_item(path, source, options) for path in files]
    return [i for i in items if not options.categories or i.category in options.categories]


def _files(source: Path) -> list[Path]:
    return sorted(
        path
        for path in source.rglob("*.json")
        if not any(part.startswith(".") for part in path.relative_to(source).parts)
    )


def _item(path: Path, source: Path, options: ReadOptions) -> Item:
    document = load_json(path)
    try:
        size = document["imageHeight"], document["imageWidth"]
        shapes = tuple(_shape(shape) for shape in document["shapes"])
        classes = [shape["label"] for shape in document["shapes"]]
        flags = document.get("flags") or {}
        image = inside(source, _relative(path, source, document["imagePath"]), str(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise ConversionError(f"{path} is not a file of labelme: {error!r}.") from error
    split = next((name for name in ("train", "val", "test") if flags.get(name)), "")
    sample_id = path.relative_to(source).with_suffix("").as_posix()
    if not is_sample_id(sample_id):
        sample_id = foreign_id(classes, split, path.stem, source, options)
    return item_of_id(sample_id, image=File(image), mask=_Shapes(size, shapes), split=split)


def _relative(path: Path, source: Path, name: str) -> str:
    return f"{path.parent.relative_to(source).as_posix()}/{name}"


@dataclass(frozen=True)
class _Shape:
    kind: str
    points: tuple[tuple[float, float], ...]
    mask: str | None


def _shape(shape: dict[str, Any]) -> _Shape:
    points = tuple((float(x), float(y)) for x, y in shape["points"])
    return _Shape(shape["shape_type"], points, shape.get("mask"))


@dataclass(frozen=True)
class _Shapes:
    """The union of labelme's shapes on an image of ``size`` (height, width)."""

    size: tuple[int, int]
    shapes: tuple[_Shape, ...]

    def decode(self, rule: MaskRule | None) -> tuple[NDArray[np.bool_], str, tuple[str, ...]]:
        """Return the mask, ``(H, W) bool``, the rule used and the codes of what is odd."""
        del rule  # there are no grey values to judge
        mask = np.zeros(self.size, np.bool_)
        for shape in self.shapes:
            _draw(shape, mask)
        return mask, "drawn", () if mask.any() else ("mask-empty",)

    def stamp(self) -> str:
        """Return the shapes as text."""
        return repr(self)

    def __str__(self) -> str:
        """Return how messages name it."""
        return f"drawn with {len(self.shapes)} shapes"


def _draw(shape: _Shape, mask: NDArray[np.bool_]) -> None:
    """Add a shape to ``mask``, ``(H, W) bool``."""
    size = mask.shape[0], mask.shape[1]
    if shape.kind == "mask" and shape.mask is not None:
        part = _decode_part(shape.mask)
        x, y = (round(v) for v in shape.points[0])
        window = mask[y : y + part.shape[0], x : x + part.shape[1]]
        if x < 0 or y < 0 or window.shape != part.shape:
            raise MaskError(f"a mask shape of labelme at {x}, {y} reaches out of the image.")
        window |= part
    elif shape.kind == "polygon" and len(shape.points) >= 3:
        mask |= polygons_to_mask([shapely.Polygon(shape.points)], size)
    elif shape.kind == "rectangle" and len(shape.points) == 2:
        (x0, y0), (x1, y1) = shape.points
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        mask |= polygons_to_mask([shapely.Polygon(corners)], size)
    else:
        raise MaskError(
            f"a {shape.kind} of labelme with {len(shape.points)} points encloses no area that we "
            "know. Expected mask, polygon or rectangle."
        )


def _decode_part(text: str) -> NDArray[np.bool_]:
    try:
        content = base64.b64decode(text, validate=True)
        image = open_image("a mask shape of labelme", content, one_frame=True)
    except (ImageError, ValueError) as error:
        reason = error.reason if isinstance(error, ImageError) else error
        raise MaskError(f"a mask shape of labelme cannot be decoded: {reason}.") from error
    part: NDArray[np.bool_] = np.asarray(image) != 0
    if part.ndim != 2:
        raise MaskError(f"a mask shape of labelme has shape {part.shape}; expected one channel.")
    return part

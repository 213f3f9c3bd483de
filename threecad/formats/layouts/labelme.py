"""``labelme``: one JSON file beside every image, masks as lossless mask shapes."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from threecad.errors import ConversionError, ImageError, MaskError
from threecad.formats.contents import File
from threecad.formats.reading.documents import Record, numbers
from threecad.formats.reading.options import foreign_id, is_sample_id, item_of_id, type_of_shape
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
    from threecad.formats.reading.source import Source
    from threecad.formats.writing import WriteOptions
    from threecad.images.masks import MaskRule

__all__ = ["looks_like", "read", "write"]

_VERSION = "5.5.0"
"""Version of labelme whose files ours are like; it only reads the number."""


_LOOKED_AT = 20
"""JSON files that are looked into to see whether they are labelme's."""


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    for path in source.named(".json")[:_LOOKED_AT]:
        if _is_labelme(source.peek_json(path)):
            return f"{source.relative(path)} has shapes and imagePath"
    return None


def _is_labelme(content: Any) -> bool:
    return isinstance(content, dict) and {"shapes", "imagePath"} <= set(content)


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write every image at its id, with its JSON file."""
    tally = Tally()
    place = partial(_place, folder=folder, options=options)
    for part in work_through(place, items, options, "writing labelme"):
        tally.add(part)
    return tally


def _place(item: Item, folder: Path, options: WriteOptions) -> Tally:
    tally = Tally()
    height, width = item.image.read_size()
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


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the image of every JSON file, the union of its shapes as its mask.

    In files from elsewhere an image without shapes is good, and labels are defect types. What is
    labelled ``__ignore__`` is no defect.

    Raises:
        ConversionError: If there is no file, or one is not labelme's.
    """
    items = []
    for path in source.named(".json"):
        with source.collecting():
            content = source.read_json(path)
            if _is_labelme(content):
                items.append(
                    _item(path, Record.of(content, source.relative(path)), source, options)
                )
            else:
                source.leave_out(path, "no JSON file of labelme")
    if not items and not source.doubts:
        raise ConversionError(f"{source.root} holds no JSON file of labelme.")
    return items


def _item(path: Path, document: Record, source: Source, options: ReadOptions) -> Item:
    image = _image(path, document, source)
    kinds, shapes = [], []
    for shape in document.records("shapes"):
        with source.collecting():
            kind = type_of_shape(shape.get("label"), source, image, shape.where)
            if kind is not None:
                kinds.append(kind)
                shapes.append(_shape(shape))
    flags = document.record("flags")
    split = next((name for name in ("train", "val", "test") if flags.get(name) is True), "")
    sample_id = source.relative(path).removesuffix(path.suffix)
    if not is_sample_id(sample_id):
        split = split or source.split_of(path) or source.split_of(image)
        sample_id = foreign_id(kinds, split, image.stem, source.root, options)
    mask = None
    if shapes:
        height, width = document.side("imageHeight"), document.side("imageWidth")
        known = height is not None and width is not None
        size = (height, width) if known else source.header(image).upright_size
        mask = _Shapes(size, tuple(shapes))  # type: ignore[arg-type]
    return item_of_id(sample_id, image=File(image), mask=mask, split=split)


def _image(path: Path, document: Record, source: Source) -> Path:
    """Return the image that a file names or, where it was renamed with the file, that beside it."""
    try:
        return source.find(document.text("imagePath"), path, document.where)
    except ConversionError:
        beside = [image for image in source.images if image.with_suffix(path.suffix) == path]
        if len(beside) != 1:
            raise
        return beside[0]


@dataclass(frozen=True)
class _Shape:
    kind: str
    points: tuple[tuple[float, float], ...]
    mask: str | None


def _shape(shape: Record) -> _Shape:
    listed = shape.get("points")
    where = f"{shape.where}, points"
    if not isinstance(listed, list) or not listed:
        raise shape.unexpected("points", "a list of points")
    pairs = [numbers(point, where) for point in listed]
    if any(len(pair) != 2 for pair in pairs):
        raise shape.unexpected("points", "pairs of x and y")
    kind, mask = shape.get("shape_type") or "polygon", shape.get("mask")
    made = _Shape(str(kind), tuple((x, y) for x, y in pairs), str(mask) if mask else None)
    if made.kind != "mask" or made.mask is None:
        try:
            _polygon(made)
        except MaskError as error:
            raise MaskError(f"{shape.where}: {error}") from None
    return made


@dataclass(frozen=True)
class _Shapes:
    """The union of labelme's shapes on an image of ``shape`` (height, width)."""

    shape: tuple[int, int]
    shapes: tuple[_Shape, ...]

    def decode(self, rule: MaskRule | None) -> tuple[NDArray[np.bool_], str, tuple[str, ...]]:
        """Return the mask, ``(H, W) bool``, the rule used and the codes of what is odd."""
        del rule  # there are no grey values to judge
        mask = np.zeros(self.shape, np.bool_)
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
    else:
        mask |= polygons_to_mask([_polygon(shape)], size)


def _polygon(shape: _Shape) -> shapely.Polygon:
    points = shape.points
    if shape.kind in ("polygon", "oriented_rectangle", "rectangle") and len(points) >= 3:
        return shapely.Polygon(points)
    if shape.kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return shapely.Polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    if shape.kind == "circle" and len(points) == 2:
        centre, rim = points
        return shapely.Point(centre).buffer(math.dist(centre, rim), quad_segs=64)
    raise MaskError(
        f"a {shape.kind} of labelme with {len(points)} points encloses no area that we "
        "know. Expected mask, polygon, rectangle or circle."
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

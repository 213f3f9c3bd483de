"""``labelme``: one JSON file beside every image, masks as lossless mask shapes."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from threecad.errors import ConversionError, ImageError, MaskError
from threecad.formats.annotations.embedded import EmbeddedImage
from threecad.formats.contents import File
from threecad.formats.orientation import without_orientation
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
from threecad.images.files import Header, open_image, read_header
from threecad.images.regions import label_regions, regions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from threecad.formats.contents import Content
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
    labelled ``__ignore__`` is no defect. Where there is no file of an image, the copy that its JSON
    file holds is taken.

    Raises:
        ConversionError: If there is no file, or one is not labelme's.
    """
    items: list[Item] = []
    for path in source.named(".json"):
        with source.collecting():
            content = source.read_json(path)
            if _is_labelme(content):
                document = Record.of(content, source.relative(path))
                items += _items(path, document, source, options)
            else:
                source.leave_out(path, "no JSON file of labelme")
    _check_embedded(items, source)
    if not items and not source.doubts:
        raise ConversionError(f"{source.root} holds no JSON file of labelme.")
    return items


def _items(path: Path, document: Record, source: Source, options: ReadOptions) -> Iterator[Item]:
    """Yield the item of a file, unless it is left out."""
    image = _image(path, document, source)
    # What is embedded has no file but the one that describes it.
    named = image.path if isinstance(image, File) else path
    kinds, shapes = [], []
    for shape in document.records("shapes"):
        with source.collecting():
            kind = type_of_shape(shape.get("label"), source, named, shape.where)
            if kind is not None:
                kinds.append(kind)
                shapes.append(_shape(shape))
    flags = document.record("flags")
    split = next((name for name in ("train", "val", "test") if flags.get(name) is True), "")
    sample_id = source.relative(path).removesuffix(path.suffix)
    if not is_sample_id(sample_id):
        split = split or source.split_of(path) or source.split_of(named)
        sample_id = foreign_id(kinds, split, named.stem, source.root, options)
    mask = _Shapes(_size(document, image, source), tuple(shapes)) if shapes else None
    item = item_of_id(sample_id, image=image, mask=mask, split=split)
    if isinstance(image, File):
        yield item
    elif path in source.skipped:
        source.leave_out(path, source.skipped[path])
    else:
        yield _with_embedded(item, document)


def _size(document: Record, image: File | EmbeddedImage, source: Source) -> tuple[int, int]:
    """Return the ``(height, width)`` that coordinates are meant for."""
    height, width = document.side("imageHeight"), document.side("imageWidth")
    if height is not None and width is not None:
        return height, width
    return (source.header(image.path) if isinstance(image, File) else _header(image)).upright_size


def _image(path: Path, document: Record, source: Source) -> File | EmbeddedImage:
    """Return the image that a file names, that beside it, or the one that it holds.

    That beside it counts where both were renamed together: what it was called says so. An image
    whose name has not changed, or is of another format now, is lost.
    """
    try:
        return File(source.find(document.text("imagePath"), path, document.where))
    except ConversionError:
        name = PurePosixPath(str(document.get("imagePath")).replace("\\", "/"))
        beside = [
            image
            for image in source.images
            if image.with_suffix(path.suffix) == path
            and image.suffix.casefold() == name.suffix.casefold()
            and image.stem.casefold() != name.stem.casefold()
        ]
        if len(beside) == 1:
            return File(beside[0])
        embedded = document.get("imageData")
        if not embedded:
            raise
        if not isinstance(embedded, str):
            raise document.unexpected("imageData", "an image as base64") from None
        return EmbeddedImage.of(path, "imageData", embedded)


def _header(image: Content) -> Header:
    return read_header(str(image), image.read_bytes())


def _with_embedded(item: Item, document: Record) -> Item:
    """Return an item whose image is embedded, upright and of the size that its shapes are for."""
    header = _header(item.image)
    if item.mask is not None and item.mask.shape not in (
        header.upright_size,
        (header.height, header.width),
    ):
        height, width = item.mask.shape
        raise ConversionError(
            f"{document.where}: imageData is {header.width} × {header.height} pixels, but its "
            f"shapes are for {width} × {height}. Repair imageHeight and imageWidth."
        )
    return item if header.orientation == 1 else without_orientation(item, header)


def _check_embedded(items: Sequence[Item], source: Source) -> None:
    """Add a fault where two files hold the same image: which one describes it, nobody knows."""
    first: dict[str, EmbeddedImage] = {}
    for item in items:
        image = getattr(item.image, "content", item.image)
        if isinstance(image, EmbeddedImage):
            other = first.setdefault(image.digest, image)
            if other is not image:
                source.fault(f"{other} and {image} are the same image. Remove one of them.")


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

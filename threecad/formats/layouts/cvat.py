"""``cvat``: CVAT's XML 1.1 for images: polygons, masks, ellipses, boxes and tags.

An image that is listed without shapes is good. CVAT's segmentation masks are read as ``voc``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from threecad.dataset.naming import split_of_name
from threecad.errors import ConversionError
from threecad.formats.annotations.annotated import Annotated
from threecad.formats.annotations.drawings import box_ring, ellipse_ring, turned
from threecad.formats.reading.documents import whole_number

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET
    from pathlib import Path

    from numpy.typing import NDArray

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source

__all__ = ["looks_like", "read"]

_HEAD = 4096


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    files = _files(source)
    return f"{source.relative(files[0])} begins with <annotations>" if files else None


def _files(source: Source) -> list[Path]:
    return [path for path in source.shared(".xml") if _is_cvat(path)]


def _is_cvat(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"<annotations>" in file.read(_HEAD).replace(b"\0", b"")
    except OSError:
        return False


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images that the files list, the union of an image's shapes as its mask.

    Raises:
        ConversionError: If there is no such file, or one is of a video.
    """
    files = _files(source)
    if not files:
        raise ConversionError(f"{source.root} holds no XML file of CVAT (<annotations>).")
    items = []
    for path in files:
        root = source.read_xml(path)
        if root.find("track") is not None:
            raise ConversionError(
                f"{source.relative(path)} holds tracks of a video. Export it as CVAT for images."
            )
        for element in root.findall("image"):
            with source.collecting():
                items.append(_read_image(element, path, source).item(options))
    return items


def _read_image(element: ET.Element, path: Path, source: Source) -> Annotated:
    name = element.get("name") or ""
    where = f"{source.relative(path)}, image {name!r}"
    subset = split_of_name(element.get("subset") or "")
    image = source.find(name, path, where, bases=[path.parent / "images"], split=subset)
    height, width = whole_number(element.get("height")), whole_number(element.get("width"))
    size = (height, width) if height and width else source.header(image).upright_size
    drawn = Annotated(image, source, subset or source.split_of(image), size)
    for number, shape in enumerate(element, start=1):
        with source.collecting():
            _add(shape, drawn, f"{where}, {shape.tag} {number}")
    return drawn


def _add(shape: ET.Element, drawn: Annotated, where: str) -> None:
    label = shape.get("label")
    match shape.tag:
        case "polygon":
            points = (shape.get("points") or "").replace(";", ",")
            drawn.outline(_numbers(points, where), label, where)
        case "mask":
            drawn.pixels(_mask(shape, drawn.size, where), label, where)
        case "ellipse":
            x, y, across, down = _fields(shape, ("cx", "cy", "rx", "ry"), where)
            ring = turned(ellipse_ring(x, y, across, down), _rotation(shape, where), (x, y))
            drawn.outline(ring, label, where)
        case "box":
            left, top, right, bottom = _fields(shape, ("xtl", "ytl", "xbr", "ybr"), where)
            centre = (left + right) / 2, (top + bottom) / 2
            ring = turned(box_ring(left, top, right, bottom), _rotation(shape, where), centre)
            drawn.box(ring, label, where)
        case "tag":
            drawn.label(label, where)
        case _:
            raise ConversionError(
                f"{where} encloses no area that we know. Expected polygon, mask, ellipse or box."
            )


def _numbers(text: str, where: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        values = ()
    if not values or not all(map(np.isfinite, values)):
        raise ConversionError(f"{where}: expected numbers, not {text[:40]!r}.")
    return values


def _fields(shape: ET.Element, names: tuple[str, ...], where: str) -> tuple[float, ...]:
    return tuple(_numbers(shape.get(name) or "", f"{where}, {name}")[0] for name in names)


def _rotation(shape: ET.Element, where: str) -> float:
    return _numbers(shape.get("rotation") or "0", f"{where}, rotation")[0]


def _mask(shape: ET.Element, size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """Return the mask whose run lengths fill a box row by row, beginning with background."""
    left, top, width, height = map(int, _fields(shape, ("left", "top", "width", "height"), where))
    runs = [int(value) for value in _numbers(shape.get("rle") or "", f"{where}, rle")]
    if min(left, top, *runs) < 0 or left + width > size[1] or top + height > size[0]:
        raise ConversionError(f"{where} reaches out of its image of {size[1]} × {size[0]} pixels.")
    if sum(runs) != width * height:
        raise ConversionError(
            f"{where}: run lengths of {sum(runs)} pixels; expected {width} × {height}."
        )
    mask = np.zeros(size, np.bool_)
    part = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask[top : top + height, left : left + width] = part.reshape(height, width)
    return mask

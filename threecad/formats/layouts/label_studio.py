"""``label-studio``: the JSON export of Label Studio: brush, polygons, ellipses, boxes, choices.

A task that somebody has annotated with nothing is a good image; one that nobody has annotated says
nothing. Coordinates are percentages of the image's sides.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from threecad.dataset.scanning import IMAGE_SUFFIXES
from threecad.errors import ConversionError, MaskError
from threecad.formats.annotations.annotated import Annotated
from threecad.formats.annotations.drawings import Ring, box_ring, ellipse_ring, turned
from threecad.formats.reading.documents import Record, numbers

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source

__all__ = ["looks_like", "read"]

_UPLOADED = re.compile(r"[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    files = _files(source)
    return f"{source.relative(files[0])} is a list of tasks" if files else None


def _files(source: Source) -> list[Path]:
    return [path for path in source.shared(".json") if _is_export(source.peek_json(path))]


def _is_export(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(task, dict) and isinstance(task.get("data"), dict) and "annotations" in task
        for task in content
    )


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images of all annotated tasks, the union of their shapes as masks.

    Raises:
        ConversionError: If there is no export.
    """
    files = _files(source)
    if not files:
        raise ConversionError(
            f"{source.root} holds no JSON export of Label Studio: a list of tasks with data and "
            "annotations (JSON, not JSON-MIN)."
        )
    items = []
    for path in files:
        tasks = Record({"tasks": source.read_json(path)}, source.relative(path)).records("tasks")
        for task in tasks:
            with source.collecting():
                drawn = _read_task(task, path, source)
                if drawn is not None:
                    items.append(drawn.item(options))
    return items


def _read_task(task: Record, path: Path, source: Source) -> Annotated | None:
    image = _image(task, path, source)
    kept = [made for made in task.records("annotations") if not made.get("was_cancelled")]
    if len(kept) > 1:
        raise ConversionError(
            f"{task.where}: {len(kept)} people have annotated {source.relative(image)}, each in "
            "their own way. Keep one annotation."
        )
    if not kept:
        return None
    results = [result for result in kept[0].records("result") if result.get("type") != "relation"]
    sizes = [(result.side("original_height"), result.side("original_width")) for result in results]
    height, width = next(filter(all, sizes), source.header(image).upright_size)
    assert height is not None
    assert width is not None
    drawn = Annotated(image, source, source.split_of(image), (height, width))
    for result in results:
        with source.collecting():
            _add(result, drawn)
    return drawn


def _image(task: Record, path: Path, source: Source) -> Path:
    """Return the image of a task, however its address comes to it."""
    addresses = [_plain(v) for v in task.record("data").content.values() if isinstance(v, str)]
    names = [name for name in addresses if name[name.rfind(".") :].casefold() in IMAGE_SUFFIXES]
    if len(names) != 1:
        raise ConversionError(f"{task.where}: data names {len(names)} images; expected one.")
    find = partial(source.find, near=path, where=task.where)
    try:
        return find(names[0])
    except ConversionError:
        last = names[0].rsplit("/", 1)[-1]
        if _UPLOADED.match(last) is None:
            raise
        return find(f"/{_UPLOADED.sub('', last, count=1)}")


def _plain(address: str) -> str:
    """Return the path in an address: of a web server, a store or the folder that is served."""
    parts = urlsplit(address)
    if served := parse_qs(parts.query).get("d"):
        return f"/{served[0].lstrip('/')}"
    return unquote(parts.path) if parts.scheme else f"/{unquote(address.split('?')[0])}"


def _add(result: Record, drawn: Annotated) -> None:
    where, value = result.where, result.record("value")
    kind = str(result.get("type"))
    if result.get("image_rotation"):
        raise ConversionError(
            f"{where} is drawn on an image turned in Label Studio. Turn the file."
        )
    if kind == "choices":
        for choice in value.get("choices") or []:
            drawn.label(choice, where)
        return
    labels = value.get(kind) or [""]
    if not isinstance(labels, list) or len(labels) != 1:
        raise ConversionError(f"{where} has the labels {labels!r}; expected a list of one.")
    match kind:
        case "brushlabels":
            drawn.pixels(_brush(value, drawn.size), labels[0], where)
        case "polygonlabels":
            points = value.get("points")
            if not isinstance(points, list):
                raise value.unexpected("points", "a list of points")
            flat = tuple(v for point in points for v in numbers(point, f"{where}, points"))
            drawn.outline(_in_pixels(flat, drawn.size), labels[0], where)
        case "ellipselabels":
            x, y, across, down, angle = _fields(value, "x", "y", "radiusX", "radiusY", "rotation")
            ring = _in_pixels(ellipse_ring(x, y, across, down), drawn.size)
            centre = _in_pixels((x, y), drawn.size)
            drawn.outline(turned(ring, angle, (centre[0], centre[1])), labels[0], where)
        case "rectanglelabels":
            x, y, width, height, angle = _fields(value, "x", "y", "width", "height", "rotation")
            ring = _in_pixels(box_ring(x, y, x + width, y + height), drawn.size)
            drawn.box(turned(ring, angle, (ring[0], ring[1])), labels[0], where)
        case _:
            raise ConversionError(
                f"{where} is of type {kind!r}; expected brushlabels, polygonlabels, ellipselabels, "
                "rectanglelabels or choices."
            )


def _fields(value: Record, *names: str) -> tuple[float, ...]:
    listed = [value.get(name) or 0 if name == "rotation" else value.get(name) for name in names]
    return numbers(listed, f"{value.where}, {', '.join(names)}")


def _in_pixels(ring: Ring, size: tuple[int, int]) -> Ring:
    height, width = size
    return tuple(v * (width, height)[n % 2] / 100 for n, v in enumerate(ring))


def _brush(value: Record, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask of a brush: the opacity of an RGBA image in Label Studio's run lengths.

    A head gives the number of values, the bits of a value and four sizes of lengths. Every run has
    a bit that says whether one value is repeated, two that choose a size, and a length less one.
    """
    listed = value.get("rle")
    if value.get("format") != "rle" or not isinstance(listed, list):
        raise value.unexpected("rle", "run lengths of a brush")
    height, width = size
    try:
        bits = "".join(f"{byte:08b}" for byte in bytes(listed))
        values = _unpack(bits, 4 * height * width)
    except (ValueError, TypeError):
        raise MaskError(
            f"{value.where}, rle: the run lengths are damaged, or not those of an image of "
            f"{width} × {height} pixels."
        ) from None
    return values.reshape(height, width, 4)[..., 3] > 0


def _unpack(bits: str, expected: int) -> NDArray[np.uint8]:
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    if take(32) != expected:
        raise ValueError
    word = take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values = np.zeros(expected, np.uint8)
    done = 0
    while done < expected:
        repeated = take(1)
        count = take(sizes[take(2)]) + 1
        if done + count > expected:
            raise ValueError
        values[done : done + count] = take(word) if repeated else [take(word) for _ in range(count)]
        done += count
    return values

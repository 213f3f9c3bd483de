"""``datumaro``: Datumaro's JSON: ``annotations/<subset>.json`` and ``images/<subset>/``.

Polygons, masks, ellipses, boxes and labels of the whole image. An item without annotations is good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from threecad.dataset.naming import split_of_name
from threecad.errors import ConversionError, MaskError
from threecad.formats.annotations.annotated import Annotated
from threecad.formats.annotations.drawings import box_ring, ellipse_ring
from threecad.formats.reading.documents import Record, numbers, whole_number
from threecad.images.encodings import rle_to_mask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source

__all__ = ["looks_like", "read"]


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    files = _files(source)
    return f"{source.relative(files[0])} lists items and labels" if files else None


def _files(source: Source) -> list[Path]:
    return [path for path in source.shared(".json") if _is_datumaro(source.peek_json(path))]


def _is_datumaro(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("items"), list):
        return False
    categories = content.get("categories")
    return isinstance(categories, dict) and "label" in categories


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images of all subsets, the union of an image's annotations as its mask.

    Raises:
        ConversionError: If there is no such file.
    """
    files = _files(source)
    if not files:
        raise ConversionError(f"{source.root} holds no JSON file of Datumaro.")
    items = []
    for path in files:
        document = Record.of(source.read_json(path), source.relative(path))
        listed = document.record("categories").record("label").records("labels")
        labels = [label.text("name") for label in listed]
        for entry in document.records("items"):
            with source.collecting():
                items.append(_read_item(entry, labels, path, source).item(options))
    return items


def _read_item(entry: Record, labels: Sequence[str], path: Path, source: Source) -> Annotated:
    subset = split_of_name(path.stem)
    media = entry.record("image") if entry.get("image") else entry.record("media")
    image = _image(entry, media, path, subset, source)
    size = source.header(image).upright_size
    own = media.get("size")
    if own is not None and numbers(own, f"{entry.where}, size") != size:
        raise MaskError(
            f"{entry.where}: its size [height, width] is {own}, but that of "
            f"{source.relative(image)} is {list(size)}."
        )
    drawn = Annotated(image, source, subset or source.split_of(image), size)
    for annotation in entry.records("annotations"):
        with source.collecting():
            _add(annotation, labels, drawn)
    return drawn


def _image(entry: Record, media: Record, path: Path, subset: str, source: Source) -> Path:
    """Return the image of an item by its path or, where it has none, by its id."""
    folder = path.parent.parent / "images"
    homes = [folder / path.stem, folder]
    if media.get("path"):
        return source.find(media.text("path"), path, entry.where, bases=homes, split=subset)
    key = entry.key("id")
    for home in homes:
        found = [p for p in source.images_below(home) if p.with_suffix("") == home / key]
        if len(found) == 1:
            return found[0]
    raise ConversionError(f"{entry.where} has the id {key!r}, and no image of {folder} has it.")


def _add(annotation: Record, labels: Sequence[str], drawn: Annotated) -> None:
    where, kind = annotation.where, annotation.get("type")
    number = whole_number(annotation.get("label_id"))
    if number is None or not 0 <= number < len(labels):
        raise annotation.unexpected("label_id", "the number of a label")
    label = labels[number]
    match kind:
        case "polygon":
            drawn.outline(_floats(annotation, "points"), label, where)
        case "mask" | "rle":
            run_lengths = annotation.record("rle").content
            mask = rle_to_mask(run_lengths)
            if mask.shape != drawn.size:
                raise MaskError(
                    f"{where}: the mask's size [height, width] is {list(mask.shape)}, that of its "
                    f"image {list(drawn.size)}."
                )
            drawn.pixels(mask, label, where)
        case "bbox":
            x, y, width, height = _floats(annotation, "bbox", 4)
            drawn.box(box_ring(x, y, x + width, y + height), label, where)
        case "ellipse":
            left, top, right, bottom = _floats(annotation, "points", 4)
            across, down = (right - left) / 2, (bottom - top) / 2
            drawn.outline(ellipse_ring(left + across, top + down, across, down), label, where)
        case "label":
            drawn.label(label, where)
        case _:
            raise ConversionError(
                f"{where} is of type {kind!r}; expected polygon, mask, ellipse, bbox or label."
            )


def _floats(annotation: Record, field: str, count: int | None = None) -> tuple[float, ...]:
    values = numbers(annotation.get(field), f"{annotation.where}, {field}")
    if count is not None and len(values) != count:
        raise annotation.unexpected(field, f"{count} numbers")
    return values

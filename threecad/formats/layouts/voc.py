"""``voc``: Pascal VOC, boxes and segmentation.

``JPEGImages``, ``Annotations`` (one box for every region), ``SegmentationClass`` (pixel values are
classes, from 1, in the order of ``class_names.txt``), ``SegmentationObject`` (pixel values are
regions, from 1) and ``ImageSets/{Main,Segmentation}/<split>.txt``. Class names are
``<Category>/<defect_type>``.
"""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from threecad.errors import ConversionError, ImageError, MaskError
from threecad.formats.contents import File, read_image_size
from threecad.formats.file_names import read_ids, with_flat_names, write_ids
from threecad.formats.reading.options import foreign_id, image_files, item_of_id
from threecad.formats.writing import Tally, place_image, read_item_mask, work_through, write_new
from threecad.images.files import open_image
from threecad.images.regions import label_regions, regions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.writing import WriteOptions
    from threecad.images.masks import MaskRule

__all__ = ["looks_like", "read", "write"]

_MOST = 254
_VOID = 255


def looks_like(source: Path) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    if (source / "JPEGImages").is_dir() and (source / "ImageSets").is_dir():
        return "it has JPEGImages and ImageSets"
    return None


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write images, boxes, both kinds of masks and the lists.

    Raises:
        ConversionError: If there are more classes than pixel values.
    """
    items = with_flat_names(items)
    classes = sorted({item.class_name for item in items if item.label})
    if len(classes) > _MOST:
        raise ConversionError(
            f"VOC has room for {_MOST} classes, here are {len(classes)}. Convert some categories "
            "at a time with --category."
        )
    tally = Tally()
    place = partial(_place, classes=classes, folder=folder, options=options)
    for part in work_through(place, items, options, "writing voc"):
        tally.add(part)
    write_new(folder / "class_names.txt", "".join(f"{name}\n" for name in classes).encode())
    for split in {item.split for item in items}:
        listed = "".join(f"{item.name}\n" for item in items if item.split == split)
        for kind in ("Main", "Segmentation"):
            write_new(folder / "ImageSets" / kind / f"{split}.txt", listed.encode())
    write_ids(folder, {_image_path(item): item.id for item in items})
    return tally


def _image_path(item: Item) -> str:
    return f"JPEGImages/{item.name}{item.image.suffix}"


def _place(
    item: Item,
    classes: Sequence[str],
    folder: Path,
    options: WriteOptions,
) -> Tally:
    tally = Tally()
    height, width = read_image_size(item.image)
    place_image(item, folder, _image_path(item), options, tally)
    boxes: list[tuple[int, int, int, int]] = []
    values = np.zeros((height, width), np.uint8)
    objects = values
    if item.label:
        mask = read_item_mask(item, options.mask_rule, tally)
        boxes = [region.bbox for region in regions(mask)]
        if len(boxes) > _MOST:
            tally.notes[f"images with more than {_MOST} regions, the rest numbered {_MOST}"] += 1
        values = mask.astype(np.uint8) * np.uint8(classes.index(item.class_name) + 1)
        objects = np.minimum(label_regions(mask), _MOST).astype(np.uint8)
    write_new(folder / "SegmentationClass" / f"{item.name}.png", _encode_indexed(values))
    write_new(folder / "SegmentationObject" / f"{item.name}.png", _encode_indexed(objects))
    document = _annotate(f"{item.name}{item.image.suffix}", item.class_name, boxes, height, width)
    write_new(folder / "Annotations" / f"{item.name}.xml", document)
    return tally


def _annotate(
    name: str, kind: str, boxes: Sequence[tuple[int, int, int, int]], height: int, width: int
) -> bytes:
    """Return the XML of an image. VOC's corners count pixels from 1 and include both ends."""
    root = ET.Element("annotation")
    for tag, text in (("folder", "JPEGImages"), ("filename", name)):
        ET.SubElement(root, tag).text = text
    size = ET.SubElement(root, "size")
    for tag, number in (("width", width), ("height", height), ("depth", 3)):
        ET.SubElement(size, tag).text = str(number)
    ET.SubElement(root, "segmented").text = "1"
    for x, y, w, h in boxes:
        thing = ET.SubElement(root, "object")
        for tag, text in (
            ("name", kind), ("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0"),
        ):  # fmt: skip
            ET.SubElement(thing, tag).text = text
        box = ET.SubElement(thing, "bndbox")
        corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + w, "ymax": y + h}
        for tag, number in corners.items():
            ET.SubElement(box, tag).text = str(number)
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _encode_indexed(values: NDArray[np.uint8]) -> bytes:
    """Return ``(H, W) uint8`` as a palette PNG with VOC's colours, pixel values as they are."""
    image = Image.frombytes("P", (values.shape[1], values.shape[0]), values.tobytes())
    image.putpalette(_palette())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@lru_cache(maxsize=1)
def _palette() -> list[int]:
    """Return VOC's colours: the bits of the index dealt to the high bits of red, green, blue."""
    colours = []
    for index in range(256):
        for channel in range(3):
            bits = (index >> (3 * k + channel) & 1 for k in range(3))
            colours.append(sum(bit << (7 - k) for k, bit in enumerate(bits)))
    return colours


def read(source: Path, options: ReadOptions) -> list[Item]:
    """Return the listed images; what is neither 0 nor 255 in ``SegmentationClass`` is defect.

    In a folder from elsewhere an image without objects is good, and their name is the defect type.

    Raises:
        ConversionError: If a list or annotation is not VOC's.
    """
    files = {path.stem: path for path in image_files(source / "JPEGImages")}
    ids = read_ids(source)
    lists = sorted((source / "ImageSets" / "Segmentation").glob("*.txt"))
    items = []
    for listed in lists:
        if listed.stem not in ("train", "val", "test"):
            continue
        for name in listed.read_text(encoding="utf-8").split("\n"):
            if not name.strip():
                continue
            if name not in files:
                raise ConversionError(f"{listed} names {name!r}, which is not in JPEGImages.")
            items.append(_item(name, files[name], listed.stem, ids, source, options))
    return items


def _item(
    name: str, path: Path, split: str, ids: Mapping[str, str], source: Path, options: ReadOptions
) -> Item:
    sample_id = ids.get(path.relative_to(source).as_posix())
    if sample_id is None:
        classes = _object_names(source / "Annotations" / f"{name}.xml")
        sample_id = foreign_id(classes, split, name, source, options)
    mask = source / "SegmentationClass" / f"{name}.png"
    return item_of_id(
        sample_id,
        image=File(path),
        mask=_ClassImage(mask) if mask.is_file() else None,
        split=split,
    )


@dataclass(frozen=True)
class _ClassImage:
    """A mask whose pixel values are classes: 0 is background, 255 is undecided."""

    path: Path

    def decode(self, rule: MaskRule | None) -> tuple[NDArray[np.bool_], str, tuple[str, ...]]:
        """Return the mask, ``(H, W) bool``, the rule used and the codes of what is odd."""
        del rule  # the format says what the values mean
        try:
            values = np.asarray(open_image(self.path, one_frame=True))
        except ImageError as error:
            raise MaskError(f"{self.path}: the mask cannot be decoded ({error.reason}).") from error
        if values.ndim != 2:
            raise MaskError(f"{self.path}: it has colours; expected a palette image of classes.")
        mask = (values > 0) & (values < _VOID)
        return mask, "classes", () if mask.any() else ("mask-empty",)

    def stamp(self) -> str:
        """Return the stamp of the file."""
        return File(self.path).stamp()

    def __str__(self) -> str:
        """Return how messages name it."""
        return str(self.path)


def _object_names(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ConversionError(f"{path} declares entities, which VOC never does. Remove them.")
        root = ET.fromstring(text)
    except FileNotFoundError:
        return []
    except (ET.ParseError, UnicodeDecodeError) as error:
        raise ConversionError(f"{path} is not XML: {error}. Get it again.") from error
    return [thing.findtext("name") or "" for thing in root.iter("object")]

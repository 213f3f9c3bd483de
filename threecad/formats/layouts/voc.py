"""``voc``: Pascal VOC, boxes and segmentation.

``JPEGImages``, ``Annotations`` (one box for every region), ``SegmentationClass`` (pixel values are
classes, from 1, in the order of ``class_names.txt``), ``SegmentationObject`` (pixel values are
regions, from 1) and ``ImageSets/{Main,Segmentation}/<split>.txt``. Class names are
``<Category>/<defect_type>``.
"""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from threecad.dataset.naming import split_of_name
from threecad.dataset.samples import GOOD
from threecad.errors import ConversionError
from threecad.formats.annotations.class_images import ClassImage
from threecad.formats.annotations.drawings import Drawing, box_ring
from threecad.formats.contents import File
from threecad.formats.file_names import read_ids, with_flat_names, write_ids
from threecad.formats.reading.options import BAD, foreign_id, item_of_id, type_of_shape
from threecad.formats.writing import Tally, place_image, read_item_mask, work_through, write_new
from threecad.images.regions import label_regions, regions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from threecad.formats.contents import Mask
    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_MOST = 254


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    if not source.in_folder("JPEGImages"):
        return None
    for beside in ("ImageSets", "Annotations", "SegmentationClass"):
        if source.in_folder(beside):
            return f"it has JPEGImages and {beside}"
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
            "at a time with `categories`."
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
    height, width = item.image.read_size()
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


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the listed images; what is neither background nor void in their masks is defect.

    In a folder from elsewhere an image without objects is good, and their name is the defect type.
    Without ``Annotations`` the mask decides; ``labelmap.txt``, as CVAT writes it, names colours.

    Raises:
        ConversionError: If a list or annotation is not VOC's.
    """
    known = _Known(source, options, read_ids(source), _colours(source))
    items = []
    images = _images(source)
    for name, split in _listed(source).items():
        with source.collecting():
            item = known.item(name, _image(name, images, source), split)
            if item is not None:
                items.append(item)
    for path in source.in_folder("SegmentationObject"):
        source.leave_out(path, "numbers the regions of SegmentationClass")
    if (names := source.at("class_names.txt")) is not None:
        source.claim(names, "index")
    return items


def _listed(source: Source) -> dict[str, str]:
    """Return the split of every name in the lists, or of every image where there are none."""
    splits: dict[str, str] = {}
    lists = [
        path
        for kind in ("Segmentation", "Main")
        for path in source.in_folder(f"ImageSets/{kind}")
        if path.suffix.casefold() == ".txt"
    ]
    for path in lists:
        split = split_of_name(path.stem)
        if not split and path.stem not in ("default", "trainval"):
            source.leave_out(path, "a list of no split")
            continue
        for _, line in source.read_lines(path, "index"):
            name = line.strip()
            if splits.get(name) and split and splits[name] != split:
                source.fault(
                    f"{source.relative(path)} names {name!r}, which is in {splits[name]} already."
                )
            splits[name] = splits.get(name) or split
    if not lists:
        splits = dict.fromkeys(_images(source), "")
    return splits


def _images(source: Source) -> dict[str, list[Path]]:
    """Return the images by the name that lists give them: without folder and suffix."""
    images: dict[str, list[Path]] = {}
    known = set(source.images)
    for path in source.in_folder("JPEGImages"):
        if path in known:
            name = source.relative(path.with_suffix("")).split("/", 1)[1]
            images.setdefault(name, []).append(path)
    return images


def _image(name: str, images: Mapping[str, list[Path]], source: Source) -> Path:
    found = images.get(name, [])
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConversionError(f"A list in ImageSets names {name!r}, which is not in JPEGImages.")
    listed = " and ".join(source.relative(path) for path in found)
    raise ConversionError(f"{listed} are both called {name!r} in the lists. Rename one.")


def _colours(source: Source) -> dict[tuple[int, int, int], str]:
    """Return the class of every colour that CVAT's ``labelmap.txt`` names."""
    path = source.at("labelmap.txt")
    if path is None:
        return {}
    colours = {}
    for number, line in source.read_lines(path, "index"):
        if line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            red, green, blue = (int(part) for part in rest.split(":")[0].split(","))
        except ValueError:
            raise ConversionError(
                f"{path}, line {number}: expected name:red,green,blue::, not {line!r}."
            ) from None
        colours[red, green, blue] = name
    return colours


@dataclass(frozen=True)
class _Known:
    """What is known of the folder when an image of it is read."""

    source: Source
    options: ReadOptions
    ids: Mapping[str, str]
    colours: Mapping[tuple[int, int, int], str]

    @cached_property
    def annotated(self) -> bool:
        """Whether there are annotations, so that an image without one is not good by itself."""
        return bool(self.source.in_folder("Annotations"))

    def item(self, name: str, image: Path, split: str) -> Item | None:
        """Return the item of an image, ``None`` if nothing says what it shows."""
        mask = self._mask(name)
        own_id = self.ids.get(self.source.relative(image))
        annotation = self.source.at(f"Annotations/{name}.xml")
        if own_id is None and mask is None and self.annotated and annotation is None:
            return None
        if own_id is not None or annotation is None:
            if annotation is not None:
                self.source.claim(annotation, "annotation")
            if own_id is not None and mask is not None and own_id.split("/")[2] == GOOD:
                self.source.claim(mask.path, "annotation")  # we write an empty one
                mask = None
            kinds = mask.classes() if own_id is None and mask is not None else []
            new = own_id or self._id(kinds or ([BAD] if mask is not None else []), split, image)
            item = item_of_id(new, image=File(image), mask=mask, split=split)
            return replace(item, judged_by_mask=own_id is None and mask is not None)
        kinds, boxes = self._objects(annotation, image)
        drawn: Mask | None = mask
        if mask is None and kinds and boxes:
            height, width = self.source.header(image).upright_size
            drawn = Drawing(height, width, rings=tuple(boxes))
        return item_of_id(self._id(kinds, split, image), image=File(image), mask=drawn, split=split)

    def _id(self, kinds: Sequence[str], split: str, image: Path) -> str:
        return foreign_id(kinds, split, image.stem, self.source.root, self.options)

    def _mask(self, name: str) -> ClassImage | None:
        path = self.source.at(f"SegmentationClass/{name}.png")
        return ClassImage(path, tuple(self.colours.items())) if path is not None else None

    def _objects(self, annotation: Path, image: Path) -> tuple[list[str], list[tuple[float, ...]]]:
        """Return the types of the objects and, where there is no mask, their boxes if allowed."""
        name = self.source.relative(annotation)
        has_mask = self._mask(image.stem) is not None
        kinds, boxes = [], []
        for number, thing in enumerate(self.source.read_xml(annotation).iter("object"), start=1):
            where = f"{name}, object {number}"
            kind = type_of_shape(thing.findtext("name"), self.source, image, where)
            if kind is None:
                continue
            kinds.append(kind)
            if not has_mask and self.source.only_box(where):
                boxes.append(_box(thing, where))
        return kinds, boxes


def _box(thing: ET.Element, where: str) -> tuple[float, ...]:
    sides = ("xmin", "ymin", "xmax", "ymax")
    try:
        left, top, right, bottom = (float(thing.findtext(f"bndbox/{side}") or "") for side in sides)
    except ValueError:
        raise ConversionError(f"{where}: expected a bndbox with {', '.join(sides)}.") from None
    return box_ring(left - 1, top - 1, right, bottom)

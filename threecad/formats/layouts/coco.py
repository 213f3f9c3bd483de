"""``coco``: COCO instance segmentation, one annotation for every defect region.

``annotations/instances_<split>.json`` and ``images/<sample id>.<ext>``. There is one category for
every pair of part and defect type, ``<Category>/<defect_type>``. Images and annotations are
numbered from 1 in the order of the sorted sample ids over all splits: pycocotools takes an
annotation with the number 0 for none.
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from threecad.dataset.naming import split_of_name
from threecad.errors import ConversionError, MaskError
from threecad.formats.annotations.drawings import Drawing, box_ring, check_ring, outer_rings
from threecad.formats.cards import introduce
from threecad.formats.contents import File
from threecad.formats.reading.documents import Record, numbers
from threecad.formats.reading.options import foreign_id, is_sample_id, item_of_id, type_of_shape
from threecad.formats.writing import (
    Tally,
    place_image,
    read_item_mask,
    work_through,
    write_new,
)
from threecad.images.encodings import mask_to_rle
from threecad.images.regions import label_regions, regions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_FILES = "annotations/instances_{split}.json"


_MANY = 100
"""More JSON files than this are looked into only if their names speak of COCO."""


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    files = _files(source)
    return f"it has {source.relative(files[0])}" if files else None


def _files(source: Source) -> list[Path]:
    found = source.shared(".json")
    if len(found) > _MANY:
        found = [p for p in found if re.search("coco|instances|annotation", p.name.casefold())]
    return [path for path in found if _is_coco(source.peek_json(path))]


def _is_coco(content: Any) -> bool:
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= set(content)


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write images and one annotation file for every split."""
    tally = Tally()
    classes = sorted({item.class_name for item in items if item.label})
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    images: dict[str, list[dict[str, Any]]] = {item.split: [] for item in items}
    annotations: dict[str, list[dict[str, Any]]] = {item.split: [] for item in items}
    place = partial(_place, folder=folder, options=options)
    results = work_through(place, items, options, "writing coco")
    annotation_number = 0
    for image_number, (item, result) in enumerate(zip(items, results, strict=True), start=1):
        part, image, shapes = result
        tally.add(part)
        images[item.split].append({"id": image_number, **image})
        for shape in shapes:
            annotation_number += 1
            annotations[item.split].append(
                {
                    "id": annotation_number,
                    "image_id": image_number,
                    "category_id": numbers[item.class_name],
                    **shape,
                }
            )
    categories = [
        {"id": number, "name": name, "supercategory": name.split("/")[0]}
        for name, number in numbers.items()
    ]
    for split in images:
        document = {
            "info": {
                "description": introduce(items, options.origin, errata=options.errata),
                "version": "1.0",
            },
            "licenses": [],
            "images": images[split],
            "annotations": annotations[split],
            "categories": categories,
        }
        data = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        write_new(folder / _FILES.format(split=split), data.encode())
    return tally


def _place(
    item: Item, folder: Path, options: WriteOptions
) -> tuple[Tally, dict[str, Any], list[dict[str, Any]]]:
    tally = Tally()
    height, width = item.image.read_size()
    name = place_image(item, folder, f"images/{item.id}{item.image.suffix}", options, tally)
    # Readers join "images" and file_name; a referenced image is seen from there.
    name = name.removeprefix("images/") if not name.startswith("../") else f"../{name}"
    image = {"file_name": name, "width": width, "height": height, "sample_id": item.id}
    shapes = list(_annotate(item, options, tally)) if item.label else []
    return tally, image, shapes


def _annotate(item: Item, options: WriteOptions, tally: Tally) -> Iterator[dict[str, Any]]:
    mask = read_item_mask(item, options.mask_rule, tally)
    outlines = outer_rings(mask) if options.polygons else None
    labels = label_regions(mask)
    for number, region in enumerate(regions(mask), start=1):
        segmentation: Any
        if outlines is None:
            segmentation = mask_to_rle(labels == number)
        else:
            rings, holes = outlines[number - 1]
            segmentation = [list(ring) for ring in rings]
            tally.notes.update({"holes filled": holes} if holes else {})
        yield {
            "segmentation": segmentation,
            "area": region.area,
            "bbox": list(region.bbox),
            "iscrowd": 0,
        }


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images of all annotation files, the union of an image's annotations as its mask.

    In a file from elsewhere an image without annotations is good; the category is the one asked
    for, the defect type the name of the annotations' class, or ``Multiple-defects`` if there are
    several.

    Raises:
        ConversionError: If there is no annotation file, or one is not what COCO describes.
    """
    files = _files(source)
    if not files:
        raise ConversionError(
            f"{source.root} holds no JSON file with images, annotations and categories, such as "
            f"{_FILES.format(split='test')}."
        )
    items: list[Item] = []
    for file in files:
        with source.collecting():
            items += _read_file(file, source, options)
    return items


def _read_file(file: Path, source: Source, options: ReadOptions) -> list[Item]:
    name = source.relative(file)
    document = Record.of(source.read_json(file), name)
    classes = {entry.key("id"): entry.text("name") for entry in document.records("categories")}
    images: dict[str, Record] = {}
    for entry in document.records("images"):
        if images.setdefault(key := entry.key("id"), entry) is not entry:
            source.fault(f"{name}: two images have the id {key}. Number them anew.")
    drawn: dict[str, list[Record]] = {}
    for entry in document.records("annotations"):
        with source.collecting():
            key = entry.key("image_id")
            if key in images:
                drawn.setdefault(key, []).append(entry)
            else:
                source.orphan_entry(entry.where, f"names image {key}, which is not in images")
    split = _split_of(file, source)
    items = []
    for key, entry in images.items():
        with source.collecting():
            items.append(_item(entry, drawn.get(key, []), classes, split, source, file, options))
    return items


def _split_of(file: Path, source: Source) -> str:
    """Return the split that the name of an annotation file or its folders tell."""
    words = re.split(r"[^0-9a-z]+", file.stem.casefold())
    return next(filter(None, map(split_of_name, words)), "") or source.split_of(file)


def _item(
    image: Record,
    annotations: Sequence[Record],
    classes: Mapping[str, str],
    split: str,
    source: Source,
    file: Path,
    options: ReadOptions,
) -> Item:
    home = [file.parent.parent / "images", source.root / "images", file.parent / "images"]
    name = image.text("file_name")
    path = source.find(name, file, image.where, bases=home, split=split)
    height, width = image.side("height"), image.side("width")
    if height is None or width is None:
        height, width = source.header(path).upright_size
    kinds, run_lengths, rings = [], [], []
    for annotation in annotations:
        with source.collecting():
            number = annotation.key("category_id")
            if number not in classes:
                raise annotation.unexpected("category_id", "the id of a category")
            kind = type_of_shape(classes[number], source, path, annotation.where)
            if kind is None:
                continue
            kinds.append(kind)
            if isinstance(annotation.get("segmentation"), dict):
                run_lengths.append(_counts(annotation.record("segmentation"), (height, width)))
            else:
                rings += _rings(annotation, (height, width), source)
    mask = Drawing(height, width, tuple(run_lengths), tuple(rings)) if kinds else None
    sample_id = image.get("sample_id")
    if not is_sample_id(sample_id):
        sample_id = foreign_id(kinds, split, path.stem, source.root, options)
    return item_of_id(sample_id, image=File(path), mask=mask, split=split)


def _rings(annotation: Record, size: tuple[int, int], source: Source) -> list[tuple[float, ...]]:
    """Return the outlines of an annotation, each with x and y in turn."""
    where = f"{annotation.where}, segmentation"
    listed = annotation.get("segmentation") or []
    if not isinstance(listed, list):
        raise annotation.unexpected("segmentation", "outlines or run lengths")
    if listed and not isinstance(listed[0], (list, tuple)):
        listed = [listed]
    if not listed:
        x, y, width, height = _box(annotation)
        return [box_ring(x, y, x + width, y + height)] if source.only_box(annotation.where) else []
    return [check_ring(numbers(ring, where), size, where) for ring in listed]


def _box(annotation: Record) -> tuple[float, ...]:
    box = numbers(annotation.get("bbox"), f"{annotation.where}, bbox")
    if len(box) != 4:
        raise annotation.unexpected("bbox", "x, y, width and height")
    return box


def _counts(segmentation: Record, size: tuple[int, int]) -> str | tuple[int, ...]:
    counts, own = segmentation.get("counts"), segmentation.get("size")
    if own is not None and numbers(own, f"{segmentation.where}, size") != size:
        raise MaskError(
            f"{segmentation.where}: its size [height, width] is {own}, but that of its image is "
            f"{list(size)}. One of them is exchanged."
        )
    if isinstance(counts, str):
        return counts
    if isinstance(counts, list) and all(type(count) is int for count in counts):
        return tuple(counts)
    raise segmentation.unexpected("counts", "a text or a list of whole numbers")

"""``coco``: COCO instance segmentation, one annotation for every defect region.

``annotations/instances_<split>.json`` and ``images/<sample id>.<ext>``. There is one category for
every pair of part and defect type, ``<Category>/<defect_type>``. Images and annotations are
numbered from 1 in the order of the sorted sample ids over all splits: pycocotools takes an
annotation with the number 0 for none.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from threecad.errors import ConversionError
from threecad.formats.cards import introduce
from threecad.formats.contents import File, read_image_size
from threecad.formats.drawings import Drawing, outer_rings
from threecad.formats.reading.options import (
    foreign_id,
    inside,
    is_sample_id,
    item_of_id,
    load_json,
)
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
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_FILES = "annotations/instances_{split}.json"


def looks_like(source: Path) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    files = sorted(source.glob(_FILES.format(split="*")))
    return f"it has {files[0].relative_to(source).as_posix()}" if files else None


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
    height, width = read_image_size(item.image)
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


def read(source: Path, options: ReadOptions) -> list[Item]:
    """Return the images of all annotation files, the union of an image's annotations as its mask.

    In a file from elsewhere an image without annotations is good; the category is the
    supercategory of its annotations or the one asked for, the defect type the name of their class,
    or ``Multiple-defects`` if there are several.

    Raises:
        ConversionError: If there is no annotation file, or one is not what COCO describes.
    """
    files = sorted(source.glob(_FILES.format(split="*")))
    if not files:
        raise ConversionError(f"There is no {source / _FILES.format(split='*')}.")
    items = []
    for file in files:
        items += _read_file(file, source, options)
    return items


def _read_file(file: Path, source: Path, options: ReadOptions) -> list[Item]:
    document = load_json(file)
    split = _split_name(file.stem.removeprefix("instances_"))
    try:
        names = {entry["id"]: entry for entry in document["categories"]}
        by_image: dict[Any, list[dict[str, Any]]] = {}
        for annotation in document["annotations"]:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        return [
            _item(image, by_image.get(image["id"], []), names, split, source, file, options)
            for image in document["images"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ConversionError(
            f"{file} is not a COCO annotation file: {error!r}. Expected images, annotations and "
            "categories as https://cocodataset.org/#format-data describes them."
        ) from error


def _split_name(text: str) -> str:
    """Return the split of a file name such as ``instances_val2017.json``; ``""`` if it is none."""
    return next((split for split in ("train", "val", "test") if text.startswith(split)), "")


def _item(
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    names: dict[Any, dict[str, Any]],
    split: str,
    source: Path,
    file: Path,
    options: ReadOptions,
) -> Item:
    path = inside(source, f"images/{image['file_name']}", str(file))
    mask = Drawing(
        image["height"],
        image["width"],
        tuple(_counts(a["segmentation"]) for a in annotations if _is_rle(a)),
        tuple(
            tuple(map(float, ring))
            for a in annotations
            if not _is_rle(a)
            for ring in a["segmentation"]
        ),
    )
    sample_id = image.get("sample_id")
    if not is_sample_id(sample_id):
        classes = [names[a["category_id"]]["name"] for a in annotations]
        sample_id = foreign_id(classes, split, path.stem, source, options)
    return item_of_id(sample_id, image=File(path), mask=mask, split=split)


def _is_rle(annotation: dict[str, Any]) -> bool:
    return isinstance(annotation["segmentation"], dict)


def _counts(segmentation: dict[str, Any]) -> str | tuple[int, ...]:
    counts = segmentation["counts"]
    return counts if isinstance(counts, str) else tuple(counts)

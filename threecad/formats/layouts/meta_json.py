"""``meta-json``: the ``meta.json`` of ADer, AnomalyCLIP, UniAD and their descendants.

One list of images for every category and split, with the path of each mask. The lists are written
from pairs by stem, unlike those of the usual scripts, which pair by sorted position.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from threecad.dataset.naming import is_good_name, split_of_name
from threecad.dataset.samples import GOOD
from threecad.errors import ConversionError
from threecad.formats.contents import File, MaskImage
from threecad.formats.items import make_id
from threecad.formats.reading.documents import Record, read_label
from threecad.formats.reading.options import BAD, is_sample_id, item_of_id
from threecad.formats.writing import Tally, place_image, place_mask, work_through, write_new

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_FILE = "meta.json"


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    return f"it has {_FILE}" if (source.root / _FILE).is_file() else None


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write ``meta.json`` and, unless they are referred to, the images in 3CAD's layout."""
    tally = Tally()
    document: dict[str, dict[str, list[dict[str, Any]]]] = {"train": {}, "test": {}}
    for item in items:
        for split in {*document, item.split}:
            document.setdefault(split, {}).setdefault(item.category, [])
    place = partial(_place, folder=folder, options=options)
    for item, (part, entry) in zip(
        items, work_through(place, items, options, "writing meta-json"), strict=True
    ):
        tally.add(part)
        document[item.split][item.category].append(entry)
    data = json.dumps(document, indent=4, ensure_ascii=False)
    write_new(folder / _FILE, data.encode())
    return tally


def _place(item: Item, folder: Path, options: WriteOptions) -> tuple[Tally, dict[str, Any]]:
    tally = Tally()
    image = place_image(item, folder, item.id + item.image.suffix, options, tally)
    mask = ""
    if item.label and item.mask is not None:
        mask = f"{item.category}/ground_truth/{item.defect_type}/{item.stem}.png"
        place_mask(item, folder / mask, options, tally)
    return tally, {
        "img_path": image,
        "mask_path": mask,
        "cls_name": item.category,
        "specie_name": item.defect_type,
        "anomaly": item.label,
    }


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images that ``meta.json`` lists.

    Raises:
        ConversionError: If it is not such a file, or names a missing one.
    """
    del options
    file = source.root / _FILE
    document = Record.of(source.read_json(file, "index"), _FILE)
    items = []
    for split in document.content:
        categories = document.record(split)
        for category in categories.content:
            for entry in categories.records(category):
                with source.collecting():
                    items.append(_item(entry, split, source, file))
    return items


def _item(entry: Record, split: str, source: Source, file: Path) -> Item:
    named = entry.text("img_path")
    image = source.find(named, file, entry.where)
    mask = entry.get("mask_path") or None
    sample_id = named.removesuffix(image.suffix)
    label = read_label(entry.get("anomaly"), entry.where)
    if not is_sample_id(sample_id):
        split = split_of_name(split)
        if not split:
            raise ConversionError(f"{entry.where}: expected train, val or test as split.")
        kind = entry.get("specie_name")
        if label and isinstance(kind, str) and is_good_name(kind):
            raise ConversionError(f"{entry.where}: it is an anomaly, but its specie is {kind!r}.")
        defect_type = (str(kind) if kind else BAD) if label else GOOD
        sample_id = make_id(entry.text("cls_name"), split, defect_type, image.stem)
    elif label != (sample_id.split("/")[2] != GOOD):
        raise ConversionError(f"{entry.where}: anomaly {label} contradicts the path {named!r}.")
    return item_of_id(
        sample_id,
        image=File(image),
        mask=MaskImage(File(source.find(mask, file, entry.where))) if mask else None,
        split=split_of_name(split),
        as_stored=True,
    )

"""``meta-json``: the ``meta.json`` of ADer, AnomalyCLIP, UniAD and their descendants.

One list of images for every category and split, with the path of each mask. The lists are written
from pairs by stem, unlike those of the usual scripts, which pair by sorted position.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from threecad.dataset.samples import GOOD
from threecad.errors import ConversionError
from threecad.formats.contents import File, MaskImage
from threecad.formats.items import make_id
from threecad.formats.reading.options import inside, is_sample_id, item_of_id, load_json
from threecad.formats.writing import Tally, place_image, place_mask, work_through, write_new

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_FILE = "meta.json"


def looks_like(source: Path) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    return f"it has {_FILE}" if (source / _FILE).is_file() else None


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


def read(source: Path, options: ReadOptions) -> list[Item]:
    """Return the images that ``meta.json`` lists.

    Raises:
        ConversionError: If it is not such a file, or names a missing one.
    """
    file = source / _FILE
    document = load_json(file)
    try:
        return [
            _item(entry, split, source, str(file))
            for split, categories in document.items()
            for category, entries in categories.items()
            for entry in entries
            if not options.categories or category in options.categories
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ConversionError(
            f"{file} is not such a file: {error!r}. Expected split, category and a list of entries "
            "with img_path, mask_path, cls_name, specie_name and anomaly."
        ) from error


def _item(entry: dict[str, Any], split: str, source: Path, where: str) -> Item:
    image = inside(source, entry["img_path"], where)
    mask = entry["mask_path"]
    sample_id = entry["img_path"].removesuffix(image.suffix)
    if not is_sample_id(sample_id):
        defect_type = (entry["specie_name"] or "bad") if entry["anomaly"] else GOOD
        folder = "train" if split == "train" else "test"
        sample_id = make_id(entry["cls_name"], folder, defect_type, image.stem)
    return item_of_id(
        sample_id,
        image=File(image),
        mask=MaskImage(File(inside(source, mask, where))) if mask else None,
        split=split,
    )

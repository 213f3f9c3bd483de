"""``anomalib``: one CSV table for every category, for anomalib's ``Tabular`` data module.

Every row names its own mask, so nothing depends on the order of file names. Paths are relative to
the folder, which is to be given as ``root``; with ``--reference`` they are absolute, and ``root``
is left out.
"""

from __future__ import annotations

import csv
import io
from functools import partial
from typing import TYPE_CHECKING, Any

from threecad.dataset.samples import GOOD
from threecad.errors import ConversionError
from threecad.formats.contents import File, MaskImage
from threecad.formats.items import make_id
from threecad.formats.reading.options import inside, is_sample_id, item_of_id
from threecad.formats.writing import Tally, place_image, place_mask, work_through, write_new

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_COLUMNS = ("image_path", "label", "label_index", "split", "mask_path", "defect_type", "id")


def looks_like(source: Path) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    tables = _tables(source)
    return f"{tables[0].name} has the columns image_path and label_index" if tables else None


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write ``<Category>.csv`` and, unless they are referred to, the images in 3CAD's layout."""
    tally = Tally()
    rows: dict[str, list[dict[str, Any]]] = {item.category: [] for item in items}
    place = partial(_place, folder=folder, options=options)
    for item, (part, row) in zip(
        items, work_through(place, items, options, "writing anomalib"), strict=True
    ):
        tally.add(part)
        rows[item.category].append(row)
    for category, members in rows.items():
        table = io.StringIO()
        writer = csv.DictWriter(table, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(members)
        write_new(folder / f"{category}.csv", table.getvalue().encode())
    return tally


def _place(item: Item, folder: Path, options: WriteOptions) -> tuple[Tally, dict[str, Any]]:
    tally = Tally()
    image = place_image(item, folder, item.id + item.image.suffix, options, tally)
    mask = ""
    if item.label and item.mask is not None:
        mask = f"{item.category}/ground_truth/{item.defect_type}/{item.stem}.png"
        place_mask(item, folder / mask, options, tally)
    if options.placement == "reference":
        # anomalib takes no path that leads out of its root, so these tables are read without one.
        home = options.destination.resolve()
        image, mask = str((home / image).resolve()), str(home / mask) if mask else ""
    return tally, {
        "image_path": image,
        "label": "anomalous" if item.label else "normal",
        "label_index": item.label,
        "split": item.split,
        "mask_path": mask,
        "defect_type": item.defect_type,
        "id": item.id,
    }


def read(source: Path, options: ReadOptions) -> list[Item]:
    """Return the images of every table with the columns of anomalib's ``Tabular``.

    Raises:
        ConversionError: If there is none, or one names a missing file.
    """
    tables = _tables(source)
    if not tables:
        raise ConversionError(
            f"{source} holds no CSV table with the columns image_path and label_index."
        )
    items = []
    for table in tables:
        if options.categories and table.stem not in options.categories:
            continue
        with table.open(newline="", encoding="utf-8-sig") as file:
            items += [
                _item(row, table.stem, source, f"{table}, line {number}")
                for number, row in enumerate(csv.DictReader(file), start=2)
            ]
    return items


def _tables(source: Path) -> list[Path]:
    return [path for path in sorted(source.glob("*.csv")) if _has_columns(path)]


def _has_columns(path: Path) -> bool:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            names = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return {"image_path", "label_index"} <= set(names)


def _item(row: Mapping[str, str], category: str, source: Path, where: str) -> Item:
    image = inside(source, row["image_path"], where)
    split = row.get("split") or ""
    sample_id = row.get("id")
    if not is_sample_id(sample_id):
        defect_type = GOOD if row["label_index"] == "0" else row.get("defect_type") or "bad"
        folder = "train" if split == "train" else "test"
        sample_id = make_id(category, folder, defect_type, image.stem)
    mask = row.get("mask_path")
    return item_of_id(
        sample_id,
        image=File(image),
        mask=MaskImage(File(inside(source, mask, where))) if mask else None,
        split=split,
    )

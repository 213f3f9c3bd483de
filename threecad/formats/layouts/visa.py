"""``visa``: the layout and split table of VisA (Zou et al., ECCV 2022), ``split_csv/1cls.csv``."""

from __future__ import annotations

import csv
import io
from functools import partial
from typing import TYPE_CHECKING

from threecad.dataset.samples import GOOD
from threecad.errors import ConversionError
from threecad.formats.contents import File, MaskImage
from threecad.formats.file_names import read_ids, with_flat_names, write_ids
from threecad.formats.items import Item, make_id
from threecad.formats.layouts.photographs import BAD
from threecad.formats.reading.options import inside, item_of_id
from threecad.formats.writing import Tally, place_image, place_mask, work_through
from threecad.system import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_TABLE = "split_csv/1cls.csv"
_COLUMNS = ["object", "split", "label", "image", "mask"]


def looks_like(source: Path) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    return f"it has {_TABLE}" if (source / _TABLE).is_file() else None


def read(source: Path, options: ReadOptions) -> list[Item]:
    """Return the images named in ``split_csv/1cls.csv``.

    VisA does not name defect types: they are all ``bad``, unless threecad wrote the folder.

    Raises:
        ConversionError: If the table is missing or not VisA's, or names a missing file.
    """
    table = source / _TABLE
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if (reader.fieldnames or [])[: len(_COLUMNS)] != _COLUMNS:
                raise ConversionError(
                    f"{table} begins with {reader.fieldnames}; expected {','.join(_COLUMNS)}."
                )
            rows = list(reader)
    except FileNotFoundError as error:
        raise ConversionError(
            f"There is no {table}. Expected the root of a VisA folder."
        ) from error
    ids = read_ids(source)
    return [
        _item(row, source, ids, f"{table}, line {number}")
        for number, row in enumerate(rows, start=2)
        if not options.categories or row["object"] in options.categories
    ]


def _item(row: Mapping[str, str], source: Path, ids: Mapping[str, str], where: str) -> Item:
    if row["label"] not in ("normal", "anomaly") or row["split"] not in ("train", "val", "test"):
        raise ConversionError(
            f"{where}: label {row['label']!r}, split {row['split']!r}; expected normal or anomaly, "
            "and train, val or test."
        )
    image = inside(source, row["image"], where)
    folder = "train" if row["split"] == "train" else "test"
    defect_type = GOOD if row["label"] == "normal" else BAD
    own_id = ids.get(row["image"]) or make_id(row["object"], folder, defect_type, image.stem)
    mask = MaskImage(File(inside(source, row["mask"], where))) if row["mask"] else None
    return item_of_id(own_id, image=File(image), mask=mask, split=row["split"])


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write ``<Category>/Data/{Images,Masks}/{Normal,Anomaly}`` and the split table."""
    items = with_flat_names(items)
    tally = Tally()
    place = partial(_place, folder=folder, options=options)
    rows = []
    for part, row in work_through(place, items, options, "writing visa"):
        tally.add(part)
        rows.append(row)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(rows)
    atomic.write_text(folder / _TABLE, table.getvalue())
    write_ids(folder, {row[3]: item.id for row, item in zip(rows, items, strict=True)})
    return tally


def _place(item: Item, folder: Path, options: WriteOptions) -> tuple[Tally, list[str]]:
    tally = Tally()
    kind = "Anomaly" if item.label else "Normal"
    image = f"{item.category}/Data/Images/{kind}/{item.name}{item.image.suffix}"
    mask = ""
    image = place_image(item, folder, image, options, tally)
    if item.label and item.mask is not None:
        mask = f"{item.category}/Data/Masks/Anomaly/{item.name}.png"
        place_mask(item, folder / mask, options, tally)
    label = "anomaly" if item.label else "normal"
    return tally, [item.category, item.split, label, image, mask]

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
from threecad.formats.reading.documents import read_label
from threecad.formats.reading.options import BAD, item_of_id
from threecad.formats.writing import Tally, place_image, place_mask, work_through
from threecad.system import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_TABLE = "split_csv/1cls.csv"
_COLUMNS = ["object", "split", "label", "image", "mask"]


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    return f"it has {_TABLE}" if (source.root / _TABLE).is_file() else None


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images named in ``split_csv/1cls.csv``.

    VisA does not name defect types: they are all ``bad``, unless threecad wrote the folder.

    Raises:
        ConversionError: If the table is missing or not VisA's, or names a missing file.
    """
    del options
    table = source.root / _TABLE
    ids = read_ids(source)
    items = []
    for number, row in source.read_table(table):
        if missing := [name for name in _COLUMNS if name not in row]:
            raise ConversionError(
                f"{table} has no column {missing[0]}; expected {','.join(_COLUMNS)}."
            )
        with source.collecting():
            items.append(_item(row, source, ids, table, f"{table}, line {number}"))
    return items


def _item(
    row: Mapping[str, str], source: Source, ids: Mapping[str, str], table: Path, where: str
) -> Item:
    label, split = read_label(row["label"], where), row["split"]
    if split not in ("train", "val", "test"):
        raise ConversionError(f"{where}: split {split!r}; expected train, val or test.")
    home = [source.root]
    image = source.find(row["image"], table, where, bases=home)
    defect_type = BAD if label else GOOD
    own_id = ids.get(row["image"]) or make_id(row["object"], split, defect_type, image.stem)
    mask = source.find(row["mask"], table, where, bases=home) if row["mask"] else None
    return item_of_id(
        own_id,
        image=File(image),
        mask=MaskImage(File(mask)) if mask is not None else None,
        split=split,
        as_stored=True,
    )


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

"""``visa``: the layout and split table of VisA (Zou et al., ECCV 2022), ``split_csv/1cls.csv``.

Without the table the folders speak: ``<object>/Data/Images/{Normal,Anomaly}`` and
``<object>/Data/Masks/Anomaly``; ``<object>/image_anno.csv`` names the defect types.
"""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from threecad.dataset.naming import is_good_name
from threecad.dataset.samples import GOOD
from threecad.errors import ConversionError
from threecad.formats.contents import File, MaskImage
from threecad.formats.file_names import read_ids, with_flat_names, write_ids
from threecad.formats.items import Item, make_id
from threecad.formats.reading.documents import read_label
from threecad.formats.reading.options import (
    BAD,
    ReadOptions,
    category_name,
    foreign_id,
    item_of_id,
)
from threecad.formats.writing import Tally, place_image, place_mask, work_through
from threecad.system import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from threecad.formats.reading.source import Source
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_TABLE = "split_csv/1cls.csv"
_COLUMNS = ["object", "split", "label", "image", "mask"]


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    if (table := _table(source)) is not None:
        return f"it has {source.relative(table)}"
    found = next((path for path in source.images if _kind(path)), None)
    return f"it has {source.relative(found.parent)}" if found else None


def _table(source: Source) -> Path | None:
    found = [path for path in source.files if path.as_posix().endswith(f"/{_TABLE}")]
    return min(found, key=lambda path: len(path.parts), default=None)


def _kind(path: Path) -> str:
    """Return the folder that says what an image shows, ``""`` if it is not one of VisA's."""
    *_, data, images, kind, _ = ("", "", "", *path.parts)
    return kind if (data, images) == ("Data", "Images") and kind in ("Normal", "Anomaly") else ""


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images named in ``split_csv/1cls.csv`` or, without it, those of the folders.

    The table does not name defect types: they are all ``bad``, unless threecad wrote the folder.
    Without the table the split is left open.

    Raises:
        ConversionError: If there is neither table nor folder, or the table is not VisA's, or names
            a missing file.
    """
    table = _table(source)
    if table is None:
        return _read_folders(source, options)
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


def _read_folders(source: Source, options: ReadOptions) -> list[Item]:
    images = [path for path in source.images if _kind(path)]
    if not images:
        raise ConversionError(
            f"{source.root} holds neither {_TABLE} nor <object>/Data/Images/Normal."
        )
    objects = {path.parents[3] for path in images}
    tables = {folder: _types(folder, source) for folder in objects}
    items = []
    for image in images:
        folder = image.parents[3]
        types = tables[folder]
        if types is not None and image not in types:
            continue  # it is among the photographs, but nothing says what it is
        kinds = types[image] if types is not None else [BAD] * (_kind(image) == "Anomaly")
        if bool(kinds) != (_kind(image) == "Anomaly"):
            source.fault(f"{source.relative(image)} is called otherwise in image_anno.csv.")
        masks = source.images_below(folder / "Data" / "Masks" / _kind(image))
        mask = next((path for path in masks if path.stem == image.stem), None)
        name = category_name(folder, options if folder == source.root else ReadOptions())
        sample_id = foreign_id(kinds, "", image.stem, folder, replace(options, category=name))
        drawn = MaskImage(File(mask)) if mask is not None else None
        items.append(item_of_id(sample_id, image=File(image), mask=drawn, split=""))
    return items


def _types(folder: Path, source: Source) -> dict[Path, list[str]] | None:
    """Return the defect types of every image in ``image_anno.csv``; ``None`` if there is none."""
    table = folder / "image_anno.csv"
    if table not in source.all_files:
        return None
    found = {}
    for number, row in source.read_table(table):
        where = f"{source.relative(table)}, line {number}"
        with source.collecting():
            image = source.find(row.get("image"), table, where, bases=[folder.parent])
            names = [name.strip() for name in (row.get("label") or "").split(",")]
            if not all(names):
                raise ConversionError(f"{where}: the label is empty; expected normal or a type.")
            found[image] = [name for name in names if not is_good_name(name)]
    return found


def _item(
    row: Mapping[str, str], source: Source, ids: Mapping[str, str], table: Path, where: str
) -> Item:
    label, split = read_label(row["label"], where), row["split"]
    if split not in ("train", "val", "test"):
        raise ConversionError(f"{where}: split {split!r}; expected train, val or test.")
    home = [table.parent.parent]
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

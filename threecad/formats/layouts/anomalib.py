"""``anomalib``: one CSV table for every category, for anomalib's ``Tabular`` data module.

Every row names its own mask, so nothing depends on the order of file names. Paths are relative to
the folder, which is to be given as ``root``; with references they are absolute, and ``root``
is left out.
"""

from __future__ import annotations

import csv
import io
from functools import partial
from typing import TYPE_CHECKING, Any

from threecad.dataset.naming import is_good_name, split_of_name
from threecad.dataset.samples import GOOD
from threecad.errors import ConversionError
from threecad.formats.contents import File, MaskImage
from threecad.formats.items import make_id
from threecad.formats.reading.documents import decode_text, read_label
from threecad.formats.reading.options import BAD, is_sample_id, item_of_id
from threecad.formats.writing import Tally, place_image, place_mask, work_through, write_new

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_COLUMNS = ("image_path", "label", "label_index", "split", "mask_path", "defect_type", "id")


def looks_like(source: Source) -> str | None:
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


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images of every table with the columns of anomalib's ``Tabular``.

    Raises:
        ConversionError: If there is none, or one names a missing file.
    """
    del options
    tables = _tables(source)
    if not tables:
        raise ConversionError(
            f"{source.root} holds no CSV table with the columns image_path and label_index."
        )
    items = []
    for table in tables:
        for number, row in source.read_table(table):
            with source.collecting():
                items.append(_item(row, table, source, f"{table}, line {number}"))
    return items


def _tables(source: Source) -> list[Path]:
    return [
        path for path in source.named(".csv") if path.parent == source.root and _has_columns(path)
    ]


def _has_columns(path: Path) -> bool:
    try:
        text = decode_text(path.read_bytes(), path)
        names = next(csv.reader(io.StringIO(text, newline="")), [])
    except (OSError, ConversionError, csv.Error):
        return False
    return {"image_path", "label_index"} <= set(names)


def _item(row: Mapping[str, str], table: Path, source: Source, where: str) -> Item:
    image = source.find(row["image_path"], table, where)
    label = read_label(row["label_index"], where)
    if (said := row.get("label")) and read_label(said, where) != label:
        raise ConversionError(f"{where}: label {said!r} contradicts label_index {label}.")
    split = split_of_name(row.get("split") or "")
    if row.get("split") and not split:
        raise ConversionError(f"{where}: split {row['split']!r}; expected train, val or test.")
    sample_id = row.get("id")
    if not is_sample_id(sample_id):
        defect_type = (row.get("defect_type") or BAD) if label else GOOD
        if label and is_good_name(defect_type):
            raise ConversionError(f"{where}: it is defective, but of the type {defect_type!r}.")
        sample_id = make_id(table.stem, split or "test", defect_type, image.stem)
    elif label != (sample_id.split("/")[2] != GOOD):
        raise ConversionError(f"{where}: label_index {label} contradicts the id {sample_id!r}.")
    mask = row.get("mask_path")
    return item_of_id(
        sample_id,
        image=File(image),
        mask=MaskImage(File(source.find(mask, table, where))) if mask else None,
        split=split,
        as_stored=True,
    )

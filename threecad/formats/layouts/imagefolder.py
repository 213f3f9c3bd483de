"""``imagefolder``: images as files and a table, for Hugging Face's ``imagefolder`` loader.

``<split>/metadata.parquet`` names every image and its mask; a good image has none. The loader takes
``file_name`` for the image only if it is the first such column, and needs a column that is all
null to have a type: hence Parquet with a fixed schema. It reads masks that are null from
``datasets`` 5.0 on.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from threecad.dataset.catalog import is_multiple_defects
from threecad.errors import ConversionError
from threecad.formats import columns
from threecad.formats.contents import File, MaskImage
from threecad.formats.file_names import with_place_names
from threecad.formats.reading.options import hub_split, item_of_id, split_of_hub
from threecad.formats.writing import Tally, place_image, place_mask, work_through
from threecad.system import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_TABLE = "metadata.parquet"


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    tables = _tables(source)
    return f"it has {source.relative(tables[0])}" if tables else None


def _tables(source: Source) -> list[Path]:
    return [path for path in source.named(_TABLE) if path.parent.parent == source.root]


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write a folder for every split, with its table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # The id's own split is no part of the names: the loader would take such a folder for a split.
    items = with_place_names(items)
    described = _describe(items)
    schema = columns.arrow_schema(described)
    tally = Tally()
    rows: dict[str, list[dict[str, Any]]] = {item.split: [] for item in items}
    place = partial(_place, folder=folder, options=options)
    for item, (part, row) in zip(
        items, work_through(place, items, options, "writing imagefolder"), strict=True
    ):
        tally.add(part)
        rows[item.split].append(_encoded({**row, **_labels(item)}, described))
    for split, members in rows.items():
        with atomic.replacing(folder / hub_split(split) / _TABLE) as temporary:
            pq.write_table(pa.Table.from_pylist(members, schema=schema), temporary)
    return tally


def _describe(items: Sequence[Item]) -> dict[str, dict[str, Any]]:
    described = columns.describe_columns(
        {item.category for item in items}, {item.defect_type for item in items}
    )
    text = {"dtype": "string", "_type": "Value"}
    del described["image"], described["mask"]
    return {"file_name": text, "mask_file_name": text, **described}


def _labels(item: Item) -> dict[str, Any]:
    known = item.label and not is_multiple_defects(item.defect_type)
    return {
        "image_id": item.id,
        "label": item.label,
        "category": item.category,
        "defect_type": item.defect_type,
        "defect_types": [item.defect_type] if known else [],
    }


def _encoded(row: dict[str, Any], described: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the row with class names as numbers."""
    kinds = described["defect_type"]["names"]
    return {
        **row,
        "category": described["category"]["names"].index(row["category"]),
        "defect_type": kinds.index(row["defect_type"]),
        "defect_types": [kinds.index(name) for name in row["defect_types"]],
    }


def _place(item: Item, folder: Path, options: WriteOptions) -> tuple[Tally, dict[str, Any]]:
    tally = Tally()
    home = folder / hub_split(item.split)
    image = place_image(item, home, f"images/{item.name}{item.image.suffix}", options, tally)
    mask = None
    if item.label and item.mask is not None:
        mask = f"masks/{item.name}.png"
        place_mask(item, home / mask, options, tally)
    return tally, {"file_name": image, "mask_file_name": mask}


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images of every split's table.

    Raises:
        ConversionError: If there is no table with our columns, or one names a missing file.
    """
    del options
    tables = _tables(source)
    if not tables:
        raise ConversionError(f"There is no {source.root}/<split>/{_TABLE}.")
    items: list[Item] = []
    for table in tables:
        source.claim(table, "index")
        items += _read_table(table, source)
    return items


def _read_table(table: Path, source: Source) -> Iterator[Item]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    home = table.parent
    try:
        content = pq.read_table(table)
        for row in content.to_pylist():
            mask = row["mask_file_name"]
            yield item_of_id(
                row["image_id"],
                image=File(source.find(row["file_name"], table, str(table))),
                mask=MaskImage(File(source.find(mask, table, str(table)))) if mask else None,
                split=split_of_hub(home.name),
            )
    except (pa.ArrowException, KeyError, TypeError, IndexError) as error:
        raise ConversionError(
            f"{table} is not a table that threecad wrote: {error!r}. Get it again."
        ) from error

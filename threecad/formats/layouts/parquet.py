"""``parquet``: a Hugging Face dataset in a folder, images embedded.

``<Category>/<split>-00000-of-00003.parquet`` and a card whose YAML names one configuration for
every category and one, ``all``, for all of them. ``datasets.load_dataset(folder)`` reads it without
threecad, and so does the Hub.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from threecad.dataset.catalog import is_multiple_defects
from threecad.errors import ConversionError, DataError
from threecad.formats import columns
from threecad.formats.cards import dataset_card
from threecad.formats.contents import MaskImage
from threecad.formats.reading.options import hub_split, item_of_id, split_of_hub
from threecad.formats.writing import (
    Tally,
    encode_mask,
    plan_shards,
    read_item_mask,
    work_through,
    write_new,
)
from threecad.images.files import open_image, read_size
from threecad.system import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    from PIL import Image

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_NEEDED = {"image_id", "image", "mask", "category", "defect_type"}
_SHARD = re.compile(r"(train|validation|test)-\d+-of-(\d+)\.parquet")
_GROUP_BYTES = 32 << 20


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    shards = _shards(source)
    return f"it has {source.relative(shards[0])}" if shards else None


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write the shards and the card."""
    tally = Tally()
    schema = columns.arrow_schema(
        columns.describe_columns(
            {item.category for item in items},
            {item.defect_type for item in items},
            with_stats=True,
        )
    )
    shards = dict(_plan(items, options.shard_bytes))
    waiting = {name: members for name, members in shards.items() if not (folder / name).exists()}
    todo = [item for members in waiting.values() for item in members]
    if len(todo) < len(items):
        tally.images["there"] = len(items) - len(todo)
    encode = partial(_encode, options=options)
    encoded = work_through(encode, todo, options, "writing parquet", batch_size=1)
    for name, members in waiting.items():
        _write_shard(folder / name, members, encoded, schema, tally)
    for _ in encoded:  # raises what went wrong
        pass
    card = dataset_card(items, options.origin, errata=options.errata)
    write_new(folder / "README.md", card.encode())
    return tally


def _plan(items: Sequence[Item], shard_bytes: int) -> Iterator[tuple[str, list[Item]]]:
    """Yield the name and the items of every shard."""
    for group, number, count, members in plan_shards(
        items, lambda item: f"{item.category}/{hub_split(item.split)}", shard_bytes
    ):
        yield f"{group}-{number:05d}-of-{count:05d}.parquet", members


def _encode(item: Item, options: WriteOptions) -> tuple[Tally, _Encoded]:
    """Return images and region statistics: the part that takes time."""
    tally = Tally()
    item.image.read_size()  # raises where there is no image
    mask = None
    if item.mask is not None and item.label:
        mask = read_item_mask(item, options.mask_rule, tally)
    return tally, _Encoded(
        image=item.image.read_bytes(),
        mask=None if mask is None else encode_mask(mask),
        regions=columns.describe_regions(mask),
    )


class _Encoded(NamedTuple):
    """What a row holds of the image and the mask of an item, each as the bytes of a file."""

    image: bytes
    mask: bytes | None
    regions: dict[str, Any]


def _write_shard(
    path: Path,
    items: Sequence[Item],
    encoded: Iterator[tuple[Tally, _Encoded]],
    schema: pa.Schema,
    tally: Tally,
) -> None:
    """Write one shard, in row groups small enough to be read one at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with (
        atomic.replacing(path) as temporary,
        pq.ParquetWriter(temporary, schema, write_page_index=True) as writer,
    ):
        rows: list[dict[str, Any]] = []
        filled = 0
        for item, (part, content) in zip(items, itertools.islice(encoded, len(items)), strict=True):
            tally.add(part)
            tally.images["embedded"] += 1
            rows.append(_row(item, content, schema))
            filled += len(rows[-1]["image"]["bytes"])
            if filled >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows, filled = [], 0
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _row(item: Item, content: _Encoded, schema: pa.Schema) -> dict[str, Any]:
    features = _features(schema)
    kinds = features["defect_type"]["names"]
    known = item.label and not is_multiple_defects(item.defect_type)
    name = f"{item.stem}{item.image.suffix}"
    return {
        "image_id": item.id,
        "image": {"bytes": content.image, "path": name},
        "mask": {"bytes": content.mask, "path": f"{item.stem}.png"} if content.mask else None,
        "label": item.label,
        "category": features["category"]["names"].index(item.category),
        "defect_type": kinds.index(item.defect_type),
        "defect_types": [kinds.index(item.defect_type)] if known else [],
        **content.regions,
    }


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Return the columns that a schema describes, in the JSON form of ``datasets.Features``."""
    features: dict[str, Any] = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    return features


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the rows of all shards.

    Raises:
        ConversionError: If there is no shard with our columns, or one is damaged or missing.
    """
    del options
    shards = _shards(source)
    if not shards:
        raise ConversionError(
            f"{source.root} holds no <split>-00000-of-00001.parquet with the columns "
            f"{', '.join(sorted(_NEEDED))}."
        )
    _reject_gaps(shards)
    items: list[Item] = []
    for shard in shards:
        source.claim(shard, "index")
        items += _read_shard(shard)
    return items


def _shards(source: Source) -> list[Path]:
    return [path for path in source.named(".parquet") if _is_shard(path)]


def _reject_gaps(shards: Sequence[Path]) -> None:
    """Refuse a set of shards that has fewer members than their names say."""
    sets = Counter((path.parent, *_SHARD.findall(path.name)[0]) for path in shards)
    for (folder, split, total), found in sets.items():
        if found < int(total):
            raise ConversionError(
                f"{folder} holds {found} of the {int(total)} shards of {split}. Get the others."
            )


def _is_shard(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not _SHARD.fullmatch(path.name):
        return False
    try:
        return set(pq.read_schema(path).names) >= _NEEDED
    except (OSError, pa.ArrowException):
        return True  # by its name it is one, and reading it will say that it is damaged


def _read_shard(path: Path) -> Iterator[Item]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    match = _SHARD.fullmatch(path.name)
    assert match is not None
    split = split_of_hub(match[1])
    try:
        file = pq.ParquetFile(path)
        length = path.stat().st_size // max(file.metadata.num_rows, 1)
        wanted = ["image_id", "image.path", "mask.path"]
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=wanted).to_pylist()
            for number, row in enumerate(rows):
                cell = partial(StoredImage, path, group, number, length=length)
                mask = row["mask"] and row["mask"]["path"]
                yield item_of_id(
                    row["image_id"],
                    image=cell("image", row["image"]["path"]),
                    mask=MaskImage(cell("mask", mask)) if mask else None,
                    split=split,
                )
    except (OSError, pa.ArrowException, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ConversionError(
            f"{path} is not a shard that threecad wrote: {error!r}. Get it again."
        ) from error


@dataclass(frozen=True)
class StoredImage:
    """An image inside a Parquet file."""

    path: Path
    group: int
    row: int
    column: str
    name: str
    length: int

    @property
    def suffix(self) -> str:
        """Suffix of the name it had as a file, in lower case."""
        return Path(self.name).suffix.lower()

    def read_bytes(self) -> bytes:
        """Return the bytes of the image."""
        values = _read_column(self.path, self.group, self.column)
        data = values[self.row].as_py()["bytes"]
        if not isinstance(data, bytes):
            raise DataError(f"{self} has no bytes: its images are not embedded.")
        return data

    def read_size(self) -> tuple[int, int]:
        """Return ``(height, width)`` from the header."""
        return read_size(str(self), self.read_bytes())

    def open(self) -> Image.Image:
        """Return the decoded image."""
        return open_image(str(self), self.read_bytes())

    def stamp(self) -> str:
        """Return the stamp of the file and the place in it."""
        status = self.path.stat()
        place = f"{self.group}|{self.row}|{self.column}"
        return f"{self.path}|{status.st_size}|{status.st_mtime_ns}|{place}"

    def __str__(self) -> str:
        """Return how messages name it."""
        return f"{self.path}:{self.name}"


@lru_cache(maxsize=2)
def _read_column(path: Path, group: int, column: str) -> pa.ChunkedArray:
    """Return a column of a row group; the last two (image and mask) are kept."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read_row_group(group, columns=[column]).column(0)

"""``webdataset``: tar shards, read in order without unpacking.

``<split>-000000.tar`` with three members for every image: ``<key>.image.png``, ``<key>.mask.png``
and ``<key>.json``. Good images have a mask too, of zeros: readers take the columns from the first
images and drop or refuse what comes later. For the same reason all images have one suffix; if they
differ at the source, those that are not PNG become PNG, with the same pixels.
"""

from __future__ import annotations

import io
import itertools
import json
import re
import tarfile
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from threecad.errors import ConversionError
from threecad.formats.contents import AsPng, MaskImage, TarMember
from threecad.formats.file_names import with_flat_names
from threecad.formats.reading.options import hub_split, item_of_id, split_of_hub
from threecad.formats.writing import Tally, encode_mask, plan_shards, read_item_mask, work_through
from threecad.system import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_SHARD = re.compile(r"(train|validation|test)-\d+\.tar")


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    shards = _shards(source)
    return f"it has {shards[0].name}" if shards else None


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write the shards."""
    tally = Tally()
    items = with_flat_names(items)
    if len({item.image.suffix for item in items}) > 1:
        others = [item for item in items if item.image.suffix != ".png"]
        tally.notes["images encoded as PNG"] = len(others)
        items = [i if i.image.suffix == ".png" else replace(i, image=AsPng(i.image)) for i in items]
    shards = {
        folder / f"{group}-{number:06d}.tar": members
        for group, number, _, members in plan_shards(
            items, lambda item: hub_split(item.split), options.shard_bytes
        )
    }
    waiting = {path: members for path, members in shards.items() if not path.exists()}
    todo = [item for members in waiting.values() for item in members]
    if len(todo) < len(items):
        tally.images["there"] = len(items) - len(todo)
    encoded = work_through(
        partial(_encode, options=options), todo, options, "writing webdataset", batch_size=1
    )
    for path, members in waiting.items():
        with (
            atomic.replacing(path) as temporary,
            tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            for item, (part, image, mask) in zip(
                members, itertools.islice(encoded, len(members)), strict=True
            ):
                tally.add(part)
                tally.images["embedded"] += 1
                name = f"{item.name}.image{item.image.suffix}"
                _add(archive, name, image)
                _add(archive, f"{item.name}.mask.png", mask)
                _add(archive, f"{item.name}.json", _describe(item))
    for _ in encoded:  # raises what went wrong
        pass
    return tally


def _encode(item: Item, options: WriteOptions) -> tuple[Tally, bytes, bytes]:
    """Return the image and the mask as PNG: the part that takes time."""
    tally = Tally()
    size = item.image.read_size()
    if item.label:
        mask = read_item_mask(item, options.mask_rule, tally)
    else:
        mask = np.zeros(size, np.bool_)
    return tally, item.image.read_bytes(), encode_mask(mask)


def _describe(item: Item) -> bytes:
    description = {
        "id": item.id,
        "category": item.category,
        "defect_type": item.defect_type,
        "label": item.label,
    }
    return json.dumps(description, ensure_ascii=False).encode()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images of all shards.

    Raises:
        ConversionError: If there is no shard, or one is not as we write them.
    """
    del options
    shards = _shards(source)
    if not shards:
        raise ConversionError(f"{source.root} holds no <split>-000000.tar.")
    items: list[Item] = []
    for shard in shards:
        source.claim(shard, "index")
        items += _read_shard(shard)
    return items


def _shards(source: Source) -> list[Path]:
    return [
        path
        for path in source.named(".tar")
        if path.parent == source.root and _SHARD.fullmatch(path.name)
    ]


def _read_shard(path: Path) -> Iterator[Item]:
    split = split_of_hub(path.name.split("-")[0])
    groups: dict[str, dict[str, TarMember]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                key, _, kind = member.name.partition(".")
                groups.setdefault(key, {})[kind.split(".")[0]] = TarMember(
                    path, member.name, member.offset_data, member.size
                )
        for group in groups.values():
            description = json.loads(group["json"].read_bytes())
            yield item_of_id(
                description["id"],
                image=group["image"],
                mask=_mask(description, group),
                split=split,
            )
    except (tarfile.TarError, KeyError, ValueError, TypeError) as error:
        raise ConversionError(
            f"{path} is not a shard that threecad wrote: {error!r}. Expected <key>.image.*, "
            "<key>.mask.png and <key>.json."
        ) from error


def _mask(description: Mapping[str, object], group: Mapping[str, TarMember]) -> MaskImage | None:
    return MaskImage(group["mask"]) if description["label"] else None

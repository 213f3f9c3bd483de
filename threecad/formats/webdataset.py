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
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from threecad import atomic
from threecad.errors import ConversionError, ImageError
from threecad.formats.items import MaskImage, TarMember, image_size
from threecad.formats.placing import Tally, encode_mask, read_item_mask, work_through
from threecad.formats.reading import hub_split, item_of_id, split_of_hub
from threecad.formats.renaming import flat_names
from threecad.formats.sharding import plan_shards

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.placing import WriteOptions
    from threecad.formats.reading import ReadOptions

__all__ = ["looks_like", "read", "write"]

_SHARD = re.compile(r"(train|validation|test)-\d+\.tar")


def looks_like(source: Path) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    shards = _shards(source)
    return f"it has {shards[0].name}" if shards else None


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write the shards."""
    tally = Tally()
    names = flat_names(items)
    suffixes = {item.image.suffix for item in items}
    suffix = suffixes.pop() if len(suffixes) == 1 else ".png"
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
        partial(_encode, suffix=suffix, options=options), todo, options, "writing webdataset"
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
                _add(archive, f"{names[item.id]}.image{suffix}", image or item.image.read_bytes())
                _add(archive, f"{names[item.id]}.mask.png", mask)
                _add(archive, f"{names[item.id]}.json", _describe(item))
    for _ in encoded:  # raises what went wrong
        pass
    return tally


def _encode(item: Item, suffix: str, options: WriteOptions) -> tuple[Tally, bytes | None, bytes]:
    """Return the image, if it has to be encoded anew, and the mask."""
    tally = Tally()
    size = image_size(item.image)
    if item.label:
        mask = read_item_mask(item, options.mask_rule, tally)
    else:
        mask = np.zeros(size, np.bool_)
    image = None
    if item.image.suffix != suffix:
        tally.notes["images encoded as PNG"] += 1
        image = _as_png(item)
    return tally, image, encode_mask(mask)


def _as_png(item: Item) -> bytes:
    try:
        with Image.open(io.BytesIO(item.image.read_bytes())) as image:
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{item.image} cannot be written as PNG: {error}.") from error
    return buffer.getvalue()


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


def read(source: Path, options: ReadOptions) -> list[Item]:
    """Return the images of all shards.

    Raises:
        ConversionError: If there is no shard, or one is not as we write them.
    """
    shards = _shards(source)
    if not shards:
        raise ConversionError(f"{source} holds no <split>-000000.tar.")
    items: list[Item] = []
    for shard in shards:
        items += _read_shard(shard, options)
    return items


def _shards(source: Path) -> list[Path]:
    return [path for path in sorted(source.glob("*.tar")) if _SHARD.fullmatch(path.name)]


def _read_shard(path: Path, options: ReadOptions) -> Iterator[Item]:
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
            if not options.categories or description["category"] in options.categories:
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

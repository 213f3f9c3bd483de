"""File names for layouts whose names cannot hold a sample id, and the way back.

Such a layout carries ``.threecad/ids.csv`` with the name and the id of every image, which our
readers use; programs that read the layout never see it.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from threecad.errors import ConversionError
from threecad.system import atomic
from threecad.system.locations import OWN_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.reading.source import Source

__all__ = ["read_ids", "with_flat_names", "with_padded_names", "with_place_names", "write_ids"]

_IDS = "ids.csv"


def with_flat_names(items: Sequence[Item]) -> list[Item]:
    """Return the items, each with its id as name: ``__`` for slashes, no dot, no space.

    Where two ids come to the same name, a number is added.
    """
    return _with_unique_names(
        items, lambda item: item.id.replace("/", "__").replace(".", "-").replace(" ", "-")
    )


def with_place_names(items: Sequence[Item]) -> list[Item]:
    """Return the items, each called ``<Category>/<defect_type>/<stem>``, unique in each split.

    Where two images of one split come to the same name, a number is added.
    """
    split_items = [[item for item in items if item.split == s] for s in ("train", "val", "test")]
    named = [
        _with_unique_names(part, lambda item: f"{item.category}/{item.defect_type}/{item.stem}")
        for part in split_items
    ]
    return sorted(itertools.chain(*named), key=lambda item: item.id)


def _with_unique_names(items: Sequence[Item], wish: Callable[[Item], str]) -> list[Item]:
    named = []
    taken: set[str] = set()
    for item in sorted(items, key=lambda item: item.id):
        name = base = wish(item)
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name.casefold())
        named.append(replace(item, name=name))
    return named


def with_padded_names(items: Sequence[Item]) -> list[Item]:
    """Return the items, each called by its stem, padded so that all stems of a folder sort alike.

    Programs that sort images and masks apart and pair them by position need that: ``1.png`` comes
    before ``10.png``, but ``10_mask.png`` before ``1_mask.png``. Stems of one length are kept;
    numbers are padded with zeros; anything else is padded with ``-`` at its end.

    Raises:
        ConversionError: If padding makes two stems of a folder the same.
    """
    folders: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        folders[item.id.rsplit("/", 1)[0]].append(item)
    named = []
    for folder, members in folders.items():
        width = max(len(item.stem) for item in members)
        digits = all(item.stem.isascii() and item.stem.isdigit() for item in members)
        names = [i.stem.zfill(width) if digits else i.stem.ljust(width, "-") for i in members]
        if len(set(names)) < len(names):
            raise ConversionError(
                f"Stems in {folder} differ only in leading zeros or trailing hyphens, so they "
                "cannot be padded to one length. Rename the files."
            )
        named += [replace(item, name=name) for item, name in zip(members, names, strict=True)]
    return sorted(named, key=lambda item: item.id)


def write_ids(folder: Path, ids: Mapping[str, str]) -> None:
    """Write the id of every image path (relative, POSIX) to ``.threecad/ids.csv``."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["image", "id"])
    writer.writerows(sorted(ids.items()))
    atomic.write_text(folder / OWN_FOLDER / _IDS, table.getvalue())


def read_ids(source: Source) -> dict[str, str]:
    """Return the id of every image path as written by ``write_ids``; empty if there is no file.

    Raises:
        ConversionError: If the file is not such a table.
    """
    path = source.root / OWN_FOLDER / _IDS
    if not path.is_file():
        return {}
    try:
        return {row["image"]: row["id"] for _, row in source.read_table(path)}
    except KeyError as error:
        raise ConversionError(
            f"{path} is not a table of image,id: {error!r}. Remove it to read the folder by its "
            "names alone."
        ) from error

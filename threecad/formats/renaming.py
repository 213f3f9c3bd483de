"""File names for layouts whose names cannot hold a sample id, and the way back.

Such a layout carries ``.threecad/ids.csv`` with the name and the id of every image, which our
readers use; programs that read the layout never see it.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from typing import TYPE_CHECKING

from threecad import atomic
from threecad.errors import ConversionError
from threecad.locations import OWN_FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from threecad.formats.items import Item

__all__ = ["flat_names", "padded_names", "read_ids", "write_ids"]

_IDS = "ids.csv"


def flat_names(items: Sequence[Item]) -> dict[str, str]:
    """Return a name for every id: the id with ``__`` for its slashes and no dot or space.

    Where two ids come to the same name, a number is added.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for item in sorted(items, key=lambda item: item.id):
        name = base = item.id.replace("/", "__").replace(".", "-").replace(" ", "-")
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name.casefold())
        names[item.id] = name
    return names


def padded_names(items: Sequence[Item]) -> dict[str, str]:
    """Return a stem for every id such that all stems of one folder sort alike with any ending.

    Programs that sort images and masks apart and pair them by position need that: ``1.png`` comes
    before ``10.png``, but ``10_mask.png`` before ``1_mask.png``. Stems of one length are kept;
    numbers are padded with zeros; anything else is padded with ``-`` at its end.
    """
    folders: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        folders[item.id.rsplit("/", 1)[0]].append(item)
    names = {}
    for folder, members in folders.items():
        width = max(len(item.stem) for item in members)
        digits = all(item.stem.isascii() and item.stem.isdigit() for item in members)
        for item in members:
            names[item.id] = item.stem.zfill(width) if digits else item.stem.ljust(width, "-")
        if len({names[item.id] for item in members}) < len(members):
            raise ConversionError(
                f"Stems in {folder} differ only in leading zeros or trailing hyphens, so they "
                "cannot be padded to one length. Rename the files."
            )
    return names


def write_ids(folder: Path, ids: Mapping[str, str]) -> None:
    """Write the id of every image path (relative, POSIX) to ``.threecad/ids.csv``."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["image", "id"])
    writer.writerows(sorted(ids.items()))
    atomic.write_text(folder / OWN_FOLDER / _IDS, table.getvalue())


def read_ids(folder: Path) -> dict[str, str]:
    """Return the id of every image path as written by ``write_ids``; empty if there is no file.

    Raises:
        ConversionError: If the file is not such a table.
    """
    path = folder / OWN_FOLDER / _IDS
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["image"]: row["id"] for row in csv.DictReader(file)}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise ConversionError(
            f"{path} is not a table of image,id: {error!r}. Remove it to read the folder by its "
            "names alone."
        ) from error

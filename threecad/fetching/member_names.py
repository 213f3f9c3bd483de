"""Names found in archives and repositories, judged before any of them becomes a path."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from threecad.dataset.catalog import find_category
from threecad.dataset.scanning import IMAGE_SUFFIXES
from threecad.errors import ExtractionError

if TYPE_CHECKING:
    import zipfile

__all__ = [
    "Claims",
    "decode_name",
    "is_image",
    "is_junk",
    "is_wanted",
    "safe_parts",
    "tree_path",
]

_SPLITS = ("train", "val", "test", "ground_truth")
_JUNK = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_LONGEST_NAME = 255
"""Bytes in one component that every common file system takes."""


def decode_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a zip member, whatever encoding its writer used.

    Without the UTF-8 flag a name should be in code page 437; many writers put UTF-8 there all the
    same, and Chinese Windows puts GBK.
    """
    name = info.orig_filename
    if info.flag_bits & 0x800 or name.isascii():
        return name
    raw = name.encode("cp437")
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return name


def safe_parts(name: str) -> tuple[str, ...]:
    """Return the components of a relative path from an untrusted source.

    Raises:
        ExtractionError: If the name is absolute, climbs out of its folder, names a drive or holds
            characters that have no place in a file name.
    """
    path = name.replace("\\", "/")
    if path.startswith("/") or re.match("[A-Za-z]:", path):
        raise ExtractionError(f"Refused: {name!r} is an absolute path. {_UNSAFE}")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ExtractionError(f"Refused: {name!r} climbs out of its folder. {_UNSAFE}")
    if re.search(r'[\x00-\x1f\x7f:*?"<>|]', path):
        raise ExtractionError(
            f"Refused: {name!r} holds characters that Windows allows in no name. {_UNSAFE}"
        )
    for part in parts:
        if (length := len(part.encode("utf-8", "surrogatepass"))) > _LONGEST_NAME:
            raise ExtractionError(
                f"Refused: the name {part[:40]!r}… has {length} bytes; systems take "
                f"{_LONGEST_NAME}. {_UNFIT}"
            )
    return parts


_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\..*)?", re.IGNORECASE)
_UNSAFE = "Nothing was unpacked; this is not an archive to trust."
_UNFIT = (
    "Nothing was unpacked. If you trust the archive, unpack it yourself, rename what is wrong and "
    "name the folder as ROOT."
)


def is_image(name: str) -> bool:
    """Whether a file is an image by its name; a trailing dot or space does not count."""
    return PurePosixPath(name.rstrip(" .")).suffix.casefold() in IMAGE_SUFFIXES


def tree_path(parts: tuple[str, ...]) -> PurePosixPath | None:
    """Return where an image belongs below a root, or None if it is no part of the layout.

    >>> tree_path(("data", "3CAD", "Aluminum_Pc", "test", "dent", "000001.png"))
    PurePosixPath('Aluminum_Pc/test/dent/000001.png')
    """
    if len(parts) < 4 or is_junk(parts):
        return None
    category, split, defect_type, file = parts[-4:]
    if split.casefold() not in _SPLITS or not is_image(file):
        return None
    return PurePosixPath(category, split.casefold(), defect_type, file)


def is_junk(parts: tuple[str, ...]) -> bool:
    """Whether a path is what operating systems leave behind in archives."""
    return (
        any(part.startswith(".") or part.casefold() == "__macosx" for part in parts)
        or parts[-1].casefold() in _JUNK
    )


def is_wanted(category: str, wanted: tuple[str, ...] | None) -> bool:
    """Whether a category folder is among those asked for by name or code; all are for None.

    >>> is_wanted("Aluminum_Middle-Frame", ("AMF",))
    True
    """
    if wanted is None:
        return True
    known = find_category(category)
    return any(
        name == category or (known is not None and find_category(name) is known) for name in wanted
    )


class Claims:
    """Remembers which name takes which path, so that no two members end up as one file.

    Compared as the least able file systems do: without case, in one Unicode normal form, without
    trailing dots and spaces. Folders count as well: ``Dent`` and ``dent`` would be merged.
    """

    def __init__(self) -> None:
        self._owners: dict[str, tuple[str, PurePosixPath, object]] = {}
        self._spellings: dict[str, str] = {}

    def add(self, path: PurePosixPath, name: str, identity: object) -> bool:
        """Claim ``path`` for member ``name``; False if an identical member has it already.

        Args:
            path: Where the member goes.
            name: The member, for messages.
            identity: What tells whether two members have the same content.

        Raises:
            ExtractionError: If another member goes to the same path, or to one that differs only in
                case or Unicode form, or if Windows has no such name.
        """
        if any(_DEVICE.fullmatch(part) for part in path.parts):
            raise ExtractionError(f"Refused: {name!r} is a device on Windows. {_UNFIT}")
        for folder in path.parents[:-1]:
            spelling = self._spellings.setdefault(_folded(folder), folder.as_posix())
            if spelling != folder.as_posix():
                raise ExtractionError(
                    f"Refused: the folders {spelling!r} and {folder.as_posix()!r} are one folder "
                    f"on many systems. {_UNFIT}"
                )
        if any(part.endswith((".", " ")) for part in path.parts):
            raise ExtractionError(
                f"Refused: a name in {name!r} ends in a dot or space, which Windows drops. {_UNFIT}"
            )
        owner = self._owners.setdefault(_folded(path), (name, path, identity))
        if owner[0] is name:
            return True
        if owner[1:] == (path, identity):
            return False
        raise ExtractionError(
            f"Refused: {owner[0]!r} and {name!r} would be one file, {path.as_posix()}. {_UNFIT}"
        )


def _folded(path: PurePosixPath) -> str:
    return "/".join(
        unicodedata.normalize("NFC", unicodedata.normalize("NFC", part).casefold()).rstrip(" .")
        for part in path.parts
    )

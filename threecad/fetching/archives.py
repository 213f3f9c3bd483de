"""What is in a zip, and whether it is safe to unpack; judged as a whole, before the first file."""

from __future__ import annotations

import contextlib
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from threecad.dataset.catalog import find_category
from threecad.errors import ExtractionError
from threecad.fetching.member_names import (
    Claims,
    decode_name,
    is_image,
    is_junk,
    is_wanted,
    safe_parts,
    tree_path,
)
from threecad.system.disk import format_bytes, require_room

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["DAMAGED", "Member", "open_zip", "plan_members", "reject_too_large"]

_LARGEST_FILE = 256 << 20
"""Bytes. A 1024×1024 16-bit RGB image without compression has 6 MiB."""
_HIGHEST_RATIO = 1100
"""Deflate cannot compress better than 1032:1; what claims more lies."""
_SUSPICIOUS_RATIO = 100
"""Images hardly shrink in a zip. A whole archive that claims this ratio is a bomb."""
_MOST_MEMBERS = 1_000_000
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,  # a version or method from damaged bytes
    OSError,  # a seek to nowhere, or a disk that cannot read
    ValueError,
)
"""What ``zipfile`` raises about an archive that is not as it should be."""


@dataclass(frozen=True)
class Member:
    """A file of an archive that is to be unpacked.

    Attributes:
        info: What the table of contents says about it.
        name: Its name, decoded.
        target: Where it goes, relative to the root.
    """

    info: zipfile.ZipInfo
    name: str
    target: PurePosixPath


@contextlib.contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip and read its table of contents.

    Raises:
        ExtractionError: If it is not a zip, or is truncated.
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise ExtractionError(f"There is no file {path}.") from error
    except IsADirectoryError as error:
        raise ExtractionError(
            f"{path} is a folder. Name the zip; a tree that is unpacked already needs no download: "
            "pass it as ROOT or set THREECAD_ROOT."
        ) from error
    except PermissionError as error:
        raise ExtractionError(f"{path} cannot be read: {error.strerror}.") from error
    except DAMAGED as error:
        raise ExtractionError(
            f"{path} is not a zip, or only the beginning of one ({error}). Download it again; "
            "a 7z, rar or tar unpack yourself, and name its folder as ROOT."
        ) from error
    with archive:
        yield archive


def plan_members(
    archive: zipfile.ZipFile, path: Path, wanted: tuple[str, ...] | None
) -> tuple[list[Member], list[Member], list[tuple[str, ...]]]:
    """Return the images to unpack, the archives inside the archive, and the paths of the rest.

    Raises:
        ExtractionError: If any member is unsafe.
    """
    infos = archive.infolist()
    if len(infos) > _MOST_MEMBERS:
        raise ExtractionError(f"{path} has {len(infos)} members; 3CAD has under 100,000. Refused.")
    if sum(info.compress_size for info in infos) > path.stat().st_size:
        raise ExtractionError(f"{path}: members overlap, as in a zip bomb. Nothing was unpacked.")
    members, inner, ignored = [], [], []
    claims = Claims()
    for info in infos:
        name = decode_name(info)
        parts = safe_parts(name)
        _reject_special(info, name)
        if info.is_dir() or not parts:
            continue
        target = tree_path(parts)
        if target is None:
            if parts[-1].casefold().endswith(".zip") and not is_junk(parts):
                if _may_hold(parts[-1], wanted):
                    inner.append(Member(info, name, PurePosixPath(parts[-1])))
            else:
                ignored.append(parts)
            continue
        if claims.add(target, name, (info.file_size, info.CRC)) and is_wanted(
            target.parts[0], wanted
        ):
            members.append(Member(info, name, target))
    return members, inner, ignored


def _may_hold(archive_name: str, wanted: tuple[str, ...] | None) -> bool:
    """Whether a nested archive may hold a category asked for: unless named after another one."""
    stem = PurePosixPath(archive_name).stem
    return find_category(stem) is None or is_wanted(stem, wanted)


def _reject_special(info: zipfile.ZipInfo, name: str) -> None:
    """Refuse links, devices, encrypted members and single members that are bombs."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise ExtractionError(f"Refused: {name!r} is a link. Nothing was unpacked.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ExtractionError(
            f"Refused: {name!r} is neither file nor folder. Nothing was unpacked."
        )
    if info.flag_bits & 0x1:
        raise ExtractionError(
            f"Refused: {name!r} is encrypted. 3CAD needs no password; this is another archive."
        )
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ExtractionError(
            f"{name!r} is compressed with method {info.compress_type}; expected deflate. "
            "Unpack the archive with 7-Zip and name its folder as ROOT."
        )
    if info.file_size > _HIGHEST_RATIO * max(info.compress_size, 1):
        raise ExtractionError(
            f"Refused: {name!r} claims {format_bytes(info.file_size)} out of "
            f"{format_bytes(info.compress_size)}, as in a zip bomb. Nothing was unpacked."
        )
    if is_image(name) and info.file_size > _LARGEST_FILE:
        raise ExtractionError(
            f"Refused: {name!r} claims {format_bytes(info.file_size)}; no image of 3CAD is that "
            "large. Nothing was unpacked."
        )


def reject_too_large(path: Path, members: Iterable[Member], root: Path) -> None:
    """Refuse an archive that is a bomb as a whole, or does not fit on the disk of ``root``."""
    total = missing = 0
    for member in members:
        total += member.info.file_size
        with contextlib.suppress(OSError):
            if (root / member.target).stat().st_size == member.info.file_size:
                continue
        missing += member.info.file_size
    if total > max(_SUSPICIOUS_RATIO * path.stat().st_size, _LARGEST_FILE):
        raise ExtractionError(
            f"Refused: {path} claims to hold {format_bytes(total)} in "
            f"{format_bytes(path.stat().st_size)}, as in a zip bomb. Nothing was unpacked."
        )
    require_room(root, missing, "unpacking")

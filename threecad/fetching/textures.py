"""The Describable Textures Dataset, from which synthetic defects are drawn."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from functools import partial
from typing import TYPE_CHECKING

from tqdm import tqdm

from threecad.dataset.catalog import DTD_URL
from threecad.dataset.scanning import IMAGE_SUFFIXES
from threecad.errors import ExtractionError
from threecad.fetching.member_names import is_junk, safe_parts
from threecad.fetching.transfer import fetch
from threecad.fetching.web import open_url
from threecad.system import atomic
from threecad.system.disk import format_bytes, require_room, writing_to
from threecad.system.locations import OWN_FOLDER

if TYPE_CHECKING:
    from pathlib import Path

    from threecad.fetching.web import Response

__all__ = ["download_textures", "textures_folder"]

_LARGEST_IMAGE = 64 << 20
"""Bytes. DTD's photographs are at most 640 pixels a side."""


def textures_folder(root: Path) -> Path:
    """Return where the textures of ``root`` are or would be: one folder for each texture class."""
    return root / OWN_FOLDER / "dtd" / "images"


def download_textures(root: Path, *, url: str = DTD_URL, progress: bool = True) -> Path:
    """Download DTD into ``root`` unless it is there already, and return its image folder.

    Raises:
        DownloadError: If the archive cannot be had or the folder cannot be written.
        ExtractionError: If the archive is broken or unsafe.
    """
    folder = textures_folder(root)
    finished = folder.parent / "complete"
    if finished.is_file():
        return folder
    archive = folder.parent / url.rpartition("/")[2]
    if not archive.is_file():
        fetch(
            partial(_open, url),
            archive,
            key=url,
            what="DTD textures",
            magic=b"\x1f\x8b",
            copies=1,
            progress=progress,
        )
    count = _unpack(archive, folder, progress)
    if not count:
        raise ExtractionError(f"{archive} holds no image at dtd/images/<class>/. Is it DTD?")
    atomic.write_text(finished, f"{count} images from {url}\n")
    archive.unlink()
    return folder


def _open(url: str, headers: dict[str, str]) -> Response:
    return open_url(url, headers)


def _unpack(archive: Path, folder: Path, progress: bool) -> int:
    """Unpack the images of the DTD archive to ``folder/<class>/<file>`` and return their number.

    Raises:
        ExtractionError: If the archive is broken, or a member is a link or has an unsafe name.
        DownloadError: If ``folder`` cannot be written.
    """
    count = 0
    with (
        writing_to(folder),
        tqdm(desc="unpacking textures", unit="image", disable=not progress) as bar,
    ):
        try:
            with tarfile.open(archive, "r|gz") as tar:
                for member in tar:
                    parts = safe_parts(member.name)
                    if not (member.isfile() or member.isdir()):
                        raise ExtractionError(
                            f"Refused: {member.name!r} in {archive} is a link or a device."
                        )
                    if len(parts) == 4 and parts[1] == "images" and not is_junk(parts):
                        count += _write_texture(tar, member, folder / parts[2] / parts[3])
                        bar.update()
        except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
            raise ExtractionError(
                f"{archive} is damaged ({error}). Delete it and run the command again."
            ) from error
    return count


def _write_texture(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> int:
    if target.suffix.casefold() not in IMAGE_SUFFIXES:
        return 0
    if member.size > _LARGEST_IMAGE:
        raise ExtractionError(
            f"Refused: {member.name!r} claims {format_bytes(member.size)}; no texture is as large."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    require_room(target.parent, member.size, member.name)
    source = tar.extractfile(member)
    content = source.read() if source else b""
    if not target.is_file() or target.read_bytes() != content:
        with atomic.replacing(target, durable=False) as temporary:
            temporary.write_bytes(content)
    return 1

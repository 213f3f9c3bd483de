"""Room and permission to write, checked and explained."""

from __future__ import annotations

import errno
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from threecad.errors import DownloadError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FULL", "format_bytes", "naming", "require_room", "writing_to"]

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system answers when there is no room left, or none for this user."""

WINDOWS_LONGEST_PATH = 259
"""Characters; a longer path does not exist to Windows, unless long ones are allowed."""


def format_bytes(count: float) -> str:
    """Return a number of bytes for people.

    >>> format_bytes(11_811_160_064)
    '11.8 GB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.95 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def require_room(folder: Path, need: int, purpose: str) -> None:
    """Raise `DownloadError` if the disk of ``folder`` has fewer than ``need`` bytes free."""
    free = shutil.disk_usage(folder).free
    if need > free:
        raise DownloadError(
            f"{folder} has {format_bytes(free)} free, but {purpose} needs {format_bytes(need)}. "
            "Make room, choose fewer categories with `categories`, or another folder with `root`."
        )


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an error of the disk name the file that was written, which the system leaves out."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn the system's refusals to write below ``folder`` into `DownloadError`."""
    try:
        yield
    except OSError as error:
        name = error.filename or folder
        if error.errno in FULL:
            advice = "Nothing is lost: make room and run the same command again to go on, or choose"
            said = f"The disk of {folder} is full. {advice} another folder with `root`."
        elif error.errno == errno.EFBIG:
            said = f"The file system of {folder} holds no file this large. Choose another `root`."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            said = (
                f"{name} cannot be written: {error.strerror}. Choose another folder with `root` "
                "or THREECAD_ROOT."
            )
        elif error.errno == errno.ENAMETOOLONG or (
            error.errno == errno.ENOENT and len(str(name)) > WINDOWS_LONGEST_PATH
        ):
            said = (
                f"{name} is longer than this system takes ({len(str(name))} characters). Choose a "
                "shorter folder with `root`, or allow long paths in Windows."
            )
        elif error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            said = f"{name} is in the way: {error.strerror}. Move it, or choose another `root`."
        else:
            raise
        raise DownloadError(said) from error

"""Files and folders that exist whole or not at all.

Everything is written under a temporary name in the target's own folder and renamed with
``os.replace``. A process killed at any moment leaves the old file or the new one. A folder that is
written beside its target changes places with it (``replace_folder``).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import secrets
import shutil
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "TEMPORARY_PREFIX",
    "check_writable",
    "open_replacing",
    "recover_folder",
    "replace_folder",
    "replacing",
    "write_bytes",
    "write_json",
    "write_text",
]

TEMPORARY_PREFIX = ".threecad-tmp-"
"""First characters of every temporary name; such files are left-overs and ignored by ``scan``."""


_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What the system answers to writing, without saying into which file."""


@contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block ends well.

    The temporary name keeps the suffix, for writers that choose a format by it. Missing parent
    folders are made. When the block raises, the temporary file is removed and ``path`` stays.

    Args:
        path: The file to replace.
        durable: Whether to force the data to disk before the rename. Writers of thousands of
            files that can be checked and written again do without.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}{target.suffix}")
    try:
        yield temporary
        if durable:
            _flush_to_disk(temporary)
        temporary.replace(target)
    except BaseException as error:
        with suppress(OSError):  # a read-only disk refuses this, too
            temporary.unlink()
        if isinstance(error, OSError) and (
            error.filename in (temporary, str(temporary))
            or (error.filename is None and error.errno in _OF_THE_DISK)
        ):
            error.filename = str(target)  # the name that the user knows
        raise


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Say before long work what would otherwise be said after it.

    Args:
        folder: Where something is to be written; it need not exist yet.

    Raises:
        UsageError: If it, or the folder it would be made in, cannot be written.
    """
    wanted = Path(folder).absolute()
    there = next(path for path in (wanted, *wanted.parents) if path.exists())
    if not os.access(there, os.W_OK):
        raise UsageError(f"{there} cannot be written. Choose another place.")


@contextmanager
def open_replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Yield a binary file that replaces ``path`` when the block ends well."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        yield file


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with open_replacing(path) as file:
        file.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8 with Unix line ends."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` to ``path`` atomically, as indented JSON. NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def replace_folder(new: Path, target: Path) -> None:
    """Put the folder ``new`` in the place of ``target``, and remove what was there.

    Linux and macOS swap the two in one step, so that a process killed at any moment leaves the
    earlier folder or the new one at ``target``; the other may be left at ``new``. Where the system
    or the file system cannot (Windows, NFS), ``target`` is moved aside and comes back if its
    successor cannot take its place; killed between the two renames, it waits for
    ``recover_folder``.

    Args:
        new: The folder, whole, in the parent of ``target``.
        target: A folder, or nothing.
    """
    if target.exists() and not any(target.iterdir()):
        target.rmdir()
    if not target.exists():
        new.replace(target)
        return
    if _swap(new, target):
        shutil.rmtree(new, ignore_errors=True)
        return
    earlier = _set_aside(target)
    shutil.rmtree(earlier, ignore_errors=True)
    target.replace(earlier)
    try:
        new.replace(target)
    except BaseException:
        earlier.replace(target)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def recover_folder(target: Path) -> None:
    """Put back what a process killed in ``replace_folder`` had moved aside; else do nothing."""
    earlier = _set_aside(target)
    if earlier.is_dir() and not target.exists():
        earlier.replace(target)


def _set_aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _swap(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; return whether the system could."""
    names = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "linux":
            here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
            arguments = (here, names[0], here, names[1], exchange)
            return bool(ctypes.CDLL(None).renameat2(*arguments) == 0)
        if sys.platform == "darwin":
            return bool(ctypes.CDLL(None).renamex_np(*names, 2) == 0)  # RENAME_SWAP
    except (OSError, AttributeError):  # a C library without that function
        pass
    return False


def _flush_to_disk(path: Path) -> None:
    """Force ``path`` to disk, so that a rename never survives a power cut that its data did not."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())

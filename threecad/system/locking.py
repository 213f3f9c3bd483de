"""One process at a time writes a folder.

The lock is the system's: it ends with the process that holds it, however that ends. A lock file
that a killed process has left is no lock.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from threecad.errors import BusyError
from threecad.system.atomic import TEMPORARY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["is_leftover", "writing_alone"]


@contextmanager
def writing_alone(folder: Path) -> Iterator[None]:
    """Hold the right to write ``folder``, which need not exist yet.

    The lock file lies beside the folder, so that the folder can be replaced meanwhile; inside it
    where the parent cannot be written, as with a folder that is a disk of its own.

    Raises:
        BusyError: If another process holds it.
    """
    folder = folder.resolve()
    parent = next(path for path in folder.parents if path.exists())
    if folder.is_dir() and (os.path.ismount(folder) or not os.access(parent, os.W_OK)):
        path = folder / f"{TEMPORARY_PREFIX}lock"
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        path = folder.with_name(f".{folder.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"Another process is writing {folder}. Wait for it to end, or choose another folder."
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps an open file
            Path(lock.lock_file).unlink()
        lock.release()


def is_leftover(name: str) -> bool:
    """Whether a file of this name is what a killed process was just writing."""
    return name.startswith(TEMPORARY_PREFIX)

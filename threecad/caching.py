"""What was learned about a file, remembered until the file changes.

A cache is one SQLite file in ``ROOT/.threecad/cache/``. A record belongs to a path relative to the
root and is valid while the file's size and modification time are those it was made from.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threecad.locations import own_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FileCache"]


class FileCache:
    """JSON-able records about the files of one root.

    Safe to use from several processes at once; meant to be read and written by the parent process
    around a parallel map. A cache that cannot be written (full or read-only disk) or read (damaged)
    is a cache that remembers nothing, never an error.

    Args:
        root: The tree.
        name: What the records are about, such as ``"sha256"`` or ``"regions"``.
        version: Changes when records of an older version are no longer usable.
    """

    def __init__(self, root: str | os.PathLike[str], name: str, *, version: int = 1) -> None:
        self.root = Path(root)
        self.path = own_folder(root) / "cache" / f"{name}-v{version}.sqlite"

    def get_many(self, paths: Iterable[Path]) -> dict[Path, Any]:
        """Return the records of those ``paths`` that are unchanged since they were made."""
        if not self.path.is_file():
            return {}
        try:
            with closing(self._connect()) as database:
                rows = database.execute("SELECT path, size, mtime, record FROM files")
                known = {row[0]: row[1:] for row in rows}
        except sqlite3.Error:
            return {}
        found: dict[Path, Any] = {}
        for path in paths:
            if (entry := known.get(self._key(path))) and entry[:2] == _state(path):
                found[path] = json.loads(entry[2])
        return found

    def put_many(self, records: dict[Path, Any]) -> None:
        """Remember one record for each path, replacing older ones."""
        if not records:
            return
        rows = [
            (self._key(path), *_state(path), json.dumps(record)) for path, record in records.items()
        ]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as database, database:
                database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)
        except (OSError, sqlite3.Error):
            return

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=30)
        database.execute(
            "CREATE TABLE IF NOT EXISTS files "
            "(path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, record TEXT)"
        )
        return database

    def _key(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.root)).as_posix()


def _state(path: Path) -> tuple[int, int]:
    """Return the size in bytes and the modification time in nanoseconds of ``path``."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns

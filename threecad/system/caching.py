"""What can be computed again, remembered in one known place and bounded in size.

About a root: one SQLite file for each kind of record in ``ROOT/.threecad/cache/``. A record belongs
to a path relative to the root and is valid while the file's size and modification time are those it
was made from. About no root (decoded images): files in ``user_cache()``, named by their content.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sqlite3
import stat
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from threecad.errors import UsageError
from threecad.system import parallel
from threecad.system.atomic import TEMPORARY_PREFIX
from threecad.system.locations import own_folder, user_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "CacheFile",
    "FileCache",
    "Job",
    "cache_limit",
    "clear_caches",
    "hold",
    "list_caches",
    "mark_used",
    "remembered",
]

_RECORDS_LIMIT = 256 << 20
"""Bytes of one SQLite file after which the oldest records are forgotten. 3CAD needs a few MB."""


_UNFINISHED = 600.0
"""Seconds without a change after which a temporary file is a left-over and not being written."""

_VARIABLES = 500
"""Paths asked for at once; SQLite before 3.32 takes 999."""


@dataclass(frozen=True)
class CacheFile:
    """One file of a cache.

    Attributes:
        path: Where it is.
        bytes: Its size.
        used: When it was last written or used, UTC, ISO 8601.
    """

    path: Path
    bytes: int
    used: str

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON-able data."""
        return {**asdict(self), "path": str(self.path)}


def cache_limit() -> int:
    """Return how many bytes the user's cache may hold: ``THREECAD_CACHE_LIMIT`` in GB, or 20 GB.

    Raises:
        UsageError: If the variable is no number.
    """
    text = os.environ.get("THREECAD_CACHE_LIMIT", "20")
    try:
        return int(float(text) * 1e9)
    except (ValueError, OverflowError):
        raise UsageError(f"THREECAD_CACHE_LIMIT is {text!r}. Expected a number of GB.") from None


def list_caches(root: str | os.PathLike[str] | None = None) -> list[CacheFile]:
    """Return the files of the user's cache and of the cache of ``root``, largest first."""
    folders = {user_cache()}
    if root is not None:
        folders.add(own_folder(root) / "cache")
    files = {file for folder in folders for file in _files(folder)}
    return sorted(files, key=lambda file: (-file.bytes, file.path))


def clear_caches(root: str | os.PathLike[str] | None = None) -> int:
    """Remove the user's cache and the cache of ``root``; return the bytes freed.

    What a process holds or is writing stays.
    """
    return sum(file.bytes for file in list_caches(root) if _remove(file.path))


def hold(file: IO[bytes]) -> None:
    """Keep an open file of a cache from being removed, by this or by any other process.

    That lasts until the file, and whatever has taken it over (a memory map, a forked process), is
    closed; so it ends with the process, however that ends. Where the system knows no such locks
    (Windows, some network disks), an open file cannot be removed or stays readable anyway.
    """
    locks = _locks()
    if locks:
        with contextlib.suppress(OSError):
            locks.flock(file, locks.LOCK_SH | locks.LOCK_NB)


def mark_used(path: Path) -> None:
    """Note that a file of the user's cache is in use, and keep the cache below its limit.

    What was used least recently goes first; ``path`` itself stays, and so does what is held.
    """
    with contextlib.suppress(OSError):  # a read-only disk keeps its dates
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
    folder, excess = user_cache(), -cache_limit()
    if not path.is_relative_to(folder):
        return
    files = sorted(_files(folder), key=lambda file: file.used)
    excess += sum(file.bytes for file in files)
    for file in files:
        if excess > 0 and file.path != path and _remove(file.path):
            excess -= file.bytes


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
        return {path: json.loads(record) for path, record in self._look_up(paths, "record")}

    def known(self, paths: Iterable[Path]) -> set[Path]:
        """Return those ``paths`` that have a record, without reading it."""
        return {path for path, _ in self._look_up(paths, "NULL")}

    def put_many(self, records: dict[Path, Any]) -> None:
        """Remember one record for each path, replacing older ones."""
        if not records:
            return
        rows = [
            (self._key(path), *_state(path), json.dumps(record)) for path, record in records.items()
        ]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as database:
                with database:
                    database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)
                if self.path.stat().st_size > _RECORDS_LIMIT:
                    self._forget_old(database)
        except (OSError, sqlite3.Error) as error:
            self._forget_damaged(error)

    def _look_up(self, paths: Iterable[Path], column: str) -> list[tuple[Path, Any]]:
        """Return ``(path, column)`` for those ``paths`` that are unchanged."""
        if not self.path.is_file():
            return []
        wanted = {self._key(path): path for path in paths}
        keys, rows = list(wanted), list[tuple[str, int, int, Any]]()
        try:
            with closing(self._connect()) as database:
                for first in range(0, len(keys), _VARIABLES):
                    some = keys[first : first + _VARIABLES]
                    rows += database.execute(
                        f"SELECT path, size, mtime, {column} FROM files "
                        f"WHERE path IN ({', '.join('?' * len(some))})",
                        some,
                    )
        except sqlite3.Error as error:
            self._forget_damaged(error)
            return []
        return [
            (wanted[key], value)
            for key, size, mtime, value in rows
            if (size, mtime) == _state(wanted[key])
        ]

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=30)
        try:
            database.execute(
                "CREATE TABLE IF NOT EXISTS files "
                "(path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, record TEXT)"
            )
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _forget_damaged(self, error: Exception) -> None:
        """Remove a file that is no database, so that the next run can remember again."""
        # A locked database or a full disk is an OperationalError: nothing is wrong with the file.
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        ):
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _forget_old(self, database: sqlite3.Connection) -> None:
        """Forget files that are gone, then the older half of the rest if that is not enough."""
        with database:
            gone = [
                (key,)
                for (key,) in database.execute("SELECT path FROM files")
                if not (self.root / key).exists()
            ]
            database.executemany("DELETE FROM files WHERE path = ?", gone)
            if not gone:
                database.execute(
                    "DELETE FROM files WHERE rowid IN (SELECT rowid FROM files ORDER BY rowid "
                    "LIMIT (SELECT COUNT(*) / 2 FROM files))"
                )
        database.execute("VACUUM")

    def _key(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.root)).as_posix()


def _state(path: Path) -> tuple[int, int]:
    """Return the size in bytes and the modification time in nanoseconds of ``path``."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _files(folder: Path) -> Iterator[CacheFile]:
    for path in folder.rglob("*"):
        try:
            status = path.stat()
        except OSError:  # another process has removed it
            continue
        if stat.S_ISREG(status.st_mode):
            used = datetime.fromtimestamp(max(status.st_atime, status.st_mtime), UTC)
            yield CacheFile(path, status.st_size, used.isoformat())


def _remove(path: Path) -> bool:
    """Remove a file unless it is in use; return whether it is gone."""
    try:
        if path.name.startswith(TEMPORARY_PREFIX):
            if time.time() - path.stat().st_mtime < _UNFINISHED:
                return False
        elif _is_held(path):
            return False
        path.unlink()
    except OSError:  # in use on Windows, or another process was faster
        return False
    return True


def _is_held(path: Path) -> bool:
    locks = _locks()
    if not locks or not os.access(path, os.W_OK):
        return False
    with path.open("rb+") as file:
        try:
            locks.flock(file, locks.LOCK_EX | locks.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # no locks on this disk
            return False
    return False


def _locks() -> Any:
    """Return the module of the system's file locks; ``None`` on Windows."""
    return importlib.import_module("fcntl") if os.name == "posix" else None


Job = TypeVar("Job")


_CHUNK = 1024
"""Records between two writes of the cache: a killed run loses at most these."""


def remembered(
    cache: FileCache,
    jobs: Mapping[Path, Job],
    function: Callable[[Job], Any],
    *,
    valid: Callable[[Path, Any], bool] | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    description: str | None = None,
) -> dict[Path, Any]:
    """Return ``function(job)`` for each file, from the cache where the file is unchanged.

    Args:
        cache: Where records are looked up first and kept.
        jobs: Per file what its record is made from.
        function: Picklable; returns JSON-able data.
        valid: Whether a record that was found still holds, for more than the file itself.
        workers: Worker processes; see ``threecad.system.parallel.map``.
        cluster: Where to run them, if not here.
        description: Title of the progress bar on stderr.
    """
    known = cache.get_many(jobs)
    if valid is not None:
        known = {path: record for path, record in known.items() if valid(path, record)}
    missing = [path for path in jobs if path not in known]
    if missing:
        made = parallel.map(
            function,
            [jobs[path] for path in missing],
            workers=workers,
            cluster=cluster,
            description=description,
        )
        for chunk in _chunks(zip(missing, made, strict=True)):
            known.update(chunk)
            cache.put_many(chunk)
    return {path: known[path] for path in jobs}


def _chunks(items: Iterable[tuple[Path, Any]]) -> Iterator[dict[Path, Any]]:
    chunk: dict[Path, Any] = {}
    for path, record in items:
        chunk[path] = record
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = {}
    yield chunk

"""The files of the page: what visitors upload and what gradio draws for them, within bounds."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

__all__ = ["MAX_FILES", "MAX_TOTAL", "MAX_UPLOAD", "PER_SESSION", "Uploads"]

MAX_UPLOAD = 64 << 20
"""Bytes of the largest file that can be dropped on the page."""

PER_SESSION = 4
"""Uploads a session keeps; the page shows one."""

MAX_TOTAL = 512 << 20
MAX_FILES = 512
"""Bytes and files of all sessions together; the oldest go first."""


class Uploads:
    """The folder of the page's files: one can be named only by who was told its name.

    An upload lies in a folder with a random name, so its path is known to nobody but its visitor;
    the first session that uses it keeps it. What gradio draws lies beside, under a hash of its
    pixels. What lay there at the start, the examples, stays.

    Args:
        folder: Gradio's folder (``GRADIO_TEMP_DIR``).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._kept = set(self._files())
        self._lock = threading.Lock()
        self._unused: set[str] = set()
        self._sessions: dict[str, list[str]] = {}

    def add(self, name: str, source: IO[bytes]) -> str:
        """Return the path of a new upload.

        Args:
            name: What the visitor calls it, which may be anything.
            source: Its content, from its beginning.

        Raises:
            OSError: If it cannot be written.
        """
        path = self.folder / secrets.token_hex(32) / _harmless(name)
        path.parent.mkdir(parents=True)
        try:
            with path.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        except OSError:
            _remove(path)
            raise
        with self._lock:
            self._unused.add(str(path))
        self.sweep()
        return str(path)

    def serves(self, path: str) -> bool:
        """Return whether a path names one of the files, by no detour and no link."""
        file = Path(path)
        try:
            return (
                file.is_absolute()
                and str(file) == path
                and file.is_relative_to(self.folder)
                and file.resolve(strict=True) == file
                and file.is_file()
            )
        except (OSError, ValueError):  # ValueError: a null byte
            return False

    def claim(self, path: str, session: str) -> bool:
        """Return whether a session may use a file; an upload belongs to its first from then on."""
        if not self.serves(path):
            return False
        with self._lock:
            if path not in self._unused:
                others = (paths for name, paths in self._sessions.items() if name != session)
                return all(path not in paths for paths in others)
            self._unused.discard(path)
            own = self._sessions.setdefault(session, [])
            own.append(path)
            while len(own) > PER_SESSION:
                _remove(Path(own.pop(0)))
            return True

    def sweep(self) -> None:
        """Remove the oldest files beyond the bounds, and forget what is gone."""
        with self._lock:
            found = sorted((file.stat().st_mtime_ns, file) for file in self._files() - self._kept)
            total = sum(file.stat().st_size for _, file in found)
            excess = len(found) - MAX_FILES
            for k, (_, file) in enumerate(found):
                if k >= excess and total <= MAX_TOTAL:
                    break
                total -= file.stat().st_size
                _remove(file)
            self._unused = {path for path in self._unused if Path(path).exists()}
            left = {
                s: [p for p in paths if Path(p).exists()] for s, paths in self._sessions.items()
            }
            self._sessions = {session: paths for session, paths in left.items() if paths}

    def _files(self) -> set[Path]:
        return {path for path in self.folder.glob("*/*") if path.is_file()}


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    with suppress(OSError):  # gradio keeps more than one file in a folder
        path.parent.rmdir()


def _harmless(name: str) -> str:
    """Return what a visitor calls a file as a name that every disk takes."""
    kept = re.sub(r"[^\w .()-]", "_", name.replace("\\", "/").rsplit("/", 1)[-1]).strip(" .")
    stem, dot, suffix = kept.rpartition(".")
    return f"{stem[:60]}{dot}{suffix[:8]}" if stem else kept[:60] or "upload"

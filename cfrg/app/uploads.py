"""The files of the page: what visitors upload and what gradio draws for them, within bounds."""

from __future__ import annotations

import re
import secrets
import shutil
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import os

__all__ = ["MAX_FILES", "MAX_TOTAL", "MAX_UPLOAD", "PER_SESSION", "Uploads"]

MAX_UPLOAD = 64 << 20
"""Bytes of the largest file that can be dropped on the page."""

PER_SESSION = 4
"""Uploads a session keeps; the page shows one."""

MAX_TOTAL = 512 << 20
MAX_FILES = 512
"""Bytes and files of all sessions together; what is in use goes last."""


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
        self._unused: dict[str, None] = {}  # in the order of their coming
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
            self._unused[str(path)] = None
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
            del self._unused[path]
            own = self._sessions.setdefault(session, [])
            own.append(path)
            while len(own) > PER_SESSION:
                _remove(Path(own.pop(0)))
            return True

    def sweep(self) -> None:
        """Remove files beyond the bounds, and forget what is gone.

        The oldest go first, except the last upload, which nobody could claim yet, and the last one
        of each session. Of those, the largest goes, then the newest: who sends without end in many
        names pushes out their own.
        """
        with self._lock:
            last = next(reversed(self._unused), None)
            current = {paths[-1] for paths in self._sessions.values()}

            def order(entry: tuple[str, os.stat_result]) -> tuple[int, int, int]:
                path, facts = entry
                if path == last:
                    return 2, 0, 0
                if path in current:
                    return 1, -facts.st_size, -facts.st_mtime_ns
                return 0, facts.st_mtime_ns, 0

            found = self._files()
            left = [entry for entry in found.items() if entry[0] not in self._kept]
            total, count = sum(facts.st_size for _, facts in left), len(left)
            for path, facts in sorted(left, key=order):
                if count <= MAX_FILES and total <= MAX_TOTAL:
                    break
                count, total = count - 1, total - facts.st_size
                del found[path]
                _remove(Path(path))
            self._unused = {path: None for path in self._unused if path in found}
            sessions = {s: [p for p in paths if p in found] for s, paths in self._sessions.items()}
            self._sessions = {session: paths for session, paths in sessions.items() if paths}

    def _files(self) -> dict[str, os.stat_result]:
        found = {}
        for path in self.folder.glob("*/*"):
            with suppress(FileNotFoundError):  # gradio removes what is old
                facts = path.lstat()
                if stat.S_ISREG(facts.st_mode):
                    found[str(path)] = facts
        return found


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    with suppress(OSError):  # gradio keeps more than one file in a folder
        path.parent.rmdir()


def _harmless(name: str) -> str:
    """Return what a visitor calls a file as a name that every disk takes."""
    kept = re.sub(r"[^\w .()-]", "_", name.replace("\\", "/").rsplit("/", 1)[-1]).strip(" .")
    stem, dot, suffix = kept.rpartition(".")
    return f"{stem[:60]}{dot}{suffix[:8]}" if stem else kept[:60] or "upload"

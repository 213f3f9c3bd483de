"""Where the data of a root came from: the lock file ``ROOT/.threecad/archives.lock.json``.

Nobody has published the hash of the 3CAD archive. So the first verified download writes down what
it got, and every later one is held to it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from threecad.dataset.scanning import IMAGE_SUFFIXES
from threecad.errors import DataError
from threecad.system import atomic
from threecad.system.json_files import read_object
from threecad.system.locations import OWN_FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


__all__ = ["Archive", "Provenance", "Unpacked"]

_SCHEMA = "threecad.archives/1"


@dataclass(frozen=True)
class Archive:
    """An archive as it was received.

    Attributes:
        length: Bytes.
        sha256: Its SHA-256.
        received: When, in UTC.
        keep: Whether it is kept.
        folder: The folder in it that holds the category folders, empty if they stand at its top;
            ``None`` until it was unpacked, or if there are several.
    """

    length: int
    sha256: str
    received: str = ""
    keep: bool = False
    folder: str | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Archive:
        """Undo ``to_dict``."""
        rest = {**data}
        return cls(rest.pop("size"), **rest)

    def to_dict(self) -> dict[str, Any]:
        """Return the archive as the lock file has it, where the length is called its size."""
        rest = asdict(self)
        return {"size": rest.pop("length"), **rest}


@dataclass(frozen=True)
class Unpacked:
    """A category as it was unpacked: number of files, their bytes, and their source."""

    files: int
    bytes: int
    source: str


@dataclass
class Provenance:
    """The archives a root was made from, by source, and the categories unpacked from them.

    Attributes:
        path: The lock file.
        archives: By source, such as ``drive:<file id>``.
        unpacked: By category folder.
        complete: The source from which every category was unpacked, if there is one.
    """

    path: Path
    archives: dict[str, Archive] = field(default_factory=dict)
    unpacked: dict[str, Unpacked] = field(default_factory=dict)
    complete: str | None = None

    @classmethod
    def load(cls, root: Path) -> Provenance:
        """Read the lock file of ``root``; empty if there is none.

        Raises:
            DataError: If the file is damaged.
        """
        path = root / OWN_FOLDER / "archives.lock.json"
        try:
            data = read_object(path)
            return cls(
                path,
                {
                    source: Archive.from_dict(archive)
                    for source, archive in data["archives"].items()
                },
                {name: Unpacked(**category) for name, category in data["unpacked"].items()},
                data["complete"],
            )
        except (FileNotFoundError, NotADirectoryError):
            return cls(path)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{path} is damaged ({error!r}). Remove it: the next download writes a new one."
            ) from error

    def save(self) -> None:
        """Write the lock file."""
        atomic.write_json(self.path, {"schema": _SCHEMA, **self.to_dict()})

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON-able data."""
        return {
            "archives": {source: archive.to_dict() for source, archive in self.archives.items()},
            "unpacked": {name: asdict(category) for name, category in self.unpacked.items()},
            "complete": self.complete,
        }

    def record_archive(self, source: str, length: int, sha256: str, *, keep: bool) -> None:
        """Write down an archive that was received and checked."""
        known = self.archives.get(source)
        if known and (known.length, known.sha256) == (length, sha256):
            archive = replace(known, keep=keep or known.keep)
        else:
            received = datetime.now(UTC).isoformat(timespec="seconds")
            archive = Archive(length, sha256, received, keep)
        self.archives[source] = archive
        self.save()

    def record_folder(self, source: str, folder: str | None) -> bool:
        """Write down which folder of an archive holds the categories; False if it was known."""
        archive = self.archives.get(source)
        if archive is None or folder is None or archive.folder == folder:
            return False
        self.archives[source] = replace(archive, folder=folder)
        self.save()
        return True

    def digests(self, source: str) -> set[str]:
        """Return the SHA-256 of every archive received from a source."""
        return {
            archive.sha256
            for name, archive in self.archives.items()
            if name == source or name.startswith(f"{source}/")
        }

    def record_unpacked(
        self, source: str, files: Mapping[str, int], sizes: Mapping[str, int], *, complete: bool
    ) -> None:
        """Write down the categories that are in place."""
        for category, count in files.items():
            self.unpacked[category] = Unpacked(count, sizes[category], source)
        if complete:
            self.complete = source
        self.save()

    def in_place(self, category: str) -> bool:
        """Whether a category still has the files and bytes that were unpacked, or more."""
        expected = self.unpacked.get(category)
        if expected is None:
            return False
        sizes = [
            path.stat().st_size
            for path in (self.path.parent.parent / category).glob("*/*/*")
            if path.suffix.casefold() in IMAGE_SUFFIXES and not path.name.startswith(".")
        ]
        return len(sizes) >= expected.files and sum(sizes) >= expected.bytes

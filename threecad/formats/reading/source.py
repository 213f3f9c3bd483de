"""A folder that is read: listed once, and every file of it either used or left out for a reason.

A layout reads its documents through a ``Source`` and so claims them; images and masks are claimed
by the items it returns. What nobody claimed is settled in one place (``formats.settling``):
no layout can pass over a file in silence.
"""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threecad.dataset.naming import split_of_name
from threecad.dataset.scanning import IMAGE_SUFFIXES, is_stray
from threecad.errors import ConversionError, DataError
from threecad.formats.items import relative_posix
from threecad.formats.reading.decisions import Decisions, Doubts
from threecad.formats.reading.documents import (
    decode_text,
    parse_json,
    parse_table,
    parse_xml,
    parse_yaml,
)
from threecad.images.files import Header, read_header

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET
    from collections.abc import Iterator, Sequence

    from threecad.formats.reading.account import Use

__all__ = ["OTHER_PICTURES", "Source"]

OTHER_PICTURES = frozenset({
    ".arw", ".avif", ".cr2", ".cr3", ".dng", ".exr", ".gif", ".heic", ".heif", ".jfif", ".jp2",
    ".jxl", ".nef", ".orf", ".pbm", ".pgm", ".ppm", ".psd", ".raf", ".raw", ".rw2", ".tga",
})  # fmt: skip
"""Suffixes of pictures that are not read."""


class Source:
    """The files below a folder, and what became of each.

    Args:
        root: The folder.
        folders: Only what is below these, instead of all of it.
        decisions: What to do with what is in doubt.

    Attributes:
        uses: What each claimed file is used as.
        left_out: Why each other file is not used, as far as that was said.
        entries: Number of annotations that were used.
        entries_left_out: Why each other annotation is not used.
        skipped: Why an image is left out that a layout returned all the same.
        findings: What is wrong with the source but does not change what is read.

    Raises:
        ConversionError: If there is no such folder.
    """

    def __init__(
        self,
        root: Path,
        folders: Sequence[Path] | None = None,
        decisions: Decisions | None = None,
    ) -> None:
        self.root = root
        self.decisions = decisions or Decisions()
        self.doubts = Doubts()
        self.uses: dict[Path, Use] = {}
        self.left_out: dict[Path, str] = {}
        self.entries = 0
        self.entries_left_out: dict[str, str] = {}
        self.findings: list[str] = []
        self.skipped: dict[Path, str] = {}
        self._folders = [root] if folders is None else list(folders)
        self._headers: dict[Path, Header] = {}
        self._places: dict[str, str] = {}
        for folder in self._folders:
            if not folder.is_dir():
                raise ConversionError(f"There is no folder {folder}. Check the path.")

    # What there is

    @cached_property
    def all_files(self) -> dict[Path, bool]:
        """Every file, sorted, and whether it is hidden or left by the system."""
        found: dict[Path, bool] = {}
        for folder in self._folders:
            for path, hidden in _walk(folder):
                found.setdefault(path, hidden)
        return dict(sorted(found.items()))

    @cached_property
    def files(self) -> list[Path]:
        """Every file that is not hidden, sorted."""
        return [path for path, hidden in self.all_files.items() if not hidden]

    @cached_property
    def images(self) -> list[Path]:
        """Every file with the suffix of an image that is read, sorted; masks are among them."""
        return [path for path in self.files if path.suffix.casefold() in IMAGE_SUFFIXES]

    def images_below(self, folder: Path) -> list[Path]:
        """Return the images below a folder, sorted."""
        return [path for path in self.images if folder in path.parents]

    def named(self, *suffixes: str) -> list[Path]:
        """Return the files whose name ends with one of these, in any case, sorted."""
        return [path for path in self.files if path.name.casefold().endswith(suffixes)]

    def shared(self, suffix: str) -> list[Path]:
        """Return the files of a suffix that are not called like an image: they describe several."""
        stems = {path.stem for path in self.images}
        return [path for path in self.named(suffix) if path.stem not in stems]

    def relative(self, path: Path) -> str:
        """Return a path as messages and indexes name it: seen from the root, with ``/``."""
        folder, name = os.path.split(path)
        if folder not in self._places:
            self._places[folder] = relative_posix(Path(folder), self.root)
        place = self._places[folder]
        return name if place == "." else f"{place}/{name}"

    def header(self, path: Path) -> Header:
        """Return size and orientation of an image; remembered.

        Raises:
            ImageError: If it cannot be read.
        """
        if path not in self._headers:
            self._headers[path] = read_header(path)
        return self._headers[path]

    # Documents: reading them claims them

    def read_bytes(self, path: Path, use: Use = "annotation") -> bytes:
        """Return what is in a file and claim it.

        Raises:
            ConversionError: If it cannot be read.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise ConversionError(f"There is no file {path}. Check the path.") from None
        except OSError as error:
            raise ConversionError(f"{path} cannot be read: {error.strerror or error}.") from error
        self.claim(path, use)
        return data

    def read_lines(self, path: Path, use: Use = "annotation") -> list[tuple[int, str]]:
        """Return the lines of a text that are not empty, each with its number in the file."""
        lines = decode_text(self.read_bytes(path, use), path).splitlines()
        return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]

    def read_json(self, path: Path, use: Use = "annotation") -> Any:
        """Return the content of a JSON file and claim it."""
        return parse_json(self.read_bytes(path, use), path)

    def read_yaml(self, path: Path, use: Use = "index") -> Any:
        """Return the content of a YAML file and claim it."""
        return parse_yaml(self.read_bytes(path, use), path)

    def read_xml(self, path: Path, use: Use = "annotation") -> ET.Element:
        """Return the root of an XML file and claim it."""
        return parse_xml(self.read_bytes(path, use), path)

    def read_table(self, path: Path, use: Use = "index") -> Iterator[tuple[int, dict[str, str]]]:
        """Yield the line and the cells of every row of a CSV file and claim it."""
        return parse_table(self.read_bytes(path, use), path)

    def peek_json(self, path: Path) -> Any:
        """Return the content of a JSON file without claiming it, ``None`` if it is none."""
        try:
            return parse_json(path.read_bytes(), path)
        except (OSError, ConversionError):
            return None

    # What becomes of it

    def claim(self, path: Path, use: Use) -> None:
        """Say that a file is used. A mask or an image is claimed by the item that holds it."""
        former = self.uses.setdefault(path, use)
        if former != use and {former, use} == {"image", "mask"}:
            self.fault(f"{self.relative(path)} is used as an image and as a mask.")
        self.left_out.pop(path, None)

    def leave_out(self, path: Path, reason: str) -> None:
        """Say why a file is not used."""
        self.uses.pop(path, None)
        self.left_out[path] = reason

    def use_entry(self, number: int = 1) -> None:
        """Count annotations that labels and masks are made from."""
        self.entries += number

    def leave_out_entry(self, where: str, reason: str) -> None:
        """Say why an annotation is not used; ``where`` names file and entry."""
        self.entries_left_out[where] = reason

    # What is in doubt

    def fault(self, message: str) -> None:
        """Add what must be repaired; all of it is said at once."""
        self.doubts.add(message)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Add an error of the block to what must be repaired, and go on."""
        try:
            yield
        except (ConversionError, DataError) as error:
            self.fault(str(error))

    def orphan_entry(self, where: str, what: str) -> None:
        """Leave out an annotation that belongs to no image, or refuse."""
        if self.decisions.orphans == "skip":
            self.leave_out_entry(where, what)
        else:
            self.doubts.add(f"{where} {what}", switch="orphans")

    def orphan_file(self, path: Path, what: str) -> None:
        """Leave out a file that belongs to no image, or refuse."""
        self.leave_out(path, what)
        if self.decisions.orphans != "skip":
            self.doubts.add(f"{self.relative(path)} {what}", switch="orphans")

    def only_box(self, where: str) -> bool:
        """Whether an annotation that has only a box is to be filled; a refusal if not."""
        if self.decisions.boxes == "fill":
            return True
        self.doubts.add(f"{where} has only a box, no outline", switch="boxes")
        return False

    # Where it is

    @cached_property
    def _image_folders(self) -> frozenset[Path]:
        return frozenset(path.parent for path in self.images)

    @cached_property
    def _by_place(self) -> dict[str, Path]:
        return {self.relative(path).casefold(): path for path in reversed(self.files)}

    def at(self, place: str) -> Path | None:
        """Return the file at a place seen from the root, written in any case; ``None`` if none."""
        path = self.root / place
        known = self.all_files.get(path) is False
        return path if known else self._by_place.get(place.casefold())

    def in_folder(self, name: str) -> list[Path]:
        """Return the files below a folder of the root, written in any case, sorted."""
        start = f"{name}/".casefold()
        return [path for path in self.files if self.relative(path).casefold().startswith(start)]

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = defaultdict(list)
        for path in self.files:
            found[path.name.casefold()].append(path)
        return found

    def find(
        self, name: object, near: Path, where: str, *, bases: Sequence[Path] = (), split: str = ""
    ) -> Path:
        """Return the file that an annotation names, however it names it.

        A path is seen from the folder of the annotation, from the root, or from any folder of the
        source where exactly one file ends with it, but never from that of another split; an
        annotation of one image that stands among images means one of them. Backslashes are
        separators; upper and lower case matter only where they decide.

        Args:
            name: The path as written.
            near: The file that names it.
            where: How messages name the entry.
            bases: Folders to look in before others.
            split: Of several files, the one in a folder of this split is meant.

        Raises:
            ConversionError: If there is no such file, or several.
        """
        if not isinstance(name, str) or not name.strip():
            raise ConversionError(f"{where} names {name!r}; expected the path of a file.")
        plain = posixpath.normpath(name.strip().replace("\\", "/"))
        for base in (*bases, near.parent, self.root):
            path = Path(os.path.normpath(base / plain))
            if path in self.all_files and not self.all_files[path]:
                return path
        parts = [p for p in plain.split("/") if p not in ("", ".", "..") and p[1:2] != ":"]
        absolute = plain.startswith("/") or plain[1:2] == ":"
        for start in range(len(parts) if absolute else min(1, len(parts))):
            found = self._ending_with(parts[start:], near, split)
            if len(found) == 1:
                return found[0]
            if found:
                listed = " and ".join(self.relative(path) for path in found[:2])
                raise ConversionError(f"{where} names {name!r}, which may be {listed}. Rename one.")
        if absolute or plain.startswith(".."):
            raise ConversionError(f"{where} names {name!r}, which leads out of {self.root}.")
        raise ConversionError(f"{where} names {name!r}, which is not in {self.root}.")

    def _ending_with(self, parts: Sequence[str], near: Path, split: str) -> list[Path]:
        wanted = [part.casefold() for part in parts]
        found = [
            path
            for path in self._by_name.get(wanted[-1], [])
            if [part.casefold() for part in path.parts[-len(wanted) :]] == wanted
        ]
        split = split or self.split_of(near)
        if split and not any(map(split_of_name, parts[:-1])):
            found = [path for path in found if self.split_of(path) in ("", split)]
        own = len(parts) == 1 and Path(parts[0]).stem == near.stem
        if own and near.parent in self._image_folders:
            found = [path for path in found if path.parent == near.parent]
        found = [p for p in found if list(p.parts[-len(parts) :]) == list(parts)] or found
        found = [path for path in found if near.parent in path.parents] or found
        return [path for path in found if split and self.split_of(path) == split] or found

    def split_of(self, path: Path) -> str:
        """Return the split that the folders of a file name, ``""`` if none does."""
        folders = self.relative(path).split("/")[-2::-1]
        return next(filter(None, map(split_of_name, folders)), "")


def _walk(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield every file below a folder, through links too, and whether it is hidden."""
    hidden = {folder: False}
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = Path(parent)
        real = here.resolve()
        for name in list(folders):
            child = here / name
            hidden[child] = hidden[here] or is_stray(name)
            if child.is_symlink() and real.is_relative_to(child.resolve()):
                folders.remove(name)  # it leads back to a folder that it is in
        for name in names:
            yield here / name, hidden[here] or is_stray(name)

"""Archives unpacked safely: judged as a whole, then in parallel, each file whole or not at all.

Only images at ``…/<Category>/<split>/<defect_type>/<file>`` are taken, however deep the archive
hides the category folders. Files that are already there with the right size and CRC are skipped, so
that an extraction that was killed goes on where it stopped.
"""

from __future__ import annotations

import shutil
import threading
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from threecad.errors import ExtractionError
from threecad.fetching.archives import DAMAGED, Member, open_zip, plan_members, reject_too_large
from threecad.fetching.member_names import is_image, is_junk, safe_parts
from threecad.system import atomic
from threecad.system.disk import writing_to
from threecad.system.locations import own_folder
from threecad.system.parallel import worker_count

if TYPE_CHECKING:
    import os
    import zipfile
    from collections.abc import Collection, Iterator

__all__ = ["Extraction", "check_zip", "extract", "sweep"]

_CHUNK = 1 << 20
_BATCH = 32
"""Files a thread is handed at a time."""
_DEEPEST = 2
"""How many archives may be nested in one another."""


@dataclass
class Extraction:
    """What was unpacked.

    Attributes:
        files: Number of files in place, by category.
        bytes: Their total size, by category.
        written: How many of the files were written now.
        skipped: How many were already there, checked by size and CRC.
        ignored: How many members of the archive are no part of the layout.
        left_out: How many of these are images.
        folder: The folder of the archive that holds the category folders, empty if there is none;
            ``None`` where there is no one such folder.
    """

    files: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    written: int = 0
    skipped: int = 0
    ignored: int = 0
    left_out: int = 0
    folder: str | None = None

    def count(self, category: str, length: int, written: bool) -> None:
        """Count one file of ``length`` bytes that is in place, written now or before."""
        self.files[category] += 1
        self.bytes[category] += length
        self.written += written
        self.skipped += not written

    def add(self, other: Extraction) -> None:
        """Add what was unpacked from a nested archive."""
        self.files += other.files
        self.bytes += other.bytes
        self.written += other.written
        self.skipped += other.skipped
        self.ignored += other.ignored
        self.left_out += other.left_out
        self.folder = other.folder if self.folder in (None, other.folder) else None

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON-able data."""
        return {**vars(self), "files": dict(self.files), "bytes": dict(self.bytes)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Extraction:
        """Return what `to_dict` was called on, nothing of it written now."""
        files, sizes = Counter(data["files"]), Counter(data["bytes"])
        skipped = data["written"] + data["skipped"]
        left_out, folder = data.get("left_out", 0), data.get("folder")
        return cls(files, sizes, 0, skipped, data["ignored"], left_out, folder)


def check_zip(path: str | os.PathLike[str]) -> None:
    """Read the table of contents of a zip.

    Raises:
        ExtractionError: If it is not a zip, or is truncated.
    """
    with open_zip(Path(path)):
        pass


def extract(
    archive: str | os.PathLike[str],
    root: str | os.PathLike[str],
    *,
    categories: Collection[str] | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Extraction:
    """Unpack the category folders of a zip into ``root``.

    The table of contents is judged before the first file is written; an archive with a single
    unsafe member is refused. A killed extraction leaves whole files only; the same call goes on.

    Args:
        archive: A zip, possibly one that holds zips.
        root: Where the category folders go.
        categories: Names or codes of the categories to unpack; all by default.
        workers: Number of threads; one per core by default.
        progress: Whether to show a progress bar on stderr.

    Raises:
        ExtractionError: If the archive is broken or unsafe, holds no category asked for, or does
            not fit on the disk.
        DownloadError: If ``root`` cannot be written.
    """
    root = Path(root)
    wanted = tuple(categories) if categories else None
    with writing_to(root):
        root.mkdir(parents=True, exist_ok=True)
        nested = own_folder(root) / "nested"
        try:
            done = _extract(Path(archive), root, wanted, worker_count(workers), progress, nested, 1)
        finally:
            shutil.rmtree(nested, ignore_errors=True)
    if not done.files:
        asked = f"of the categories {', '.join(wanted)} " if wanted else ""
        raise ExtractionError(
            f"{archive} holds no image {asked}at …/<Category>/<split>/<defect type>/. "
            "Check that it is the 3CAD archive and how the categories are spelt."
        )
    return done


def sweep(root: str | os.PathLike[str]) -> int:
    """Remove the temporary files that a killed process left below ``root``; return their number."""
    left_over = [path for path in Path(root).rglob(f"{atomic.TEMPORARY_PREFIX}*") if path.is_file()]
    for path in left_over:
        path.unlink(missing_ok=True)
    return len(left_over)


def _extract(
    path: Path,
    root: Path,
    wanted: tuple[str, ...] | None,
    workers: int,
    progress: bool,
    nested: Path,
    depth: int,
) -> Extraction:
    with open_zip(path) as archive:
        members, inner, ignored = plan_members(archive, path, wanted)
        left_out = sum(is_image(parts[-1]) and not is_junk(parts) for parts in ignored)
        done = Extraction(ignored=len(ignored), left_out=left_out)
        reject_too_large(path, members or inner, root)
        if members:
            done.folder = _common_folder(members)
            for folder in {member.target.parent for member in members}:
                (root / folder).mkdir(parents=True, exist_ok=True)
            _write_all(archive, path, members, root, workers, progress, done)
            return done
        if inner and depth > _DEEPEST:
            raise ExtractionError(
                f"{path.name} hides its images in archives nested more than {_DEEPEST} deep; "
                "that is not 3CAD. Nothing was unpacked from it."
            )
        for number, member in enumerate(inner):
            copy = nested / f"{depth}-{number}.zip"
            copy.parent.mkdir(parents=True, exist_ok=True)
            _write(archive, threading.Lock(), member, copy)
            done.add(_extract(copy, root, wanted, workers, progress, nested, depth + 1))
            copy.unlink()
    return done


def _common_folder(members: list[Member]) -> str | None:
    """The folder that holds the category folders of all members, if it is one."""
    folders = {"/".join(safe_parts(member.name)[:-4]) for member in members}
    return folders.pop() if len(folders) == 1 else None


def _write_all(
    archive: zipfile.ZipFile,
    path: Path,
    members: list[Member],
    root: Path,
    workers: int,
    progress: bool,
    done: Extraction,
) -> None:
    """Write the members in threads: inflating and writing release the interpreter lock."""
    lock = threading.Lock()
    broken: list[str] = []

    def write(batch: list[Member]) -> list[bool | None]:
        return [try_to_write(member) for member in batch]

    def try_to_write(member: Member) -> bool | None:
        try:
            return _write(archive, lock, member, root / member.target)
        except ExtractionError as error:
            broken.append(str(error))
            return None

    total = sum(member.info.file_size for member in members)
    bar = tqdm(total=total, desc="unpacking", unit="B", unit_scale=True, disable=not progress)
    batches = [members[start : start + _BATCH] for start in range(0, len(members), _BATCH)]
    pool = ThreadPoolExecutor(workers)
    try:
        with bar:
            for batch, outcomes in zip(batches, pool.map(write, batches), strict=True):
                for member, written in zip(batch, outcomes, strict=True):
                    bar.update(member.info.file_size)
                    if written is not None:
                        done.count(member.target.parts[0], member.info.file_size, written)
    finally:
        pool.shutdown(cancel_futures=True)
    if broken:
        raise ExtractionError(
            f"{len(broken)} of {len(members)} files in {path} are damaged and were left out; the "
            f"others are in place. First: {sorted(broken)[0]} Download the archive again."
        )


def _write(archive: zipfile.ZipFile, lock: threading.Lock, member: Member, target: Path) -> bool:
    """Write one member to ``target``; False if the same file is there already.

    Raises:
        ExtractionError: If the member is damaged.
    """
    if _is_there(target, member.info):
        return False
    with atomic.replacing(target, durable=False) as temporary, temporary.open("wb") as file:
        for block in _inflate(archive, lock, member):
            file.write(block)
    return True


def _inflate(archive: zipfile.ZipFile, lock: threading.Lock, member: Member) -> Iterator[bytes]:
    """Yield the content of a member in blocks, checked against its size and CRC at the end."""
    written = 0
    try:
        with lock:  # a ZipFile counts its open members without one
            source = archive.open(member.info)
        try:
            while block := source.read(_CHUNK):
                written += len(block)
                yield block
        finally:
            with lock:
                source.close()
    except DAMAGED as error:
        raise ExtractionError(f"{member.name}: {error}.") from error
    if written != member.info.file_size:
        raise ExtractionError(
            f"{member.name}: {written} bytes; the archive says {member.info.file_size}."
        )


def _is_there(target: Path, info: zipfile.ZipInfo) -> bool:
    """Whether ``target`` is a file of the member's size and CRC."""
    try:
        if target.stat().st_size != info.file_size:
            return False
        crc = 0
        with target.open("rb") as file:
            while block := file.read(_CHUNK):
                crc = zlib.crc32(block, crc)
    except OSError:
        return False
    return crc == info.CRC

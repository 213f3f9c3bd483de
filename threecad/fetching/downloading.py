"""The dataset from its source to a tree on disk, by one call."""

from __future__ import annotations

import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from threecad.dataset.catalog import CATEGORIES, LICENSE_NOTICE, find_category
from threecad.dataset.provenance import Provenance
from threecad.errors import DownloadError, ExtractionError, UsageError
from threecad.fetching.drive import open_drive_file
from threecad.fetching.extraction import Extraction, check_zip, sweep
from threecad.fetching.extraction import extract as extract_zip
from threecad.fetching.member_names import is_wanted
from threecad.fetching.sources import Source, parse_source
from threecad.fetching.textures import download_textures
from threecad.fetching.transfer import Fetched, fetch, say
from threecad.fetching.web import open_url
from threecad.images.hashing import hash_file
from threecad.system.disk import writing_to
from threecad.system.locations import OWN_FOLDER, default_root

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterator

    from threecad.fetching.web import Response

__all__ = ["download"]


def download(
    root: str | os.PathLike[str] | None = None,
    *,
    source: str = "drive",
    edition: str = "english",
    categories: Collection[str] | None = None,
    sha256: str | None = None,
    keep_archive: bool = False,
    extract: bool = True,
    textures: bool = False,
    force: bool = False,
    wait: bool = True,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Get the dataset and unpack it; go on where an earlier call was interrupted.

    What is in place already is not fetched again. The size and SHA-256 of the archive are written
    to ``ROOT/.threecad/archives.lock.json`` by the first verified download and enforced afterwards.

    Args:
        root: The folder that will hold the category folders; ``default_root()`` if ``None``.
        source: ``drive``, ``hf:OWNER/NAME[@REVISION]``, a web address, or the path of a zip.
        edition: ``english`` or ``pinyin`` defect names; for ``drive`` only.
        categories: Names or codes of the categories to unpack; all by default.
        sha256: The archive's SHA-256, if you know it: anything else is refused.
        keep_archive: Whether to keep the archive after unpacking it.
        extract: Whether to unpack the archive.
        textures: Whether to get the DTD textures, too.
        force: Whether to accept that the archive was replaced since it was first downloaded, and
            to fetch again what is in place.
        wait: Whether to wait for another download into the same root, rather than to refuse.
        workers: Number of unpacking threads; one per core by default.
        progress: Whether to show progress on stderr.

    Returns:
        The root; the archive if ``extract`` is false.

    Raises:
        UsageError: If an argument is wrong.
        DownloadError: If the archive cannot be had, is not the expected one, or does not fit.
        ExtractionError: If the archive is broken or unsafe.
    """
    root = Path(root if root is not None else default_root()).expanduser().resolve()
    origin = parse_source(source, edition)
    wanted = _check_categories(categories, origin)
    if sha256 is not None and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
        raise UsageError(f"sha256 is {sha256!r}. Expected 64 hexadecimal digits.")
    with writing_to(root), _one_at_a_time(root, wait, progress):
        result = root
        if not extract or force or not _is_complete(root, origin, wanted, sha256):
            if progress:
                say(LICENSE_NOTICE)
            sweep(root)
            job = _Job(
                root, origin, wanted, sha256, keep_archive, extract, force, workers, progress
            )
            result = job.run()
        elif progress:
            say(f"Nothing to do: {root} holds everything asked for.")
        if textures:
            folder = download_textures(root, progress=progress)
            if progress:
                say(f"Textures are in {folder}.")
    return result


def _check_categories(categories: Collection[str] | None, origin: Source) -> tuple[str, ...] | None:
    """Refuse a misspelt category before anything is downloaded, where the categories are known."""
    if categories is None or not categories:
        return None
    wanted = (categories,) if isinstance(categories, str) else tuple(categories)
    if origin.kind == "drive":
        for name in wanted:
            if find_category(name) is None:
                codes = ", ".join(f"{c.name} ({c.code})" for c in CATEGORIES.values())
                raise UsageError(f"3CAD has no category {name!r}. It has: {codes}.")
    return wanted


@contextmanager
def _one_at_a_time(root: Path, wait: bool, progress: bool) -> Iterator[None]:
    """Hold the download lock of ``root``; the system drops it when the process dies."""
    from filelock import FileLock, Timeout

    own = root / OWN_FOLDER
    own.mkdir(parents=True, exist_ok=True)
    lock = FileLock(own / "download.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise DownloadError(
                f"Another download into {root} is running. Wait for it, or choose another `root`."
            ) from None
        if progress:
            say(f"Another download into {root} is running; waiting for it to end.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_complete(
    root: Path, origin: Source, wanted: tuple[str, ...] | None, sha256: str | None
) -> bool:
    """Whether everything asked for was unpacked from ``origin`` before and is still in place."""
    known = Provenance.load(root)
    archive = known.archives.get(origin.name)
    if origin.kind == "file" or (sha256 and (not archive or archive.sha256 != sha256.lower())):
        return False
    if wanted is None and known.complete != origin.name:
        return False
    for name in wanted or ():
        if not any(is_wanted(category, (name,)) for category in known.unpacked):
            return False
    return all(
        known.in_place(category) and entry.source == origin.name
        for category, entry in known.unpacked.items()
        if is_wanted(category, wanted)
    )


@dataclass
class _Job:
    """One call of `download` under way."""

    root: Path
    origin: Source
    wanted: tuple[str, ...] | None
    sha256: str | None
    keep_archive: bool
    extract: bool
    force: bool
    workers: int | None
    progress: bool

    def __post_init__(self) -> None:
        self.known = Provenance.load(self.root)

    def run(self) -> Path:
        """Get the archive, unpack it unless told not to, and tidy up."""
        self._reject_other_source(None)
        if self.origin.kind == "hub":
            archives = self._from_hub()
            if archives is None:
                return self.root
        else:
            archives = [self._archive()]
        if not self.extract:
            return archives[0].path
        done = Extraction()
        for archive in archives:
            self._reject_other_source(archive.sha256)
            done.add(
                extract_zip(
                    archive.path,
                    self.root,
                    categories=self.wanted,
                    workers=self.workers,
                    progress=self.progress,
                )
            )
        self._finish(done)
        for archive in archives:
            self._ask_to_report(archive, done)
        if not self._keeps_archive():
            for archive in archives:
                archive.path.unlink()
            shutil.rmtree(self.root / OWN_FOLDER / "hub", ignore_errors=True)
            with suppress(OSError):  # kept archives and rejected ones stay
                self._path.parent.rmdir()
        return self.root

    def _finish(self, done: Extraction) -> None:
        for name in self.wanted or ():
            if not any(is_wanted(category, (name,)) for category in done.files):
                raise ExtractionError(
                    f"{self.origin.name} holds no category {name!r}. "
                    f"It holds: {', '.join(sorted(done.files))}."
                )
        self.known.record_unpacked(
            self.origin.name, done.files, done.bytes, complete=self.wanted is None
        )
        if self.progress:
            say(
                f"{sum(done.files.values())} files of {len(done.files)} categories are in "
                f"{self.root} ({done.written} written, {done.skipped} were there already)."
            )
        if self.progress and done.left_out:
            say(
                f"{done.left_out} other images are not at …/<Category>/<split>/<defect type>/ in "
                "the archive and were left out."
            )

    def _ask_to_report(self, archive: Fetched, done: Extraction) -> None:
        """Write down how the archive is built; the first time, ask to tell what nobody has told."""
        first = self.known.record_folder(self.origin.name, done.folder)
        found = {find_category(name) for name in done.files}
        whole = all(category in found for category in CATEGORIES.values())
        if first and self.progress and (whole or self.origin.kind == "drive"):
            say(
                f"The archive has {archive.length} bytes, SHA-256 {archive.sha256}, "
                f"{sum(done.files.values())} images and masks and the top folder "
                f"{done.folder or '(none)'!r}. Size and hash are published nowhere yet: please "
                f"report this line ({self.known.path} keeps it; CONTRIBUTING.md says where)."
            )

    def _keeps_archive(self) -> bool:
        kept = any(
            archive.keep
            for name, archive in self.known.archives.items()
            if name == self.origin.name or name.startswith(f"{self.origin.name}/")
        )
        return self.origin.kind == "file" or self.keep_archive or kept

    def _reject_other_source(self, sha256: str | None) -> None:
        """Refuse to mix the files of two archives in one category.

        Args:
            sha256: Hash of the archive at hand; ``None`` while it is not known.
        """
        if self.origin.kind == "file" and sha256 is None:
            return
        mine = {sha256} if sha256 else self.known.digests(self.origin.name)
        for category, entry in self.known.unpacked.items():
            if entry.source == self.origin.name or not is_wanted(category, self.wanted):
                continue
            if not mine & self.known.digests(entry.source):
                raise DownloadError(
                    f"{self.root} holds {category} from {entry.source}, which is not known to be "
                    f"the same data as {self.origin.name}. Choose another `root`, or remove that "
                    f"folder and {self.known.path}."
                )

    def _archive(self) -> Fetched:
        """Return the archive on disk, received and checked now or earlier."""
        origin = self.origin
        if origin.kind == "file":
            path = Path(origin.value)
            check_zip(path)
            archive = Fetched(path, path.stat().st_size, hash_file(path))
            _reject_other_hash(archive, self.sha256)
        else:
            archive = self._earlier() or self._fetch()
        self._record(origin.name, archive)
        return archive

    def _record(self, name: str, archive: Fetched) -> None:
        """Write an archive down, unless the root was unpacked from another one of that name."""
        known = self.known.archives.get(name)
        used = any(entry.source == self.origin.name for entry in self.known.unpacked.values())
        if known and known.sha256 != archive.sha256 and used and not self.force:
            raise DownloadError(
                f"{self.root} was unpacked from another archive named {name}: its SHA-256 was "
                f"{known.sha256}, this one has {archive.sha256}. Choose another `root`, or "
                "overwrite with `force=True`."
            )
        keep = self.keep_archive or not self.extract
        self.known.record_archive(name, archive.length, archive.sha256, keep=keep)

    @property
    def _path(self) -> Path:
        return self.root / OWN_FOLDER / "archives" / self.origin.archive_name

    def _expected(self) -> tuple[int | None, str | None]:
        """Return length and SHA-256 the archive must have, as far as they are known."""
        known = None if self.force else self.known.archives.get(self.origin.name)
        sha256 = self.sha256.lower() if self.sha256 else None
        if known and sha256 in (None, known.sha256):
            return known.length, known.sha256
        return None, sha256

    def _earlier(self) -> Fetched | None:
        """Return the archive that an earlier call left, if it is right."""
        if self.force or not self._path.is_file():
            return None
        length, sha256 = self._expected()
        archive = Fetched(self._path, self._path.stat().st_size, hash_file(self._path))
        try:
            check_zip(self._path)
        except ExtractionError:
            return None
        matches = length in (None, archive.length) and sha256 in (None, archive.sha256)
        return archive if matches else None

    def _fetch(self) -> Fetched:
        length, sha256 = self._expected()
        return fetch(
            partial(_open, self.origin),
            self._path,
            key=self.origin.name,
            what=self.origin.archive_name,
            length=length,
            sha256=sha256,
            magic=b"PK",
            check=check_zip,
            copies=0 if self.wanted or not self.extract else 1,
            progress=self.progress,
        )

    def _from_hub(self) -> list[Fetched] | None:
        """Return the archives of a Hub repository; ``None`` if it was a tree and is in place."""
        from threecad.fetching.hub_source import Repository

        origin = self.origin
        folder = self.root / OWN_FOLDER / "hub"
        repository = Repository(origin.value, origin.revision, folder, self.progress)
        names = repository.archives(self.wanted)
        if not names:
            if not self.extract or self.sha256:
                raise UsageError(
                    f"{origin.name} holds no zip: there is nothing to keep or compare."
                )
            self._finish(repository.fetch_tree(self.root, self.wanted))
            return None
        archives = []
        for name in names:
            archive = repository.fetch_archive(name)
            check_zip(archive.path)
            _reject_other_hash(archive, self.sha256)
            self._record(f"{origin.name}/{name}", archive)
            archives.append(archive)
        return archives


def _reject_other_hash(archive: Fetched, sha256: str | None) -> None:
    if sha256 and archive.sha256 != sha256.lower():
        raise DownloadError(
            f"{archive.path} has SHA-256 {archive.sha256}; expected {sha256.lower()}."
        )


def _open(origin: Source, headers: dict[str, str]) -> Response:
    if origin.kind == "drive":
        return open_drive_file(origin.value, headers)
    return open_url(origin.value, headers)

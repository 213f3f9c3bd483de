"""A repository on the Hugging Face Hub as a source: archives, a tree of images, or Parquet.

``HF_ENDPOINT``, ``HF_TOKEN`` (or the token of ``hf auth login``) and proxies work as everywhere
with ``huggingface_hub``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from threecad.dataset.catalog import find_category
from threecad.errors import DownloadError, TransferInterrupted
from threecad.fetching.extraction import Extraction
from threecad.fetching.member_names import Claims, is_wanted, safe_parts, tree_path
from threecad.fetching.parquet_records import unpack_records
from threecad.fetching.transfer import Fetched, say
from threecad.images.hashing import hash_file
from threecad.system import atomic
from threecad.system.disk import require_room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Repository", "is_network_error"]

Answer = TypeVar("Answer")

_CONNECTIONS = 8
_RETRIES = 5


@dataclass(frozen=True)
class _File:
    """A file of a repository: path, length in bytes, and the hash the Hub states for it."""

    path: str
    length: int
    sha256: str | None
    git_sha1: str | None

    def matches(self, local: Path) -> bool:
        """Whether ``local`` is this file, by length and hash."""
        if not local.is_file() or local.stat().st_size != self.length:
            return False
        if self.sha256:
            digest = hashlib.sha256()
        elif self.git_sha1:
            digest = hashlib.sha1(b"blob %d\0" % self.length, usedforsecurity=False)
        else:
            return True
        with local.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest() == (self.sha256 or self.git_sha1)


class Repository:
    """One revision of a dataset repository.

    Args:
        name: ``OWNER/NAME``.
        revision: Branch, tag or commit; the main branch if ``None``.
        folder: Where files are received before they are checked and moved into place.
        progress: Whether to show progress on stderr.

    Raises:
        DownloadError: If the repository cannot be read, with how to get access.
    """

    def __init__(self, name: str, revision: str | None, folder: Path, progress: bool) -> None:
        from huggingface_hub import HfApi

        self.name = name
        self.folder = folder
        self.progress = progress
        self.endpoint = os.environ.get("HF_ENDPOINT") or None
        api = HfApi(endpoint=self.endpoint)

        def read() -> tuple[str, list[Any]]:
            # All requests name one commit: a push under way cannot mix two states.
            commit = str(api.repo_info(name, repo_type="dataset", revision=revision).sha)
            tree = api.list_repo_tree(name, repo_type="dataset", revision=commit, recursive=True)
            return commit, list(tree)

        self.commit, entries = self._try(read)
        self.files = [_as_file(entry) for entry in entries if hasattr(entry, "size")]

    def archives(self, wanted: tuple[str, ...] | None) -> list[str]:
        """Return the zips that hold the dataset; none if it is there in another form.

        Raises:
            DownloadError: If it is not clear which of several zips is meant.
        """
        if self._images():
            return []
        zips = [file.path for file in self.files if file.path.casefold().endswith(".zip")]
        of_categories = {path: find_category(PurePosixPath(path).stem) for path in zips}
        if len(zips) > 1 and not all(of_categories.values()):
            base = self.endpoint or "https://huggingface.co"
            raise DownloadError(
                f"{self.name} holds several archives ({', '.join(zips)}). Name one of them: "
                f"`source={base}/datasets/{self.name}/resolve/main/FILE.zip`"
            )
        return [
            path
            for path, category in of_categories.items()
            if category is None or is_wanted(category.name, wanted)
        ]

    def fetch_archive(self, path: str) -> Fetched:
        """Download one file of the repository, checked."""
        file = next(file for file in self.files if file.path == path)
        self.folder.mkdir(parents=True, exist_ok=True)
        require_room(self.folder, file.length, path)
        with nullcontext() if self.progress else _quiet_hub():
            received = self._receive(file)
        return Fetched(received, file.length, file.sha256 or hash_file(received))

    def fetch_tree(self, root: Path, wanted: tuple[str, ...] | None) -> Extraction:
        """Download the images, or the Parquet files that embed them, into ``root``.

        Raises:
            DownloadError: If the repository holds the dataset in no form known here.
            ExtractionError: If a file is damaged or unsafe.
        """
        done = self._fetch_images(root, wanted) or self._fetch_records(root, wanted)
        shutil.rmtree(self.folder, ignore_errors=True)
        return done

    def _images(self) -> dict[PurePosixPath, _File]:
        """Return the images of a tree by their place below a root."""
        claims, images = Claims(), {}
        for file in self.files:
            target = tree_path(safe_parts(file.path))
            if target and claims.add(target, file.path, file.sha256 or file.git_sha1):
                images[target] = file
        return images

    def _fetch_images(self, root: Path, wanted: tuple[str, ...] | None) -> Extraction | None:
        everything = self._images()
        images = {t: file for t, file in everything.items() if is_wanted(t.parts[0], wanted)}
        if not images:
            if everything:
                held = sorted({target.parts[0] for target in everything})
                raise DownloadError(f"{self.name} holds none of those; it has {', '.join(held)}.")
            return None
        require_room(root, self._missing(images, root), self.name)
        done = Extraction(ignored=len(self.files) - len(everything))

        def fetch(item: tuple[PurePosixPath, _File]) -> bool:
            target, file = item
            if file.matches(root / target):
                return False
            received = self._receive(file)
            (root / target).parent.mkdir(parents=True, exist_ok=True)
            received.replace(root / target)
            return True

        total = sum(file.length for file in images.values())
        pool = ThreadPoolExecutor(_CONNECTIONS)
        try:
            with (
                _quiet_hub(),
                tqdm(
                    total=total,
                    desc=self.name,
                    unit="B",
                    unit_scale=True,
                    disable=not self.progress,
                ) as bar,
            ):
                for (target, file), written in zip(
                    images.items(), pool.map(fetch, images.items()), strict=True
                ):
                    done.count(target.parts[0], file.length, written)
                    bar.update(file.length)
        finally:
            pool.shutdown(cancel_futures=True)
        return done

    def _missing(self, images: dict[PurePosixPath, _File], root: Path) -> int:
        there = sum(
            file.length
            for target, file in images.items()
            if (root / target).is_file() and (root / target).stat().st_size == file.length
        )
        return sum(file.length for file in images.values()) - there

    def _fetch_records(self, root: Path, wanted: tuple[str, ...] | None) -> Extraction:
        shards = [file for file in self.files if file.path.casefold().endswith(".parquet")]
        if not shards:
            raise DownloadError(
                f"{self.name} holds neither a zip, nor <Category>/<split>/<defect type>/ folders, "
                "nor Parquet files. Is it 3CAD?"
            )
        shards = [file for file in shards if _may_hold(file.path, wanted)]
        done = Extraction(ignored=len(self.files) - len(shards))
        for file in shards:
            finished = self.folder / "finished" / f"{file.git_sha1 or file.sha256}.json"
            if finished.is_file():
                done.add(Extraction.from_dict(json.loads(finished.read_text(encoding="utf-8"))))
                continue
            require_room(root, 2 * file.length, file.path)
            shard = self._receive(file)
            part = unpack_records(shard, root, wanted, progress=self.progress)
            atomic.write_json(finished, part.to_dict())
            shard.unlink()
            done.add(part)
        if not done.files:
            raise DownloadError(f"The Parquet files of {self.name} hold no image asked for.")
        return done

    def _receive(self, file: _File) -> Path:
        """Download a file into the folder, again if it comes damaged; return where it is."""
        from huggingface_hub import hf_hub_download

        def receive() -> Path:
            local = Path(
                hf_hub_download(
                    self.name,
                    file.path,
                    repo_type="dataset",
                    revision=self.commit,
                    local_dir=self.folder,
                    endpoint=self.endpoint,
                )
            )
            if not file.matches(local):
                local.unlink()
                raise TransferInterrupted(f"{file.path} of {self.name} came damaged.")
            return local

        return self._try(receive)

    def _try(self, ask: Callable[[], Answer]) -> Answer:
        """Return ``ask()``, asked again a few times where that may help."""
        for attempt in range(_RETRIES):
            try:
                with self._explained():
                    return ask()
            except TransferInterrupted as interruption:
                if self.progress:
                    say(f"{interruption} Trying again in {2**attempt} s.")
                time.sleep(2.0**attempt)
        with self._explained():
            return ask()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what ``huggingface_hub`` raises into what the user can do about it."""
        from huggingface_hub import errors

        page = f"{self.endpoint or 'https://huggingface.co'}/datasets/{self.name}"
        try:
            yield
        except errors.GatedRepoError as error:
            raise DownloadError(
                f"{self.name} is gated. Sign in at {page} and ask for access (its owners may take "
                "days), then run `hf auth login` or set HF_TOKEN, and try again."
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise DownloadError(
                f"There is no dataset {page}, or it is private. Check the name; for a private one "
                "run `hf auth login` or set HF_TOKEN."
            ) from error
        except errors.RevisionNotFoundError as error:
            raise DownloadError(f"{page} has no such revision. Check the part after @.") from error
        except errors.OfflineModeIsEnabled as error:
            raise DownloadError(
                "HF_HUB_OFFLINE forbids downloads from the Hub. Unset it, or choose another source."
            ) from error
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status in (401, 403):
                raise DownloadError(
                    f"{page} refuses access ({status}). Check your token: `hf auth whoami`."
                ) from error
            if not is_network_error(error):
                raise
            raise TransferInterrupted(f"{page}: {error}.") from error


def _as_file(entry: Any) -> _File:
    large = getattr(entry, "lfs", None)
    return _File(entry.path, entry.size, large.sha256 if large else None, entry.blob_id)


def _may_hold(path: str, wanted: tuple[str, ...] | None) -> bool:
    """Whether a Parquet file may hold a category asked for: unless in another one's folder."""
    parts = safe_parts(path)
    folder = parts[-2] if len(parts) > 1 else ""
    return find_category(folder) is None or is_wanted(folder, wanted)


def is_network_error(error: Exception) -> bool:
    """Whether an error comes from the HTTP client, which differs between versions of the Hub's."""
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError | errors.LocalEntryNotFoundError):
        return True
    clients = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
    return any(kind.__module__.partition(".")[0] in clients for kind in type(error).__mro__)


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Silence the Hub's own progress bars, one for each of thousands of files."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()

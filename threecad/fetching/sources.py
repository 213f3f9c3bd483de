"""Where the dataset can come from, as the ``source`` of a download."""

from __future__ import annotations

import hashlib
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from threecad.dataset.catalog import DRIVE_ARCHIVES
from threecad.errors import UsageError
from threecad.fetching.drive import find_file_id

__all__ = ["Source", "parse_source"]


@dataclass(frozen=True)
class Source:
    """A place the dataset can be had from.

    Attributes:
        kind: ``drive``, ``web``, ``hub`` or ``file``.
        value: Drive file id, address, ``OWNER/NAME`` on the Hub, or path.
        name: What identifies it in the lock file; holds no password or signature.
        revision: Branch, tag or commit on the Hub.
    """

    kind: Literal["drive", "web", "hub", "file"]
    value: str
    name: str
    revision: str | None = None

    @property
    def archive_name(self) -> str:
        """File name for the archive from this source."""
        if self.kind == "drive":
            editions = {file_id: edition for edition, file_id in DRIVE_ARCHIVES.items()}
            return f"3CAD-{editions.get(self.value, self.value)}.zip"
        stem = PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(self.value).path)).stem
        return (re.sub(r"[^\w.-]", "_", stem)[:100].lstrip(".") or "3CAD") + ".zip"


def parse_source(text: str, edition: str = "english") -> Source:
    """Return the source that ``text`` names.

    Args:
        text: ``drive``, ``hf:OWNER/NAME[@REVISION]``, a web address (of a zip, a Drive share link
            or a dataset page on the Hub), or the path of a zip.
        edition: Which of the two archives ``drive`` means: ``english`` or ``pinyin``.

    Raises:
        UsageError: If it is none of these.
    """
    if edition not in DRIVE_ARCHIVES:
        raise UsageError(f"edition is {edition!r}. Expected one of: {', '.join(DRIVE_ARCHIVES)}.")
    if text == "drive":
        return _drive(DRIVE_ARCHIVES[edition])
    if text.startswith("hf:"):
        return _hub(text.removeprefix("hf:"))
    if re.match("https?://", text):
        return _web(text)
    if "://" in text or not Path(text).expanduser().exists():
        raise UsageError(
            f"source is {text}, and there is no such file. Expected drive, hf:OWNER/NAME, "
            "https://… or the path of a zip."
        )
    path = Path(text).expanduser().resolve()
    return Source("file", str(path), path.name)


def _drive(file_id: str) -> Source:
    return Source("drive", file_id, f"drive:{file_id}")


def _hub(text: str) -> Source:
    repository, _, revision = text.strip("/").partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UsageError(
            f"{text!r} is no repository on the Hub. Expected hf:OWNER/NAME[@REVISION]."
        )
    name = f"hf:{repository}@{revision}" if revision else f"hf:{repository}"
    return Source("hub", repository, name, revision or None)


def _web(url: str) -> Source:
    if file_id := find_file_id(url):
        return _drive(file_id)
    if page := re.fullmatch(r"https://huggingface\.co/datasets/([\w.-]+/[\w.-]+)/?", url):
        return _hub(page[1])
    parts = urllib.parse.urlsplit(url)
    # A query can hold a signature and the host a password: neither belongs into a file.
    query = f"?{hashlib.sha256(parts.query.encode()).hexdigest()[:12]}" if parts.query else ""
    host = parts.netloc.rpartition("@")[2]
    return Source("web", url, f"{parts.scheme}://{host}{parts.path}{query}")

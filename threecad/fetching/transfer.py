"""A file from the network, resumed across interruptions and runs, in place only when it is right.

While it grows, ``NAME`` is ``NAME.part``; ``NAME.part.json`` beside it says what it is a part of
(the remote's ETag or modification date and its length). A resumed request asks again for the last
kilobytes that are already there and compares them, so that a remote that changed, or a tail lost
in a power cut, is noticed even where the server sends no ETag.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from tqdm import tqdm

from threecad.errors import DownloadError, ExtractionError, TransferInterrupted
from threecad.fetching.web import is_page, page_title, reject_failure
from threecad.system import atomic
from threecad.system.disk import format_bytes, require_room, writing_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from threecad.fetching.web import Response

__all__ = ["Fetched", "fetch", "say"]

_CHUNK = 1 << 20
_OVERLAP = 64 << 10
_LONGEST_WAIT = 60.0
"""Seconds between two attempts at most."""


@dataclass(frozen=True)
class Fetched:
    """A finished file: where it is, its length in bytes and its SHA-256 (hexadecimal)."""

    path: Path
    length: int
    sha256: str


@dataclass
class _State:
    """What a partial file is a part of."""

    key: str
    etag: str | None = None
    last_modified: str | None = None
    total: int | None = None


def fetch(
    open_remote: Callable[[dict[str, str]], Response],
    destination: Path,
    *,
    key: str,
    what: str,
    length: int | None = None,
    sha256: str | None = None,
    magic: bytes = b"",
    check: Callable[[Path], None] | None = None,
    copies: int = 0,
    retries: int = 5,
    backoff: float = 1.0,
    progress: bool = True,
) -> Fetched:
    """Download a file to ``destination``, going on where an earlier attempt stopped.

    Args:
        open_remote: Sends the request with the given headers (``Range``, ``If-Range``).
        destination: Where the file goes. It appears there only whole and checked.
        key: Names the remote; a part made from another key is not resumed.
        what: Names the file in messages.
        length: Expected length in bytes.
        sha256: Expected SHA-256, hexadecimal.
        magic: First bytes that a file of the expected kind has.
        check: Raises an `ExtractionError` if the finished file is not what it should be.
        copies: How often its length must fit on the disk beyond the file itself.
        retries: Attempts in a row without progress before giving up.
        backoff: Seconds before the first retry; doubles with each.
        progress: Whether to show a progress bar on stderr.

    Raises:
        DownloadError: If the file cannot be had, is not the expected one, or does not fit on the
            disk. What was received is kept and resumed by the next call, unless it is wrong: then
            it is set aside as ``NAME.rejected``.
    """
    with writing_to(destination.parent):
        destination.parent.mkdir(parents=True, exist_ok=True)
        expected = _Expectation(length, magic, copies)
        with closing(_Part(destination, key, what, expected, progress)) as part:
            _receive_all(part, open_remote, retries, backoff)
            if not part.length:
                raise DownloadError(f"{what} is empty. Check the address.")
            part.sync()
            digest = part.sha256.hexdigest()
        try:
            _compare(what, part.length, digest, length, sha256)
            if check:
                check(part.path)
        except (DownloadError, ExtractionError) as error:
            rejected = destination.with_name(destination.name + ".rejected")
            part.path.replace(rejected)
            part.forget_state()
            raise DownloadError(f"{error} What was received is kept as {rejected}.") from error
        part.path.replace(destination)
        part.forget_state()
    return Fetched(destination, part.length, digest)


def say(message: str) -> None:
    """Tell the user something on stderr without breaking a progress bar."""
    tqdm.write(message, file=sys.stderr)


@dataclass(frozen=True)
class _Expectation:
    """What a finished file must be like: its length in bytes, its first bytes, room for copies."""

    length: int | None
    magic: bytes
    copies: int


class _Part:
    """The growing file, its running hash and the note of what it is a part of."""

    def __init__(
        self, destination: Path, key: str, what: str, expected: _Expectation, progress: bool
    ) -> None:
        self.path = destination.with_name(destination.name + ".part")
        self.state_path = destination.with_name(destination.name + ".part.json")
        self.what = what
        self.expected = expected
        self.progress = progress
        self.state = self._load_state(key)
        self.sha256 = hashlib.sha256()
        self.length = 0
        self.file = self._open()

    def _load_state(self, key: str) -> _State:
        try:
            state = _State(**json.loads(self.state_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            state = _State("")
        if state.key != key or not self.path.is_file():
            self.path.unlink(missing_ok=True)
            return _State(key)
        return state

    def _open(self) -> BinaryIO:
        # Unbuffered: what counts as received is on its way to the disk.
        file = self.path.open("ab+", buffering=0)
        held = file.seek(0, os.SEEK_END)
        file.seek(0)
        with _bar(held, 0, "checking the part already here", self.progress and held > 0) as bar:
            for block in _blocks(file):
                self.sha256.update(block)
                self.length += len(block)
                bar.update(len(block))
        return file

    @property
    def validator(self) -> str | None:
        """What ``If-Range`` may be: a strong ETag, or the modification date."""
        strong = self.state.etag if self.state.etag and self.state.etag[0] == '"' else None
        return strong or self.state.last_modified

    def append(self, block: bytes) -> None:
        view = memoryview(block)
        while view:  # an unbuffered write may be short, on a full disk for one
            written = self.file.write(view)
            self.sha256.update(view[:written])
            self.length += written
            view = view[written:]

    def tail(self, length: int) -> bytes:
        self.file.seek(self.length - length)
        return self.file.read(length)

    def restart(self) -> None:
        self.file.truncate(0)
        self.sha256 = hashlib.sha256()
        self.length = 0
        self.state = _State(self.state.key)

    def save_state(self) -> None:
        atomic.write_json(self.state_path, asdict(self.state))

    def forget_state(self) -> None:
        self.state_path.unlink(missing_ok=True)

    def sync(self) -> None:
        os.fsync(self.file.fileno())

    def close(self) -> None:
        """Close the file; one that never got a byte is not left behind."""
        self.file.close()
        if not self.length:
            self.path.unlink()
            self.forget_state()


def _receive_all(
    part: _Part,
    open_remote: Callable[[dict[str, str]], Response],
    retries: int,
    backoff: float,
) -> None:
    """Send requests until the part is complete, giving up after ``retries`` without progress."""
    reached, failures = part.length, 0
    while True:
        try:
            _receive(part, open_remote)
            return
        except TransferInterrupted as interruption:
            # A trickle is no progress: only a 100th of the file makes the count begin again.
            enough = min(_CHUNK, (part.state.total or 0) // 100)
            failures = 1 if part.length - reached > enough else failures + 1
            reached = max(reached, part.length)
            if failures > retries:
                raise DownloadError(
                    f"Gave up after {failures} failed attempts in a row. {interruption}"
                    + (
                        " What was received is kept: the same command goes on."
                        if part.length
                        else ""
                    )
                ) from interruption
            wait = min(max(backoff * 2 ** (failures - 1), interruption.wait), _LONGEST_WAIT)
            if part.progress:
                say(f"{interruption} Trying again in {wait:.0f} s.")
            time.sleep(wait)


def _receive(part: _Part, open_remote: Callable[[dict[str, str]], Response]) -> None:
    """Send one request and append what it brings."""
    overlap = min(part.length, _OVERLAP)
    headers = {}
    if part.length:
        headers["Range"] = f"bytes={part.length - overlap}-"
        if part.validator:
            headers["If-Range"] = part.validator
    response = open_remote(headers)
    with closing(response):
        if response.status == 416 and part.length:
            part.restart()
            raise TransferInterrupted(f"{part.what} is now shorter than the part already here.")
        reject_failure(response, part.what)
        if response.status == 206:
            _join(part, response, overlap)
        elif part.length:
            if part.progress:
                say(f"{part.what} changed, or its server cannot resume: starting again.")
            part.restart()
        _reject_unexpected(part, response)
        total = part.state.total
        limit = total if total is not None else part.expected.length
        with _bar(total, part.length, part.what, part.progress) as bar:
            for block in _body(response):
                if not part.length:
                    _reject_other_kind(part, block)
                part.append(block)
                bar.update(len(block))
                if limit is not None and part.length > limit:
                    part.restart()
                    raise TransferInterrupted(f"{part.what} is longer than {limit} bytes.")
        if total is not None and part.length < total:
            raise TransferInterrupted(
                f"The connection was cut after {format_bytes(part.length)} of "
                f"{format_bytes(total)}."
            )


def _join(part: _Part, response: Response, overlap: int) -> None:
    """Check that a partial response continues the part, by its range, identity and overlap."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    start = part.length - overlap
    total = int(span[2]) if span and span[2] != "*" else part.state.total
    etag = response.headers.get("ETag")
    begin = b"".join(_body(response, limit=overlap))
    if len(begin) < overlap and total is not None and total >= part.length:
        raise TransferInterrupted("The connection was cut at once.")
    same = (
        span is not None
        and int(span[1]) == start
        and total == (part.state.total or total)
        and (not part.state.etag or not etag or etag == part.state.etag)
        and begin == part.tail(overlap)
    )
    if not same:
        part.restart()
        raise TransferInterrupted(f"{part.what} changed since it was begun; starting again.")
    part.state.total = total


def _reject_unexpected(part: _Part, response: Response) -> None:
    """Take length and identity from the headers; refuse what cannot become the expected file."""
    if is_page(response):
        title = page_title(response.read(_OVERLAP).decode("utf-8", "replace"))
        raise DownloadError(
            f"{part.what}: the server answered with a web page, {title}, where data was expected. "
            "Open the address in a browser to see what it asks for."
        )
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadError(
            f"{part.what}: the server compresses the transfer although it was asked not to; "
            "its length cannot be checked. Use another source."
        )
    if not part.length:
        length = response.headers.get("Content-Length")
        part.state.total = int(length) if length and length.isdigit() else None
        part.state.etag = response.headers.get("ETag")
        part.state.last_modified = response.headers.get("Last-Modified")
    total, expected = part.state.total, part.expected
    if expected.length is not None and total is not None and total != expected.length:
        raise DownloadError(
            f"{part.what} has {total} bytes; expected {expected.length}. It is another file, or "
            "was replaced: if that is right, run again with `force=True`."
        )
    if total is not None:
        purpose = f"{part.what}, with room to unpack it," if expected.copies else part.what
        require_room(part.path.parent, total - part.length + total * expected.copies, purpose)
    part.save_state()


def _reject_other_kind(part: _Part, block: bytes) -> None:
    """Refuse a body whose first bytes are not those of the expected kind of file."""
    if (
        part.expected.magic
        and block[: len(part.expected.magic)] != part.expected.magic[: len(block)]
    ):
        page = block.lstrip()[:1] == b"<"
        kind = "a web page" if page else f"something that begins with {block[:8]!r}"
        raise DownloadError(
            f"{part.what}: the server sent {kind} where an archive was expected. Check the address."
        )


def _compare(
    what: str, length: int, digest: str, expected_length: int | None, expected_digest: str | None
) -> None:
    if expected_length is not None and length != expected_length:
        raise DownloadError(f"{what} has {length} bytes; expected {expected_length}.")
    if expected_digest is not None and digest != expected_digest.lower():
        raise DownloadError(f"{what} has SHA-256 {digest}; expected {expected_digest.lower()}.")


def _body(response: Response, limit: int | None = None) -> Iterator[bytes]:
    """Yield the body, or its next ``limit`` bytes, as it arrives.

    Raises:
        TransferInterrupted: If the connection breaks.
    """
    left = _CHUNK if limit is None else limit
    while left:
        try:
            block = response.read1(min(left, _CHUNK))
        except (OSError, http.client.HTTPException) as error:
            raise TransferInterrupted(f"The connection broke: {error!r}.") from error
        if not block:
            return
        yield block
        if limit is not None:
            left -= len(block)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_CHUNK):
        yield block


def _bar(total: int | None, initial: int, description: str, shown: bool) -> tqdm[Any]:
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit="B",
        unit_scale=True,
        disable=not shown,
        leave=False,
    )

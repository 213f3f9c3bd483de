"""What is wrong with a file that does not decode as an image, in one clause."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from PIL import UnidentifiedImageError

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["describe_damage", "is_cut_short", "read_ends"]

_ENDS = 64
_CHUNK = 1 << 20

_FOREIGN = (
    ((b"<!doc", b"<html"), "a web page"),
    ((b"<svg", b"<?xml"), "an SVG drawing or other XML"),
    ((b"%!", b"\xc5\xd0\xd3\xc6"), "a PostScript program"),
    ((b"%pdf",), "a PDF document"),
    ((b"pk\x03\x04", b"rar!", b"7z\xbc\xaf", b"\x1f\x8b"), "an archive"),
    ((b"\x00\x00\x00\x0cjp", b"\xff\x4f\xff\x51"), "a JPEG 2000 picture"),
)
"""First bytes, letters in lower case, of what lies under an image's name now and then."""


def describe_damage(file: BinaryIO, error: BaseException) -> str:
    """Say in one clause what is wrong with an image file that does not decode.

    Args:
        file: The file, open and seekable.
        error: What the decoder raised.
    """
    try:
        head, tail = read_ends(file)
    except OSError as failure:  # of the disk
        return failure.strerror or str(failure)
    if not head:
        return "the file is empty"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if not any(head) and _all_zero(file):
        return "the file is all zero bytes"
    if isinstance(error, UnidentifiedImageError):
        kind = _foreign_kind(head)
        return f"the file is {kind}, not an image" if kind else "no image format is recognised"
    if is_cut_short(tail, head):
        return f"the file is cut short ({file.seek(0, os.SEEK_END):,} bytes)"
    return " ".join(str(error).split()) or type(error).__name__


def is_cut_short(tail: bytes, head: bytes) -> bool:
    """Whether a PNG or JPEG lacks its end marker.

    Args:
        tail: The last 64 bytes of the file.
        head: The first bytes of the file.
    """
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in tail
    if head.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" not in tail
    return False


def read_ends(file: BinaryIO) -> tuple[bytes, bytes]:
    """Return the first and the last 64 bytes of an open file."""
    file.seek(0)
    head = file.read(_ENDS)
    file.seek(max(0, file.seek(0, io.SEEK_END) - _ENDS))
    return head, file.read()


def _foreign_kind(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return "a HEIF or AVIF picture, or a video"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").lower()
    return next((kind for first, kind in _FOREIGN if start.startswith(first)), None)


def _all_zero(file: BinaryIO) -> bool:
    file.seek(0)
    return not any(any(chunk) for chunk in iter(lambda: file.read(_CHUNK), b""))

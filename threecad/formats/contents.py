"""Where the bytes of an image and its mask are, on their way from one layout to another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from threecad.errors import ImageError
from threecad.images.files import as_png, open_image, read_size
from threecad.images.masks import decode_mask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from threecad.images.masks import MaskRule

__all__ = ["AsPng", "Content", "File", "Mask", "MaskImage", "TarMember"]


class Content(Protocol):
    """Encoded image bytes somewhere."""

    @property
    def suffix(self) -> str:
        """Suffix of the file name in lower case, with its dot."""

    @property
    def length(self) -> int:
        """Number of bytes."""

    def read_bytes(self) -> bytes:
        """Return the bytes."""

    def read_size(self) -> tuple[int, int]:
        """Return ``(height, width)``; headers tell, and nothing is decoded.

        Raises:
            ImageError: As :func:`threecad.images.files.read_size` does.
        """

    def open(self) -> Image.Image:
        """Return the decoded image.

        Raises:
            ImageError: As :func:`threecad.images.files.open_image` does.
        """

    def stamp(self) -> str:
        """Return a short text that changes when the content changes."""

    def __str__(self) -> str:
        """Return how messages name it."""


@dataclass(frozen=True)
class File:
    """A file on disk."""

    path: Path

    @property
    def suffix(self) -> str:
        """Suffix of the file name in lower case, with its dot."""
        return self.path.suffix.lower()

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.path.stat().st_size

    def read_bytes(self) -> bytes:
        """Return the bytes of the file."""
        return self.path.read_bytes()

    def read_size(self) -> tuple[int, int]:
        """Return ``(height, width)`` from the header."""
        return read_size(self.path)

    def open(self) -> Image.Image:
        """Return the decoded image."""
        return open_image(self.path)

    def stamp(self) -> str:
        """Return path, size and time of last change."""
        status = self.path.stat()
        return f"{self.path}|{status.st_size}|{status.st_mtime_ns}"

    def __str__(self) -> str:
        """Return the path."""
        return str(self.path)


@dataclass(frozen=True)
class TarMember:
    """A file inside an uncompressed tar archive."""

    archive: Path
    name: str
    offset: int
    length: int

    @property
    def suffix(self) -> str:
        """Suffix of the member's name in lower case, with its dot."""
        return Path(self.name).suffix.lower()

    def read_bytes(self) -> bytes:
        """Return the bytes of the member."""
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)

    def read_size(self) -> tuple[int, int]:
        """Return ``(height, width)`` from the header."""
        return read_size(str(self), self.read_bytes())

    def open(self) -> Image.Image:
        """Return the decoded image."""
        return open_image(str(self), self.read_bytes())

    def stamp(self) -> str:
        """Return the archive's stamp and the member's place in it."""
        return f"{File(self.archive).stamp()}|{self.offset}|{self.length}"

    def __str__(self) -> str:
        """Return archive and member."""
        return f"{self.archive}:{self.name}"


@dataclass(frozen=True)
class AsPng:
    """An image in another encoding, as a PNG file of the same pixels."""

    content: Content
    suffix: str = ".png"

    @property
    def length(self) -> int:
        """Number of bytes of the original: an estimate."""
        return self.content.length

    def read_bytes(self) -> bytes:
        """Return the bytes of the PNG file."""
        try:
            return as_png(self.open())
        except (OSError, ValueError) as error:
            raise ImageError(f"{self.content} cannot be written as PNG: {error}.") from error

    def read_size(self) -> tuple[int, int]:
        """Return ``(height, width)`` of the original."""
        return self.content.read_size()

    def open(self) -> Image.Image:
        """Return the decoded original."""
        return self.content.open()

    def stamp(self) -> str:
        """Return the stamp of the original."""
        return f"{self.content.stamp()}|png"

    def __str__(self) -> str:
        """Return how messages name it."""
        return str(self.content)


class Mask(Protocol):
    """A mask somewhere, in any form."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``, without decoding it."""

    def decode(self, rule: MaskRule | None) -> tuple[NDArray[np.bool_], str, tuple[str, ...]]:
        """Return the mask, ``(H, W) bool``, the name of the rule used and what is odd."""

    def stamp(self) -> str:
        """Return a short text that changes when the mask changes."""


@dataclass(frozen=True)
class MaskImage:
    """A mask that is an image."""

    content: Content

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` from the header."""
        return self.content.read_size()

    def decode(self, rule: MaskRule | None) -> tuple[NDArray[np.bool_], str, tuple[str, ...]]:
        """Return the mask, ``(H, W) bool``, the rule used and the codes of what is odd."""
        if isinstance(self.content, File):
            decoded = decode_mask(self.content.path, rule=rule)
        else:
            content = self.content.read_bytes()
            decoded = decode_mask(str(self.content), rule=rule, content=content)
        return decoded.mask, decoded.rule, decoded.findings

    def stamp(self) -> str:
        """Return the stamp of the image."""
        return self.content.stamp()

    def __str__(self) -> str:
        """Return how messages name it."""
        return str(self.content)

"""One image on its way from one layout to another, and where its bytes are.

Readers return items, writers take them. An item is small: it says where the image and its mask are
and how to get at them, so that a list of all of them is cheap and goes to worker processes.
"""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from threecad.errors import ConversionError, ImageError
from threecad.images import as_png, open_image, read_size
from threecad.masks import decode_mask
from threecad.samples import GOOD

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from threecad.masks import MaskRule
    from threecad.samples import Sample

__all__ = [
    "AsPng",
    "Content",
    "File",
    "Item",
    "Mask",
    "MaskImage",
    "TarMember",
    "make_id",
    "read_image_size",
    "relative_posix",
]


class Content(Protocol):
    """Encoded image bytes somewhere."""

    @property
    def suffix(self) -> str:
        """Suffix of the file name in lower case, with its dot."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def read_bytes(self) -> bytes:
        """Return the bytes."""

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
    def size(self) -> int:
        """Number of bytes."""
        return self.path.stat().st_size

    def read_bytes(self) -> bytes:
        """Return the bytes of the file."""
        return self.path.read_bytes()

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
    size: int

    @property
    def suffix(self) -> str:
        """Suffix of the member's name in lower case, with its dot."""
        return Path(self.name).suffix.lower()

    def read_bytes(self) -> bytes:
        """Return the bytes of the member."""
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def stamp(self) -> str:
        """Return the archive's stamp and the member's place in it."""
        return f"{File(self.archive).stamp()}|{self.offset}|{self.size}"

    def __str__(self) -> str:
        """Return archive and member."""
        return f"{self.archive}:{self.name}"


@dataclass(frozen=True)
class AsPng:
    """An image in another encoding, as a PNG file of the same pixels."""

    content: Content
    suffix: str = ".png"

    @property
    def size(self) -> int:
        """Number of bytes of the original: an estimate."""
        return self.content.size

    def read_bytes(self) -> bytes:
        """Return the bytes of the PNG file."""
        try:
            return as_png(open_image(str(self.content), self.content.read_bytes()))
        except (OSError, ValueError) as error:
            raise ImageError(f"{self.content} cannot be written as PNG: {error}.") from error

    def stamp(self) -> str:
        """Return the stamp of the original."""
        return f"{self.content.stamp()}|png"

    def __str__(self) -> str:
        """Return how messages name it."""
        return str(self.content)


class Mask(Protocol):
    """A mask somewhere, in any form."""

    def decode(self, rule: MaskRule | None) -> tuple[NDArray[np.bool_], str, tuple[str, ...]]:
        """Return the mask, ``(H, W) bool``, the name of the rule used and what is odd."""

    def stamp(self) -> str:
        """Return a short text that changes when the mask changes."""


@dataclass(frozen=True)
class MaskImage:
    """A mask that is an image."""

    content: Content

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


@dataclass(frozen=True)
class Item:
    """One image to convert.

    Attributes:
        id: The sample id, ``<category>/<train|test>/<defect_type>/<stem>``.
        category: Name of the category.
        split: The split it is used in: ``train``, ``val`` or ``test``; ``""`` while undecided.
        defect_type: ``good`` for a defect-free image.
        image: Where the image is.
        mask: Where its mask is; ``None`` for a good image and where there is none.
        name: What a layout calls it that has no room for the id, without a suffix.
    """

    id: str
    category: str
    split: str
    defect_type: str
    image: Content
    mask: Mask | None = None
    name: str = ""

    @property
    def label(self) -> int:
        """0 for good, 1 for defective."""
        return int(self.defect_type != GOOD)

    @property
    def stem(self) -> str:
        """The last part of the id."""
        return self.id.rsplit("/", 1)[1]

    @property
    def class_name(self) -> str:
        """``<Category>/<defect_type>``: what layouts with one list of classes call the defect."""
        return f"{self.category}/{self.defect_type}"

    @property
    def folder(self) -> str:
        """The split that the id names: where the image stands in a 3CAD tree."""
        return self.id.split("/")[1]

    @classmethod
    def of_sample(cls, sample: Sample) -> Item:
        """Return the item of an indexed sample."""
        return cls(
            id=sample.id,
            category=sample.category,
            split=sample.split,
            defect_type=sample.defect_type,
            image=File(sample.image),
            mask=MaskImage(File(sample.mask)) if sample.mask is not None else None,
        )


def make_id(category: str, split: str, defect_type: str, stem: str) -> str:
    """Return the sample id, Unicode NFC.

    Raises:
        ConversionError: If a part is empty, leads out of the tree or has characters that a file
            name cannot have.
    """
    parts = [unicodedata.normalize("NFC", part) for part in (category, split, defect_type, stem)]
    for part in parts:
        if not part or part.startswith(".") or set(part) & set('/\\\0:*?"<>|\n\r\t'):
            raise ConversionError(
                f"{part!r} (from {'/'.join(parts)!r}) cannot be part of a file name. "
                "Rename the file, folder or class it comes from."
            )
    return "/".join(parts)


def read_image_size(content: Content) -> tuple[int, int]:
    """Return ``(height, width)`` of an image from its header.

    Raises:
        ImageError: As :func:`threecad.images.read_size` does.
    """
    if isinstance(content, File):
        return read_size(content.path)
    return read_size(str(content), content.read_bytes())


def relative_posix(path: Path, start: Path) -> str:
    """Return ``path`` seen from ``start``, with forward slashes."""
    return Path(os.path.relpath(path, start)).as_posix()

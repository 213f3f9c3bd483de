"""Photographs whose EXIF tag turns what viewers show: image and mask brought into one frame.

Annotations are drawn on what viewers show, so a photograph is turned for good and becomes PNG. In a
tree, whose masks lie over the pixels as they are stored, only the tag goes. Either way no tag is
left that one reader obeys and another ignores.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from threecad.errors import ImageError, MaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from threecad.formats.contents import Content, Mask
    from threecad.formats.items import Item
    from threecad.images.files import Header
    from threecad.images.masks import MaskRule

__all__ = ["Untagged", "Upright", "without_orientation"]

# EXIF's numbers; 5 to 8 exchange height and width.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def without_orientation(item: Item, header: Header) -> Item:
    """Return an item whose photograph has an orientation with image and mask in one frame."""
    stored, shown = (header.height, header.width), header.upright_size
    drawn = None
    if item.mask is not None and stored != shown:
        try:
            drawn = item.mask.shape
        except (ImageError, MaskError):
            drawn = None  # what is wrong with it is said when it is decoded
    if item.as_stored and drawn != shown:
        return replace(item, image=Untagged(item.image))
    image = Upright(item.image, header.orientation)
    if drawn == stored:
        assert item.mask is not None
        return replace(item, image=image, mask=_TurnedMask(item.mask, header.orientation))
    return replace(item, image=image)


@dataclass(frozen=True)
class Upright:
    """A photograph as viewers show it, as PNG."""

    content: Content
    orientation: int
    suffix: str = ".png"

    @property
    def length(self) -> int:
        """Number of bytes of the original: an estimate."""
        return self.content.length

    def read_bytes(self) -> bytes:
        """Return the bytes of the PNG file."""
        return _as_untagged_png(self.open())

    def read_size(self) -> tuple[int, int]:
        """Return ``(height, width)`` when it is turned."""
        return _turned(self.content.read_size(), self.orientation)

    def open(self) -> Image.Image:
        """Return the decoded image, turned."""
        return _in_png_mode(self.content.open()).transpose(_TURNS[self.orientation])

    def stamp(self) -> str:
        """Return the stamp of the original and the orientation."""
        return f"{self.content.stamp()}|upright {self.orientation}"

    def __str__(self) -> str:
        """Return how messages name it."""
        return str(self.content)


@dataclass(frozen=True)
class Untagged:
    """A photograph with its pixels as they are stored and no orientation: JPEG, or else PNG."""

    content: Content

    @property
    def suffix(self) -> str:
        """Suffix of the file name."""
        return self.content.suffix if self._is_jpeg else ".png"

    @property
    def _is_jpeg(self) -> bool:
        return self.content.suffix in (".jpg", ".jpeg")

    @property
    def length(self) -> int:
        """Number of bytes of the original: an estimate."""
        return self.content.length

    def read_bytes(self) -> bytes:
        """Return the bytes, of a JPEG file all the same but for the tag."""
        data = self.content.read_bytes()
        return _without_tag(data) if self._is_jpeg else _as_untagged_png(self.open())

    def read_size(self) -> tuple[int, int]:
        """Return ``(height, width)`` of the pixels as they are stored."""
        return self.content.read_size()

    def open(self) -> Image.Image:
        """Return the decoded image."""
        return _in_png_mode(self.content.open())

    def stamp(self) -> str:
        """Return the stamp of the original."""
        return f"{self.content.stamp()}|untagged"

    def __str__(self) -> str:
        """Return how messages name it."""
        return str(self.content)


@dataclass(frozen=True)
class _TurnedMask:
    """A mask of the stored pixels, turned as its photograph is."""

    mask: Mask
    orientation: int

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` when it is turned."""
        return _turned(self.mask.shape, self.orientation)

    def decode(self, rule: MaskRule | None) -> tuple[NDArray[np.bool_], str, tuple[str, ...]]:
        """Return the mask, ``(H, W) bool``, the rule used and what is odd."""
        mask, used, findings = self.mask.decode(rule)
        turned = Image.fromarray(mask.view(np.uint8)).transpose(_TURNS[self.orientation])
        return np.asarray(turned) != 0, used, findings

    def stamp(self) -> str:
        """Return the stamp of the original and the orientation."""
        return f"{self.mask.stamp()}|turned {self.orientation}"

    def __str__(self) -> str:
        """Return how messages name it."""
        return str(self.mask)


def _turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return size[::-1] if orientation >= 5 else size


def _in_png_mode(image: Image.Image) -> Image.Image:
    return image.convert("RGB") if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") else image


def _as_untagged_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.copy().save(buffer, "PNG", exif=b"")
    return buffer.getvalue()


def _without_tag(data: bytes) -> bytes:
    """Return a JPEG file with the orientation in its EXIF block set to 1, upright."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        length = struct.unpack_from(">H", data, place + 2)[0]
        if data[place + 1] == 0xE1 and data[place + 4 : place + 10] == b"Exif\0\0":
            return _with_upright_tag(data, place + 10, place + 2 + length)
        place += 2 + length
    return data


def _with_upright_tag(data: bytes, start: int, end: int) -> bytes:
    order = "<" if data[start : start + 2] == b"II" else ">"
    try:
        first = start + struct.unpack_from(f"{order}I", data, start + 4)[0]
        count = struct.unpack_from(f"{order}H", data, first)[0]
        for entry in range(first + 2, min(first + 2 + 12 * count, end - 11), 12):
            if struct.unpack_from(f"{order}H", data, entry)[0] == 0x0112:
                one = struct.pack(f"{order}HH", 1, 0)
                return data[: entry + 8] + one + data[entry + 12 :]
    except struct.error:
        pass
    return data

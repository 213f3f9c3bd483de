"""Images and masks made smaller on their way, with no defect lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from PIL import Image

from threecad.errors import ImageError
from threecad.images.files import as_png
from threecad.images.resizing import resize_mask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from threecad.formats.contents import Content, Mask
    from threecad.formats.items import Item
    from threecad.images.masks import MaskRule

__all__ = ["scale_down"]


def scale_down(item: Item, longest: int) -> Item:
    """Return ``item`` with its longer side scaled down to ``longest`` pixels, if it is longer.

    Images are reduced with Pillow's antialiased bilinear filter and become PNG; masks by the rule
    that keeps every region alive (``threecad.images.resizing.resize_mask``).
    """
    mask = None if item.mask is None else _ScaledMask(item.mask, longest)
    return replace(item, image=_ScaledImage(item.image, longest), mask=mask)


@dataclass(frozen=True)
class _ScaledImage:
    """Content of an image that is scaled when it is read."""

    content: Content
    longest: int
    suffix: str = ".png"

    @property
    def length(self) -> int:
        """Number of bytes of the original: an upper estimate."""
        return self.content.length

    def read_bytes(self) -> bytes:
        """Return the scaled image as a PNG file."""
        try:
            return as_png(self.open())
        except (OSError, ValueError) as error:
            raise ImageError(f"{self.content} cannot be scaled: {error}.") from error

    def read_size(self) -> tuple[int, int]:
        """Return ``(height, width)`` when it is scaled."""
        return _fitted(self.content.read_size(), self.longest)

    def open(self) -> Image.Image:
        """Return the scaled image."""
        height, width = self.read_size()
        image = self.content.open()
        # Palettes and bilevel images cannot be interpolated.
        plain = image.convert("RGB") if image.mode in ("P", "1", "PA") else image
        return plain.resize((width, height), Image.Resampling.BILINEAR)

    def stamp(self) -> str:
        """Return the stamp of the original and the size."""
        return f"{self.content.stamp()}|{self.longest}"

    def __str__(self) -> str:
        return str(self.content)


@dataclass(frozen=True)
class _ScaledMask:
    """A mask that is scaled when it is decoded."""

    mask: Mask
    longest: int

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` when it is scaled."""
        return _fitted(self.mask.shape, self.longest)

    def decode(self, rule: MaskRule | None) -> tuple[NDArray[np.bool_], str, tuple[str, ...]]:
        """Return the scaled mask, ``(H, W) bool``, the rule used and what is odd."""
        mask, used, findings = self.mask.decode(rule)
        height, width = mask.shape
        return resize_mask(mask, _fitted((height, width), self.longest)), used, findings

    def stamp(self) -> str:
        """Return the stamp of the original and the size."""
        return f"{self.mask.stamp()}|{self.longest}"

    def __str__(self) -> str:
        return str(self.mask)


def _fitted(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return ``(height, width)`` with the same proportions and no side above ``longest``."""
    height, width = size
    factor = min(1.0, longest / max(size))
    return max(1, round(height * factor)), max(1, round(width * factor))

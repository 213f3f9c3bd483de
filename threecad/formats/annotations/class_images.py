"""Masks whose pixel values or colours are classes, as VOC and CVAT write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from threecad.errors import ImageError, MaskError
from threecad.formats.contents import File
from threecad.images.files import open_image
from threecad.images.masks import decode_mask

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from threecad.images.masks import MaskRule

__all__ = ["ClassImage"]

Colour = tuple[int, int, int]

_VOID = 255
_VOID_COLOUR = (224, 224, 192)
_BACKGROUNDS = frozenset({"background", "_background_", "__background__"})


@dataclass(frozen=True)
class ClassImage:
    """A mask of classes: 0 or black is background, VOC's 255 is undecided and no defect.

    An image of nothing but 0 and 255 is a plain mask, unless 255 has the colour of the undecided.

    Attributes:
        path: The file.
        colours: What each colour stands for, where that is told.
    """

    path: Path
    colours: tuple[tuple[Colour, str], ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` from the header."""
        return File(self.path).read_size()

    def classes(self) -> list[str]:
        """Return the names of the classes whose colours are in the image."""
        if not self.colours:
            return []
        colours, _ = self._read()
        present = {tuple(int(v) for v in colour) for colour in np.unique(_rows(colours), axis=0)}
        names = dict(self.colours)
        if unknown := sorted(colour for colour in present if colour not in names):
            raise MaskError(f"{self.path}: labelmap.txt does not name the colour {unknown[0]}.")
        return sorted({names[c] for c in present} - _BACKGROUNDS)  # type: ignore[index]

    def decode(self, rule: MaskRule | None) -> tuple[NDArray[np.bool_], str, tuple[str, ...]]:
        """Return the mask, ``(H, W) bool``, the rule used and the codes of what is odd."""
        if rule is not None:
            decoded = decode_mask(self.path, rule=rule)
            return decoded.mask, decoded.rule, decoded.findings
        colours, indices = self._read()
        if not self.colours and indices is not None and not (indices == _VOID).any():
            mask = indices > 0
        elif self.colours:
            background = [colour for colour, name in self.colours if name in _BACKGROUNDS]
            mask = np.ones(colours.shape[:2], np.bool_)
            for colour in background or [(0, 0, 0)]:
                mask &= (colours != colour).any(axis=2)
        elif indices is not None:
            void = indices == _VOID
            plain = not (void & (colours == _VOID_COLOUR).all(axis=2)).any()
            only = not ((indices > 0) & ~void).any()
            mask = indices > 0 if plain and only else (indices > 0) & ~void
        else:
            mask = (colours > 0).any(axis=2) & (colours != _VOID_COLOUR).any(axis=2)
        return mask, "classes", () if mask.any() else ("mask-empty",)

    def _read(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Return the colours, ``(H, W, 3)``, and of a palette or grey image its values."""
        try:
            image = open_image(self.path, one_frame=True)
        except ImageError as error:
            raise MaskError(f"{self.path}: the mask cannot be decoded ({error.reason}).") from error
        single = image.mode in ("P", "L", "1")
        indices = np.asarray(image).astype(np.uint8) if single else None
        return np.asarray(image.convert("RGB")), indices

    def stamp(self) -> str:
        """Return the stamp of the file."""
        return File(self.path).stamp()

    def __str__(self) -> str:
        """Return how messages name it."""
        return str(self.path)


def _rows(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return colours.reshape(-1, 3)

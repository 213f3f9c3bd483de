"""What the patches of synthetic defects are filled with."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from threecad.dataset.scanning import IMAGE_SUFFIXES
from threecad.errors import UsageError
from threecad.images.files import read_image
from threecad.procedural import texture

if TYPE_CHECKING:
    import os

    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]

__all__ = ["DrawnTextures", "FolderTextures"]


class FolderTextures:
    """The images in a folder and its sub-folders, such as DTD's ``images/``, sorted by path.

    The shorter side of a texture is at most 256 pixels.

    Args:
        folder: The folder.

    Raises:
        UsageError: If there is no image in it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        found = sorted(Path(folder).rglob("*"))
        self.files = [path for path in found if path.suffix.casefold() in IMAGE_SUFFIXES]
        if not self.files:
            raise UsageError(f"There is no texture image in {folder}. Expected images in folders.")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int, /) -> Bytes:
        return _read_texture(self.files[position])


class DrawnTextures:
    """The embedded series of drawn textures, 256 × 256, for use without any photographs."""

    COUNT = 64
    SIZE = 256

    def __len__(self) -> int:
        return self.COUNT

    def __getitem__(self, position: int, /) -> Bytes:
        return _draw_texture(position, self.SIZE)


@lru_cache(maxsize=512)
def _read_texture(path: Path) -> Bytes:
    """Return a texture, its shorter side at most 256 pixels: as fine as training needs it."""
    image = read_image(path)
    scale = 256 / min(image.shape[:2])
    if scale < 1:
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return image


@lru_cache(maxsize=64)
def _draw_texture(index: int, side: int) -> Bytes:
    return texture(index, side, seed=0)

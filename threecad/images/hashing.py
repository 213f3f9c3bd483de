"""Hashes of what an image shows: of its very pixels, and of how it looks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from threecad.system import parallel
from threecad.system.caching import FileCache

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["GRADIENT_BITS", "gradient_hash", "hash_file", "hash_files", "pixel_hash"]

_GRID = 17
"""Rows and columns of the cells whose differences are the perceptual hash."""

GRADIENT_BITS = 2 * _GRID * (_GRID - 1)
"""Length of the perceptual hash: 544 bits."""


def pixel_hash(image: Image.Image) -> str:
    """Return the SHA-256 of an image's size and pixels.

    The same picture as grey PNG, RGB PNG or palette PNG has the same hash: pixels are brought to
    grey where all channels agree, else to RGB, and an opaque alpha channel does not count.
    """
    image = _plainest(image)
    mode, pixels = image.mode, np.asarray(image)
    if mode == "RGB" and _is_grey(pixels.reshape(-1, 3)):
        mode, pixels = "L", pixels[..., 0]
    digest = hashlib.sha256(f"{mode} {image.width}x{image.height}\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def gradient_hash(image: Image.Image) -> str:
    """Return the perceptual hash of an image: 544 bits as 136 hexadecimal digits.

    The image is averaged to 17 × 17 cells. A bit says whether a cell is brighter than its left
    neighbour, or its upper one ("dHash", N. Krawetz 2013, in both directions). Exposure, contrast,
    file format and moderate rescaling leave nearly all bits as they are. The means are not rounded:
    on the smooth surface of a machined part neighbours differ by less than one grey level.
    """
    grey = _plainest(image)
    if grey.mode == "I;16":
        grey = Image.fromarray(np.asarray(grey).astype(np.float32))
    elif grey.mode != "F":
        grey = grey.convert("L").convert("F")
    cells = np.asarray(grey.resize((_GRID, _GRID), Image.Resampling.BOX))
    across, down = cells[:, 1:] > cells[:, :-1], cells[1:] > cells[:-1]
    return np.packbits(np.concatenate([across.ravel(), down.ravel()])).tobytes().hex()


def _plainest(image: Image.Image) -> Image.Image:
    """Return the decoded image in the plainest of the modes L, I;16, F, RGB and RGBA it needs."""
    image.load()
    if image.mode in ("L", "I;16", "F", "RGB") and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # I and I;16B: how Pillow opens some 16-bit files
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            return image
    return image.convert("RGB")


def _is_grey(channels: npt.NDArray[np.uint8]) -> bool:
    """Whether the columns of (N, 3) agree everywhere."""
    for some in (channels[::4001], channels):  # nearly every colour image ends at the first
        if (some[:, 0] != some[:, 1]).any() or (some[:, 0] != some[:, 2]).any():
            return False
    return True


def hash_files(root: Path, files: Iterable[Path]) -> dict[Path, str]:
    """Return the SHA-256 of each file, remembered in ``root``'s cache while it is unchanged."""
    wanted = list(files)
    cache = FileCache(root, "sha256")
    digests: dict[Path, str] = cache.get_many(wanted)
    missing = [path for path in wanted if path not in digests]
    fresh = dict(zip(missing, parallel.map(hash_file, missing, batch_size=256), strict=True))
    cache.put_many(fresh)
    return digests | fresh


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()

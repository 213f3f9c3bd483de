"""Image files as arrays, with the distrust that files from elsewhere deserve."""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from threecad import atomic
from threecad.errors import ImageError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["MAX_PIXELS", "png_bytes", "read_image", "read_size", "rgb_array", "write_png"]

NO_FLOATS = "it holds floating-point values; save it with 8 or 16 bits a channel"

MAX_PIXELS = 178_956_970
"""Largest image or mask decoded, where Pillow, too, takes a file for a decompression bomb."""


def read_image(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Return an image file as (H, W, 3) uint8 RGB.

    Sixteen-bit grey images keep their top byte; transparency is dropped; of an animation the first
    frame is taken. The orientation tag of a photograph is not applied, so that image and mask keep
    one geometry.

    Raises:
        ImageError: If the file is not an image, is damaged, or is larger than ``MAX_PIXELS``.
    """
    with _open_image(path) as image:
        return rgb_array(image)


def read_size(path: str | os.PathLike[str], content: bytes | None = None) -> tuple[int, int]:
    """Return ``(height, width)`` of an image file from its header.

    Args:
        path: The file.
        content: Its bytes, where ``path`` only says what to call it.

    Raises:
        ImageError: If the file is not an image, or is larger than ``MAX_PIXELS``.
    """
    with _open_image(path, content) as image:
        return image.height, image.width


@contextmanager
def _open_image(
    path: str | os.PathLike[str], content: bytes | None = None
) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            # Pillow warns about sizes below our own limit, which is the one that counts.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path if content is None else io.BytesIO(content)) as image:
                _check_size(path, image)
                yield image
    except FileNotFoundError as error:
        raise ImageError(f"There is no image {Path(path)}. Check the path.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(
            f"{Path(path)} cannot be read as an image: {error}. "
            "It may be damaged or cut off: get it again, or run `threecad verify` on the tree."
        ) from error


def rgb_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return a PIL image as (H, W, 3) uint8 RGB, as ``read_image`` does; decodes it if need be.

    Raises:
        ValueError: If it holds floating-point values, whose range nobody knows.
    """
    if image.mode == "F":
        raise ValueError(NO_FLOATS)
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))


def png_bytes(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return (H, W) grey or (H, W, 3) RGB uint8 pixels as a PNG file in memory."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write_png(path: str | os.PathLike[str], pixels: npt.NDArray[np.uint8]) -> None:
    """Write (H, W) grey or (H, W, 3) RGB uint8 pixels as PNG, atomically."""
    atomic.write_bytes(path, png_bytes(pixels))


def _check_size(path: str | os.PathLike[str], image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(
            f"{Path(path)} has {image.width} × {image.height} pixels, more than the {MAX_PIXELS} "
            "that are allowed. Crop or scale it first."
        )

"""Images in memory: which arrays and tensors are taken for one, and what is refused by name.

- NumPy arrays, uint8: (H, W, 3) RGB; (H, W) or (H, W, 1) grey.
- Torch tensors on any device, uint8 or floats from 0 to 1: (3, H, W) or (H, W, 3) RGB; (H, W),
  (1, H, W) or (H, W, 1) grey.
- PIL images, as ``threecad.images.files.read_image`` takes a file of their mode.

Four axes are several of these. Floats in NumPy are refused, since 0…1 and 0…255 are both usual
there; so are 16 bits, of which cameras use 10, 12 or all.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from threecad.errors import ImageError
from threecad.evaluation.counting.maps import as_array
from threecad.images.depths import eight_bits
from threecad.images.files import BROKEN, read_image, rgb_array

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["is_one_image", "to_rgb"]

_EXPECTED = (
    "Expected (height, width, 3), uint8, RGB, or (height, width), uint8, grey; tensors may have "
    "their channels first, and floats from 0 to 1."
)


def is_one_image(images: Any) -> bool:
    """Return whether this is a single image, usable or not, rather than several to iterate over."""
    if isinstance(images, (str, bytes, os.PathLike, Image.Image)):
        return True
    if isinstance(images, np.ndarray) and images.ndim == 1:
        return images.dtype.kind not in "OU"  # an array of files
    return _is_array(images) and images.ndim != 4


def to_rgb(image: Any, bits: int = 8) -> npt.NDArray[np.uint8]:
    """Return an image in memory, or in a file, as (H, W, 3) uint8 RGB.

    Args:
        image: One of those above; with ``bits``, a 16-bit file or a NumPy array, uint16.
        bits: From 9 to 16, how many of 16 are used; 8 for images of eight.

    Raises:
        ImageError: If it is none of those above: it says what came instead.
    """
    if image is None:
        raise ImageError("There is no image: None came instead, as of a dropped frame.")
    if isinstance(image, (str, os.PathLike)):
        return read_image(image, bits)
    if isinstance(image, Image.Image) and bits > 8:
        if not image.mode.startswith("I"):
            raise ImageError(
                f"A PIL image of mode {image.mode} has 8 bits a channel. This run takes {bits}: "
                "give the file, or a NumPy array, uint16."
            )
        image = np.asarray(image).astype(np.uint16)
    if isinstance(image, Image.Image):
        try:
            return rgb_array(image)
        except BROKEN as error:
            raise ImageError(f"The image cannot be decoded: {error}.") from error
    if not _is_array(image):
        raise ImageError(
            f"A {type(image).__name__} is no image. Expected a NumPy array, a tensor, a PIL image "
            "or a file, or a pair of an id (str) and one of these."
        )
    pixels = image if isinstance(image, np.ndarray) else _take_tensor(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if bits > 8:
        if pixels.dtype != np.uint16:
            raise ImageError(
                f"An array of type {image.dtype} cannot be used by a run that takes {bits} bits. "
                "Expected uint16, as the camera gives them."
            )
        try:
            pixels = eight_bits(pixels, bits)
        except ValueError as error:
            raise ImageError(f"The image cannot be used: {error}.") from error
    usable = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] in (1, 3)
    if not usable or pixels.size == 0:
        raise ImageError(_refusal(image))
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "detach")


def _take_tensor(tensor: Any) -> npt.NDArray[Any]:
    """Return a tensor's pixels with channels last, uint8 where its values allow."""
    try:
        pixels = as_array(tensor)
    except (RuntimeError, TypeError) as error:  # such as sparse tensors, or a device that is gone
        raise ImageError(f"A tensor cannot be read: {error}.") from error
    if pixels.ndim == 3:
        first, last = pixels.shape[0] in (1, 3), pixels.shape[2] in (1, 3)
        if first and last:
            raise ImageError(
                f"A tensor of shape {pixels.shape} has channels first or last, nobody knows which. "
                "Give a NumPy array (height, width, 3), uint8."
            )
        if first:
            pixels = pixels.transpose(1, 2, 0)
    if pixels.dtype.kind == "f" and pixels.size:
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # not a number is neither
            raise ImageError(
                f"A tensor of floats from {low:g} to {high:g} cannot be used: expected 0 to 1, not "
                "normalised by mean and deviation, or uint8 from 0 to 255."
            )
        pixels = np.rint(pixels.astype(np.float32) * 255).astype(np.uint8)
    return pixels


def _refusal(image: Any) -> str:
    kind = "An array" if isinstance(image, np.ndarray) else "A tensor"
    return (
        f"{kind} of shape {tuple(image.shape)} and type {image.dtype} cannot be used. {_EXPECTED}"
    )

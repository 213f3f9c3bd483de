"""From an image of any size to the network's input, in one place for training and prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from threecad.errors import ImageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from cfrg.network.config import CFRGConfig

__all__ = ["normalize", "resize", "to_tensor"]


def resize(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return ``image`` (H, W, 3) uint8 scaled to ``size`` (height, width), uint8.

    Antialiased bilinear on eight-bit values, as Pillow does it.

    Raises:
        ImageError: If ``image`` is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ImageError(
            f"An image of shape {image.shape} and type {image.dtype} cannot be used. "
            "Expected (height, width, 3), uint8, RGB."
        )
    height, width = size
    if image.shape[:2] == tuple(size):
        return image
    scaled = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(scaled)


def normalize(images: torch.Tensor, config: CFRGConfig) -> torch.Tensor:
    """Return uint8 images (N, 3, H, W) as the network's input, float32: (x / 255 − mean) / std."""
    mean = torch.tensor(config.mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(config.std, device=images.device).view(1, 3, 1, 1)
    return (images.float() / 255 - mean) / std


def to_tensor(image: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Return an image (H, W, 3) uint8 as a tensor (3, H, W) uint8, always a copy.

    Cameras write the next frame into the memory of the last one.
    """
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))

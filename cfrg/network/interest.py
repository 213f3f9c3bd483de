"""The region of interest: where a detector looks, as a text in its configuration.

``HEIGHTxWIDTH:COUNTS``, in COCO's compressed run lengths: the text goes wherever the configuration
goes, into the run folder, the digest that thresholds know their detector by, and exported graphs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from threecad.errors import MaskError, ModelError
from threecad.images.areas import same_shape
from threecad.images.encodings import mask_to_rle, rle_to_mask

if TYPE_CHECKING:
    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]

__all__ = ["decode_region", "encode_region", "find_misfit", "look_inside", "stretch_region"]

FLOOR = 1.0
"""How far what lies outside is below all that lies inside, and below 0."""


def encode_region(inside: Mask) -> str:
    """Return a region ``(H, W)`` as text; an empty one where it is the whole image."""
    if inside.all():
        return ""
    encoded = mask_to_rle(inside)
    height, width = encoded["size"]
    return f"{height}x{width}:{encoded['counts']}"


@lru_cache(maxsize=16)
def decode_region(text: str) -> Mask:
    """Return the region ``(H, W)`` of a text that is not empty.

    Raises:
        ModelError: If it is none, or holds no pixel.
    """
    size, _, counts = text.partition(":")
    try:
        height, width = (int(side) for side in size.split("x"))
        inside = rle_to_mask({"size": [height, width], "counts": counts})
    except (ValueError, MaskError) as error:
        raise ModelError(f"{text[:40]!r} is no region of interest: {error}") from None
    if not inside.any():
        raise ModelError("The region of interest holds no pixel.")
    inside.flags.writeable = False
    return inside


def stretch_region(text: str, size: tuple[int, int]) -> Mask:
    """Return the region on what the network sees, ``size`` bool, whatever its shape."""
    if not text:
        return np.ones(size, np.bool_)
    region = decode_region(text)
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip(size, region.shape, strict=True)
    )
    return region[np.ix_(rows, columns)]


def find_misfit(text: str, size: tuple[int, int]) -> str | None:
    """Return why a region does not fit an image of ``(height, width)``; ``None`` if it does."""
    if not text or same_shape(decode_region(text).shape, size):
        return None
    height, width = decode_region(text).shape
    return (
        f"The region of interest was drawn on {width} × {height} pixels; this image has "
        f"{size[1]} × {size[0]} and so another shape, on which it would lie somewhere else."
    )


def look_inside(maps: Tensor, text: str) -> tuple[Tensor, float]:
    """Return maps that are lower outside the region than anywhere in it, and its share of them.

    Args:
        maps: ``(N, 1, h, w)`` float32 of any size; the region is taken at the nearest pixels.
        text: Of the region.
    """
    region = decode_region(text)
    whole = torch.from_numpy(region.copy()).to(maps.device)
    rows, columns = (
        torch.div(
            (2 * torch.arange(new, device=maps.device) + 1) * old, 2 * new, rounding_mode="floor"
        )
        for new, old in zip(maps.shape[-2:], region.shape, strict=True)
    )
    inside = whole.index_select(0, rows).index_select(1, columns)
    lowest = torch.where(inside, maps, torch.inf).amin((2, 3), keepdim=True)
    return torch.where(inside, maps, lowest.clamp_max(0) - FLOOR), float(region.mean())

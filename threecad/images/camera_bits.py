"""How many of sixteen bits a camera uses, told from its images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from threecad.errors import ImageError
from threecad.images.files import open_image

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

__all__ = ["DEPTHS", "find_bits", "used_bits"]

DEPTHS = (8, 9, 10, 12, 14, 16)
"""Bits that files have and cameras give; 9 for values below 512 in files of 16."""


def find_bits(paths: Iterable[str | os.PathLike[str]]) -> int:
    """Return the fewest bits of ``DEPTHS`` that hold every value of some images.

    Raises:
        ImageError: If one cannot be read.
    """
    used = max((used_bits(path) for path in paths), default=8)
    return next(depth for depth in DEPTHS if depth >= used)


def used_bits(path: str | os.PathLike[str]) -> int:
    """Return how many bits the largest value of an image file needs, transparency apart.

    8 for files of eight; of 16 at least 9, since the upper eight bits of 16 are not meant then.

    Raises:
        ImageError: If it cannot be read.
    """
    image = open_image(path)
    values = np.asarray(image).astype(np.int64)
    if not image.mode.startswith("I"):
        try:
            lower = open_image(path, lower_bytes=True)
        except ImageError:  # there are no others
            return 8
        values = values << 8 | np.asarray(lower)
    return max(9, int(values[..., :3].max() if values.ndim > 2 else values.max()).bit_length())

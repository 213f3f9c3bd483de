"""Cameras' bits: 10 or 12 of the 16 that a file holds, and the eight of them that are kept.

The upper eight of sixteen bits are nearly black where a camera uses the lower twelve. Given how
many are used, the upper eight of those are taken: of 12, the values 0 to 4095 become 0 to 255.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["eight_bits", "turn_bytes"]

_TURNED = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}


def eight_bits(values: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    """Return the upper eight of the ``bits`` that whole numbers use, uint8.

    Raises:
        ValueError: If a value needs more bits.
    """
    if values.size and (largest := int(values.max())) >> bits:
        raise ValueError(f"it holds values up to {largest}, which {bits} bits do not")
    return (values >> (bits - 8)).astype(np.uint8)


def turn_bytes(image: Any) -> bool:
    """Make Pillow decode the lower bytes of an opened image of 16-bit colours, not the upper.

    It keeps the first or the last byte of a value by the name of its raw mode. Returns whether
    there are such bytes.
    """
    tiles = []
    for tile in image.tile:
        listed = isinstance(tile.args, tuple)
        raw = tile.args[0] if listed else tile.args
        mode, _, order = str(raw).partition(";")
        if order not in _TURNED or mode == "LA":
            return False
        turned = f"{mode};{_TURNED[order]}"
        tiles.append(tile._replace(args=(turned, *tile.args[1:]) if listed else turned))
    image.tile = tiles
    return True

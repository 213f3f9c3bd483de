"""The size at which the network sees images, chosen from the images themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    Size = tuple[int, int]

__all__ = ["Geometry", "choose_geometry"]

STRIDE = 32
"""The network halves an image five times."""

SAME = 1.1
"""Images whose aspects differ by less count as of one shape."""


@dataclass(frozen=True)
class Geometry:
    """How images meet the network.

    Attributes:
        size: Height and width of the network's input.
        reason: Why, for people.
    """

    size: Size
    reason: str


def choose_geometry(sizes: Sequence[Size], area: int) -> Geometry:
    """Return the input size for images, their aspect kept.

    The input has the aspect of the images in the middle and about ``area`` pixels, or the images'
    own number where they have fewer: pixels that a camera did not take show no defect. Images of
    another aspect are stretched to it. (To fit them in and leave the rest of the input out of all
    maps was tried on photographs of mixed aspects and was not better: it costs resolution.)

    Args:
        sizes: Height and width of the good training images.
        area: Pixels that the network may compute on.

    Raises:
        UsageError: If there is no image, or the area is less than one stride squared.
    """
    if not sizes:
        raise UsageError("There is no image to choose the input size from.")
    if area < STRIDE**2:
        raise UsageError(f"area is {area}; expected {STRIDE**2} pixels or more.")
    heights, widths = np.array(sizes, np.float64).T
    aspects = heights / widths
    aspect = float(np.exp(np.median(np.log(aspects))))
    own = float(np.median(heights * widths))
    pixels = min(area, own)
    height, width = (_round(math.sqrt(pixels * a)) for a in (aspect, 1 / aspect))
    low, high = np.quantile(aspects / aspect, (0.05, 0.95))
    mixed = bool(max(high, 1 / low) > SAME)
    typical = f"{round(math.sqrt(own / aspect))} × {round(math.sqrt(own * aspect))}"
    limit = f"the budget of {area:,} pixels" if own > area else "all their pixels"
    reason = (
        f"Input {width} × {height} pixels (width × height): the training images have about "
        f"{typical}, their aspect is kept, and {limit} used."
    )
    if mixed:
        reason += " Their aspects differ: those of another shape are stretched to it."
    return Geometry((height, width), reason)


def _round(side: float) -> int:
    return max(STRIDE, STRIDE * round(side / STRIDE))

"""Where in a photograph the part is, by a rule that needs no training.

The part is what differs from the colour of the frame. Where that leaves doubt, the whole image is
the part: a defect in the wrong place costs less than a region that never gets one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["find_part"]

SEPARATION = 0.75
"""Least share of the distances' variance that lies between part and background; evenly spread
distances, which have no two groups, reach just that."""

CONTRAST = 32
"""Least difference between the mean distances of part and background, in grey levels of 255."""

SHARES = (0.05, 0.95)
"""A part covers this much of the image, or else it is no part in front of a background."""


def find_part(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return where the part is.

    The background's colour is the median over the frame, which is 1/32 of the image wide. Otsu's
    threshold divides the distances of all pixels to that colour; opening and closing with an
    ellipse of 1/32 of the image clean the result. All pixels are the part where the distances do
    not fall into two groups (``SEPARATION``, ``CONTRAST``), where most of the frame would be part,
    where the part would be almost nothing or almost everything (``SHARES``), or where it would show
    less detail than the background: then the frame shows the part, and its openings differ from it.

    Args:
        image: ``(H, W, 3)`` uint8.

    Returns:
        ``(H, W)`` bool, never empty.

    References:
        Otsu, A threshold selection method from gray-level histograms, 1979.
    """
    whole = np.ones(image.shape[:2], bool)
    side = max(3, max(image.shape[:2]) // 32 | 1)  # odd
    frame = whole.copy()
    frame[side:-side, side:-side] = False
    background = np.median(image[frame], axis=0)
    distance = np.sqrt(np.square(image - background).mean(2))
    distance = cv2.GaussianBlur(np.rint(distance).astype(np.uint8), (0, 0), side / 4)
    _, mask = cv2.threshold(distance, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    if not _is_divided(distance, mask == 1):
        return whole
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, ellipse)
    part = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, ellipse) == 1)
    fits = SHARES[0] <= part.mean() <= SHARES[1] and part[frame].mean() <= 0.5
    return part if fits and _has_more_detail(image, part, ellipse) else whole


def _is_divided(distance: npt.NDArray[np.uint8], part: npt.NDArray[np.bool_]) -> bool:
    """Whether the distances on the part and off it are two groups."""
    share = part.mean()
    if not 0 < share < 1:
        return False
    contrast = distance[part].mean() - distance[~part].mean()
    between = share * (1 - share) * contrast**2
    return bool(contrast >= CONTRAST and between >= SEPARATION * distance.var())


def _has_more_detail(
    image: npt.NDArray[np.uint8], part: npt.NDArray[np.bool_], ellipse: npt.NDArray[Any]
) -> bool:
    """Whether the part, away from its edge, is less smooth than the background."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1))
    inside = cv2.erode(part.astype(np.uint8), ellipse, iterations=2) == 1
    outside = cv2.dilate(part.astype(np.uint8), ellipse, iterations=2) == 0
    if not inside.any() or not outside.any():
        return False
    return bool(detail[inside].mean() > detail[outside].mean())

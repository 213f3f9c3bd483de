"""Anomaly maps over their images, on a colour scale that the threshold fixes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from threecad.pages.figures import overlay

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["LARGEST", "colour_scale", "draw_overlay"]

LARGEST = 4096
"""Longest side of an overlay; larger images are scaled down to it."""


def colour_scale(threshold: float) -> tuple[float, float]:
    """Return the values that are black and pale yellow, with the threshold half-way.

    The scale starts at 0 (a map's mean over good images where ``calibrate_maps`` is on, perfect
    agreement elsewhere) and ends at twice the threshold, so a colour means the same in all images.
    A threshold that is not positive has a scale as wide, or 1 to either side of 0.
    """
    reach = abs(threshold) or 1.0
    return threshold - reach, threshold + reach


def draw_overlay(
    image: npt.NDArray[np.uint8], anomaly_map: npt.NDArray[np.float32], threshold: float
) -> npt.NDArray[np.uint8]:
    """Return the image in grey under its map, with a white line round what is above the threshold.

    Args:
        image: (H, W, 3) uint8 RGB.
        anomaly_map: (h, w) float32.
        threshold: For pixels; also fixes the colours (``colour_scale``).

    Returns:
        (H, W, 3) uint8 RGB, its longer side at most ``LARGEST``.
    """
    height, width = image.shape[:2]
    if (scale := LARGEST / max(height, width)) < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    low, high = colour_scale(threshold)
    return overlay(image, anomaly_map, vmin=low, vmax=high, threshold=threshold)

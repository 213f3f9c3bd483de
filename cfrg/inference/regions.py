"""What lies above a threshold: the regions of an anomaly map, in pixels of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from threecad.evaluation.evaluables import resize_map

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["FlaggedRegion", "find_regions", "flag_pixels", "without_small"]


@dataclass(frozen=True)
class FlaggedRegion:
    """One 8-connected region of a map above a threshold (``threecad.Region`` is one of a mask).

    Attributes:
        box: ``(x, y, width, height)`` in pixels of the image.
        area: Number of pixels of the image.
        score: The highest value of the anomaly map inside.
    """

    box: tuple[int, int, int, int]
    area: int
    score: float

    def to_dict(self) -> dict[str, Any]:
        """Return the region as JSON-able data."""
        return {"box": list(self.box), "area": self.area, "score": self.score}


def flag_pixels(
    anomaly_map: npt.NDArray[np.float32], size: tuple[int, int], threshold: float
) -> npt.NDArray[np.bool_]:
    """Return where the map is above the threshold, at the size of the image.

    Args:
        anomaly_map: (h, w) float32; resized as ``threecad.evaluate`` does it.
        size: Height and width of the image.
        threshold: Values above it are flagged.

    Returns:
        (H, W) bool.
    """
    if anomaly_map.max() <= threshold:  # resizing never exceeds the maximum
        return np.zeros(size, np.bool_)
    flagged: npt.NDArray[np.bool_] = resize_map(anomaly_map, size) > threshold
    return flagged


def without_small(
    anomaly_map: npt.NDArray[np.float32],
    size: tuple[int, int],
    threshold: float,
    least_area: int,
) -> npt.NDArray[np.float32]:
    """Return the map with what is too small to count cut down to the threshold.

    Args:
        anomaly_map: (h, w) float32.
        size: Height and width of the image.
        threshold: Values above it belong to a region.
        least_area: Regions of fewer pixels of the image do not count.

    Returns:
        At the size of the image where something was cut down, else the map itself.
    """
    if least_area <= 1 or anomaly_map.max() <= threshold:
        return anomaly_map
    values = np.asarray(resize_map(anomaly_map, size), np.float32)
    flagged = values > threshold
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(
        flagged.view(np.uint8), connectivity=8
    )
    small = statistics[:, cv2.CC_STAT_AREA] < least_area
    small[0] = False  # what is not flagged
    return np.where(small[labels], np.float32(threshold), values)


def find_regions(
    anomaly_map: npt.NDArray[np.float32], size: tuple[int, int], threshold: float
) -> tuple[FlaggedRegion, ...]:
    """Return the regions above the threshold, the highest score first.

    Args:
        anomaly_map: (h, w) float32.
        size: Height and width of the image.
        threshold: Values above it belong to a region.
    """
    if anomaly_map.max() <= threshold:
        return ()
    values = resize_map(anomaly_map, size)
    flagged = values > threshold
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(
        flagged.view(np.uint8), connectivity=8
    )
    peaks = np.full(count, -np.inf)
    np.maximum.at(peaks, labels[flagged].astype(np.intp), values[flagged])
    found = [
        FlaggedRegion((int(x), int(y), int(width), int(height)), int(area), float(peak))
        for (x, y, width, height, area), peak in zip(statistics[1:], peaks[1:], strict=True)
    ]
    return tuple(sorted(found, key=lambda region: (-region.score, region.box)))

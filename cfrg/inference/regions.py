"""What lies above a threshold: the regions of an anomaly map, in pixels of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from threecad.evaluation.evaluables import resize_map

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["FlaggedRegion", "find_regions", "flag_pixels"]


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

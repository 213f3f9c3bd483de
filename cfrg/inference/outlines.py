"""The outlines of flagged regions, for a person to correct in an annotation tool."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from threecad.evaluation.evaluables import resize_map
from threecad.formats.suggestions import Suggestion
from threecad.images.encodings import mask_to_polygons
from threecad.images.regions import label_regions

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["TOLERANCE", "outline_regions"]

TOLERANCE = 1.0
"""Pixels by which an outline may leave the region, so that it has corners that a hand can move."""


def outline_regions(
    anomaly_map: npt.NDArray[np.float32], size: tuple[int, int], threshold: float
) -> list[Suggestion]:
    """Return the outlines of the regions above the threshold, their holes filled.

    A region has one for each of its parts that touch at a corner only; each has the highest value
    of the whole region.

    Args:
        anomaly_map: (h, w) float32.
        size: Height and width of the image.
        threshold: Values above it belong to a region.
    """
    if anomaly_map.max() <= threshold:
        return []
    values = resize_map(anomaly_map, size)
    flagged = values > threshold
    labels = label_regions(flagged)
    peaks = np.full(int(labels.max()) + 1, -np.inf)
    np.maximum.at(peaks, labels[flagged], values[flagged])
    found = []
    for peak, region in zip(peaks[1:], mask_to_polygons(flagged, tolerance=TOLERANCE), strict=True):
        for part in region.geoms:
            ring = tuple(float(v) for corner in part.exterior.coords[:-1] for v in corner)
            found.append(Suggestion(ring, float(peak)))
    return found

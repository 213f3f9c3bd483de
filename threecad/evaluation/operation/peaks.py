"""Where the highest points of a map lie: in the defect, or somewhere else."""

from __future__ import annotations

from math import ceil, hypot
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from threecad.evaluation.counting.maps import AnomalyMap

__all__ = ["credit_peak"]


def credit_peak(anomaly_map: AnomalyMap, mask: NDArray[np.bool_], reach: float) -> float | None:
    """Return the share of a map's highest points that lie in, or near, a labelled region.

    It is 0 or 1 where the highest value stands once. Of a map that is flat on top it is the chance
    that one of its highest points, drawn at random, lies there: no order of pixels decides.

    Args:
        anomaly_map: The map.
        mask: ``(H, W)``, the labelled regions.
        reach: How far from a region counts as near, as a part of the image's diagonal.

    Returns:
        The share, or ``None`` if there is no labelled region.
    """
    if not mask.any():
        return None
    rows, columns = anomaly_map.peaks()
    near = mask[rows, columns]
    distance = reach * hypot(*mask.shape)
    if distance and not near.all():
        margin = ceil(distance)
        top, left = max(int(rows.min()) - margin, 0), max(int(columns.min()) - margin, 0)
        window = mask[top : int(rows.max()) + margin + 1, left : int(columns.max()) + margin + 1]
        if window.any():
            away = cv2.distanceTransform(
                np.ascontiguousarray(~window).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
            )
            near = away[rows - top, columns - left] <= distance
    return float(np.count_nonzero(near) / near.size)

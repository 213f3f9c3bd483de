"""PRO as the code of the 3CAD paper computes it, for comparison with its tables alone.

It is another quantity than PRO@0.3: every image is measured on its own, at 200 thresholds between
its own least and largest score; good images never count; the false positive rate is divided by
the largest one below 0.3 that was seen, and the curve is not extended to its ends. See
``docs/evaluation.md`` for what this hides.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PAPER_SIZE", "per_image_pro"]

PAPER_SIZE = (256, 256)
"""Size of maps and masks, (height, width)."""

STEPS = 200
RATE_LIMIT = 0.3


def per_image_pro(anomaly_map: NDArray[np.floating[Any]], mask: NDArray[np.bool_]) -> float | None:
    """Return the PRO of one image in the sense of the paper's code.

    Args:
        anomaly_map: ``(H, W)`` float, finite.
        mask: ``(H, W)`` bool.

    Returns:
        A fraction, or ``None`` where it is undefined: no defective or no defect-free pixel, a
        constant map, a range beyond float64, fewer than two thresholds below a false positive rate
        of 0.3, or no false positive at any of them.
    """
    if not mask.any() or mask.all():
        return None
    least, largest = float(anomaly_map.min()), float(anomaly_map.max())
    step = (largest - least) / STEPS
    if step == 0 or step == math.inf:
        return None
    thresholds = np.arange(least, largest, step)
    # Number of thresholds strictly below each score: the pixel is flagged at these.
    passed = np.searchsorted(thresholds, anomaly_map.astype(np.float64), side="left")
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    regions = range(1, int(labels.max()) + 1)
    overlaps = [_flagged(passed[labels == region], thresholds.size) for region in regions]
    overlap = np.mean(overlaps, axis=0)
    rate = _flagged(passed[~mask], thresholds.size)
    kept = rate < RATE_LIMIT
    if kept.sum() < 2 or rate[kept].max() == 0:
        return None
    x, y = rate[kept] / rate[kept].max(), overlap[kept]
    # Rates fall along the thresholds; the area is taken from low to high.
    return float(((x[:-1] - x[1:]) * (y[:-1] + y[1:])).sum() / 2)


def _flagged(passed: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    """Return the share of pixels flagged at each of ``count`` thresholds."""
    at_most = np.bincount(passed, minlength=count + 1)[: count + 1].cumsum()
    flagged: NDArray[np.float64] = (passed.size - at_most[:count]) / passed.size
    return flagged

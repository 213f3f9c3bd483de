"""What is counted of the pixels of a group of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from threecad.curves import OVERLAP_SCALE
from threecad.geometry import SIZES, size_of
from threecad.histograms import Bins, ScoreHistogram, join_bins
from threecad.partitions import Partition

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SIZES", "DefectPixels", "PixelCounts", "find_defects", "size_of"]


class DefectPixels(NamedTuple):
    """The defective pixels of one image, by region."""

    scores: NDArray[np.floating[Any]]  # (M,) of its pixels
    weights: NDArray[np.int64]  # (M,) OVERLAP_SCALE / area of the pixel's region
    found: NDArray[np.floating[Any]]  # (R,) at thresholds up to this, half of the region is flagged
    size: NDArray[np.str_]  # (R,) of SIZES
    region: NDArray[np.intp]  # (M,) index of the pixel's region

    def of_size(self, size: str) -> DefectPixels:
        """Return the regions of one size."""
        chosen = self.size == size
        pixels = chosen[self.region]
        return DefectPixels(
            self.scores[pixels],
            self.weights[pixels],
            self.found[chosen],
            self.size[chosen],
            (np.cumsum(chosen) - 1)[self.region[pixels]],
        )


def find_defects(scores: NDArray[np.floating[Any]], mask: NDArray[np.bool_]) -> DefectPixels | None:
    """Return the 8-connected regions of ``mask`` with their scores; ``None`` if it is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    rows_ = slice(int(rows[0]), int(rows[-1]) + 1)
    columns = np.flatnonzero(mask[rows_].any(axis=0))
    box = (rows_, slice(int(columns[0]), int(columns[-1]) + 1))
    count, labels = cv2.connectedComponents(
        np.ascontiguousarray(mask[box]).view(np.uint8), connectivity=8
    )
    inside = labels > 0
    region = labels[inside].astype(np.intp) - 1
    values = np.ascontiguousarray(scores[box][inside])
    areas = np.bincount(region, minlength=count - 1)
    # A region is found once half of its pixels are flagged: at its ceil(area / 2)-th highest score.
    order = np.lexsort((values, region))
    ends = np.cumsum(areas)
    found = values[order][ends - (areas + 1) // 2]
    weights = (2 * OVERLAP_SCALE + areas) // (2 * areas)  # rounded
    size = np.array([size_of(int(area), mask.size) for area in areas])
    return DefectPixels(values, weights[region], found, size, region)


class PixelCounts:
    """Histograms of all pixels, of the defective ones, and of the regions of some images.

    Args:
        max_bins: Memory budget of each histogram, see :class:`ScoreHistogram`.
    """

    def __init__(self, max_bins: int) -> None:
        self.every = ScoreHistogram(max_bins=max_bins)
        self.defective = ScoreHistogram(max_bins=max_bins, channels=2)
        self.found = ScoreHistogram(max_bins=min(max_bins, 2**16))

    def add(self, scores: NDArray[np.floating[Any]], defects: DefectPixels | None) -> None:
        """Count an image: the scores of all of its pixels, (N,), and of its defective ones."""
        self.every.add(scores)
        if defects is not None:
            self.add_defects(defects)

    def add_defects(self, defects: DefectPixels) -> None:
        """Count the defective pixels alone."""
        self.defective.add(defects.scores, defects.weights)
        self.found.add(defects.found)

    def merge(self, other: PixelCounts) -> None:
        """Add what ``other`` counted."""
        self.every.merge(other.every)
        self.defective.merge(other.defective)
        self.found.merge(other.found)

    def background(self) -> Bins:
        """Return the bins of the defect-free pixels: one channel."""
        joined = self._join()
        return joined._replace(counts=joined.counts[:, :1])

    def pixel_partition(self, background: Bins | None = None) -> Partition:
        """Return the bins of defect-free and defective pixels.

        Args:
            background: The defect-free pixels to rank against, instead of its own.
        """
        if background is None:
            return Partition.of(self._join(), self.found.total)
        joined = join_bins(_columns(background, [1, 0, 0]), self._defective([0, 1]))
        return Partition.of(joined, self.found.total)

    def region_partition(self, background: Bins) -> Partition:
        """Return the bins of defect-free pixels and of regions."""
        found = _columns(self.found.bins(), [0, 1, 0])
        joined = join_bins(_columns(background, [1, 0, 0]), found)
        return Partition.of(joined, self.found.total)

    def _join(self) -> Bins:
        """Return the bins of defect-free pixels, defective pixels and their weights."""
        return join_bins(_columns(self.every.bins(), [1, 0, 0]), self._defective([-1, 1]))

    def _defective(self, factors: list[int]) -> Bins:
        """Return defective pixels times ``factors``, and their weights."""
        bins = self.defective.bins()
        pixels, weights = bins.counts.T
        counts = np.stack([factors[0] * pixels, factors[1] * pixels, weights], axis=1)
        return bins._replace(counts=counts)


def _columns(bins: Bins, factors: list[int]) -> Bins:
    """Spread one channel over several."""
    return bins._replace(counts=bins.counts * np.array(factors, np.int64))

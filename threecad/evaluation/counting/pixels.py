"""What is counted of the pixels of a group of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from threecad.evaluation.counting import kernels
from threecad.evaluation.counting.histograms import ScoreHistogram
from threecad.evaluation.counting.partitions import Partition
from threecad.evaluation.curves import OVERLAP_SCALE
from threecad.images.regions import SIZES, size_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from threecad.evaluation.counting.bins import Bins
    from threecad.evaluation.counting.maps import AnomalyMap

__all__ = ["SIZES", "DefectPixels", "PixelCounts", "find_defects", "size_of"]


class DefectPixels(NamedTuple):
    """The defective pixels of one image, by region."""

    scores: NDArray[np.floating[Any]]  # (M,) of its pixels
    weights: NDArray[np.int64]  # (M,) OVERLAP_SCALE / area of the pixel's region
    found: NDArray[np.floating[Any]]  # (R,) at thresholds up to this, half of the region is flagged
    size_class: NDArray[np.intp]  # (R,) index in SIZES
    region: NDArray[np.intp]  # (M,) index of the pixel's region

    @property
    def sizes(self) -> list[str]:
        """The sizes that its regions have."""
        return [SIZES[i] for i in sorted(set(self.size_class.tolist()))]

    def of_size(self, size_class: str) -> DefectPixels:
        """Return the regions of one size."""
        chosen = self.size_class == SIZES.index(size_class)
        if chosen.all():
            return self
        pixels = chosen[self.region]
        return DefectPixels(
            self.scores[pixels],
            self.weights[pixels],
            self.found[chosen],
            self.size_class[chosen],
            (np.cumsum(chosen) - 1)[self.region[pixels]],
        )


def find_defects(anomaly_map: AnomalyMap, mask: NDArray[np.bool_]) -> DefectPixels | None:
    """Return the 8-connected regions of ``mask`` with their scores; ``None`` if it is empty."""
    defective = np.ascontiguousarray(mask).view(np.uint8)
    left, top, width, height = cv2.boundingRect(defective)
    if width == 0:
        return None
    box = np.ascontiguousarray(defective[top : top + height, left : left + width])
    count, labels = cv2.connectedComponents(box, connectivity=8)
    values = anomaly_map.scores_at(mask)
    # A region is found once half of its pixels are flagged: at its ceil(area / 2)-th highest score.
    region, areas, found = kernels.measure_regions(
        labels.astype(np.int32, copy=False), values, count - 1
    )
    weights = (2 * OVERLAP_SCALE + areas) // (2 * areas)  # rounded
    size_class = np.array([SIZES.index(size_of(area, mask.size)) for area in areas.tolist()])
    return DefectPixels(values, weights[region], found, size_class, region)


class PixelCounts:
    """Histograms of all pixels, of the defective ones, and of the regions of some images.

    The scores of defective pixels and regions are among those of all pixels, and their histograms
    have the same budget, so their bins are never wider.

    Args:
        max_bins: Memory budget of each histogram, see ``ScoreHistogram``.
    """

    def __init__(self, max_bins: int) -> None:
        self.every = ScoreHistogram(max_bins=max_bins, dense=True)
        self.defective = ScoreHistogram(max_bins=max_bins, channels=2)
        self.found = ScoreHistogram(max_bins=max_bins)

    def add(self, anomaly_map: AnomalyMap, defects: DefectPixels | None) -> None:
        """Count an image: the scores of all of its pixels, and of its defective ones."""
        anomaly_map.count_in(self.every)
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

    def rank_pixels(self, positives: PixelCounts | None = None) -> Partition:
        """Return defective pixels, or those that ``positives`` counted, among defect-free ones."""
        chosen = positives or self
        return self._rank(chosen.defective.bins(), chosen.found.total)

    def rank_regions(self, positives: PixelCounts | None = None) -> Partition:
        """Return the regions, or those that ``positives`` counted, among defect-free pixels."""
        chosen = positives or self
        bins = chosen.found.bins()
        bins = bins._replace(counts=bins.counts * np.array([1, 0]))  # regions have no weights
        return self._rank(bins, chosen.found.total)

    def _rank(self, positives: Bins, regions: int) -> Partition:
        """Return the bins of ``positives`` and, as one bin each, what lies between them.

        Without positives, no figure asks how the defect-free pixels of a bin stand.
        """
        if self.every.total == 0:
            return Partition.empty()
        _, _, shift, alignment = self.every.bins()
        ids, counts, _, _ = positives.at(shift)
        below, inside = (n.astype(np.int64) for n in self.every.count_below(ids))
        defective = self.defective.bins().at(shift)
        defects = np.concatenate([[0], defective.counts[:, 0].cumsum()])
        place = np.searchsorted(defective.ids, ids)
        below -= defects[place]
        inside -= defects[place + 1] - defects[place]
        negatives = self.every.total - defects[-1]
        gaps = np.diff(np.concatenate([[0], below, [negatives]]))
        gaps[1:] -= inside
        return Partition.between(ids, shift, gaps, inside, counts, alignment, regions)

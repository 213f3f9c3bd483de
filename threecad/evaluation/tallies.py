"""What is remembered of a category's images while they stream by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from threecad.dataset.samples import GOOD
from threecad.errors import UsageError
from threecad.evaluation.counting.histograms import ScoreHistogram
from threecad.evaluation.counting.paper_protocol import per_image_pro
from threecad.evaluation.counting.partitions import Partition, Refinement, choose_bins
from threecad.evaluation.counting.pixels import SIZES, DefectPixels, PixelCounts, find_defects
from threecad.evaluation.curves import Counts
from threecad.evaluation.definitions import define_pixel_figures
from threecad.evaluation.operation.peaks import credit_peak

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from threecad.evaluation.counting.bins import Bins
    from threecad.evaluation.counting.maps import AnomalyMap

__all__ = ["CategoryTally", "ImageRecord", "PixelRow", "Ranking", "count_images"]

DETAIL_BINS = 2**18
"""Budget of the histograms of one defect type."""

DETAIL_SLACK = 100.0
"""The tolerance of breakdowns is this much wider than that of categories."""

ROW_BINS = 256
"""Bins of one image's histograms, for the bootstrap."""


class PixelRow(NamedTuple):
    """One image's pixels in few bins, for the bootstrap."""

    every: Bins
    defective: dict[str, Bins]  # size class → pixels and their weights
    found: dict[str, Bins]  # size class → regions


@dataclass(frozen=True)
class ImageRecord:
    """What is remembered of one image.

    Attributes:
        score: The image score.
        label: 0 for good, 1 for defective.
        defect_type: Its defect type, ``"good"``, or ``None`` where that was not given.
        masked: Whether its mask is known, so that its pixels count.
        paper_pro: PRO of this image alone, under the paper's protocol.
        row: Its pixels, if a bootstrap will need them.
        peak: Share of the highest points of its map that lie in or near a labelled region; ``None``
            without one.
        sizes: Sizes of its regions.
    """

    score: float
    label: int
    defect_type: str | None
    masked: bool
    paper_pro: float | None = None
    row: PixelRow | None = None
    peak: float | None = None
    sizes: tuple[str, ...] = ()

    def sort_key(self) -> tuple[Any, ...]:
        """Return a key that depends on the content alone; equal keys mean equal records."""
        pixels: tuple[bytes, ...] = ()
        if self.row is not None:
            parts = [self.row.every, *self.row.defective.values(), *self.row.found.values()]
            pixels = tuple(array.tobytes() for bins in parts for array in (bins.ids, bins.counts))
        known = tuple(-1.0 if x is None else x for x in (self.paper_pro, self.peak))
        return (self.label, self.defect_type or "", self.score, self.masked, *known, pixels)


class Ranking(NamedTuple):
    """Which pixels or regions a group of figures ranks against which.

    Attributes:
        kind: ``pixels`` or ``regions``: what the positives are.
        defect_type: Only good images and those of this type, if not ``None``.
        size_class: Only regions of this size, if not ``None``.
    """

    kind: str
    defect_type: str | None = None
    size_class: str | None = None


class CategoryTally:
    """Everything counted of one category.

    Args:
        max_bins: Memory budget of the category's own histograms.
        keep_rows: Keep each image's pixels in few bins, for a bootstrap.
        paper: Follow the paper's protocol: PRO of each image.
        detailed: Count defect types and sizes apart.
        reach: How near a region the highest point of a map must lie, see ``credit_peak``.
    """

    def __init__(
        self,
        max_bins: int,
        *,
        keep_rows: bool = False,
        paper: bool = False,
        detailed: bool = True,
        reach: float = 0.0,
    ) -> None:
        self.max_bins = max_bins
        self.keep_rows = keep_rows
        self.paper = paper
        self.detailed = detailed
        self.reach = reach
        self.images: list[ImageRecord] = []
        self.pixels = PixelCounts(max_bins)
        self.by_type: dict[str, PixelCounts] = {}
        self.by_size = {each: PixelCounts(max_bins) for each in SIZES}
        self.resolved: dict[Ranking, Partition] = {}
        self.pending: dict[Ranking, Refinement] = {}
        self._known: dict[Ranking, Partition] = {}  # what need not be computed again

    @property
    def defect_types(self) -> list[str]:
        """The names of the defect types seen, sorted."""
        return sorted({r.defect_type for r in self.images if r.label and r.defect_type is not None})

    @property
    def unmasked(self) -> int:
        """Number of images whose mask is not known."""
        return sum(not image.masked for image in self.images)

    def add(
        self,
        anomaly_map: AnomalyMap,
        mask: NDArray[np.bool_] | None,
        score: float,
        label: int,
        defect_type: str | None,
    ) -> None:
        """Count one image, or count it again for the pending refinement."""
        defects = None if mask is None else find_defects(anomaly_map, mask)
        if self.pending:
            if mask is not None:
                self._refine(anomaly_map, defects, defect_type)
            return
        self._forget()
        row = paper_pro = peak = None
        if mask is not None:
            self._count(anomaly_map, defects, defect_type)
            if self.keep_rows:
                row = _pixel_row(anomaly_map, defects)
            if self.paper and label:
                paper_pro = per_image_pro(anomaly_map.to_numpy(), mask)
            if defects is not None:
                peak = credit_peak(anomaly_map, mask, self.reach)
        sizes = () if defects is None else tuple(defects.sizes)
        self.images.append(
            ImageRecord(
                float(score), label, defect_type, mask is not None, paper_pro, row, peak, sizes
            )
        )

    def merge(self, other: CategoryTally) -> None:
        """Add what another tally of the category counted.

        Raises:
            UsageError: If the two are not in the same refinement.
        """
        if self.pending.keys() != other.pending.keys():
            raise UsageError("These evaluators are in different refinements. See empty().")
        if self.pending:
            for ranking, refinement in other.pending.items():
                self.pending[ranking].merge(refinement)
            return
        self.merge_images(other)
        for name, counts in other.by_type.items():
            self.by_type.setdefault(name, PixelCounts(DETAIL_BINS)).merge(counts)
        for size_class in SIZES:
            self.by_size[size_class].merge(other.by_size[size_class])

    def merge_images(self, other: CategoryTally) -> None:
        """Add the images of another tally, without its breakdowns."""
        if other.images:
            self._forget()
        self.images += other.images
        self.pixels.merge(other.pixels)

    def empty(self) -> CategoryTally:
        """Return a tally that counts nothing yet, but what this one is waiting for."""
        twin = CategoryTally(
            self.max_bins,
            keep_rows=self.keep_rows,
            paper=self.paper,
            detailed=self.detailed,
            reach=self.reach,
        )
        twin.pending = {ranking: waiting.empty() for ranking, waiting in self.pending.items()}
        return twin

    def _forget(self) -> None:
        """Drop what was derived from the counts: more images change it."""
        self.resolved.clear()
        self._known.clear()

    def partition(self, ranking: Ranking) -> Partition:
        """Return the bins of a ranking, as far as they are resolved."""
        if ranking in self.resolved:
            return self.resolved[ranking]
        if ranking not in self._known:
            self._known[ranking] = self._rank(ranking)
        return self._known[ranking]

    def _rank(self, ranking: Ranking) -> Partition:
        pixels = self._pixels_of(ranking.defect_type)
        positives = None if ranking.size_class is None else self.by_size[ranking.size_class]
        if ranking.kind == "pixels":
            return pixels.rank_pixels(positives)
        return pixels.rank_regions(positives)

    def start_refinement(self, pro_limits: Sequence[float]) -> bool:
        """Choose the bins to resolve; return whether there are any.

        If so, all images must be added once more, and then ``finish_refinement`` called.
        """
        self.pending = {}
        figures = define_pixel_figures(pro_limits)
        for ranking in self._rankings():
            partition = self.partition(ranking)
            counts = partition.descending()
            if not counts.negatives.sum() or not counts.positives.sum():
                continue
            detail = ranking.defect_type is not None or ranking.size_class is not None
            slack = DETAIL_SLACK if detail else 1.0
            bins = choose_bins(
                [
                    (figure.doubts(counts)[::-1], slack * figure.tolerance)
                    for figure in figures
                    if figure.positives == ranking.kind and figure.doubts is not None
                ]
            )
            if bins.size:
                self.resolved[ranking] = partition
                self.pending[ranking] = Refinement(partition, bins)
        return bool(self.pending)

    def finish_refinement(self) -> None:
        """Put the parts that were counted in the place of the chosen bins."""
        for ranking, refinement in self.pending.items():
            self.resolved[ranking] = self.resolved[ranking].replace(refinement)
        self.pending = {}

    def _rankings(self) -> list[Ranking]:
        groups: list[tuple[str | None, str | None]] = [(None, None)]
        if self.detailed:
            groups += [(None, each) for each in SIZES]
            groups += [(name, None) for name in self.defect_types]
        return [Ranking(kind, *group) for group in groups for kind in ("pixels", "regions")]

    def _pixels_of(self, defect_type: str | None) -> PixelCounts:
        """Return the counts of all images, or of the good ones and those of one type."""
        if defect_type is None:
            return self.pixels
        joined = PixelCounts(DETAIL_BINS)
        for name in (GOOD, defect_type):
            if name in self.by_type:
                joined.merge(self.by_type[name])
        return joined

    def _count(
        self,
        anomaly_map: AnomalyMap,
        defects: DefectPixels | None,
        defect_type: str | None,
    ) -> None:
        self.pixels.add(anomaly_map, defects)
        if not self.detailed:
            return
        if defect_type is not None:
            if defect_type not in self.by_type:
                self.by_type[defect_type] = PixelCounts(DETAIL_BINS)
            self.by_type[defect_type].add(anomaly_map, defects)
        if defects is not None:
            for size_class in defects.sizes:
                self.by_size[size_class].add_defects(defects.of_size(size_class))

    def _refine(
        self,
        anomaly_map: AnomalyMap,
        defects: DefectPixels | None,
        defect_type: str | None,
    ) -> None:
        for ranking, refinement in self.pending.items():
            if ranking.defect_type is not None and defect_type not in (GOOD, ranking.defect_type):
                continue
            anomaly_map.count_inside(refinement)
            if defects is None:
                continue
            refinement.add(defects.scores, 0, -1)
            chosen = defects if ranking.size_class is None else defects.of_size(ranking.size_class)
            if ranking.kind == "regions":
                refinement.add(chosen.found, 1)
            else:
                refinement.add(chosen.scores, 1)
                refinement.add(chosen.scores, 2, chosen.weights)


def _pixel_row(anomaly_map: AnomalyMap, defects: DefectPixels | None) -> PixelRow:
    def bins(channels: int, *values: Any) -> Bins:
        histogram = ScoreHistogram(channels=channels, max_bins=ROW_BINS)
        histogram.add(*values)
        return histogram.bins()

    defective: dict[str, Bins] = {}
    found: dict[str, Bins] = {}
    for size_class in [] if defects is None else defects.sizes:
        part = defects.of_size(size_class)  # type: ignore[union-attr]
        defective[size_class] = bins(2, part.scores, part.weights)
        found[size_class] = bins(1, part.found)
    return PixelRow(anomaly_map.coarse_bins().fit(ROW_BINS, 0), defective, found)


def count_images(
    images: Sequence[ImageRecord], weights: NDArray[Any] | None = None
) -> dict[str, Counts]:
    """Return good and defective images per distinct score, and the credits of their peaks.

    Args:
        images: The images.
        weights: ``(R, N)``, how often each counts in each of R replicates; once, if ``None``.

    Returns:
        ``images``, and ``peaks``, where only defective images with regions are positives and
        their credits the overlap.
    """
    scores = np.array([image.score for image in images], np.float64)
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    often = np.ones(len(images), np.int64) if weights is None else weights

    def count(values: Sequence[float]) -> NDArray[Any]:
        counted = (often * np.array(values))[..., order]
        return np.asarray(np.add.reduceat(counted, first, axis=-1))

    good, defective = count([1 - i.label for i in images]), count([i.label for i in images])
    located = count([int(i.peak is not None) for i in images])
    credit = count([i.peak or 0.0 for i in images])
    exact, levels = np.ones(first.size, np.bool_), ordered[first]
    return {
        "images": Counts(good, defective, defective, exact, scores=levels),
        "peaks": Counts(good, located, credit, exact, scores=levels),
    }

"""The bins of one figure's ranking, some of them resolved further than others.

A histogram leaves open in which order the scores of a bin stand. Where that matters more than the
tolerance allows, the bins that matter are cut into parts and the same images are counted again,
inside these bins only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.errors import EvaluationError, UsageError
from threecad.evaluation.counting import kernels
from threecad.evaluation.curves import Counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Partition", "Refinement", "choose_bins"]

MAX_PARTS = 2**22
"""Parts that one refinement may count, 24 bytes each."""

MAX_DEPTH = 16
INDEX_SIZE = 2**16


@dataclass(frozen=True)
class Partition:
    """Disjoint bins of any width, in ascending order.

    Attributes:
        starts: ``(B,)`` uint64, first ordinal of each bin.
        shifts: ``(B,)`` uint64; a bin covers ``2 ** shift`` ordinals. 0 for the stretches between
            bins with positives, which need no resolving.
        counts: ``(B, 3)`` int64: defect-free pixels, positives (defective pixels or regions), and
            the weights of the positives.
        alignment: Number of low bits that are zero in all ordinals.
        regions: Number of regions.
    """

    starts: NDArray[np.uint64]
    shifts: NDArray[np.uint64]
    counts: NDArray[np.int64]
    alignment: int
    regions: int

    @classmethod
    def empty(cls) -> Partition:
        """Return the partition of nothing."""
        nothing = np.empty(0, np.uint64)
        return cls(nothing, nothing, np.empty((0, 3), np.int64), 0, 0)

    @classmethod
    def between(
        cls,
        ids: NDArray[np.uint64],
        shift: int,
        gaps: NDArray[np.int64],
        inside: NDArray[np.int64],
        positives: NDArray[np.int64],
        alignment: int,
        regions: int,
    ) -> Partition:
        """Return bins with positives, and the gaps round them.

        Args:
            ids: ``(B,)`` bins with positives, ascending.
            shift: Their shift.
            gaps: ``(B + 1,)`` defect-free pixels below, between and above them.
            inside: ``(B,)`` defect-free pixels inside them.
            positives: ``(B, 2)`` positives and their weights.
            alignment: Number of low bits that are zero in all ordinals.
            regions: Number of regions.
        """
        n = len(ids)
        starts = np.zeros(2 * n + 1, np.uint64)
        starts[1::2] = ids << np.uint64(shift)
        starts[2::2] = starts[1::2] + np.uint64((1 << shift) - 1)  # their last ordinal: in order
        shifts = np.zeros(2 * n + 1, np.uint64)  # gaps are never resolved
        shifts[1::2] = shift
        counts = np.zeros((2 * n + 1, 3), np.int64)
        counts[0::2, 0] = gaps
        counts[1::2, 0] = inside
        counts[1::2, 1:] = positives
        return cls(starts, shifts, counts, alignment, regions)

    def descending(self) -> Counts:
        """Return the counts as the curves want them."""
        counts = self.counts[::-1].T
        exact = (self.shifts <= self.alignment)[::-1]
        return Counts(counts[0], counts[1], counts[2], exact, self.regions)

    def replace(self, refinement: Refinement) -> Partition:
        """Return the partition with the chosen bins replaced by their counted parts.

        Raises:
            EvaluationError: If the parts do not add up to their bins: other scores were counted.
        """
        bins = refinement.bins
        found = np.add.reduceat(refinement.sums, refinement.offsets, axis=0)
        if not np.array_equal(found, self.counts[bins]):
            raise EvaluationError(
                "The anomaly maps changed between two passes over them. Evaluation needs the same "
                "map each time it asks for one."
            )
        occupied = np.flatnonzero(refinement.sums.any(axis=1))
        parent = np.searchsorted(refinement.offsets, occupied, side="right") - 1
        shifts = (refinement.shifts - refinement.depths)[parent]
        part = (occupied - refinement.offsets[parent]).astype(np.uint64)
        starts = np.concatenate(
            [refinement.starts[parent] + (part << shifts), np.delete(self.starts, bins)]
        )
        # Stable: the gap behind a bin of one ordinal has the same start and comes after it.
        order = np.argsort(starts, kind="stable")
        shifts = np.concatenate([shifts, np.delete(self.shifts, bins)])
        counts = np.concatenate([refinement.sums[occupied], np.delete(self.counts, bins, axis=0)])
        return Partition(starts[order], shifts[order], counts[order], self.alignment, self.regions)


class Refinement:
    """Counts inside chosen bins of a partition.

    Args:
        partition: Where the bins come from.
        bins: ``(n,)`` their indices, ascending.

    Attributes:
        sums: ``(parts, 3)`` int64, the counts of the parts, as in ``Partition.counts``.
    """

    def __init__(self, partition: Partition, bins: NDArray[np.intp]) -> None:
        self.bins = bins
        self.starts = partition.starts[bins]
        self.shifts = partition.shifts[bins]
        open_bits = self.shifts - np.uint64(partition.alignment)
        depth = min(MAX_DEPTH, max(1, (MAX_PARTS // len(bins)).bit_length() - 1))
        self.depths = np.minimum(open_bits, np.uint64(depth))
        parts = np.int64(1) << self.depths.astype(np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(parts)[:-1]]).astype(np.int64)
        self.sums = np.zeros((int(parts.sum()), 3), np.int64)
        span = int(self.starts[-1] - self.starts[0]) + (1 << int(self.shifts[-1]))
        self.index_shift = max(0, (span - 1).bit_length() - INDEX_SIZE.bit_length() + 1)
        stretches = -(-span >> self.index_shift)
        edges = self.starts[0] + (np.arange(stretches, dtype=np.uint64) << self.index_shift)
        last = np.searchsorted(self.starts, edges, side="right") - 1
        self.index = np.append(last, len(bins) - 1).astype(np.int64)

    def empty(self) -> Refinement:
        """Return one of the same bins in which nothing is counted yet."""
        twin = Refinement.__new__(Refinement)
        twin.__dict__.update(self.__dict__, sums=np.zeros_like(self.sums))
        return twin

    def add(
        self, scores: NDArray[np.floating[Any]], channel: int, weights: NDArray[np.int64] | int = 1
    ) -> None:
        """Add ``weights`` to the parts that hold ``scores``, (N,)."""
        kernels.count_inside(
            scores,
            np.atleast_1d(np.asarray(weights, np.int64)),
            self.starts,
            self.shifts,
            self.offsets,
            self.depths,
            self.index,
            self.index_shift,
            self.sums[:, channel],
        )

    def add_counts(self, parts: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        """Add to the first channel what was counted elsewhere in distinct ``parts``."""
        self.sums[parts, 0] += counts

    def merge(self, other: Refinement) -> None:
        """Add what ``other`` counted in the same bins.

        Raises:
            UsageError: If it counted in other bins.
        """
        if not np.array_equal(self.starts, other.starts):
            raise UsageError("These evaluators are in different refinements. See empty().")
        self.sums += other.sums


def choose_bins(
    doubts: list[tuple[NDArray[np.float64], float]],
) -> NDArray[np.intp]:
    """Choose the bins to resolve so that every figure comes within its tolerance.

    Args:
        doubts: For each figure, by how much each bin leaves it open, ``(B,)``, and how much all
            bins together may.

    Returns:
        Indices of bins, ascending; as many as one refinement can hold, the most doubtful first.
    """
    urgency = np.zeros(doubts[0][0].size)
    for doubt, tolerance in doubts:
        if doubt.sum() <= tolerance:
            continue
        order = np.flatnonzero(doubt)
        order = order[np.argsort(-doubt[order], kind="stable")]
        remaining = doubt[order][::-1].cumsum()[::-1]  # what is open from this bin on
        matters = order[remaining > tolerance / 4]
        urgency[matters] = np.maximum(urgency[matters], doubt[matters] / tolerance)
    bins = np.flatnonzero(urgency)
    if bins.size > MAX_PARTS // 4:
        most = np.argsort(-urgency[bins], kind="stable")[: MAX_PARTS // 4]
        bins = np.sort(bins[most])
    return bins

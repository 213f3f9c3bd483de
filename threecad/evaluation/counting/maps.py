"""Anomaly maps as the tallies see them, wherever their scores lie."""

from __future__ import annotations

from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from threecad.evaluation.counting import kernels
from threecad.evaluation.counting.bins import Bins, trailing_zeros, window_shift

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from threecad.evaluation.counting.histograms import ScoreHistogram
    from threecad.evaluation.counting.partitions import Refinement

__all__ = ["COARSE", "AnomalyMap", "ArrayMap", "PartialMap", "as_array", "as_number"]

COARSE = 2**16
"""Most bins between the least and the highest score in coarse bins."""


class AnomalyMap(Protocol):
    """One anomaly map. What is counted of it does not depend on the kind of map."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(H, W)``."""

    def is_finite(self) -> bool:
        """Return whether no score is NaN or infinite."""

    def scores_at(self, mask: NDArray[np.bool_]) -> NDArray[np.floating[Any]]:
        """Return the scores ``(M,)`` of the M pixels that ``mask``, ``(H, W)``, holds, by row."""

    def count_in(self, histogram: ScoreHistogram) -> None:
        """Count all scores in a histogram."""

    def count_inside(self, refinement: Refinement) -> None:
        """Count the scores that lie in the bins of a refinement, in its first channel."""

    def coarse_bins(self) -> Bins:
        """Return all scores in bins so wide that there are at most ``COARSE``."""

    def peaks(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return rows and columns of the pixels that have the highest score."""

    def to_numpy(self) -> NDArray[np.floating[Any]]:
        """Return the scores, ``(H, W)``."""


class ArrayMap:
    """An anomaly map in a NumPy array, ``(H, W)`` float32 or float64."""

    def __init__(self, scores: NDArray[np.floating[Any]]) -> None:
        self.scores = scores
        self.shape = scores.shape

    @cached_property
    def flat(self) -> NDArray[np.floating[Any]]:
        """The scores in one row."""
        return np.ascontiguousarray(self.scores).reshape(-1)

    @cached_property
    def _scan(self) -> tuple[int, bool]:
        return kernels.scan(self.flat)

    def is_finite(self) -> bool:
        """Return whether no score is NaN or infinite."""
        return self._scan[1]

    def scores_at(self, mask: NDArray[np.bool_]) -> NDArray[np.floating[Any]]:
        """Return the scores of the pixels in ``mask``."""
        return self.scores[mask]

    def count_in(self, histogram: ScoreHistogram) -> None:
        """Count all scores in a histogram."""
        histogram.add(self.flat, union=self._scan[0])

    def count_inside(self, refinement: Refinement) -> None:
        """Count the scores inside the bins of a refinement."""
        refinement.add(self.flat, 0)

    def coarse_bins(self) -> Bins:
        """Return all scores in few bins."""
        ordinals = kernels.ordinals_of(self.flat)
        lowest, highest = int(ordinals.min()), int(ordinals.max())
        shift = window_shift(lowest, highest, COARSE)
        first = np.uint64(lowest >> shift)
        counts = np.bincount(((ordinals >> np.uint64(shift)) - first).astype(np.int64))
        occupied = np.flatnonzero(counts)
        ids = occupied.astype(np.uint64) + first
        return Bins(ids, counts[occupied][:, None], shift, trailing_zeros(self._scan[0]))

    def peaks(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return where the highest score stands."""
        highest = np.flatnonzero(self.flat == self.flat.max())  # faster than in two dimensions
        rows, columns = np.divmod(highest, self.shape[1])
        return rows, columns

    def to_numpy(self) -> NDArray[np.floating[Any]]:
        """Return the scores."""
        return self.scores


class PartialMap(ArrayMap):
    """An anomaly map of which only some pixels count.

    Args:
        scores: ``(H, W)`` float32 or float64.
        counted: ``(H, W)``, the pixels that count: one or more.
    """

    def __init__(self, scores: NDArray[np.floating[Any]], counted: NDArray[np.bool_]) -> None:
        super().__init__(scores)
        self.counted = counted

    @cached_property
    def flat(self) -> NDArray[np.floating[Any]]:
        """The scores that count in one row."""
        return self.scores[self.counted]

    def peaks(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return where the highest score that counts stands."""
        rows, columns = np.nonzero(self.counted)
        highest = self.flat == self.flat.max()
        return rows[highest], columns[highest]


def as_array(values: Any) -> NDArray[Any]:
    """Return an array or a torch tensor as a NumPy array, without a copy where possible."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()
        return values.numpy()  # type: ignore[no-any-return]
    return np.asarray(values)


def as_number(value: Any, *, truth: bool = False) -> float:
    """Return a plain, NumPy or torch scalar as a float.

    Args:
        value: The scalar.
        truth: Take true and false for 1 and 0.

    Raises:
        TypeError: If it is no number: text, ``None``, several, or a truth value where none may be.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise TypeError(f"{value!r} is beyond all floats") from None
    array = as_array(value) if hasattr(value, "dtype") else np.empty(0)
    if array.size != 1 or array.dtype.kind not in ("biuf" if truth else "iuf"):
        raise TypeError(f"{value!r} is no number")
    return float(array.item())

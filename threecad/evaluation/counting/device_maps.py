"""Anomaly maps in torch tensors on a GPU: counted there, so that only counts leave it.

The same functions run on tensors on any device, the processor included, and give the very bins that
the compiled loops give.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from threecad.evaluation.counting.bins import Bins, trailing_zeros, window_shift
from threecad.evaluation.counting.maps import COARSE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from threecad.evaluation.counting.histograms import ScoreHistogram
    from threecad.evaluation.counting.partitions import Refinement

__all__ = ["DeviceMap"]

MIDDLE = 2**63
"""The ordinal of 0. Torch has no uint64, so the ordinals here are less by that much."""

INFINITY = 0x7FF0000000000000

MAX_WINDOW = 2**22
"""Most bins counted without sorting, 8 bytes each."""


class DeviceMap:
    """An anomaly map in a tensor, ``(H, W)`` of floats, on any device that has float64."""

    def __init__(self, scores: torch.Tensor) -> None:
        self.scores = scores.detach()
        self.shape = tuple(scores.shape)

    @cached_property
    def _ordinals(self) -> torch.Tensor:
        """All ordinals less ``MIDDLE``, ``(H * W,)`` int64: the signed magnitudes of the scores."""
        bits = self.scores.reshape(-1).double().view(torch.int64)
        magnitude = bits & (MIDDLE - 1)
        return torch.where(bits < 0, -magnitude, magnitude)

    @cached_property
    def _range(self) -> tuple[int, int]:
        lowest, highest = torch.aminmax(self._ordinals)
        return int(lowest), int(highest)

    @cached_property
    def _alignment(self) -> int:
        """Number of low bits that are zero in all ordinals."""
        union = self._ordinals.abs()
        while union.numel() > 1:
            half = union.numel() // 2
            rest = union[2 * half :]
            union = torch.cat([union[:half] | union[half : 2 * half], rest])
        return trailing_zeros(int(union))

    def is_finite(self) -> bool:
        """Return whether no score is NaN or infinite."""
        return self._range[0] > -INFINITY and self._range[1] < INFINITY

    def scores_at(self, mask: NDArray[np.bool_]) -> NDArray[np.floating[Any]]:
        """Return the scores of the pixels in ``mask``, float32 or float64."""
        pixels = torch.from_numpy(np.flatnonzero(mask)).to(self.scores.device)
        chosen = self.scores.reshape(-1)[pixels]
        return _to_float32(chosen).cpu().numpy()

    def count_in(self, histogram: ScoreHistogram) -> None:
        """Count all scores in a histogram."""
        histogram.add_bins(self._bins(histogram.shift_for(self._alignment)))

    def count_inside(self, refinement: Refinement) -> None:
        """Count the scores inside the bins of a refinement."""
        device = self._ordinals.device
        starts, shifts, depths, offsets = (
            torch.from_numpy(values.astype(np.int64)).to(device)
            for values in (
                refinement.starts - np.uint64(MIDDLE),
                refinement.shifts,
                refinement.depths,
                refinement.offsets,
            )
        )
        place = torch.searchsorted(starts, self._ordinals, right=True) - 1
        ordinals = self._ordinals[place >= 0]
        place = place[place >= 0]
        inside = ordinals - starts[place]
        within = inside >> shifts[place] == 0
        place, inside = place[within], inside[within]
        parts, counts = _count(offsets[place] + (inside >> (shifts - depths)[place]))
        refinement.add_counts(parts.cpu().numpy(), counts.cpu().numpy())

    def coarse_bins(self) -> Bins:
        """Return all scores in few bins."""
        lowest, highest = self._range
        return self._bins(window_shift(lowest, highest, COARSE))

    def peaks(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return where the highest score stands."""
        rows, columns = torch.nonzero(self.scores == self.scores.max(), as_tuple=True)
        return rows.cpu().numpy(), columns.cpu().numpy()

    def to_numpy(self) -> NDArray[np.floating[Any]]:
        """Return the scores, ``(H, W)`` float32 or float64."""
        return _to_float32(self.scores).cpu().numpy()

    def _bins(self, shift: int) -> Bins:
        ids, counts = _count(self._ordinals >> shift)
        unsigned = ids.cpu().numpy().view(np.uint64) + np.uint64(MIDDLE >> shift)
        return Bins(unsigned, counts.cpu().numpy()[:, None], shift, self._alignment)


def _count(cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the distinct values of ``(N,)`` int64, ascending, and how often each occurs."""
    if not cells.numel():
        return cells, cells
    lowest, highest = (int(end) for end in torch.aminmax(cells))
    if highest - lowest >= MAX_WINDOW:
        ids, counts = torch.unique(cells, return_counts=True)
        return ids, counts
    counts = torch.bincount(cells - lowest)
    occupied = counts.nonzero()[:, 0]
    return occupied + lowest, counts[occupied]


def _to_float32(scores: torch.Tensor) -> torch.Tensor:
    return scores if scores.dtype == torch.float64 else scores.float()

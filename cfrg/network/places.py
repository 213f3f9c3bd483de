"""Distances measured by what is usual at their place, where good parts lie alike.

A place that is far from the memory in every good image (an edge that varies, a printed date) says
little, and one that is near in all of them says much. Mean and deviation at each place come from
good images and are smoothed over the neighbouring places, as few images show one place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cfrg.network.processing import smooth_maps

__all__ = ["ALIKE", "PlaceStandardizer", "explained_by_place", "lie_alike"]

ALIKE = 0.5
"""Share of the variance between distances that their place must explain in unseen good images."""

FEWEST = 8  # good images, for a deviation at each place
SPREAD = 1.0  # places, standard deviation of the smoothing
COMMON = 2.0  # times the median deviation is added (in squares) to that of each place


class PlaceStandardizer(nn.Module):
    """Subtract the mean at each place and divide by the deviation there.

    Args:
        size: Rows and columns of places.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    def fit(self, distances: Tensor) -> None:
        """Set both.

        Args:
            distances: (N, h, w) of good images that the memory does not hold.
        """
        self.mean, self.deviation = _moments(distances)

    def forward(self, distances: Tensor) -> Tensor:
        """(N, 1, h, w) distances → the same in deviations from the mean."""
        return (distances - self.mean) / self.deviation


def lie_alike(distances: Tensor) -> bool:
    """Whether good parts lie alike, told from good images alone.

    Args:
        distances: (N, h, w) of good images that the memory does not hold.
    """
    return len(distances) >= FEWEST and explained_by_place(distances) >= ALIKE


def explained_by_place(distances: Tensor) -> float:
    """Share of the variance of one half's distances that the other half's means explain.

    Args:
        distances: (N, h, w) of good images, two or more.

    Returns:
        1 where all images are the same, 0 where the place says nothing; less than 0 is possible.
    """
    seen, unseen = distances[::2], distances[1::2]
    mean, _ = _moments(seen)
    around_place = (unseen - mean).square().mean()
    around_all = (unseen - seen.mean()).square().mean().clamp_min(1e-12)
    return float(1 - around_place / around_all)


def _moments(distances: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation at each place, (h, w) float32 each."""
    exact = distances.double()
    mean = smooth_maps(exact.mean(0), SPREAD)
    square = smooth_maps(exact.square().mean(0), SPREAD)
    deviation = (square - mean.square()).clamp_min(0).sqrt()
    # Few images show one place, and where they all agree little would be infinitely odd.
    common = (COMMON * deviation.median()).clamp_min(1e-6)
    return mean.float(), torch.hypot(deviation, common).float()

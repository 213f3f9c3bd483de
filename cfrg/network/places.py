"""Distances measured by what is usual at their place, where good parts lie alike.

A place that is far from the memory in every good image (an edge that varies, a printed date) says
little, and one that is near in all of them says much. Mean and deviation at each place come from
good images and are smoothed over the neighbouring places, as few images show one place. What is
divided by is the deviation at the place and twice the usual one together: by the first alone, maps
on photographs lost more precision than image scores gained.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cfrg.network import processing

__all__ = ["PlaceStandardizer", "helps"]

FEWEST = 8  # good images, for a mean and a deviation at each place
SPREAD = 1.0  # places, standard deviation of the smoothing
COMMON = 2.0  # times the median deviation, added in squares to that of each place

ADDED = (0.25, 0.5, 1.0)  # times the mean distance
REPEATS = 8  # of each, per image
LEAST_GAIN = 0.0  # of AUROC


class PlaceStandardizer(nn.Module):
    """Subtract the mean at each place and divide by the deviation there.

    Args:
        size: Rows and columns of places; the number of maps first, where there are several.
    """

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    def fit(self, distances: Tensor) -> PlaceStandardizer:
        """Set both; return itself.

        Args:
            distances: (N, h, w) of good images to vectors of others.
        """
        exact = distances.double()
        return self.fit_moments(exact.mean(0), exact.square().mean(0))

    def fit_moments(self, mean: Tensor, square: Tensor) -> PlaceStandardizer:
        """Set both from means over good images; return itself.

        Args:
            mean: (…, h, w) float64 of the values.
            square: (…, h, w) float64 of their squares.
        """
        mean = processing.smooth_maps(mean, SPREAD)
        square = processing.smooth_maps(square, SPREAD)
        deviation = (square - mean.square()).clamp_min(0).sqrt()
        common = (COMMON * deviation.flatten(-2).median(-1).values).clamp_min(1e-6)
        deviation = torch.hypot(deviation, common[..., None, None])
        self.mean, self.deviation = mean.float(), deviation.float()
        return self

    def rescale(self, mean: Tensor, deviation: Tensor) -> None:
        """Subtract from and divide what ``forward`` returns once more."""
        self.mean += self.deviation * mean.to(self.mean)
        self.deviation *= deviation.to(self.deviation)

    def forward(self, distances: Tensor) -> Tensor:
        """(…, h, w) distances → the same in deviations from the mean."""
        return (distances - self.mean) / self.deviation


def helps(distances: Tensor, score_fraction: float) -> bool:
    """Whether good parts lie enough alike, told from good images alone.

    To the distances of one half of the images something is added at a place drawn at random, as a
    defect there would. The image score should tell these images from what they were; the AUROC with
    what is usual by place, known from the other half, is compared with that without.

    Args:
        distances: (N, h, w) of good images to vectors of others.
        score_fraction: Of ``CFRGConfig``, the rule of the image score.
    """
    if len(distances) < FEWEST:
        return False
    gains = []
    for known, unseen in ((distances[::2], distances[1::2]), (distances[1::2], distances[::2])):
        places = PlaceStandardizer((distances.shape[1], distances.shape[2])).fit(known)
        rng = np.random.default_rng(0)
        for share in ADDED * REPEATS:
            changed = _add_somewhere(unseen, share * float(distances.mean()), rng)
            by_place = _tell(places(unseen), places(changed), score_fraction)
            gains.append(by_place - _tell(unseen, changed, score_fraction))
    return float(np.mean(gains)) >= LEAST_GAIN


def _add_somewhere(distances: Tensor, amount: float, rng: np.random.Generator) -> Tensor:
    """Add to a square of places of each image, about a sixteenth of its sides."""
    changed = distances.clone()
    _, height, width = distances.shape
    reach = max(1, round(min(height, width) / 32))
    for image in changed:
        y, x = rng.integers(height), rng.integers(width)
        square = image[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        square += amount
    return changed


def _tell(good: Tensor, changed: Tensor, score_fraction: float) -> float:
    """AUROC of the image scores."""
    low, high = (processing.score_maps(maps[:, None], score_fraction) for maps in (good, changed))
    above = (high[:, None] > low).double() + 0.5 * (high[:, None] == low).double()
    return float(above.mean())

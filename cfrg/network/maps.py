"""Gaussian smoothing of anomaly maps, as ``scipy.ndimage.gaussian_filter`` does it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["score_maps", "smooth_maps"]

TRUNCATE = 4.0  # the kernel ends at this many standard deviations


def smooth_maps(maps: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian; at the border the image is mirrored, edge pixel repeated.

    Each axis is one product with a constant matrix that holds kernel and border rule, so that the
    same lines run on any device and in an exported graph. Radius ``int(4σ + 0.5)``, 16 for σ = 4.

    Args:
        maps: ``(..., H, W)`` float.
        sigma: Standard deviation in pixels; 0 returns the maps as they are.

    Returns:
        Smoothed maps of the same shape and dtype.
    """
    if sigma == 0:
        return maps
    height, width = maps.shape[-2:]
    rows = torch.from_numpy(_smoothing_matrix(height, sigma)).to(maps)
    columns = torch.from_numpy(_smoothing_matrix(width, sigma)).to(maps)
    return rows @ maps @ columns.T


def score_maps(maps: Tensor, fraction: float) -> Tensor:
    """Return the image score of each map: the mean over its largest pixels.

    Args:
        maps: ``(N, 1, H, W)`` float.
        fraction: Share of the pixels that count; 0 takes the maximum.

    Returns:
        ``(N,)`` scores.
    """
    pixels = maps.flatten(1)  # (N, H·W)
    count = max(1, round(fraction * pixels.shape[1]))
    return pixels.topk(count).values.mean(1)


@lru_cache(maxsize=16)
def _smoothing_matrix(size: int, sigma: float) -> NDArray[np.float64]:
    """Row i holds the weights with which the input pixels make up output pixel i."""
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    pixels = np.arange(size)[:, None]
    sources = (pixels + offsets) % (2 * size)  # the mirrored image has period 2·size
    sources = np.minimum(sources, 2 * size - 1 - sources)  # (size, 2·radius + 1)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.broadcast_to(pixels, sources.shape), sources), kernel / kernel.sum())
    return matrix

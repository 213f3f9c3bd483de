"""Feature vectors of good images, and how far a place of another image is from the nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["GRID", "choose_vectors", "join_levels", "nearest_distances"]

GRID = 8  # pixels of the image from one vector to the next
COMPARED = 1024  # vectors compared at a time; bounds the matrix of distances


def join_levels(levels: Sequence[Tensor]) -> Tensor:
    """Return one vector for each place on the grid of H/8, averaged over 3 × 3 places.

    Args:
        levels: Of the teacher, (N, Ci, h, w) at H/4, H/8 and H/16.

    Returns:
        (N, C1 + C2 + C3, H/8, W/8) float32.
    """
    level1, level2, level3 = levels
    joined = [
        F.avg_pool2d(level1, 2),
        level2,
        F.interpolate(level3, level2.shape[-2:], mode="bilinear", align_corners=False),
    ]
    return F.avg_pool2d(
        torch.cat(joined, 1).float(), 3, stride=1, padding=1, count_include_pad=False
    )


def choose_vectors(features: Iterable[Tensor], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw vectors, every one with the same chance, however the images are batched.

    Args:
        features: Of batches of good images, each (N, C, h, w).
        count: Number of vectors to keep.
        seed: Of the draw.

    Returns:
        Vectors (M, C) float32 with M at most ``count``, and the image each is from, (M,) int64.

    Raises:
        UsageError: If there is no image.
    """
    # Each vector draws a number; those with the smallest are kept. So the choice is uniform, needs
    # one pass and no count in advance, and only ever holds one batch more than it keeps.
    rng = np.random.default_rng(seed)
    kept, owners = torch.empty(0), torch.empty(0, dtype=torch.long)
    numbers = np.empty(0)
    seen = 0
    for some in features:
        fresh = some.permute(0, 2, 3, 1).reshape(-1, some.shape[1]).cpu()
        each = torch.arange(seen, seen + len(some)).repeat_interleave(len(fresh) // len(some))
        seen += len(some)
        numbers = np.concatenate([numbers, rng.random(len(fresh))])
        kept = torch.cat([kept, fresh]) if len(kept) else fresh
        owners = torch.cat([owners, each])
        first = np.argsort(numbers, kind="stable")[:count]
        numbers, chosen = numbers[first], torch.from_numpy(first)
        kept, owners = kept[chosen], owners[chosen]
    if not len(kept):
        raise UsageError("There is no good image to remember.")
    return kept, owners


def nearest_distances(features: Tensor, vectors: Tensor) -> Tensor:
    """Return the Euclidean distance of each place to the nearest vector.

    Args:
        features: (N, C, h, w) float32.
        vectors: (M, C) float32.

    Returns:
        (N, 1, h, w) float32.
    """
    queries = features.flatten(2).transpose(1, 2)  # (N, h·w, C)
    # |q − v|² = |q|² + |v|² − 2 q·v, of which |q|² does not decide which v is nearest. Such small
    # differences of large numbers (less so round the middle) only choose a vector in each part of
    # the memory, and the distance to that one is taken anew.
    middle = vectors.mean(0)
    shifted = queries - middle
    squares = []
    for some in torch.split(vectors - middle, COMPARED):
        # The queries are turned, not the vectors: a graph would keep these turned and unturned.
        products = some @ shifted.transpose(1, 2)  # (N, M', h·w)
        nearest = (some.square().sum(1)[:, None] - 2 * products).argmin(1)  # (N, h·w)
        squares.append((shifted - some[nearest]).square().sum(2))
    number, _, height, width = features.shape
    return torch.stack(squares).amin(0).sqrt().view(number, 1, height, width)

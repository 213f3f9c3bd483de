"""A nearest-neighbour memory on a frozen teacher: the baseline a trained detector has to beat.

Nothing is learnt. Feature vectors of good images, drawn at random, are kept; a place in a new
image is as anomalous as its vector is far from the nearest one kept. The vectors join the teacher's
levels at H/8 (averaged) and H/16, on the grid of the latter. It is the memory of PatchCore
(https://arxiv.org/abs/2106.08265) with random instead of coreset sampling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfrg.network import processing
from cfrg.network.backbones import TEACHERS, load_teacher
from threecad.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfrg.network.config import CFRGConfig

__all__ = ["NearestNeighbourMemory"]

QUERIES = 4096  # vectors looked up at a time; bounds the matrix of distances


class NearestNeighbourMemory(nn.Module):
    """Distances to remembered feature vectors of good images.

    It is asked like ``CFRG``: the same normalised images in, the same maps and scores out, with the
    input size, smoothing and score rule of ``config``, so that the two can stand side by side.

    Args:
        config: Names the teacher and says how maps are smoothed and scored.
        teacher: The teacher with its weights; built and loaded when ``None``.
        size: Number of vectors to keep.
        seed: Seed of their choice. It does not depend on how the images are batched.

    Raises:
        UsageError: If ``size`` is not positive.
        ModelError: If the teacher's weights cannot be found.
    """

    def __init__(
        self,
        config: CFRGConfig,
        *,
        teacher: nn.Module | None = None,
        size: int = 15_000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if size < 1:
            raise UsageError(f"A memory of {size} vectors cannot answer; expected 1 or more.")
        self.config, self.size, self.seed = config, size, seed
        if teacher is None:
            teacher = TEACHERS[config.teacher].build().requires_grad_(False)
            load_teacher(config.teacher, teacher)
        self.teacher = teacher
        self.vectors: Tensor
        self.register_buffer("vectors", torch.empty(0, sum(TEACHERS[config.teacher].channels[1:])))
        self.eval()

    @torch.no_grad()
    def fit(self, images: Iterable[Tensor]) -> NearestNeighbourMemory:
        """Choose the vectors to keep, every one with the same chance.

        Args:
            images: Batches of good images, (N, 3, H, W) float, normalised with ``config.mean`` and
                ``config.std``.

        Returns:
            Itself.

        Raises:
            UsageError: If there is no image.
        """
        # Each vector draws a number; those with the smallest are kept. So the choice is uniform,
        # needs one pass and no count in advance, and only ever holds one batch more than it keeps.
        rng = np.random.default_rng(self.seed)
        kept = torch.empty(0, self.vectors.shape[1])
        numbers = np.empty(0)
        for image in images:
            fresh = _rows(self._features(image)).cpu()
            numbers = np.concatenate([numbers, rng.random(len(fresh))])
            kept = torch.cat([kept, fresh])
            first = np.argsort(numbers, kind="stable")[: self.size]
            numbers, kept = numbers[first], kept[torch.from_numpy(first)]
        if not len(kept):
            raise UsageError("There is no good image to remember.")
        self.vectors = kept.to(self.vectors.device)
        return self

    @torch.no_grad()
    def predict(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Smoothed anomaly maps and image scores.

        Args:
            image: (N, 3, H, W) float, normalised with ``config.mean`` and ``config.std``.

        Returns:
            Maps (N, 1, H, W), the distance to the nearest vector, and scores (N,), by default the
            maximum of the smoothed map. Both float32, higher is more anomalous.

        Raises:
            ModelError: If nothing has been remembered yet.
        """
        return processing.finish(self.predict_maps(image), self.config)

    @torch.no_grad()
    def predict_maps(self, image: Tensor) -> Tensor:
        """Smoothed anomaly maps, (N, 1, H, W) float32.

        Args:
            image: As in ``predict``.

        Raises:
            ModelError: If nothing has been remembered yet.
        """
        if not len(self.vectors):
            raise ModelError("This memory is empty. Call fit with good images first.")
        features = self._features(image)
        number, _, height, width = features.shape
        norms = self.vectors.square().sum(1)
        nearest = torch.cat(
            [
                # |q − v|² = |q|² + |v|² − 2 q·v
                torch.addmm(norms, query, self.vectors.T, alpha=-2).amin(1) + query.square().sum(1)
                for query in torch.split(_rows(features), QUERIES)
            ]
        )
        distances = nearest.clamp_min(0).sqrt().view(number, 1, height, width)
        maps = F.interpolate(distances, image.shape[-2:], mode="bilinear", align_corners=True)
        return processing.smooth(maps, self.config)

    def _features(self, image: Tensor) -> Tensor:
        """(N, C2 + C3, H/16, W/16): level 2 averaged over the cells of level 3, and level 3."""
        _, level2, level3 = self.teacher(image.contiguous(memory_format=torch.channels_last))
        averaged = F.adaptive_avg_pool2d(level2, level3.shape[-2:])
        return torch.cat([averaged, level3], 1).float()


def _rows(features: Tensor) -> Tensor:
    """(N, C, h, w) → (N·h·w, C)."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])

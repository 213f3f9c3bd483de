"""A nearest-neighbour memory on a frozen teacher: seconds of work, and what training has to beat.

Nothing is learnt. Feature vectors of good images, drawn at random, are kept; a place in a new
image is as anomalous as its vector is far from the nearest one kept. The vectors join the teacher's
three levels on the grid of H/8, each averaged over 3 × 3 cells. It is the memory of PatchCore
(https://arxiv.org/abs/2106.08265) with random instead of coreset sampling. Where good parts lie
alike, each distance is measured by what is usual at its place, as PaDiM does it
(https://arxiv.org/abs/2011.08785); see ``cfrg.network.places``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfrg.network import processing
from cfrg.network.layers import pad_to_stride
from cfrg.network.neighbours import GRID, choose_vectors, join_levels, nearest_distances
from cfrg.network.places import PlaceStandardizer, helps
from cfrg.network.pretrained import PretrainedModel
from cfrg.teachers.backbones import TEACHERS, load_teacher
from threecad.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Self

    from cfrg.network.config import CFRGConfig

__all__ = ["MemoryOutput", "NearestNeighbourMemory"]

STUDIED = 64  # good images whose distances are studied, at most


class MemoryOutput(NamedTuple):
    """What ``NearestNeighbourMemory.forward`` returns.

    Attributes:
        anomaly_map: (N, 1, H, W) float32 before smoothing, higher = more anomalous.
        distances: (N, 1, H/8, W/8) float32 to the nearest vector.
    """

    anomaly_map: Tensor
    distances: Tensor


class NearestNeighbourMemory(PretrainedModel):
    """Distances to remembered feature vectors of good images.

    It is asked like ``CFRG``: the same normalised images in, the same maps and scores out, with the
    input size, smoothing and score rule of ``config``, so that the two can stand side by side. It
    is kept, loaded and published like ``CFRG``, too.

    Args:
        config: Names the teacher and says how maps are smoothed and scored.
        teacher: The teacher with its weights; built and loaded when ``None``.
        size: Number of vectors to keep; ``config.memory``, or 15,000, when ``None``.
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
        size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(config)
        self.size = (config.memory or 15_000) if size is None else size
        self.seed = seed
        if self.size < 1:
            raise UsageError(f"A memory of {self.size} vectors cannot answer; expected 1 or more.")
        if teacher is None:
            teacher = TEACHERS[config.teacher].build().requires_grad_(False)
            load_teacher(config.teacher, teacher)
        self.teacher = teacher
        self.vectors: Tensor
        self.register_buffer("vectors", torch.zeros(config.memory, self.channels))
        self.places: nn.Module = nn.Identity()
        if config.by_place:
            self.places = PlaceStandardizer(self.grid_size)
        self._owners = torch.empty(0, dtype=torch.long)  # the image each vector is from
        self.eval()

    @classmethod
    def blank(cls, config: CFRGConfig) -> Self:
        """A memory whose teacher and vectors are still to be put in place."""
        if not config.is_memory:
            raise ModelError(
                "This is a CFRG network, no memory. Load it with CFRG.from_pretrained, or either "
                "kind with Predictor.from_pretrained."
            )
        return cls(config, teacher=TEACHERS[config.teacher].build().requires_grad_(False))

    @property
    def channels(self) -> int:
        """Length of a vector."""
        return sum(TEACHERS[self.config.teacher].channels)

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of places in an image of ``config.image_size``."""
        height, width = self.config.image_size
        return -(-height // GRID), -(-width // GRID)

    def load_teacher(self, weights: Path | None = None) -> Path:
        """Put the teacher's published weights in place; see ``CFRG.load_teacher``."""
        return load_teacher(self.config.teacher, self.teacher, weights)

    @torch.no_grad()
    def fit(self, images: Iterable[Tensor]) -> NearestNeighbourMemory:
        """Choose the vectors to keep, every one with the same chance.

        Args:
            images: Batches of good images, (N, 3, H, W) float, normalised with ``config.mean`` and
                ``config.std``.

        Returns:
            Itself. Its ``config`` says how many vectors there are.

        Raises:
            UsageError: If there is no image.
        """
        features = (self._features(image) for image in images)
        kept, owners = choose_vectors(features, self.size, self.seed)
        self.vectors, self._owners = kept.to(self.vectors.device), owners
        self.config = replace(self.config, memory=len(kept))
        return self

    @torch.no_grad()
    def fit_places(self, images: Iterable[Tensor]) -> NearestNeighbourMemory:
        """Find out whether good parts lie alike; where they do, measure distances by place.

        Every image is compared with the vectors of the others: to its own it would be too near.

        Args:
            images: The batches that ``fit`` was given, all images of ``config.image_size``.

        Returns:
            Itself. Its ``config`` says whether distances are measured by place.
        """
        count = int(self._owners.max()) + 1
        studied = set(range(0, count, -(-count // STUDIED)))
        seen, maps = 0, []
        for batch in images:
            for image in batch:
                if seen in studied:
                    features = self._features(image[None])
                    maps.append(self._distances(features, other_than=seen)[0, 0].cpu())
                seen += 1
        distances = torch.stack(maps)
        by_place = helps(distances, self.config.score_fraction)
        self.config = replace(self.config, by_place=by_place)
        self.places = nn.Identity()
        if by_place:
            self.places = PlaceStandardizer(self.grid_size).fit(distances).to(self.vectors.device)
        return self

    def forward(self, image: Tensor) -> MemoryOutput:
        """Distances, and the anomaly map before smoothing.

        Args:
            image: (N, 3, H, W) float, normalised with ``config.mean`` and ``config.std``.
        """
        distances = self._distances(self._features(image))
        height, width = image.shape[-2:]
        measured = self.places(distances)
        size = (measured.shape[-2] * GRID, measured.shape[-1] * GRID)
        maps = F.interpolate(measured, size, mode="bilinear", align_corners=False)
        return MemoryOutput(maps[..., :height, :width], distances)

    @torch.no_grad()
    def predict(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Smoothed anomaly maps and image scores.

        Args:
            image: (N, 3, H, W) float, normalised with ``config.mean`` and ``config.std``.

        Returns:
            Maps (N, 1, H, W), the distance to the nearest vector, in deviations from what is usual
            at its place where ``config.by_place``; and scores (N,), the maximum of the smoothed
            map, or the mean of its top ``config.score_fraction``. Both float32, higher is more
            anomalous.

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
        return processing.smooth(self(image).anomaly_map, self.config)

    def _features(self, image: Tensor) -> Tensor:
        """(N, C1 + C2 + C3, ⌈H/8⌉, ⌈W/8⌉) float32."""
        padded = pad_to_stride(image).contiguous(memory_format=torch.channels_last)
        around = join_levels(self.teacher(padded))
        height, width = (-(-side // GRID) for side in image.shape[-2:])
        return around[..., :height, :width]

    def _distances(self, features: Tensor, *, other_than: int | None = None) -> Tensor:
        """Distances to the nearest vector, (N, 1, h, w); one image's own vectors left out."""
        vectors = self.vectors
        if other_than is not None:
            vectors = vectors[(self._owners != other_than).to(vectors.device)]
        return nearest_distances(features, vectors)

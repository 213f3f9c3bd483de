"""From the maps of the branches to one anomaly map, on each scale at which an image is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfrg.network.layers import STRIDE
from cfrg.network.neighbours import GRID, join_levels, nearest_distances
from cfrg.network.places import PlaceStandardizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfrg.network.config import CFRGConfig

__all__ = ["BRANCHES", "MEMORY", "Detection", "Reading", "branch_names", "feature_distance"]

BRANCHES = (
    *("coarse_1", "coarse_2", "coarse_3"),
    *("recovery_1", "recovery_2", "recovery_3"),  # cosine distance to what was recovered
    *("difference_1", "difference_2", "difference_3"),  # Euclidean distance to it
    "segmentation",
)
"""Names of the maps of a trained network, in the order of their calibration."""

MEMORY = "memory"
"""Name of the map of distances to remembered features; last, where there is a memory."""


class Detection(NamedTuple):
    """What the trained parts say about an image.

    Attributes:
        student: S.
        recovered: R.
        coarse_maps: w_t at each level, (N, 1, h, w).
        recovery_maps: w_r at each level, (N, 1, h, w).
        logits: Of the U-Net, (N, 1, H, W) at the padded size.
    """

    student: list[Tensor]
    recovered: list[Tensor]
    coarse_maps: list[Tensor]
    recovery_maps: list[Tensor]
    logits: Tensor


class Reading(nn.Module):
    """The sum of the branches' maps, each on one scale over good images, by place or not.

    Args:
        config: Says which branches count how much, and how they are put on one scale.
        scale: How often the image was halved.
        channels: Length of a remembered vector.
    """

    def __init__(self, config: CFRGConfig, scale: int, channels: int) -> None:
        super().__init__()
        self.config, self.names = config, branch_names(config)
        if config.by_place:
            size = (-(-(side >> scale) // STRIDE) * (STRIDE // GRID) for side in config.image_size)
            self.places = PlaceStandardizer((len(self.names), *size))
        elif config.calibrate_maps:
            self.mean: Tensor
            self.std: Tensor
            self.register_buffer("mean", torch.zeros(len(self.names)))
            self.register_buffer("std", torch.ones(len(self.names)))
        if config.memory_weight:
            self.vectors: Tensor
            self.register_buffer("vectors", torch.zeros(config.memory, channels))

    def forward(self, teacher: Sequence[Tensor], found: Detection) -> Tensor:
        """Return the weighted sum, (N, 1, H, W) float32 at the padded size.

        Args:
            teacher: T.
            found: What the trained parts made of it.
        """
        total = torch.zeros_like(found.logits, dtype=torch.float32)
        for name, weight in _weights(self.config).items():
            branch = self.standardize(name, self.branch(name, teacher, found))
            total = total + weight * resize_branch(name, branch, found.logits)
        return total

    def branch(
        self,
        name: str,
        teacher: Sequence[Tensor],
        found: Detection,
        vectors: Tensor | None = None,
    ) -> Tensor:
        """Return a branch's map as it is, (N, 1, h, w) float32 at its own resolution.

        Args:
            name: Of ``names``.
            teacher: T.
            found: What the trained parts made of it.
            vectors: What the memory compares with, if not all that it remembers.
        """
        if name == MEMORY:
            return nearest_distances(
                join_levels(teacher), (self.vectors if vectors is None else vectors).float()
            )
        if name == "segmentation":
            logits = found.logits.float()
            return logits if self.config.segmentation_map == "logit" else torch.sigmoid(logits)
        kind, _, level = name.partition("_")
        i = int(level) - 1
        if kind == "difference":
            return (teacher[i] - found.recovered[i]).float().square().mean(1, keepdim=True).sqrt()
        return (found.coarse_maps if kind == "coarse" else found.recovery_maps)[i]

    def standardize(self, name: str, branch: Tensor) -> Tensor:
        """Put a branch's map (N, 1, h, w) on the scale it has over good images."""
        i = self.names.index(name)
        if self.config.by_place:
            mean, deviation = (
                F.interpolate(
                    values[i][None, None], branch.shape[-2:], mode="bilinear", align_corners=False
                )
                for values in (self.places.mean, self.places.deviation)
            )
            return (branch - mean) / deviation
        if self.config.calibrate_maps:
            return (branch - self.mean[i]) / self.std[i]
        return branch

    def rescale(self, mean: Tensor, deviation: Tensor) -> None:
        """Subtract from and divide the standardised maps once more, (B,) each."""
        if self.config.by_place:
            self.places.rescale(mean[:, None, None], deviation[:, None, None])
        elif self.config.calibrate_maps:
            self.mean += self.std * mean.to(self.mean)
            self.std *= deviation.to(self.std)


def branch_names(config: CFRGConfig) -> tuple[str, ...]:
    """Return the names of the maps that are put on one scale; by place, of those that count."""
    if config.by_place:
        return tuple(_weights(config))
    return (*BRANCHES, MEMORY) if config.memory_weight else BRANCHES


def _weights(config: CFRGConfig) -> dict[str, float]:
    """Return the weight of each branch that counts, by name."""
    distance = "recovery" if config.recovery_distance == "cosine" else "difference"
    names = [f"{kind}_{level}" for kind in ("coarse", distance) for level in (1, 2, 3)]
    weights = (*config.coarse_weights, *config.recovery_weights)
    pairs = [*zip(names, weights, strict=True)]
    pairs += [("segmentation", config.segmentation_weight), (MEMORY, config.memory_weight)]
    return {name: weight for name, weight in pairs if weight}


def resize_branch(name: str, branch: Tensor, like: Tensor) -> Tensor:
    """Bilinear to the size of ``like``; corner pixels on corner pixels, but for the memory."""
    corners = name != MEMORY
    return F.interpolate(branch, like.shape[-2:], mode="bilinear", align_corners=corners)


def feature_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 − cosine similarity over the channels: two ``(N, C, h, w)`` → ``(N, 1, h, w)`` float32."""
    return 1 - F.cosine_similarity(a.float(), b.float(), dim=1)[:, None]

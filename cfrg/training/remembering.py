"""A memory instead of a training: the same run folder, in the time of a look at the images."""

from __future__ import annotations

from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cfrg.devices import find_device
from cfrg.images.cache import ImageCache
from cfrg.images.tiling import Tiling
from cfrg.memory.neighbours import NearestNeighbourMemory
from cfrg.network import processing
from cfrg.teachers.backbones import TEACHERS
from cfrg.training.options import TrainingOptions
from cfrg.training.reading import plain
from threecad.dataset.pytorch import ThreeCAD
from threecad.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from cfrg.inference.loading import TrainedModel
    from cfrg.network.config import CFRGConfig
    from threecad.dataset.scanning import Index

__all__ = ["batches", "check_options", "fit_baseline", "remember"]

USED = {
    *("seed", "workers", "device", "validation_fraction", "area", "find_bits"),
    *("log_every", "checkpoint_every", "draw_defects_on"),  # how a training goes on: it has none
}
"""The training options that mean something to a memory."""


def check_options(options: TrainingOptions, config: CFRGConfig) -> None:
    """Refuse what a memory cannot follow, rather than pass it over in silence.

    Raises:
        UsageError: Names the options.
    """
    plain = TrainingOptions()
    given = [
        field.name
        for field in fields(options)
        if field.name not in USED and getattr(options, field.name) != getattr(plain, field.name)
    ]
    if config.tile:
        given.append("tile")
    if given:
        raise UsageError(
            f"A memory learns nothing and sees whole images, so it has no use for "
            f"{', '.join(given)}. Leave that out, or train a network (preset lite)."
        )


def remember(
    images: ImageCache,
    config: CFRGConfig,
    options: TrainingOptions,
    teacher_weights: str | os.PathLike[str] | None = None,
) -> NearestNeighbourMemory:
    """Return a memory of good images, its distances by place where good parts lie alike.

    Args:
        images: What to remember.
        config: Its ``memory`` says how many vectors to keep.
        options: Give seed and device.
        teacher_weights: File of the teacher's weights, where they cannot be fetched.
    """
    teacher = TEACHERS[config.teacher].build().requires_grad_(False)
    memory = NearestNeighbourMemory(config, teacher=teacher, seed=options.seed)
    memory.load_teacher(Path(teacher_weights) if teacher_weights else None)
    memory.to(find_device(options.device))
    return memory.fit(batches(images, memory)).fit_places(batches(images, memory))


def fit_baseline(model: TrainedModel, good: Index, *, seed: int) -> NearestNeighbourMemory:
    """Return the baseline: a memory of the good training images under the model's own teacher.

    Args:
        model: Gives the teacher, the input size, the smoothing and the image score.
        good: The good training images.
        seed: Seed of the memory.
    """
    config = plain(model.config)
    images = ImageCache(ThreeCAD(good), Tiling.from_config(config))
    memory = NearestNeighbourMemory(config, teacher=model.teacher, seed=seed)
    memory.fit(batches(images, memory))
    return memory if config.tile else memory.fit_places(batches(images, memory))


def batches(images: ImageCache, model: TrainedModel) -> Iterator[torch.Tensor]:
    """Yield normalised batches (N, 3, H, W) of what the network sees, on the model's device.

    At most 32 images, and half a million pixels, come at a time.
    """
    device, config = next(model.parameters()).device, model.config
    height, width = config.image_size
    count = min(32, max(1, 32 * 128**2 // (height * width)))
    tiles = images.tiles()
    while stack := list(islice(tiles, count)):
        batch = torch.stack(stack).contiguous(memory_format=torch.channels_last)
        yield processing.normalize(batch.to(device), config)

"""After the training: what good images look like to the network that is there now.

A network reads an image by what is remembered of good ones: their features, and how much each of
its maps says where nothing is wrong. All of it comes from good images alone. A map is measured by
what is usual at its place where good parts lie alike (``cfrg.network.places``); what is usual at a
place is learnt from all good images, and how much the maps vary from held-out ones, which the
network was not trained on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from tqdm import tqdm

from cfrg.network import processing
from cfrg.network.layers import Moments
from cfrg.network.neighbours import GRID, choose_vectors, join_levels, nearest_distances
from cfrg.network.places import FEWEST, helps
from cfrg.network.reading import MEMORY, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from cfrg.images.cache import ImageCache
    from cfrg.network.config import CFRGConfig
    from cfrg.network.model import CFRG

__all__ = ["learn_to_read", "plain"]

Distances = dict[int, "Tensor"]
"""Of images by position, to what is remembered of the others on the first scale, (1, 1, h, w)."""

STUDIED = 64
"""Good images of the training from which it is learnt what is usual at a place, at most."""


def plain(config: CFRGConfig) -> CFRGConfig:
    """Return what is trained: the same network, on one scale, with nothing remembered."""
    return replace(config, scales=(1.0,), memory=0, memory_weight=0.0, by_place=False)


@torch.no_grad()
def learn_to_read(
    model: CFRG, config: CFRGConfig, images: ImageCache, held_out: ImageCache | None, *, seed: int
) -> None:
    """Have a trained network read images as ``config`` says; fit what it does that with.

    Args:
        model: Trained, as ``plain(config)``.
        config: How it is to read; whether by place is found out.
        images: The images it was trained on.
        held_out: Good images it was not trained on; none when ``None``.
        seed: Of the choice of what is remembered.
    """
    good = _Good(model, images, held_out)
    height, width = (side // GRID for side in config.image_size)
    memory = min(config.memory, height * width * len(good))
    model.read_by(replace(config, by_place=False, memory=memory))
    owners = _remember(model, good, seed) if config.memory_weight else []
    known: Distances = {}
    if len(good.studied) >= FEWEST and config.memory_weight:
        for i in tqdm(good.studied, "alike", unit="image", leave=False):
            others = _others(model.calibration, owners[0], i)
            known[i] = nearest_distances(join_levels(model.teach(good[i])), others).cpu()
        maps = torch.cat([known[i][0] for i in good.studied])
        if helps(maps, config.score_fraction):
            _fit_places(model, good, owners, known)
    _fit_levels(model, good, owners, known)


class _Good:
    """Good images as the network's input, (1, 3, h, w), those held out first."""

    def __init__(self, model: CFRG, images: ImageCache, held_out: ImageCache | None) -> None:
        self.model, self.caches = model, [held_out, images] if held_out else [images]
        self.held_out = range(len(held_out) if held_out else len(images))
        first = len(held_out) if held_out else 0
        step = max(1, -(-len(images) // STUDIED))
        self.studied: Sequence[int] = [*range(first), *range(first, len(self), step)]

    def __len__(self) -> int:
        return sum(len(cache) for cache in self.caches)

    def __getitem__(self, position: int) -> Tensor:
        for cache in self.caches:
            if position < len(cache):
                break
            position -= len(cache)
        pixels = processing.to_tensor(cache[position])[None]
        device = next(self.model.parameters()).device
        return processing.normalize(pixels.to(device), self.model.config)


def _remember(model: CFRG, good: _Good, seed: int) -> list[Tensor]:
    """Choose the features to remember at each scale; return the image each is from.

    On a smaller scale there may be fewer than there is room for: they fill it several times.
    """
    owners = []
    for scale, reading in enumerate((model.calibration, *model.smaller)):
        features = (
            join_levels(model.teach(good[i], scale))
            for i in tqdm(range(len(good)), "remember", unit="image", leave=False)
        )
        vectors, owner = choose_vectors(features, model.config.memory, seed)
        filling = torch.arange(model.config.memory) % len(vectors)
        reading.vectors.copy_(vectors[filling])
        owners.append(owner[filling].to(reading.vectors.device))
    return owners


def _others(reading: Reading, owners: Tensor, position: int) -> Tensor:
    """What is remembered of all images but one."""
    return reading.vectors[owners != position]


def _see(
    model: CFRG,
    good: _Good,
    owners: list[Tensor],
    known: Distances,
    positions: Sequence[int],
    what: str,
) -> Iterator[tuple[int, Reading, str, Tensor]]:
    """Yield the map of each branch that counts, (1, 1, h, w), of each image on each scale."""
    for position in tqdm(positions, what, unit="image", leave=False):
        for scale, (reading, teacher, found) in enumerate(model.see(good[position])):
            for name in reading.names:
                if name == MEMORY and not scale and position in known:
                    yield scale, reading, name, known[position].to(reading.vectors.device)
                    continue
                others = _others(reading, owners[scale], position) if name == MEMORY else None
                yield scale, reading, name, reading.branch(name, teacher, found, others)


def _fit_places(model: CFRG, good: _Good, owners: list[Tensor], known: Distances) -> None:
    """Have maps measured by what is usual at their place."""
    vectors = [reading.vectors for reading in (model.calibration, *model.smaller)]
    model.read_by(replace(model.config, by_place=True))
    readings = (model.calibration, *model.smaller)
    for reading, remembered in zip(readings, vectors, strict=True):
        reading.vectors.copy_(remembered)
    sums: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
    for scale, reading, name, branch in _see(model, good, owners, known, good.studied, "places"):
        height, width = reading.places.mean.shape[1:]
        exact = branch[0, 0].double().cpu()
        grids = tuple(
            F.adaptive_avg_pool2d(x[None], (height, width))[0] for x in (exact, exact.square())
        )
        before = sums.get((scale, name), (0.0, 0.0))
        sums[scale, name] = (before[0] + grids[0], before[1] + grids[1])
    for scale, reading in enumerate(readings):
        mean, square = (
            torch.stack([sums[scale, name][i] for name in reading.names]) / len(good.studied)
            for i in (0, 1)
        )
        reading.places.fit_moments(mean, square)
        reading.places.to(reading.vectors.device)


def _fit_levels(model: CFRG, good: _Good, owners: list[Tensor], known: Distances) -> None:
    """Put each map on mean 0, deviation 1 over the held-out images."""
    moments: dict[tuple[int, str], Moments] = {}
    for scale, reading, name, branch in _see(model, good, owners, known, good.held_out, "levels"):
        measured = reading.standardize(name, branch)
        moments.setdefault((scale, name), Moments()).add(measured.flatten()[None])
    for scale, reading in enumerate((model.calibration, *model.smaller)):
        mean = torch.stack([moments[scale, name].mean[0] for name in reading.names])
        deviation = torch.stack([moments[scale, name].std[0] for name in reading.names])
        reading.rescale(mean.float(), deviation.float())

"""Tests of cfrg.memory.neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from cfrg.memory.neighbours import NearestNeighbourMemory
from cfrg.network.config import CFRGConfig
from threecad.errors import ModelError, UsageError

CONFIG = CFRGConfig.preset("memory", memory=0, image_size=64, smoothing_sigma=2, score_fraction=0)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def memory(images: torch.Tensor) -> NearestNeighbourMemory:
    return NearestNeighbourMemory(CONFIG, size=40).fit(images.split(2))


def literal_maps(memory: NearestNeighbourMemory, image: torch.Tensor) -> torch.Tensor:
    """The definition, one place at a time."""
    level1, level2, level3 = memory.teacher(image)
    height, width = level2.shape[-2:]
    deep = F.interpolate(level3, (height, width), mode="bilinear", align_corners=False)
    distances = torch.empty(len(image), 1, height, width)
    for n in range(len(image)):
        for y in range(height):
            for x in range(width):
                cells = [
                    torch.cat(
                        [
                            level1[n, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((1, 2)),
                            level2[n, :, i, j],
                            deep[n, :, i, j],
                        ]
                    )
                    for i in range(max(0, y - 1), min(height, y + 2))
                    for j in range(max(0, x - 1), min(width, x + 2))
                ]
                vector = torch.stack(cells).mean(0)
                distances[n, 0, y, x] = (memory.vectors - vector).norm(dim=1).min()
    maps = F.interpolate(distances, image.shape[-2:], mode="bilinear", align_corners=False)
    smoothed = [gaussian_filter(m[0].numpy(), memory.config.smoothing_sigma) for m in maps]
    return torch.from_numpy(np.stack(smoothed))[:, None]


def test_maps_equal_the_definition(memory: NearestNeighbourMemory, images: torch.Tensor) -> None:
    image = images[:2].flip(-1)
    maps, scores = memory.predict(image)
    expected = literal_maps(memory, image)
    assert maps.shape == (2, 1, 64, 64)
    torch.testing.assert_close(maps, expected, atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(scores, expected.amax((1, 2, 3)), atol=2e-3, rtol=1e-4)


def test_what_is_remembered_is_not_anomalous(images: torch.Tensor) -> None:
    everything = NearestNeighbourMemory(CONFIG, size=10_000).fit([images])
    assert len(everything.vectors) == 6 * 8 * 8
    known, _ = everything.predict(images)
    new, _ = everything.predict(images.flip(-1))
    assert float(known.max()) < 0.05 * float(new.min())


def test_the_choice_depends_on_the_seed_and_not_on_the_batches(images: torch.Tensor) -> None:
    def choose(batch: int, seed: int) -> torch.Tensor:
        memory = NearestNeighbourMemory(CONFIG, size=40, seed=seed)
        return memory.fit(images.split(batch)).vectors

    torch.testing.assert_close(choose(1, 0), choose(4, 0), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(choose(4, 0), choose(4, 1))


def test_every_vector_has_the_same_chance(images: torch.Tensor) -> None:
    everything = NearestNeighbourMemory(CONFIG, size=384).fit([images])
    hits = torch.zeros(384)
    for seed in range(60):
        chosen = NearestNeighbourMemory(CONFIG, teacher=everything.teacher, size=96, seed=seed).fit(
            [images]
        )
        hits += (distances(everything.vectors, chosen.vectors).amin(1) < 1e-3).float()
    image_of = distances(everything.vectors, all_rows(everything, images)).argmin(1) // 64
    per_image = torch.zeros(6).index_add(0, image_of, hits)
    assert hits.sum() == 60 * 96
    assert per_image.min() > 840  # 960 expected, standard deviation about 27
    assert per_image.max() < 1080


def distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def all_rows(memory: NearestNeighbourMemory, images: torch.Tensor) -> torch.Tensor:
    return memory._features(images).permute(0, 2, 3, 1).flatten(0, 2)


def test_score_is_the_mean_of_the_top_fraction(images: torch.Tensor) -> None:
    config = CFRGConfig.preset("lite", image_size=64, score_fraction=0.1)
    maps, scores = NearestNeighbourMemory(config, size=40).fit([images]).predict(images)
    top = np.sort(maps.flatten(1).numpy(), 1)[:, -410:]
    np.testing.assert_allclose(scores.numpy(), top.mean(1), rtol=1e-5)


def test_batches_do_not_change_the_answer(
    memory: NearestNeighbourMemory, images: torch.Tensor
) -> None:
    together, _ = memory.predict(images.flip(-1))
    alone = torch.cat([memory.predict(image[None])[0] for image in images.flip(-1)])
    torch.testing.assert_close(together, alone, atol=2e-3, rtol=1e-4)


def test_an_empty_memory_says_so(images: torch.Tensor) -> None:
    memory = NearestNeighbourMemory(CONFIG)
    with pytest.raises(ModelError, match="fit"):
        memory.predict(images)
    with pytest.raises(UsageError, match="no good image"):
        memory.fit([])
    with pytest.raises(UsageError, match="1 or more"):
        NearestNeighbourMemory(CONFIG, size=0)


def test_small_distances_are_told_as_well_as_large_ones(memory: NearestNeighbourMemory) -> None:
    noise = torch.randn(memory.vectors.shape, generator=torch.Generator().manual_seed(0))
    near = memory.vectors + 1e-3 * noise
    features = near.T[None, :, :, None]  # (1, C, 40, 1)
    expected = torch.cdist(near.double(), memory.vectors.double()).amin(1)
    found = memory._distances(features)[0, 0, :, 0]
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0.02)

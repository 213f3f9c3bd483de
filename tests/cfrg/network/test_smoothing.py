"""Smoothing against SciPy, at every size and width."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cfrg.network.processing import smooth_maps


@settings(max_examples=40)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    sigma=st.sampled_from([0.5, 1.0, 2.0, 4.0, 7.3]),
    seed=st.integers(0, 1000),
)
def test_is_scipys_gaussian_filter(height: int, width: int, sigma: float, seed: int) -> None:
    """Also where the kernel is wider than the image and is mirrored several times."""
    maps = np.random.default_rng(seed).random((2, 1, height, width), np.float32) * 4
    expected = ndimage.gaussian_filter(maps.astype(np.float64), (0, 0, sigma, sigma))
    smoothed = smooth_maps(torch.from_numpy(maps), sigma)
    assert smoothed.dtype == torch.float32
    np.testing.assert_allclose(smoothed.numpy(), expected, atol=3e-6)


def test_zero_width_leaves_the_maps_alone() -> None:
    maps = torch.rand(1, 1, 5, 7)
    assert torch.equal(smooth_maps(maps, 0), maps)


def test_keeps_a_constant_and_the_mean() -> None:
    torch.testing.assert_close(smooth_maps(torch.ones(1, 1, 40, 30), 4), torch.ones(1, 1, 40, 30))
    maps = torch.rand(1, 1, 64, 48)
    torch.testing.assert_close(smooth_maps(maps, 4).mean(), maps.mean())

"""Distances measured by what is usual at their place."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from cfrg.network.places import PlaceStandardizer, helps


def draw(images: int = 20, *, alike: bool) -> torch.Tensor:
    """Distances that are five times as large on one half of the part, or on any half."""
    rng = np.random.default_rng(0)
    distances = rng.gamma(200, 0.005, (images, 24, 24))
    for image in distances:
        if alike or rng.random() < 0.5:
            image[:12] *= 5
        else:
            image[12:] *= 5
    return torch.from_numpy(distances).float()


def test_standardized_as_defined() -> None:
    distances = draw(alike=True)
    found = PlaceStandardizer((24, 24)).fit(distances)(distances[:2])
    values = distances.double().numpy()
    mean = gaussian_filter(values.mean(0), 1.0)
    deviation = np.sqrt(gaussian_filter((values**2).mean(0), 1.0) - mean**2)
    common = 2 * np.sort(deviation.ravel())[(deviation.size - 1) // 2]  # torch's median
    expected = (values[:2] - mean) / np.sqrt(deviation**2 + common**2)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_helps_where_good_parts_lie_alike_and_only_there() -> None:
    assert helps(draw(alike=True), 0.001)
    assert not helps(draw(alike=False), 0.001)


def test_a_few_images_say_nothing_about_places() -> None:
    assert not helps(draw(7, alike=True), 0.001)


def test_images_that_are_all_the_same_give_finite_values() -> None:
    places = PlaceStandardizer((4, 4)).fit(torch.ones(9, 4, 4))
    assert torch.isfinite(places(torch.full((1, 4, 4), 2.0))).all()

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.measure import label

from threecad import resize_mask
from threecad.errors import UsageError
from threecad.images.regions import find_runs
from threecad.images.resizing import coverage

sides = st.integers(1, 24)


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    seed, density = draw(st.integers(0, 2**32 - 1)), draw(st.floats(0, 1))
    return np.random.default_rng(seed).random((draw(sides), draw(sides))) < density


def overlap(old: int, new: int) -> np.ndarray:
    """``(new, old)``: how much of each old pixel lies in each new one, in units of 1 / new."""
    low = np.maximum(np.arange(old) * new, np.arange(new)[:, None] * old)
    high = np.minimum((np.arange(old) + 1) * new, (np.arange(new)[:, None] + 1) * old)
    return np.maximum(high - low, 0)


def exact_shares(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Covered part of each new pixel, in units of 1 / (H · W)."""
    return overlap(mask.shape[0], size[0]) @ mask.astype(int) @ overlap(mask.shape[1], size[1]).T


@settings(max_examples=200)
@given(mask=masks(), size=st.tuples(sides, sides))
def test_shares_are_exact(mask: np.ndarray, size: tuple[int, int]) -> None:
    shares = exact_shares(mask, size)
    assert np.allclose(coverage(find_runs(mask), size) * mask.size, shares, atol=1e-9)
    assert np.array_equal(resize_mask(mask, size, "any"), shares > 0)
    assert np.array_equal(resize_mask(mask, size, "majority"), 2 * shares >= mask.size)


@settings(max_examples=200)
@given(mask=masks(), size=st.tuples(sides, sides))
def test_no_region_vanishes(mask: np.ndarray, size: tuple[int, int]) -> None:
    resized = resize_mask(mask, size)
    labels = label(mask, connectivity=2)
    for number in range(1, labels.max() + 1):
        assert (resized & (exact_shares(labels == number, size) > 0)).any()
    # Nothing is drawn where there is no defect, and nothing of the majority is lost.
    shares = exact_shares(mask, size)
    assert not (resized & (shares == 0)).any()
    assert (resized >= (2 * shares >= mask.size)).all()


@settings(max_examples=100)
@given(mask=masks(), size=st.tuples(sides, sides))
def test_nearest_is_what_pillow_does(mask: np.ndarray, size: tuple[int, int]) -> None:
    image = Image.fromarray(mask.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST)
    resized = resize_mask(mask, size, "nearest")
    # Pillow rounds its sampling positions; where a centre falls on a pixel border both are right.
    tie_y = (2 * np.arange(size[0]) + 1) * mask.shape[0] % (2 * size[0]) == 0
    tie_x = (2 * np.arange(size[1]) + 1) * mask.shape[1] % (2 * size[1]) == 0
    clear = ~tie_y[:, None] & ~tie_x
    assert np.array_equal(resized[clear], np.asarray(image).astype(bool)[clear])


@pytest.mark.parametrize("rule", ["keep", "majority", "any", "nearest"])
@given(mask=masks())
@settings(max_examples=30)
def test_the_same_size_changes_nothing(rule, mask: np.ndarray) -> None:
    resized = resize_mask(mask, mask.shape, rule)
    assert np.array_equal(resized, mask)
    assert resized is not mask


def test_one_pixel_survives_from_1024_to_256() -> None:
    for position in range(0, 1024, 37):
        mask = np.zeros((1024, 1024), bool)
        mask[position, 1023 - position] = True
        assert resize_mask(mask, (256, 256)).sum() == 1
        assert resize_mask(mask, (256, 256), "majority").sum() == 0


def test_a_lost_region_takes_the_pixel_it_covers_most() -> None:
    mask = np.zeros((8, 8), bool)
    mask[3, 3:6] = True  # one column in the left half, two in the right
    assert np.argwhere(resize_mask(mask, (2, 2))).tolist() == [[0, 1]]


def test_empty_and_full_masks_stay_so() -> None:
    for rule in ("keep", "majority", "any", "nearest"):
        assert not resize_mask(np.zeros((7, 5), bool), (3, 4), rule).any()
        assert resize_mask(np.ones((7, 5), bool), (3, 4), rule).all()


def test_wrong_arguments_are_refused() -> None:
    mask = np.zeros((4, 4), bool)
    with pytest.raises(UsageError, match="at least 1"):
        resize_mask(mask, (0, 4))
    with pytest.raises(UsageError, match="keep, majority, any, nearest"):
        resize_mask(mask, (2, 2), "bilinear")  # type: ignore[arg-type]

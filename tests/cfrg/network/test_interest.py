"""The region of interest as text, and on maps of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cfrg import CFRGConfig
from cfrg.network import processing
from cfrg.network.interest import decode_region, encode_region, find_misfit, stretch_region
from threecad.errors import ModelError


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**16))
def test_a_region_comes_back_from_its_text(height, width, seed):
    inside = np.random.default_rng(seed).random((height, width)) < 0.5
    inside[0, 0] = True
    text = encode_region(inside)
    if inside.all():
        assert text == ""
    else:
        assert (decode_region(text) == inside).all()


@pytest.mark.parametrize("text", ["x", "4x4:", "4x4:zz~", "4:00", "0x4:4", f"{2**20}x{2**20}:1", 7])
def test_what_is_no_region_is_refused_with_the_configuration(text):
    with pytest.raises(ModelError, match="region"):
        CFRGConfig(region=text)


def test_an_empty_region_is_refused():
    with pytest.raises(ModelError, match="no pixel"):
        CFRGConfig(region=encode_region(np.zeros((4, 4), bool)))


@pytest.mark.parametrize("size", [(16, 24), (32, 48), (8, 12), (11, 17), (16, 16)])
@pytest.mark.parametrize("fraction", [0.0, 0.05])
def test_the_score_is_that_of_the_inside(size, fraction):
    inside = np.zeros((32, 48), bool)
    inside[8:24, 6:40] = True
    config = CFRGConfig(region=encode_region(inside), score_fraction=fraction)
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(rng.normal(size=(3, 1, *size)).astype(np.float32))
    seen = torch.from_numpy(np.array(Image.fromarray(inside).resize(size[::-1], 0)))
    assert (stretch_region(config.region, size) == seen.numpy()).all()
    kept, scores = processing.finish(maps, config)
    values = maps[:, 0][:, seen]
    assert torch.equal(kept[:, 0][:, seen], values)
    for outside, least in zip(kept[:, 0][:, ~seen], values.amin(1), strict=True):
        assert (outside <= min(float(least), 0.0) - 0.5).all()
    if fraction:
        count = max(1, round(fraction * inside.mean() * maps[0].numel()))
        expected = values.topk(count).values.mean(1)
    else:
        expected = values.amax(1)
    torch.testing.assert_close(scores, expected)


def test_images_of_another_shape_do_not_fit():
    text = encode_region(np.eye(40, 60, dtype=bool))
    assert find_misfit(text, (80, 120)) is None
    assert find_misfit("", (80, 80)) is None
    assert "another shape" in str(find_misfit(text, (80, 80)))

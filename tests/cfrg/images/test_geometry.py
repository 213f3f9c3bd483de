"""The input size that is chosen from images."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfrg.images.geometry import choose_geometry
from threecad.errors import UsageError

SIDES = st.integers(64, 4000)


def test_sizes_of_known_parts() -> None:
    assert choose_geometry([(1250, 500)] * 9, 512**2).size == (800, 320)
    assert choose_geometry([(1024, 1024)] * 9, 512**2).size == (512, 512)
    assert choose_geometry([(192, 256)] * 9, 512**2).size == (192, 256)  # no pixel is made up


@given(st.tuples(SIDES, SIDES), st.integers(128**2, 1024**2))
def test_aspect_is_kept_and_the_area_is_that_of_the_budget(
    size: tuple[int, int], area: int
) -> None:
    (height, width), reason = (lambda g: (g.size, g.reason))(choose_geometry([size] * 3, area))
    assert height % 32 == width % 32 == 0
    pixels = min(area, size[0] * size[1])
    exact = [(pixels * size[i] / size[1 - i]) ** 0.5 for i in (0, 1)]
    for side, ideal in zip((height, width), exact, strict=True):
        assert abs(side - ideal) <= 16 or side == 32
    assert f"{width} × {height}" in reason
    assert "differ" not in reason


def test_the_images_in_the_middle_decide_and_others_are_told_of() -> None:
    geometry = choose_geometry([(400, 200)] * 7 + [(200, 400)] * 3, 10**6)
    assert geometry.size[0] > geometry.size[1]
    assert "stretched" in geometry.reason


def test_no_image_and_no_area_are_refused() -> None:
    with pytest.raises(UsageError, match="no image"):
        choose_geometry([], 10**6)
    with pytest.raises(UsageError, match="1024"):
        choose_geometry([(100, 100)], 100)

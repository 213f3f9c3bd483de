from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label, regionprops

from threecad import enclosing_rectangle, label_regions, mask_to_polygons, regions
from threecad.errors import MaskError
from threecad.images.regions import size_of


def picture(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=24)


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Random masks of any density, from single pixels to sieves."""
    seed, density = draw(st.integers(0, 2**32 - 1)), draw(st.floats(0, 1))
    return np.random.default_rng(seed).random(draw(shapes)) < density


@settings(max_examples=300)
@given(mask=masks())
def test_regions_agree_with_scikit_image(mask: np.ndarray) -> None:
    labels = label(mask, connectivity=2)
    assert np.array_equal(label_regions(mask), labels)
    found, expected = regions(mask), regionprops(labels)
    assert len(found) == len(expected)
    for region, other in zip(found, expected, strict=True):
        top, left, bottom, right = other.bbox
        assert region.area == other.area
        assert region.area_ratio == other.area / mask.size
        assert region.bbox == (left, top, right - left, bottom - top)
        assert region.centroid == pytest.approx(other.centroid[::-1], abs=1e-9)
        assert region.holes == 1 - other.euler_number
        assert region.touches_border == (
            top == 0 or left == 0 or bottom == mask.shape[0] or right == mask.shape[1]
        )


@settings(max_examples=150)
@given(mask=masks())
def test_outlines_and_rectangles_agree_with_shapely(mask: np.ndarray) -> None:
    labels = label(mask, connectivity=2)
    for number, region in enumerate(regions(mask), start=1):
        y, x = np.nonzero(labels == number)
        union = shapely.union_all(shapely.box(x, y, x + 1, y + 1))
        assert region.area == union.area
        assert region.perimeter == union.length
        smallest = shapely.minimum_rotated_rectangle(union)
        long, short = region.rotated_rect.sides
        assert long * short == pytest.approx(smallest.area, rel=1e-9)
        assert long >= short > 0
        assert region.aspect_ratio == pytest.approx(long / short)
        assert rectangle(region.rotated_rect).buffer(1e-6).covers(union)


def rectangle(rect) -> shapely.Polygon:
    """The polygon of a RotatedRect, from its centre, sides and angle."""
    (x, y), (long, short) = rect.center, rect.sides
    upright = shapely.box(x - long / 2, y - short / 2, x + long / 2, y + short / 2)
    return shapely.affinity.rotate(upright, rect.angle, origin=(x, y))


@settings(max_examples=100)
@given(mask=masks())
def test_the_enclosing_rectangle_holds_all_regions(mask: np.ndarray) -> None:
    enclosing = enclosing_rectangle(mask)
    if not mask.any():
        assert enclosing is None
        return
    y, x = np.nonzero(mask)
    union = shapely.union_all(shapely.box(x, y, x + 1, y + 1))
    smallest = shapely.minimum_rotated_rectangle(union)
    assert enclosing.sides[0] * enclosing.sides[1] == pytest.approx(smallest.area, rel=1e-9)
    assert rectangle(enclosing).buffer(1e-6).covers(union)


@settings(max_examples=100)
@given(mask=masks(), turn=st.integers(1, 3), mirror=st.booleans())
def test_turning_and_mirroring_change_no_measure(mask: np.ndarray, turn: int, mirror: bool) -> None:
    def measures(of: np.ndarray) -> list[tuple[float, ...]]:
        return sorted(
            (r.area, r.perimeter, r.holes, round(r.aspect_ratio, 9), r.touches_border)
            for r in regions(of)
        )

    turned = np.rot90(mask, turn)
    assert measures(turned[:, ::-1] if mirror else turned) == measures(mask)


def test_no_defect_pixel_gives_no_region() -> None:
    assert regions(np.zeros((5, 7), bool)) == []
    assert enclosing_rectangle(np.zeros((5, 7), bool)) is None
    assert label_regions(np.zeros((5, 7), bool)).shape == (5, 7)


def test_one_pixel_is_a_unit_square() -> None:
    mask = np.zeros((5, 7), bool)
    mask[2, 3] = True
    (region,) = regions(mask)
    assert (region.area, region.perimeter, region.holes) == (1, 4, 0)
    assert region.bbox == (3, 2, 1, 1)
    assert region.centroid == (3, 2)
    assert region.aspect_ratio == 1
    assert region.rotated_rect.sides == (1, 1)
    assert region.rotated_rect.center == (3.5, 2.5)
    assert not region.touches_border


@pytest.mark.parametrize("n", [2, 5, 1000])
def test_a_line_of_n_pixels_has_aspect_ratio_n(n: int) -> None:
    mask = np.zeros((3, 1002), bool)
    mask[1, 1 : n + 1] = True
    (lying,) = regions(mask)
    (standing,) = regions(mask.T)
    assert lying.aspect_ratio == standing.aspect_ratio == n
    assert (lying.rotated_rect.angle, standing.rotated_rect.angle) == (0, 90)


def test_a_full_mask_is_one_region_as_large_as_the_image() -> None:
    (region,) = regions(np.ones((6, 9), bool))
    assert (region.area, region.area_ratio, region.perimeter) == (54, 1.0, 30)
    assert region.bbox == (0, 0, 9, 6)
    assert region.aspect_ratio == 1.5
    assert region.touches_border


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    (region,) = regions(picture("#..", ".#.", "..#"))
    assert (region.area, region.perimeter, region.holes) == (3, 12, 0)
    # Round three corner-touching squares: 3√2 along the diagonal, √2 across.
    assert region.rotated_rect.sides == pytest.approx((3 * math.sqrt(2), math.sqrt(2)))
    assert region.aspect_ratio == 3
    assert region.rotated_rect.angle == pytest.approx(45)


def test_a_region_in_a_hole_is_another_region() -> None:
    nested = picture("#####", "#...#", "#.#.#", "#...#", "#####")
    ring, core = regions(nested)
    assert (ring.area, ring.holes, ring.perimeter) == (16, 1, 20 + 12)
    assert (core.area, core.holes, core.bbox) == (1, 0, (2, 2, 1, 1))


def test_a_diagonal_gap_does_not_open_a_hole() -> None:
    """8-connected regions have 4-connected holes."""
    (diamond,) = regions(picture(".#.", "#.#", ".#."))
    assert (diamond.area, diamond.holes) == (4, 1)


def test_two_holes_that_touch_at_a_corner_are_two() -> None:
    (region,) = regions(picture("####", "#.##", "##.#", "####"))
    assert region.holes == 2


def test_a_long_spiral_is_one_region() -> None:
    size = 61
    mask = np.zeros((size, size), bool)
    y, x, dy, dx, length = 0, 0, 0, 1, size - 1
    mask[0, 0] = True
    while length > 0:
        for _ in range(2):
            for _ in range(length):
                y, x = y + dy, x + dx
                mask[y, x] = True
            dy, dx = dx, -dy
        length -= 2
    assert len(regions(mask)) == label(mask, connectivity=2).max() == 1


def test_a_large_disc_agrees_with_shapely() -> None:
    y, x = np.mgrid[:1024, :1024]
    mask = (x - 511.3) ** 2 / 4 + (y - 400.8) ** 2 < 200**2
    (region,) = regions(mask)
    (outline,) = mask_to_polygons(mask)
    smallest = shapely.minimum_rotated_rectangle(outline)
    long, short = region.rotated_rect.sides
    assert region.area == mask.sum() == outline.area
    assert long * short == pytest.approx(smallest.area, rel=1e-9)


def test_any_type_counts_what_is_not_zero() -> None:
    values = np.array([[0, 3, 0], [0, 0, 255]], np.uint8)
    assert regions(values) == regions(values > 0)


@pytest.mark.parametrize("shape", [(3,), (1, 3, 3), (0, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MaskError, match="height, width"):
        regions(np.zeros(shape, bool))


@pytest.mark.parametrize(
    ("area", "size"), [(4, "small"), (5, "medium"), (50, "medium"), (51, "large")]
)
def test_sizes_at_their_limits(area: int, size: str) -> None:
    """Of 10,000 pixels, 0.05 % are 5 and 0.5 % are 50: both ends are medium."""
    assert size_of(area, 10_000) == size


def test_regions_are_json_able() -> None:
    (region,) = regions(picture("##"))
    assert region.to_dict()["rotated_rect"] == {
        "center": (1.0, 0.5),
        "sides": (2.0, 1.0),
        "angle": 0.0,
    }

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco
from skimage.measure import label

from threecad import mask_to_polygons, mask_to_rle, polygons_to_mask, regions, rle_to_mask
from threecad.errors import MaskError, UsageError

sides = st.integers(1, 24)


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    seed, density = draw(st.integers(0, 2**32 - 1)), draw(st.floats(0, 1))
    return np.random.default_rng(seed).random((draw(sides), draw(sides))) < density


def picture(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


DEGENERATE = {
    "empty": np.zeros((3, 4), bool),
    "full": np.ones((3, 4), bool),
    "pixel": picture("...", ".#.", "..."),
    "line": picture("....", "####"),
    "diagonal": picture("#..", ".#.", "..#"),
    "nested": picture("#####", "#...#", "#.#.#", "#...#", "#####"),
    "ring that closes at a corner": picture("##.", "#.#", "###"),
    "holes that touch": picture("####", "#.##", "##.#", "####"),
    "two parts": picture("##..##", "##..##"),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_masks_survive_both_encodings(name: str) -> None:
    mask = DEGENERATE[name]
    assert np.array_equal(rle_to_mask(mask_to_rle(mask)), mask)
    assert np.array_equal(polygons_to_mask(mask_to_polygons(mask), mask.shape), mask)


# pycocotools 2.0 implements NumPy 1's array protocol.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@settings(max_examples=300)
@given(mask=masks())
def test_rle_is_what_pycocotools_reads_and_writes(mask: np.ndarray) -> None:
    rle = mask_to_rle(mask)
    theirs = {"size": rle["size"], "counts": rle["counts"].encode()}
    assert np.array_equal(coco.decode(theirs).astype(bool), mask)
    assert coco.area(theirs) == mask.sum()
    assert np.array_equal(rle_to_mask(rle), mask)
    assert np.array_equal(rle_to_mask(theirs), mask)
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *changes, flat.size]).tolist()
    uncompressed = [0, *lengths] if flat[0] else lengths
    assert np.array_equal(rle_to_mask({"size": rle["size"], "counts": uncompressed}), mask)


@settings(max_examples=200)
@given(text=st.text(max_size=40), size=st.tuples(sides, sides))
def test_no_string_crashes_the_decoder(text: str, size: tuple[int, int]) -> None:
    try:
        mask = rle_to_mask({"size": list(size), "counts": text})
    except MaskError:
        return
    assert mask.shape == size


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"size": [2, 2], "counts": [1, 2]}, "add up to 3 pixels; expected 4"),
        ({"size": [2, 2], "counts": [5, -1]}, "damaged"),
        ({"size": [2, 2], "counts": "zz"}, "unexpected character"),
        ({"size": [2, 2], "counts": "P"}, "middle of a number"),
        ({"size": [2, 2], "counts": None}, "no usable counts"),
        ({"size": [2], "counts": [4]}, r"expected \[height, width\]"),
        ({"size": [2, -2], "counts": [4]}, r"expected \[height, width\]"),
        ({"counts": [4]}, r"expected \[height, width\]"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, r"expected \[height, width\]"),
    ],
)
def test_damaged_rle_is_refused(rle: dict[str, object], message: str) -> None:
    with pytest.raises(MaskError, match=message):
        rle_to_mask(rle)


@settings(max_examples=300)
@given(mask=masks())
def test_polygons_keep_every_pixel(mask: np.ndarray) -> None:
    outlines = mask_to_polygons(mask)
    found = regions(mask)
    assert len(outlines) == len(found)
    for outline, region in zip(outlines, found, strict=True):
        x, y, width, height = region.bbox
        assert outline.is_valid
        assert outline.area == region.area
        assert outline.length == region.perimeter
        assert outline.bounds == (x, y, x + width, y + height)
    assert np.array_equal(polygons_to_mask(outlines, mask.shape), mask)


@settings(max_examples=150)
@given(mask=masks())
def test_parts_and_holes_are_the_four_connected_ones(mask: np.ndarray) -> None:
    parts = sum(len(outline.geoms) for outline in mask_to_polygons(mask))
    assert parts == label(mask, connectivity=1).max()


def test_outlines_have_corners_only() -> None:
    (square,) = mask_to_polygons(np.ones((50, 40), bool))
    assert len(square.geoms[0].exterior.coords) == 5


@settings(max_examples=100)
@given(mask=masks(), tolerance=st.floats(0.1, 4))
def test_simplified_outlines_stay_within_the_tolerance(mask: np.ndarray, tolerance: float) -> None:
    exact = mask_to_polygons(mask)
    for outline, simple in zip(exact, mask_to_polygons(mask, tolerance=tolerance), strict=True):
        assert simple.is_valid
        assert not simple.is_empty
        assert shapely.hausdorff_distance(simple.boundary, outline.boundary) <= tolerance + 1e-9


# Multiples of 1/1024: GEOS itself warns of distances between subnormal numbers.
COORDINATES = st.integers(-5 * 1024, 25 * 1024).map(lambda value: value / 1024)


@settings(max_examples=150)
@given(points=st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=8, unique=True))
def test_filling_agrees_with_shapely(points: list[tuple[float, float]]) -> None:
    hull = shapely.MultiPoint(points).convex_hull
    if hull.geom_type != "Polygon" or hull.area < 1e-6:
        return
    mask = polygons_to_mask([hull], (20, 20))
    y, x = np.mgrid[:20, :20] + 0.5
    inside = shapely.contains_xy(hull, x, y)
    clear = shapely.distance(hull.boundary, shapely.points(x, y)) > 1e-9
    assert np.array_equal(mask[clear], inside[clear])


def test_pixels_belong_to_one_of_two_neighbours() -> None:
    """A side through pixel centres gives each of them to exactly one side."""
    left = shapely.Polygon([(0, 0), (2.5, 0), (2.5, 4), (0, 4)])
    right = shapely.Polygon([(2.5, 0), (5, 0), (5, 4), (2.5, 4)])
    masks = [polygons_to_mask([polygon], (4, 5)) for polygon in (left, right)]
    assert (masks[0] ^ masks[1]).all()


def test_overlapping_polygons_are_joined() -> None:
    box = shapely.box(0, 0, 2, 2)
    assert polygons_to_mask([box, box], (3, 3)).sum() == 4


def test_nothing_but_finite_polygons_is_filled() -> None:
    with pytest.raises(MaskError, match="LineString"):
        polygons_to_mask([shapely.LineString([(0, 0), (1, 1)])], (3, 3))  # type: ignore[list-item]
    with pytest.raises(MaskError, match="finite"):
        polygons_to_mask([shapely.Polygon([(0, 0), (1, 0), (float("inf"), 1)])], (3, 3))
    with pytest.raises(UsageError, match="at least 1"):
        polygons_to_mask([], (0, 3))
    with pytest.raises(UsageError, match="tolerance"):
        mask_to_polygons(np.ones((2, 2), bool), tolerance=-1)
    with pytest.raises(MaskError, match="height, width"):
        mask_to_rle(np.zeros((2, 2, 2), bool))

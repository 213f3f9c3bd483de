"""Areas that people draw: read from masks, LabelMe and COCO, fitted to images, refused by name."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.draw import disk

from threecad.errors import DataError
from threecad.images.areas import Areas, fit_area, read_area
from threecad.images.encodings import mask_to_rle


def save(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(mask, np.uint8) * 255).save(path)
    return path


def drawn(tmp_path, content):
    path = tmp_path / "area.json"
    path.write_text(json.dumps(content))
    return path


def labelme(*shapes, height=40, width=60):
    return {"imageHeight": height, "imageWidth": width, "shapes": list(shapes)}


@pytest.fixture
def block():
    area = np.zeros((40, 60), bool)
    area[10:20, 5:30] = True
    return area


def test_white_on_black_is_the_area(tmp_path, block):
    assert (read_area(save(tmp_path / "area.png", block)) == block).all()


def test_what_is_not_black_is_inside(tmp_path, block):
    Image.fromarray(np.where(block, 9, 0).astype(np.uint8)).save(tmp_path / "area.png")
    assert (read_area(tmp_path / "area.png") == block).all()


@pytest.mark.parametrize(
    "shape",
    [
        {"shape_type": "rectangle", "points": [[30, 20], [5, 10]]},
        {"shape_type": "polygon", "points": [[5, 10], [30, 10], [30, 20], [5, 20]]},
        {"points": [[5, 10], [30, 10], [30, 20], [5, 20]]},
    ],
)
def test_labelme(tmp_path, block, shape):
    assert (read_area(drawn(tmp_path, labelme(shape))) == block).all()


def test_a_circle_of_labelme(tmp_path):
    shape = {"shape_type": "circle", "points": [[30.5, 20.5], [42.5, 20.5]]}
    area = read_area(drawn(tmp_path, labelme(shape)))
    expected = np.zeros((40, 60), bool)
    expected[disk((20, 30), 12)] = True
    assert (area != expected).sum() <= 0.02 * expected.sum()


@pytest.mark.parametrize("kind", ["polygon", "rle", "box"])
def test_coco_of_one_image(tmp_path, block, kind):
    annotation = {
        "polygon": {"segmentation": [[5, 10, 30, 10, 30, 20, 5, 20]]},
        "rle": {"segmentation": mask_to_rle(block)},
        "box": {"bbox": [5, 10, 25, 10]},
    }[kind]
    content = {"images": [{"id": 1, "height": 40, "width": 60}], "annotations": [annotation]}
    assert (read_area(drawn(tmp_path, content)) == block).all()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "expected an object"),
        ({}, "images"),
        ({"images": [{}, {}], "annotations": []}, "of 2 images"),
        ({"images": [{"height": 4, "width": 2**29}], "annotations": []}, "too many"),
        ({"images": [{"height": -4, "width": 4}], "annotations": []}, "impossible"),
        (labelme({"shape_type": "point", "points": [[1, 2]]}), "encloses no area"),
        (labelme({"points": [[1, 2], [3, 4], [5, None]]}), "area"),
        (labelme({"points": [[1, 2], [3], [5, 6]]}), "holds no area"),
        (labelme(), "marks no pixel"),
        ({"images": [{"height": 4, "width": 4}], "annotations": [{}]}, "bbox"),
    ],
)
def test_drawings_of_nothing_are_refused_by_name(tmp_path, content, said):
    with pytest.raises(DataError, match=said) as refusal:
        read_area(drawn(tmp_path, content))
    assert "area.json" in str(refusal.value)


def test_a_black_mask_is_no_area(tmp_path):
    with pytest.raises(DataError, match="marks no pixel"):
        read_area(save(tmp_path / "area.png", np.zeros((4, 4), bool)))


def test_what_is_no_image_is_no_area(tmp_path):
    (tmp_path / "area.png").write_text("no image")
    with pytest.raises(DataError, match=r"area\.png"):
        read_area(tmp_path / "area.png")


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4))
def test_fitting_takes_the_nearest_pixel(height, width, times):
    area = np.random.default_rng(height * width).random((height, width)) < 0.5
    larger = fit_area(area, (times * height, times * width))
    assert (larger == area.repeat(times, 0).repeat(times, 1)).all()
    assert (fit_area(larger, (height, width)) == area).all()


def test_another_shape_is_refused(block):
    with pytest.raises(DataError, match="another shape"):
        fit_area(block, (60, 60))
    fit_area(block, (41, 61))  # rounded sides


def test_an_image_has_its_own_area_before_that_of_its_category(tmp_path, block):
    save(tmp_path / "areas/Part.png", block)
    save(tmp_path / "areas/Part/test/crack/007.png", ~block)
    areas = Areas(tmp_path / "areas")
    areas.check(["Part/test/good/001", "Part/test/crack/007"])
    assert (areas.of("Part/test/good/001", (40, 60)) == block).all()
    assert (areas.of("Part/test/crack/007", (40, 60)) == ~block).all()
    assert areas.of("Other/test/good/001", (40, 60)) is None
    copy = pickle.loads(pickle.dumps(areas))
    assert (copy.of("Part/test/good/001", (40, 60)) == block).all()
    assert copy.digest == areas.digest


def test_the_digest_follows_the_content(tmp_path, block):
    areas = Areas(save(tmp_path / "area.png", block))
    first = areas.digest
    save(tmp_path / "area.png", ~block)
    assert areas.digest != first


def test_areas_of_no_image_are_named(tmp_path, block):
    save(tmp_path / "areas/Prat.png", block)
    with pytest.raises(DataError, match=r"Prat\.png"):
        Areas(tmp_path / "areas").check(["Part/test/good/001"])


def test_two_areas_of_one_name_are_refused(tmp_path, block):
    save(tmp_path / "areas/Part.png", block)
    save(tmp_path / "areas/Part.bmp", block)
    with pytest.raises(DataError, match="same images"):
        Areas(tmp_path / "areas")


@pytest.mark.parametrize("make", ["nothing", "empty"])
def test_no_areas_at_all(tmp_path, make):
    if make == "empty":
        (tmp_path / "areas").mkdir()
    with pytest.raises(DataError, match="areas"):
        Areas(tmp_path / "areas")

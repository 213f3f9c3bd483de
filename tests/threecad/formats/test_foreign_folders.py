"""What people really have: every kind of folder that once went wrong, drawn small.

Each comes to the right labels and masks, or is refused with file, entry and remedy; and every file
of it is accounted for.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import threecad
from threecad import ThreeCAD, scan, verify
from threecad.cli import main
from threecad.errors import ConversionError, MaskError, ThreecadError
from threecad.formats import Conversion, Decisions, convert, plan
from threecad.images.files import read_header, read_image
from threecad.images.masks import read_mask

HEIGHT, WIDTH = 48, 64
RING = [10, 10, 20, 10, 20, 20, 10, 20]


def photograph(path: Path, seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 200, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def mask_file(path: Path, box: tuple[int, int, int, int] | None, value: int = 255) -> Path:
    """Write a mask whose pixels from x0, y0 to x1, y1 have a value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    if box is not None:
        mask[box[1] : box[3], box[0] : box[2]] = value
    Image.fromarray(mask).save(path)
    return path


def write_json(path: Path, content: object, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding=encoding)


def coco(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    annotations = [
        {"id": n, "image_id": 1, "category_id": 1, "segmentation": [RING], **entry}
        for n, entry in enumerate(annotations, start=1)
    ]
    images = [
        {"id": 1, "file_name": "1.jpg", "width": WIDTH, "height": HEIGHT, **e} for e in images
    ]
    categories = [{"id": 1, "name": "scratch"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def labelme(name: str, *shapes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    drawn = [
        {
            "label": "scratch",
            "points": np.reshape(RING, (4, 2)).tolist(),
            "shape_type": "polygon",
            **shape,
        }
        for shape in shapes
    ]
    size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    return {"shapes": drawn, "imagePath": name, "imageData": None, **size, **fields}


def imported(source: Path, **options: Any) -> Conversion:
    return convert(source, source.with_name("out"), to="3cad", workers=0, **options)


def outcome(source: Path, **options: Any) -> dict[str, int]:
    """Import a folder; return the number of mask pixels by id (0 for a good image)."""
    result = imported(source, **options)
    account = result.account
    held = sum(len(files) for _, _, files in os.walk(source, followlinks=True))
    assert account.files == held
    found = {}
    for sample in scan(source.with_name("out")):
        found[sample.id.split("/", 1)[1]] = (
            int(read_mask(sample.mask).sum()) if sample.mask is not None else 0
        )
        assert bool(found[sample.id.split("/", 1)[1]]) == bool(sample.label)
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


# What is called good


@pytest.mark.parametrize("good", ["Good", "OK", "ok", "normal", "free", "Defect-free", "nodefect"])
def test_good_has_many_names(good: str, data: Path) -> None:
    photograph(data / "Part/train" / good / "0.png")
    photograph(data / "Part/test" / good / "1.png", 1)
    photograph(data / "Part/test/ko/1.bmp", 2)
    mask_file(data / "Part/ground_truth/ko/1.png", (0, 0, 5, 5))
    index = scan(data)
    assert [s.id for s in index] == ["Part/test/good/1", "Part/test/ko/1", "Part/train/good/0"]
    assert [s.label for s in index] == [0, 1, 0]
    assert not index.findings
    assert outcome(data) == {"test/good/1": 0, "test/ko/1": 25, "train/good/0": 0}


def test_beside_a_folder_called_good_free_is_a_type(data: Path) -> None:
    for number, kind in enumerate(("good", "free")):
        photograph(data / "Part/test" / kind / "0.png", number)
    assert {s.defect_type for s in scan(data)} == {"good", "free"}


def test_masks_among_photographs_are_no_photographs(data: Path) -> None:
    photograph(data / "Part/train/good/0.png")
    photograph(data / "Part/test/dent/0.png", 1)
    mask_file(data / "Part/test/dent/0_GT.PNG", (0, 0, 5, 5))
    mask_file(data / "Part/test/masks/0.png", (0, 0, 5, 5))
    index = scan(data)
    assert [s.id for s in index] == ["Part/test/dent/0", "Part/train/good/0"]
    assert {f.code for f in index.findings} == {
        "mask-misplaced", "folder-unexpected", "mask-missing",
    }  # fmt: skip


# Two items, one target


def two_splits(root: Path) -> Path:
    for split, box in (("train", (5, 5, 15, 15)), ("val", (40, 20, 60, 40))):
        photograph(root / "images" / split / "000.png", len(split))
        photograph(root / "images" / split / "001.png", 9 + len(split))
        fractions = [
            v / s
            for x, y in ((0, 1), (2, 1), (2, 3), (0, 3))
            for v, s in ((box[x], WIDTH), (box[y], HEIGHT))
        ]
        labels = root / "labels" / split
        labels.mkdir(parents=True)
        (labels / "000.txt").write_text(f"0 {' '.join(map(str, fractions))}\n")
        (labels / "001.txt").write_text("")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [dent]\n")
    return root


@pytest.mark.parametrize("writer", ["3cad", "mvtec", "meta-json", "anomalib", "coco", "visa"])
def test_images_of_one_stem_keep_their_own_masks(writer: str, data: Path, tmp_path: Path) -> None:
    two_splits(data)
    convert(data, tmp_path / "there", to=writer, workers=0)
    convert(tmp_path / "there", tmp_path / "back", from_=writer, to="3cad", workers=0)
    masks = {s.split: read_mask(s.mask) for s in scan(tmp_path / "back") if s.mask is not None}
    assert masks["train"].sum() == 100
    assert masks["train"][5:15, 5:15].all()
    assert masks["val"].sum() == 400
    assert masks["val"][20:40, 40:60].all()


def test_a_mask_that_two_images_might_claim_is_given_to_none(data: Path, tmp_path: Path) -> None:
    photograph(data / "Part/train/dent/0.png", 1)
    photograph(data / "Part/test/dent/0.png", 2)
    photograph(data / "Part/train/good/0.png", 3)
    mask_file(data / "Part/ground_truth/dent/0.png", (0, 0, 5, 5))
    assert {f.code for f in verify(data, workers=0).findings if f.severity == "error"} == {
        "mask-shared"
    }
    dataset = ThreeCAD(data, split="test")
    with pytest.raises(MaskError, match=r"test/dent/0\.png is defective, but no mask"):
        dataset[0]
    for name in ("3cad", "mvtec"):
        with pytest.raises(ConversionError, match=r"ground_truth/dent/0\.png may be the mask"):
            convert(data, tmp_path / "out", from_=name, to="coco", workers=0)


# Labels in tables


@pytest.mark.parametrize(
    ("good", "bad"), [("0", "1"), ("0.0", "1.0"), ("False", "True"), ("normal", "Anomalous")]
)
def test_labels_of_tables(good: str, bad: str, data: Path) -> None:
    rows = [("ok/0.png", good, "train", ""), ("ng/0.png", bad, "test", "m/0.png")]
    photograph(data / "ok/0.png")
    photograph(data / "ng/0.png", 1)
    mask_file(data / "m/0.png", (0, 0, 5, 5))
    lines = ["image_path,label_index,split,mask_path", *(",".join(row) for row in rows)]
    (data / "Part.csv").write_text("\n".join(lines) + "\n")
    assert outcome(data) == {"train/good/0": 0, "test/bad/0": 25}
    (data / "Part.csv").write_text("\n".join(lines).replace(f",{good},", ",,") + "\n")
    with pytest.raises(ConversionError, match=r"Part\.csv, line 2: the label is ''"):
        convert(data, data.with_name("new"), to="3cad", workers=0)


# COCO


def test_ids_of_text_and_number_are_the_same(data: Path) -> None:
    photograph(data / "images/1.jpg")
    write_json(data / "annotations/instances_test.json", coco([{}], [{"image_id": "1"}]))
    assert outcome(data) == {"test/scratch/1": 100}


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ({"image_id": 99}, r"annotations\[0\] names image 99, which is not in images"),
        ({"category_id": 9}, "category_id is 9"),
        ({"segmentation": [], "bbox": [10, 10, 10, 10]}, "only a box"),
        ({"segmentation": [[1, 2, 3, 4]]}, "an outline has 4 numbers"),
        ({"segmentation": {"size": [64, 48], "counts": [490, 10, 2572]}}, r"\[64, 48\]"),
        ({"segmentation": "x"}, "segmentation is 'x'"),
        ({"segmentation": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]}, "between 0 and 1"),
        ({"segmentation": [[100, 1, 200, 1, 200, 9]]}, "outside its image"),
    ],
)
def test_an_annotation_in_doubt_is_named(annotation: dict[str, Any], said: str, data: Path) -> None:
    photograph(data / "images/1.jpg")
    write_json(data / "annotations/instances_test.json", coco([{}], [annotation]))
    with pytest.raises(ConversionError, match=said):
        imported(data)


@pytest.mark.parametrize("content", [[], {}, {"images": {}, "annotations": 3, "categories": []}])
def test_json_of_any_shape_is_refused_by_name(content: object, data: Path) -> None:
    photograph(data / "images/1.jpg")
    write_json(data / "annotations/instances_test.json", content)
    with pytest.raises(ConversionError):
        imported(data, from_="coco")


@pytest.mark.parametrize("size", [None, 0, "64", 64.0, -3])
def test_a_size_that_says_nothing_is_that_of_the_image(size: object, data: Path) -> None:
    photograph(data / "images/1.jpg")
    document = coco([{"width": size, "height": None}], [{}])
    write_json(data / "annotations/instances_test.json", document)
    assert outcome(data) == {"test/scratch/1": 100}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_with_a_mark_are_read(encoding: str, data: Path) -> None:
    photograph(data / "images/1.jpg")
    document = coco([{}], [{}])
    write_json(data / "annotations/instances_test.json", document, encoding)
    assert outcome(data) == {"test/scratch/1": 100}


def test_a_box_is_filled_on_request(data: Path) -> None:
    photograph(data / "images/1.jpg")
    box = {"segmentation": [], "bbox": [10, 10, 10, 10]}
    write_json(data / "annotations/instances_test.json", coco([{}], [box]))
    assert outcome(data, decisions=Decisions(boxes="fill")) == {"test/scratch/1": 100}


def test_orphans_are_left_out_on_request_and_accounted_for(data: Path) -> None:
    photograph(data / "images/1.jpg")
    write_json(data / "annotations/instances_test.json", coco([{}], [{}, {"image_id": 99}]))
    mask_file(data / "masks/7.png", (0, 0, 5, 5))
    result = imported(data, decisions=Decisions(orphans="skip"))
    assert (result.account.entries, result.account.entries_used) == (2, 1)
    assert "image 99" in str(result.account)
    assert "masks/7.png" in str(result.account)
    record = json.loads((data.with_name("out") / ".threecad/import.json").read_text())
    assert record["account"]["files"] == 3


def test_images_of_one_stem_in_two_folders_are_told_apart(data: Path) -> None:
    for number, day in enumerate(("monday", "tuesday"), start=1):
        photograph(data / day / "1.jpg", number)
    images = [{"id": n, "file_name": f"{d}/1.jpg"} for n, d in ((1, "monday"), (2, "tuesday"))]
    write_json(data / "instances_test.json", coco(images, [{}]))
    assert outcome(data) == {"test/scratch/1": 100, "test/good/1": 0}
    write_json(data / "instances_test.json", coco(images, [{}, {"image_id": 2}]))
    found = outcome(data, force=True)
    assert found == {"test/scratch/monday_1": 100, "test/scratch/tuesday_1": 100}


def test_two_photographs_of_one_stem_beside_a_folder_of_masks(data: Path) -> None:
    photograph(data / "images/0.jpg")
    photograph(data / "images/0.bmp", 1)
    photograph(data / "images/1.jpg", 2)
    mask_file(data / "masks/1.png", (0, 0, 5, 5))
    with pytest.raises(ConversionError, match=r"images/0\.bmp, images/0\.jpg"):
        imported(data, from_="pairs")


# labelme


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [
        ({"shape_type": "circle", "points": [[30, 20], [36, 20]]}, 112),
        ({"shape_type": "rectangle", "points": [[5, 5], [9, 5], [9, 9], [5, 9]]}, 16),
        ({"shape_type": "oriented_rectangle"}, 100),
        ({"shape_type": None}, 100),
    ],
)
def test_shapes_of_labelme(shape: dict[str, Any], pixels: int, data: Path) -> None:
    photograph(data / "a.jpg")
    write_json(data / "a.json", labelme("a.jpg", shape, {"label": "__ignore__"}, imageHeight=0))
    result = outcome(data)
    assert result == {"test/scratch/a": pixels}


@pytest.mark.parametrize("name", ["train/000.jpg", "other/000.jpg"])
def test_an_image_in_another_folder_is_not_taken_for_a_lost_one(name: str, data: Path) -> None:
    photograph(data / "test/001.jpg")
    photograph(data / name, 1)
    write_json(data / "test/000.json", labelme("000.jpg", {}))
    write_json(data / "test/001.json", labelme("001.jpg"))
    with pytest.raises(ConversionError, match=r"test/000\.json names '000\.jpg', which is not in"):
        imported(data)


def test_a_file_of_another_format_does_not_replace_a_lost_image(data: Path) -> None:
    photograph(data / "a.bmp")
    photograph(data / "b.jpg")
    write_json(data / "a.json", labelme("a.jpg", {}))
    write_json(data / "b.json", labelme("9999"))
    with pytest.raises(ConversionError, match=r"names 'a\.jpg'(.|\n)*names '9999'"):
        imported(data)


def test_an_image_renamed_with_its_file(data: Path) -> None:
    photograph(data / "new.JPG")
    write_json(data / "new.json", labelme("old.jpg", {}))
    assert outcome(data) == {"test/scratch/new": 100}


def test_images_that_are_only_embedded(data: Path) -> None:
    for number, shapes in enumerate([[], [{}], [{}]]):
        photo = photograph(data / "photo.png", number)
        text = base64.encodebytes(photo.read_bytes()).decode()
        named = labelme(f"..\\images\\{number}.png", *shapes, imageData=text)
        write_json(data / f"{number}.json", named)
        photo.unlink()
    assert outcome(data, test_fraction=0) == {
        "train/good/0": 0, "test/scratch/1": 100, "test/scratch/2": 100,
    }  # fmt: skip
    written = data.with_name("out") / "data/test/scratch/2.png"
    assert written.read_bytes() == photograph(data / "photo.png", 2).read_bytes()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"imageData": "abc"}, "imageData is no base64"),
        ({"imageData": 1e30}, r"imageData is 1e\+30; expected an image"),
        ({"imageData": base64.b64encode(b"no image").decode()}, "a.json, imageData"),
        ({"imageHeight": 7}, "but its shapes are for 64 × 7"),
    ],
)
def test_an_embedded_image_that_is_none(fields: dict[str, Any], said: str, data: Path) -> None:
    text = base64.b64encode(photograph(data / "a.jpg").read_bytes()).decode()
    (data / "a.jpg").unlink()
    write_json(data / "a.json", labelme("a.jpg", {}, **{"imageData": text, **fields}))
    with pytest.raises(ConversionError, match=said):
        imported(data)


def test_an_image_that_two_files_hold(data: Path) -> None:
    text = base64.b64encode(photograph(data / "a.jpg").read_bytes()).decode()
    (data / "a.jpg").unlink()
    write_json(data / "a.json", labelme("a.jpg", {}, imageData=text))
    write_json(data / "b.json", labelme("a.jpg", imageData=text))
    with pytest.raises(ConversionError, match="are the same image"):
        imported(data)


def test_shapes_that_are_no_list_are_not_no_shapes(data: Path) -> None:
    photograph(data / "a.jpg")
    write_json(data / "a.json", labelme("a.jpg", shapes=None))
    with pytest.raises(ConversionError, match=r"a\.json: shapes is None; expected a list"):
        imported(data)


@pytest.mark.parametrize("label", ["", "good", None])
def test_a_shape_that_is_no_defect_by_its_label(label: object, data: Path) -> None:
    photograph(data / "a.jpg")
    write_json(data / "a.json", labelme("a.jpg", {"label": label}))
    with pytest.raises(ConversionError, match=r"a\.json, shapes\[0\]"):
        imported(data)
    assert outcome(data, decisions=Decisions(conflicts="mask")) == {"test/bad/a": 100}


def test_an_image_that_nobody_labelled(data: Path) -> None:
    for name in "ac":
        photograph(data / f"{name}.jpg", ord(name))
    write_json(data / "a.json", labelme("a.jpg", {}))
    with pytest.raises(ConversionError, match=r"c\.jpg is named by no annotation(.|\n)*unlabelled"):
        imported(data)
    good = outcome(data, decisions=Decisions(unlabelled="good"), test_fraction=0)
    assert good == {"train/good/c": 0, "test/scratch/a": 100}


# Masks beside images


@pytest.mark.parametrize("ending", ["_mask", "-mask", "_GT", "_label", "_Mask"])
def test_masks_by_their_names(ending: str, data: Path) -> None:
    photograph(data / "Dent/0.png")
    mask_file(data / f"Dent/0{ending}.PNG", (0, 0, 5, 5))
    photograph(data / "good/1.png", 1)
    assert outcome(data, test_fraction=1) == {"test/Dent/0": 25, "test/good/1": 0}


@pytest.mark.parametrize("mask", ["bad/0_mask.png", "bad/masks/0.png", "bad/GT/0_gt.png"])
def test_masks_beside_photographs_of_bad_parts(mask: str, data: Path) -> None:
    photograph(data / "bad/0.png")
    mask_file(data / mask, (0, 0, 5, 5))
    photograph(data / "good/1.png", 1)
    found = outcome(data, good="good", bad="bad", test_fraction=1)
    assert found == {"test/bad/0": 25, "test/good/1": 0}


def test_the_outermost_folder_is_the_type(data: Path) -> None:
    for day in ("day1", "day2"):
        photograph(data / f"Scratch/{day}/0.jpg", len(day))
        mask_file(data / f"Scratch/{day}/0.png", (0, 0, 5, 5))
        photograph(data / f"good/{day}/0.jpg", 5)
    assert set(outcome(data, test_fraction=1)) == {
        "test/Scratch/day1_0", "test/Scratch/day2_0", "test/good/day1_0", "test/good/day2_0",
    }  # fmt: skip


@pytest.mark.parametrize("value", [255, 1, 4])
@pytest.mark.parametrize("place", ["{split}/{kind}", "{kind}/{split}"])
def test_images_and_masks_in_folders_of_each_split(place: str, value: int, data: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        images, masks = (data / place.format(split=split, kind=k) for k in ("images", "masks"))
        photograph(images / "0.jpg", number)
        mask_file(masks / "0.png", (0, 0, 5, 5) if number else None, value)
    assert outcome(data) == {"train/good/0": 0, "val/bad/0-val": 25, "test/bad/0": 25}


def test_a_mask_that_is_not_empty_of_a_good_image(data: Path) -> None:
    photograph(data / "good/0.jpg")
    mask_file(data / "good/0.png", (0, 0, 5, 5))
    photograph(data / "Dent/1.jpg", 1)
    mask_file(data / "Dent/1.png", (0, 0, 5, 5))
    with pytest.raises(ConversionError, match=r"0\.jpg is good, but its mask .* has 25 pixels"):
        imported(data)
    by_mask = outcome(data, decisions=Decisions(conflicts="mask"))
    assert by_mask == {"test/bad/0": 25, "test/Dent/1": 25}


def test_an_orphan_mask_is_no_photograph(data: Path) -> None:
    for number in range(2):
        photograph(data / f"good/{number}.png", number)
    photograph(data / "Dent/1.png", 3)
    for number in range(2):
        mask_file(data / f"Dent/{number}_mask.png", (0, 0, 5, 5))
    with pytest.raises(ConversionError, match=r"Dent/0_mask\.png is a mask that no image claims"):
        imported(data)


# YOLO and VOC


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.3 0.3 0.2 0.2", "line 3 has only a box"),
        ("0 6 5 32 5 32 24", "line 3: the numbers reach from 5 to 32"),
        ("0 -0.1 0.1 1.2 0.1 1.2 0.5", "line 3: the numbers reach"),
        ("7 0.1 0.1 0.5 0.1 0.5 0.5", "line 3: expected a class"),
    ],
)
def test_lines_of_yolo_are_named_by_their_number(line: str, said: str, data: Path) -> None:
    two_splits(data)
    (data / "labels/train/001.txt").write_text(f"\n\n{line}\n")
    with pytest.raises(ConversionError, match=f"labels/train/001.txt, {said}"):
        imported(data)


@pytest.mark.parametrize("name", ["000.jpg.txt", "999.txt"])
def test_a_label_file_of_no_image(name: str, data: Path) -> None:
    two_splits(data)
    (data / "labels/train/000.txt").rename(data / "labels/train" / name)
    with pytest.raises(ConversionError, match=rf"labels/train/{name} belongs to no image") as error:
        imported(data)
    assert "images/train/000.png is named by no annotation" in str(error.value)


def test_data_yaml_says_where_things_lie(data: Path) -> None:
    two_splits(data / "whole")
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            target = data / split / kind
            target.parent.mkdir(exist_ok=True)
            (data / "whole" / kind / split).rename(target)
    (data / "whole/data.yaml").rename(data / "set.yaml")
    (data / "set.yaml").write_text("train: ../train/images\nval: ../val/images\nnames: {0: d}\n")
    assert outcome(data) == {
        "train/d/000": 100, "train/good/001": 0, "val/d/000-val": 400, "val/good/001": 0,
    }  # fmt: skip


VOC_NAMES = ("000", "001")


def voc(root: Path, save: Callable[[Path, np.ndarray], None] | None, encode: Any = None) -> Path:
    for number, name in enumerate(VOC_NAMES):
        photograph(root / f"JPEGImages/{name}.jpg", number)
        objects = "" if number else "<object><name>scratch</name><bndbox><xmin>11</xmin>" \
            "<ymin>11</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object>"  # fmt: skip
        text = f"<annotation><filename>{name}.jpg</filename>{objects}</annotation>"
        path = root / f"Annotations/{name}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode() if encode is None else encode(text))
    if save is not None:
        (root / "SegmentationClass").mkdir()
        values = np.zeros((HEIGHT, WIDTH), np.uint8)
        values[10:20, 10:20] = 1
        save(root / "SegmentationClass/000.png", values)
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("000\n001\n")
    return root


def save_palette(path: Path, values: np.ndarray) -> None:
    image = Image.fromarray(values)
    image.putpalette([0, 0, 0, 128, 0, 0])
    image.save(path)


def save_white(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values * np.uint8(255)).save(path)


def save_red(path: Path, values: np.ndarray) -> None:
    Image.fromarray(np.stack([values * 128, values * 0, values * 0], axis=2)).save(path)


@pytest.mark.parametrize("save", [save_palette, save_white, save_red])
def test_masks_of_voc(save: Callable[[Path, np.ndarray], None], data: Path) -> None:
    voc(data, save)
    assert outcome(data) == {"train/scratch/000": 100, "train/good/001": 0}


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: f'<?xml version="1.0" encoding="utf-8"?>{text}'.encode("utf-16"),
        lambda text: f'<?xml version="1.0" encoding="latin-1"?>{text}<!--é-->'.encode("latin-1"),
    ],
)
def test_encodings_of_voc(encode: Callable[[str], bytes], data: Path) -> None:
    voc(data, save_palette, encode)
    assert outcome(data) == {"train/scratch/000": 100, "train/good/001": 0}


def test_voc_with_boxes_only(data: Path) -> None:
    voc(data, None)
    with pytest.raises(ConversionError, match=r"000\.xml, object 1 has only a box"):
        imported(data)
    filled = outcome(data, decisions=Decisions(boxes="fill"))
    assert filled == {"train/scratch/000": 100, "train/good/001": 0}


def test_masks_of_cvat_without_xml(data: Path) -> None:
    voc(data, save_red)
    for path in (data / "Annotations").iterdir():
        path.unlink()
    (data / "ImageSets/Segmentation/train.txt").rename(data / "ImageSets/Segmentation/default.txt")
    (data / "labelmap.txt").write_text("# label:colour\nbackground:0,0,0::\ncut:128,0,0::\n")
    assert outcome(data, test_fraction=1) == {"test/cut/000": 100, "test/good/001": 0}


# Orientation


def turned(path: Path, orientation: int) -> None:
    """Write a photograph that viewers show as 64 wide, 48 high, with a spot at x 10, y 8."""
    shown = np.full((HEIGHT, WIDTH), 100, np.uint8)
    shown[8:14, 10:20] = 250
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90,
            8: Image.Transpose.ROTATE_270}[orientation]  # fmt: skip
    stored = Image.fromarray(shown).transpose(back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    stored.save(path, quality=95, exif=exif)


SPOT = [10, 8, 20, 8, 20, 14, 10, 14]


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("form", ["labelme", "coco", "yolo", "pairs"])
def test_a_mask_lies_over_what_viewers_show(form: str, orientation: int, data: Path) -> None:
    if form == "labelme":
        turned(data / "a.jpg", orientation)
        points = np.reshape(SPOT, (4, 2)).tolist()
        write_json(data / "a.json", labelme("a.jpg", {"points": points}))
    elif form == "coco":
        turned(data / "images/1.jpg", orientation)
        write_json(data / "instances.json", coco([{}], [{"segmentation": [SPOT]}]))
    elif form == "yolo":
        turned(data / "images/train/a.jpg", orientation)
        (data / "labels/train").mkdir(parents=True)
        fractions = [v / (WIDTH, HEIGHT)[n % 2] for n, v in enumerate(SPOT)]
        (data / "labels/train/a.txt").write_text(f"0 {' '.join(map(str, fractions))}")
        (data / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [s]\n")
    else:
        turned(data / "Spot/a.jpg", orientation)
        mask_file(data / "Spot/a.png", (10, 8, 20, 14))
    imported(data)
    (sample,) = scan(data.with_name("out"))
    image, mask = read_image(sample.image)[..., 0], read_mask(sample.mask or "")
    assert mask.sum() == 60
    assert image[mask].min() > 200
    assert image[~mask].max() < 150
    assert read_header(sample.image).orientation == 1


def test_a_tree_keeps_its_stored_pixels_everywhere(data: Path, tmp_path: Path) -> None:
    turned(data / "Part/test/spot/a.jpg", 6)
    photograph(data / "Part/train/good/0.png")
    stored = read_image(data / "Part/test/spot/a.jpg")
    mask = stored[..., 0] > 200
    (data / "Part/ground_truth/spot").mkdir(parents=True)
    Image.fromarray(mask).save(data / "Part/ground_truth/spot/a.png")
    assert "image-turned" in verify(data, workers=0).counts()
    convert(data, tmp_path / "out", to="3cad", from_="3cad", workers=0)
    sample = scan(tmp_path / "out")["Part/test/spot/a"]
    np.testing.assert_array_equal(read_image(sample.image), stored)
    np.testing.assert_array_equal(read_mask(sample.mask or ""), mask)
    assert read_header(sample.image).orientation == 1


def test_hub_forms_agree_with_the_tree(data: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    turned(data / "Part/test/spot/a.jpg", 6)
    photograph(data / "Part/train/good/0.jpg")
    mask = read_image(data / "Part/test/spot/a.jpg")[..., 0] > 200
    (data / "Part/ground_truth/spot").mkdir(parents=True)
    Image.fromarray(mask).save(data / "Part/ground_truth/spot/a.png")
    for name in ("parquet", "imagefolder"):
        convert(data, tmp_path / name, to=name, workers=0)
    rows = [
        threecad.load_dataset("3cad", "Part", data_dir=data, split="test")[0],
        load_dataset(str(tmp_path / "parquet"), "Part", split="test")[0],
        load_dataset("imagefolder", data_dir=str(tmp_path / "imagefolder"), split="test")[0],
    ]
    own = ThreeCAD(data, split="test")[0]
    for row in rows:
        image = np.asarray(row["image"].convert("RGB"))
        np.testing.assert_array_equal(image, own["image"].permute(1, 2, 0))
        np.testing.assert_array_equal(np.asarray(row["mask"]) > 0, own["mask"][0].numpy() > 0)


# Sets as people publish them


def test_roboflow_coco(data: Path) -> None:
    for number, split in enumerate(("train", "valid", "test")):
        photograph(data / split / "images/a.jpg", number)
        photograph(data / split / "images/b.jpg", 10 + number)
        images = [{"file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
        write_json(data / split / "_annotations.coco.json", coco(images, [{}]))
    (data / "README.dataset.txt").write_text("exported")
    assert outcome(data) == {
        "train/scratch/a-train": 100, "val/scratch/a-val": 100, "test/scratch/a": 100,
        "train/good/b": 0, "val/good/b": 0, "test/good/b": 0,
    }  # fmt: skip


def test_class_ids_and_labelme_from_windows(data: Path) -> None:
    for number in (1, 2):
        photograph(data / f"images/{number}.jpg", number)
        mask_file(data / f"masks/{number}.png", (10, 10, 20, 20), number)
        write_json(data / f"json/{number}.json", labelme(f"..\\images\\{number}.jpg", {}))
    assert outcome(data) == {"test/scratch/1": 100, "test/scratch/2": 100}


def test_labelme_in_a_folder_of_its_own(data: Path) -> None:
    embedded = base64.b64encode(photograph(data / "data/0.jpg").read_bytes()).decode()
    for number in range(1, 6):
        photograph(data / f"data/{number}.jpg", number)
    for number in (0, 1):
        document = labelme(f"{number}.jpg", {}, imageData=embedded)
        write_json(data / f"label/{number}.json", document)
    with pytest.raises(ConversionError, match=r"or defective \(4\)"):
        imported(data)
    skipped = outcome(data, decisions=Decisions(unlabelled="skip"))
    assert skipped == {"test/scratch/0": 100, "test/scratch/1": 100}


def test_coco_over_a_folder_of_photographs(data: Path) -> None:
    for number in range(4):
        photograph(data / f"photos/{number}.jpg", number)
    images = [{"id": n, "file_name": f"C:\\Users\\me\\photos\\{n}.jpg"} for n in range(4)]
    write_json(data / "scratches.json", coco(images, [{"image_id": 2}]))
    found = outcome(data, test_fraction=0)
    assert found == {
        "test/scratch/2": 100, "train/good/0": 0, "train/good/1": 0, "train/good/3": 0,
    }  # fmt: skip


# What is there, and what is said


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_links_are_followed_and_loops_end(data: Path, tmp_path: Path) -> None:
    photograph(tmp_path / "store/0.png")
    (data / "Part/train").mkdir(parents=True)
    (data / "Part/test").mkdir()
    (data / "Part/train/good").symlink_to(tmp_path / "store", target_is_directory=True)
    (data / "Part/test/loop").symlink_to(data, target_is_directory=True)
    result = imported(data, from_="mvtec")
    assert result.counts == {"Part": {"train good": 1}}


def test_every_finding_of_a_tree_is_said(data: Path) -> None:
    photograph(data / "Part/train/good/0.png")
    photograph(data / "Part/test/dent/0.png", 1)
    photograph(data / "Part/test/dent/1.png", 2)
    photograph(data / "Part/validation/good/0.png", 3)
    mask_file(data / "Part/ground_truth/dent/0.png", (0, 0, 5, 5))
    mask_file(data / "Part/ground_truth/dent/one.png", (0, 0, 5, 5))
    mask_file(data / "Part/ground_truth/dent/more/1.png", (0, 0, 5, 5))
    (data / "Part/test/dent/2.heic").write_bytes(b"")
    with pytest.raises(ConversionError) as error:
        convert(data, data.with_name("out"), from_="3cad", to="coco", workers=0)
    for name in ("validation/good/0.png", "dent/one.png", "dent/more/1.png", "2.heic"):
        assert name in str(error.value)


def test_a_dry_run_shows_what_was_understood(data: Path) -> None:
    two_splits(data)
    made = plan(data, workers=0)
    assert made.counts["data"]["train defective"] == 1
    assert len(made.examples) == 2
    before = sorted(data.parent.rglob("*"))
    line = ["import", str(data), str(data.with_name("out")), "--dry-run"]
    run = CliRunner().invoke(main, line)
    assert run.exit_code == 0, run.output
    assert "is read as yolo" in run.output
    assert "9 files: 4 images, 4 annotation files, 1 index; left out: nothing" in run.output
    assert "Example: " in run.output
    assert sorted(data.parent.rglob("*")) == before
    told = json.loads(CliRunner().invoke(main, [*line, "--json"]).stdout)
    assert told["account"]["files"] == 9


def test_switches_are_the_same_on_the_command_line(data: Path) -> None:
    two_splits(data)
    (data / "labels/train/001.txt").unlink()
    out = str(data.with_name("out"))
    run = CliRunner().invoke(main, ["import", str(data), out, "--workers", "0"])
    assert run.exit_code == 1
    assert "--unlabelled good" in run.output
    run = CliRunner().invoke(
        main, ["import", str(data), out, "--workers", "0", "--unlabelled", "skip"]
    )
    assert run.exit_code == 0, run.output
    assert "left out: 1 is named by no annotation: images/train/001.png" in run.output


def test_no_image_says_where_it_looked(data: Path) -> None:
    (data / "notes.txt").write_text("nothing here")
    with pytest.raises(ThreecadError, match=r"1 files \(1 \.txt\)"):
        imported(data)


def test_upper_case_decides_nothing_and_a_lost_image_is_named(data: Path) -> None:
    photograph(data / "images/1.JPG")
    write_json(data / "annotations/instances_test.json", coco([{}], [{}]))
    assert outcome(data) == {"test/scratch/1": 100}
    (data / "images/1.JPG").unlink()
    with pytest.raises(ConversionError, match=r"images\[0\] names '1.jpg', which is not in"):
        convert(data, data.with_name("new"), to="3cad", workers=0)


def test_a_defect_of_a_tree_that_lost_its_mask_is_refused(tree: Path, tmp_path: Path) -> None:
    lost = next((tree / "Copper_Stator" / "ground_truth").rglob("*.png"))
    lost.unlink()
    with pytest.raises(ConversionError, match="has no mask, as others have"):
        convert(tree, tmp_path / "refused", to="mvtec", workers=0)
    assert not (tmp_path / "refused").exists()
    told = convert(
        tree, tmp_path / "out", to="mvtec", workers=0, decisions=Decisions(unlabelled="skip")
    )
    assert sum(told.images.values()) == len(scan(tree)) - 1
    assert [finding.code for finding in scan(tree).findings] == ["mask-missing"]


def test_two_masks_of_one_image_in_a_folder_are_refused(data: Path) -> None:
    for number, name in enumerate(("a", "b")):
        photograph(data / "JPEGImages" / f"{name}.jpg", number)
    mask_file(data / "SegmentationClass" / "a.png", (2, 2, 6, 6), value=1)
    mask_file(data / "SegmentationClass" / "a.bmp", (20, 20, 30, 30), value=1)
    with pytest.raises(ConversionError, match="a second mask of its image"):
        plan(data, workers=0)


def test_a_folder_inside_the_good_images_holds_good_images(tree: Path, tmp_path: Path) -> None:
    convert(tree, tmp_path / "mvtec", to="mvtec", workers=0)
    good = tmp_path / "mvtec" / "Copper_Stator" / "train" / "good"
    (good / "more").mkdir()
    first = sorted(good.glob("*.png"))[0]
    first.rename(good / "more" / "extra.png")
    for record in (tmp_path / "mvtec").rglob("conversion.jsonl"):
        record.unlink()
    made = plan(tmp_path / "mvtec", from_="mvtec", workers=0)
    assert [item.defect_type for item in made.items if item.id.endswith("/extra")] == ["good"]

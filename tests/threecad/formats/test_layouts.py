"""Public data sets and annotation programs: labels, masks and splits as they mean them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotation_folders import HEIGHT, WIDTH, Folder, digest_of
from layout_folders import FORMS, LAYOUTS, pack_brush, write_ad2
from PIL import Image

from threecad.errors import MaskError, ThreecadError
from threecad.formats import FORMATS, Decisions, Plan, detect, plan
from threecad.formats.contents import File
from threecad.formats.registry import ALIASES

OWN = {"side-by-side": "pairs"}


def _folder(form: str, root: Path, seed: int = 0) -> Folder:
    folder = Folder(root, form, random.Random(seed))
    FORMS[form](folder)
    return folder


def _check(folder: Folder, made: Plan) -> None:
    """Compare every image of a plan with what is true of it."""
    assert len(made.items) == len(folder.truths)
    for item in made.items:
        assert isinstance(item.image, File)
        truth = folder.truths[digest_of(item.image.path)]
        assert item.label == bool(truth.kind)
        if truth.split:
            assert item.split == truth.split
        if truth.kind:
            assert item.defect_type in (truth.kind, "bad")
            assert item.mask is not None
            np.testing.assert_array_equal(item.mask.decode(None)[0], truth.mask)


@pytest.mark.parametrize("form", LAYOUTS)
def test_labels_masks_and_splits(form: str, tmp_path: Path) -> None:
    for seed in range(4):
        folder = _folder(form, tmp_path / f"parts{seed}", seed)
        _check(folder, plan(folder.root, workers=0))


@pytest.mark.parametrize("form", FORMS)
def test_each_is_recognised_as_one_layout(form: str, tmp_path: Path) -> None:
    folder = _folder(form, tmp_path / "parts")
    expected = LAYOUTS[form][0] if form in LAYOUTS else OWN.get(form, form)
    assert detect(folder.root)[0] == expected


@pytest.mark.parametrize("name", sorted({name for name in ALIASES if name in LAYOUTS}))
def test_data_sets_are_known_by_their_own_names(name: str, tmp_path: Path) -> None:
    folder = _folder(name, tmp_path / "parts")
    assert ALIASES[name] == LAYOUTS[name][0]
    assert ALIASES[name] in FORMATS
    _check(folder, plan(folder.root, from_=name, workers=0))


# What goes wrong with them: right or refused, never silently other


def test_private_tests_of_mvtec_ad_2_are_left_out_with_a_reason(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "parts", "mvtec-ad-2-private", random.Random(0))
    write_ad2(folder)
    made = plan(folder.root, workers=0)
    assert not [item for item in made.items if "/can/test_private" in str(item.image)]
    reasons = [left.reason for left in made.account.left_out]
    assert "of test_private, which has no labels" in reasons
    assert "of test_private_mixed, which has no labels" in reasons


def _refused(folder: Folder, *said: str, **options: Any) -> None:
    with pytest.raises(ThreecadError) as error:
        plan(folder.root, workers=0, **options)
    for word in said:
        assert word in str(error.value), error.value


def _edit(folder: Folder, name: str, change: Callable[[str], str]) -> None:
    path = folder.root / name
    old = path.read_text(encoding="utf-8-sig")
    assert change(old) != old
    path.write_text(change(old), encoding="utf-8")


def test_a_gap_among_the_masks_of_an_image(tmp_path: Path) -> None:
    folder = _folder("mvtec-loco", tmp_path / "parts")
    mask = next(folder.root.glob("box/ground_truth/*/*/000.png"))
    mask.unlink()
    _refused(folder, mask.parent.name, "not mask 0")


def test_masks_of_one_image_in_two_sizes(tmp_path: Path) -> None:
    folder = _folder("mvtec-loco", tmp_path / "parts")
    mask = next(folder.root.glob("box/ground_truth/*/*/001.png"))
    Image.fromarray(np.full((5, 5), 255, np.uint8)).save(mask)
    made = plan(folder.root, workers=0)
    whole = f"{mask.with_stem('000')} and 1 more"
    (harmed,) = (item.mask for item in made.items if str(item.mask) == whole)
    assert harmed is not None
    with pytest.raises(MaskError, match="different sizes"):
        harmed.decode(None)


def test_real_iad_divided_twice_or_cut_off(tmp_path: Path) -> None:
    folder = _folder("real-iad", tmp_path / "twice")
    data = (folder.root / "realiad_jsons/jack.json").read_bytes()
    folder.write("realiad_jsons_sv/jack.json", data)
    _refused(folder, "realiad_jsons/jack.json", "realiad_jsons_sv/jack.json")
    folder = _folder("real-iad", tmp_path / "cut")
    folder.write("realiad_jsons/jack.json", data[:-20])
    _refused(folder, "jack.json is not JSON")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("\t1\t", "\t7\t"), "label is '7'"),
        (lambda text: text.replace("_label.PNG", "_mask.PNG"), "_mask.PNG"),
        (lambda text: "\n".join(text.splitlines()[:-1]), "`unlabelled="),
        (lambda text: text.replace("\t0\t0\n", "\t0\n"), "expected number, label, image"),
    ],
)
def test_lists_of_dagm(change: Callable[[str], str], said: str, tmp_path: Path) -> None:
    folder = _folder("dagm", tmp_path / "parts")
    _edit(folder, "Class1/Train/Label/Labels.txt", change)
    _refused(folder, said)


def test_a_label_that_contradicts_its_folder_in_visa(tmp_path: Path) -> None:
    folder = _folder("visa-folders", tmp_path / "parts")
    _edit(folder, "candle/image_anno.csv", lambda text: text.replace("normal", "bent", 1))
    _refused(folder, "000.JPG", "image_anno.csv")


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ('<mask label="dent" rle="3, 2" left="0" top="0" width="4" height="4"/>', "5 pixels"),
        ('<mask label="dent" rle="0, 16" left="22" top="0" width="4" height="4"/>', "reaches out"),
        ('<box label="dent" xtl="1" ytl="1" xbr="5" ybr="5"/>', "`boxes='fill'`"),
        ('<polyline label="dent" points="1,1;5,5;9,1"/>', "encloses no area"),
        ('<polygon label="dent" points="1,1;x,5;9,1"/>', "expected numbers"),
        ('<polygon label="" points="1,1;5,5;9,1"/>', "`conflicts="),
        ('<polygon label="dent" points="0.1,0.1;0.5,0.5;0.9,0.1"/>', "between 0 and 1"),
    ],
)
def test_shapes_of_cvat(shape: str, said: str, tmp_path: Path) -> None:
    folder = _folder("cvat", tmp_path / "parts")
    _edit(folder, "annotations.xml", lambda text: text.replace("</image>", f"{shape}</image>", 1))
    _refused(folder, "annotations.xml, image 'train/000.jpg'", said)


def test_an_ellipse_a_turned_box_and_a_tag_of_cvat(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "parts", "cvat", random.Random(0))
    shapes = [
        '<ellipse label="dent" cx="12" cy="10" rx="6" ry="4"/>',
        '<box label="dent" xtl="8" ytl="9" xbr="16" ybr="11" rotation="90"/>',
        '<tag label="good"/>',
    ]
    lines = []
    for number, shape in enumerate(shapes):
        folder.add(f"{number}.png", "", str(number), "")
        size = f'width="{WIDTH}" height="{HEIGHT}"'
        lines.append(f'<image id="{number}" name="{number}.png" {size}>{shape}</image>')
    folder.write("a.xml", f"<annotations>{''.join(lines)}</annotations>".encode())
    made = plan(folder.root, workers=0, decisions=Decisions(boxes="fill"))
    masks = {item.stem: item.mask for item in made.items}
    assert masks["2"] is None
    assert masks["0"] is not None
    assert masks["1"] is not None
    ellipse, box = masks["0"].decode(None)[0], masks["1"].decode(None)[0]
    assert ellipse.sum() == pytest.approx(np.pi * 24, rel=0.1)
    assert (ellipse[10, 6:18].all(), ellipse[:6].any(), ellipse[14:].any()) == (True, False, False)
    assert np.argwhere(box).min(axis=0).tolist() == [6, 11]
    assert np.argwhere(box).max(axis=0).tolist() == [13, 12]


def _change_task(folder: Folder, change: Callable[[dict[str, Any]], None]) -> None:
    path = next(folder.root.glob("project*.json"))
    tasks = json.loads(path.read_text())
    change(next(task for task in tasks if task["annotations"][0]["result"]))
    path.write_text(json.dumps(tasks))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda task: task.update(annotations=[]), "`unlabelled="),
        (lambda task: task["annotations"].append(task["annotations"][0]), "2 people"),
        (lambda task: task["annotations"][0].update(was_cancelled=True), "`unlabelled="),
        (lambda task: task["data"].update(image="/data/upload/1/none.jpg"), "none.jpg"),
        (lambda task: _result(task).update(image_rotation=90), "turned"),
        (lambda task: _result(task).update(type="keypointlabels"), "keypointlabels"),
        (lambda task: _brushed(task, [0, 1, 2, 3]), "damaged"),
        (lambda task: _brushed(task, pack_brush(np.ones((9, 9), np.bool_))), "damaged"),
        (lambda task: _boxed(task), "`boxes='fill'`"),
    ],
)
def test_tasks_of_label_studio(
    change: Callable[[dict[str, Any]], None], said: str, tmp_path: Path
) -> None:
    folder = _folder("label-studio", tmp_path / "parts")
    _change_task(folder, change)
    _refused(folder, said)


def _result(task: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = task["annotations"][0]["result"][0]
    return result


def _brushed(task: dict[str, Any], run_lengths: list[int]) -> None:
    value = {"format": "rle", "rle": run_lengths, "brushlabels": ["dent"]}
    _result(task).update(type="brushlabels", value=value)


def _boxed(task: dict[str, Any]) -> None:
    value = {"x": 10, "y": 10, "width": 50, "height": 50, "rectanglelabels": ["dent"]}
    _result(task).update(type="rectanglelabels", value=value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda item: item["image"].update(size=[WIDTH, HEIGHT]), "its size"),
        (lambda item: item["image"].update(path="none.jpg"), "none.jpg"),
        (lambda item: item["annotations"][0].update(label_id=7), "label_id is 7"),
        (lambda item: item["annotations"][0].update(type="polyline"), "'polyline'"),
        (lambda item: item["annotations"][0].update(type="bbox", bbox=[1, 1, 9, 9]), "`boxes="),
    ],
)
def test_items_of_datumaro(
    change: Callable[[dict[str, Any]], None], said: str, tmp_path: Path
) -> None:
    folder = _folder("datumaro", tmp_path / "parts")
    for path in folder.root.glob("annotations/*.json"):
        document = json.loads(path.read_text())
        drawn = [item for item in document["items"] if item["annotations"]]
        if drawn:
            change(drawn[0])
            path.write_text(json.dumps(document))
            break
    _refused(folder, said)


def test_a_mask_of_kolektor_that_is_gone(tmp_path: Path) -> None:
    folder = _folder("ksdd", tmp_path / "parts")
    next(folder.root.glob("kos01/*_label.bmp")).unlink()
    _refused(folder, "kos01/Part", "`unlabelled=")

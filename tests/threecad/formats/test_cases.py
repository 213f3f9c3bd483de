"""Annotation folders as people have them: the right values or a refusal, never silently other.

Runs on a folder of cases, named by ``THREECAD_TEST_CASES`` or called ``cases`` beside the folder of
``THREECAD_TEST_DATA``: ``import/<case>/`` with what is given to ``threecad import``.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from threecad import ThreeCAD, scan, verify
from threecad.errors import ThreecadError
from threecad.formats import Decisions, convert
from threecad.images.files import read_image
from threecad.images.masks import read_mask


def _cases() -> Path | None:
    named = os.environ.get("THREECAD_TEST_CASES")
    data = os.environ.get("THREECAD_TEST_DATA")
    folder = Path(named) if named else Path(data).parent / "cases" if data else None
    return folder / "import" if folder is not None and (folder / "import").is_dir() else None


CASES = _cases()
needs_cases = pytest.mark.skipif(CASES is None, reason="needs a folder of cases")


@dataclass(frozen=True)
class Right:
    """What a case is to come to.

    Attributes:
        good: Number of good images of all splits.
        masks: Number of pixels of each defective image's mask, in the order of ids; ``None`` where
            only the number of images matters.
        said: What a refusal must name; empty if a refusal would be wrong.
    """

    good: int = 0
    defective: int = 0
    pixels: tuple[int, ...] | None = None
    said: tuple[str, ...] = ()


ONE_OF_EACH = Right(1, 1)
TWO_OF_EACH = Right(2, 2)

EXPECTED: dict[str, Right] = {
    "same-stem-two-splits/yolo": Right(2, 2, (100, 400)),
    "same-stem-two-splits/coco": Right(0, 2, (100, 400)),
    "btad/data": Right(5, 2),
    "tree-Good/data": Right(5, 2),
    "pairs-nested/data": Right(6, 2),
    "anomalib-csv-float/data": Right(4, 1),
    "anomalib-csv-bool/data": Right(4, 1),
    "anomalib-csv-empty/data": Right(said=("line 2", "line 5")),
    "coco-string-image-id/data": Right(1, 2, (100, 100)),
    "coco-annotation-of-no-image/data": Right(said=("99", "annotations[1]", "`orphans=")),
    "coco-flat-segmentation/data": Right(2, 1, (100,)),
    "coco-no-segmentation/data": Right(said=("only a box", "annotations[0]", "`boxes=")),
    "coco-rle-swapped/data": Right(said=("[64, 48]", "annotations[0]")),
    "coco-bom/data": Right(2, 1, (100,)),
    "coco-train2017/data": Right(2, 1, (100,)),
    "cvat-segmentation-mask/data": TWO_OF_EACH,
    "cvat-segmentation-mask-train/data": TWO_OF_EACH,
    "voc-no-xml/data": TWO_OF_EACH,
    "voc-0-255-masks/data": TWO_OF_EACH,
    "voc-rgb-masks/data": TWO_OF_EACH,
    "voc-bom-xml/data": TWO_OF_EACH,
    "voc-utf16/data": TWO_OF_EACH,
    "voc-boxes-only/data": Right(said=("only a box", "`boxes=")),
    "voc-same-stem/data": Right(said=("000.jpg", "000.png")),
    "yolo-labels-missing/data": Right(said=("000.jpg", "`unlabelled=")),
    "yolo-labels-other-stem/data": Right(said=("000.jpg.txt", "`orphans=", "`unlabelled=")),
    "yolo-valid/data": TWO_OF_EACH,
    "yolo-roboflow/data": TWO_OF_EACH,
    "yolo-boxes/data": Right(said=("only a box", "000.txt, line 1")),
    "yolo-pixels/data": Right(said=("000.txt, line 1",)),
    "yolo-outside/data": Right(said=("000.txt, line 1",)),
    "yolo-utf16/data": TWO_OF_EACH,
    "labelme-circle/data": Right(1, 1, (112,)),
    "labelme-rectangle-4pts/data": Right(1, 1, (400,)),
    "labelme-oriented-rectangle/data": ONE_OF_EACH,
    "labelme-old-no-shape-type/data": ONE_OF_EACH,
    "labelme-old-no-size/data": ONE_OF_EACH,
    "labelme-size-zero/data": ONE_OF_EACH,
    "labelme-label-empty/data": Right(said=("a.json", "shapes[0]", "`conflicts=")),
    "labelme-label-good/data": Right(said=("a.json", "shapes[0]", "`conflicts=")),
    "labelme-ignore/data": Right(0, 1, (100,)),
    "labelme-unlabelled-image/data": Right(said=("c.jpg", "`unlabelled='good'`")),
    "loco/data": Right(6, 4, (160, 160, 60, 60)),
    "ksdd/data": Right(4, 2),
    "images-masks/data": Right(0, 3),
    "pairs-orphan-mask/data": Right(said=("000_mask.png", "`orphans=")),
}
"""Cases that come to these values, or are refused and say this."""


def _run(case: str, target: Path, **options: Any) -> Path:
    assert CASES is not None
    convert(CASES / case, target, to="3cad", workers=0, **options)
    return target


def _mask(path: Path | None) -> np.ndarray:
    assert path is not None
    return read_mask(path)


@needs_cases
@pytest.mark.parametrize("case", EXPECTED)
def test_case(case: str, tmp_path: Path) -> None:
    right = EXPECTED[case]
    try:
        _run(case, tmp_path / "out")
    except ThreecadError as error:
        told = str(error)
        if right.said:
            missing = [word for word in right.said if word not in told]
            assert not missing, f"{missing} in {told}"
            return
        if case in REFUSED_TOO:
            assert all(word in told for word in REFUSED_TOO[case]), told
            return
        raise
    assert not right.said, "it was to be refused"
    samples = list(scan(tmp_path / "out"))
    defective = [sample for sample in samples if sample.label]
    assert (len(samples) - len(defective), len(defective)) == (right.good, right.defective)
    pixels = [int(_mask(sample.mask).sum()) for sample in defective]
    assert all(pixels)
    if right.pixels is not None:
        assert sorted(pixels) == sorted(right.pixels)


REFUSED_TOO = {
    "yolo-valid/data": ("001.jpg", "`unlabelled='good'`"),
    "yolo-roboflow/data": ("001.jpg", "`unlabelled='good'`"),
    "yolo-utf16/data": ("001.jpg", "`unlabelled='good'`"),
}
"""Cases for which a refusal that says this is right, too."""


@needs_cases
def test_the_masks_of_two_splits_keep_their_places(tmp_path: Path) -> None:
    for form in ("yolo", "coco"):
        for writer in ("3cad", "mvtec", "meta-json", "anomalib"):
            target = tmp_path / form / writer
            assert CASES is not None
            convert(CASES / "same-stem-two-splits" / form, target, to=writer, workers=0)
            back = tmp_path / form / f"{writer}-back"
            convert(target, back, from_=writer, to="3cad", workers=0)
            found = {s.split: _mask(s.mask) for s in scan(back) if s.label}
            assert found["train"].nonzero()[1].max() == 14
            assert found["train"][5:15, 5:15].all()
            assert found["val"][20:40, 40:60].all()


@needs_cases
def test_one_mask_for_two_images_is_an_error(tmp_path: Path) -> None:
    assert CASES is not None
    root = tmp_path / "tree"
    shutil.copytree(CASES / "same-stem-tree" / "data", root)
    assert any(f.severity == "error" for f in scan(root).findings)
    dataset = ThreeCAD(root, split="test")
    defect = [n for n, sample in enumerate(dataset.index) if sample.label]
    with pytest.raises(ThreecadError, match="000"):
        dataset[defect[0]]
    with pytest.raises(ThreecadError, match="000"):
        convert(root, tmp_path / "out", to="coco", workers=0)


@needs_cases
def test_our_own_output_comes_back(tmp_path: Path) -> None:
    assert CASES is not None
    convert(CASES / "mvtec-train-defect" / "data", tmp_path / "mvtec", to="mvtec", workers=0)
    convert(tmp_path / "mvtec", tmp_path / "back", from_="mvtec", to="3cad", workers=0)
    before = {s.id: _mask(s.mask) for s in scan(CASES / "mvtec-train-defect/data") if s.label}
    after = {s.id: _mask(s.mask) for s in scan(tmp_path / "back") if s.label}
    assert before.keys() == after.keys()
    for name, mask in before.items():
        np.testing.assert_array_equal(after[name], mask)


@needs_cases
@pytest.mark.parametrize("form", ["coco-windows-path", "coco-size-null"])
def test_one_defect(form: str, tmp_path: Path) -> None:
    _run(f"{form}/data", tmp_path / "out", decisions=Decisions(unlabelled="skip"))
    (sample,) = scan(tmp_path / "out")
    assert _mask(sample.mask).sum() == 100


@needs_cases
@pytest.mark.parametrize("form", ["yolo-valid", "yolo-roboflow", "yolo-utf16"])
def test_images_without_a_label_file_are_good_on_request(form: str, tmp_path: Path) -> None:
    _run(f"{form}/data", tmp_path / "out", decisions=Decisions(unlabelled="good"))
    assert sorted((s.split, s.label) for s in scan(tmp_path / "out")) == [
        ("train", 0), ("train", 1), ("val", 0), ("val", 1),
    ]  # fmt: skip


@needs_cases
def test_masks_beside_photographs(tmp_path: Path) -> None:
    assert CASES is not None
    source = CASES / "photos-with-masks" / "data"
    convert(source, tmp_path / "out", to="3cad", good="good", bad="bad", workers=0)
    defective = [sample for sample in scan(tmp_path / "out") if sample.label]
    assert [sample.image.stem for sample in defective] == ["000", "001"]
    assert all(_mask(sample.mask).any() for sample in defective)


@needs_cases
@pytest.mark.parametrize("case", ["exif-3", "exif-6"])
@pytest.mark.parametrize("form", ["labelme", "coco", "yolo", "pairs"])
def test_the_spot_lies_under_the_mask(case: str, form: str, tmp_path: Path) -> None:
    _run(f"{case}/{form}", tmp_path / "out")
    (sample,) = (sample for sample in scan(tmp_path / "out") if sample.label)
    image, mask = read_image(sample.image)[..., 0], _mask(sample.mask)
    assert image[mask].mean() > 220
    assert image[~mask].mean() < 110


@needs_cases
def test_a_tree_of_turned_photographs_says_so() -> None:
    assert CASES is not None
    findings = verify(CASES / "exif-tree-6" / "data", deep=True, workers=0).findings
    assert any(f.code == "image-turned" and "orientation" in f.message for f in findings)


@needs_cases
def test_what_info_sees_import_sees(tmp_path: Path) -> None:
    assert CASES is not None
    root = tmp_path / "links"
    shutil.copytree(CASES / "symlink-dirs", root)
    part = root / "mvtec" / "Part"
    (part / "train").mkdir(parents=True)
    (part / "ground_truth").mkdir(parents=True)
    (part / "train" / "good").symlink_to(root / "store" / "good", target_is_directory=True)
    (part / "test" / "dent").symlink_to(root / "store" / "dent", target_is_directory=True)
    (part / "ground_truth" / "dent").symlink_to(
        root / "store" / "dent_gt", target_is_directory=True
    )
    result = convert(root / "mvtec", tmp_path / "out", to="3cad", from_="mvtec", workers=0)
    assert sum(result.counts["Part"].values()) == len(scan(root / "mvtec")) == 9


@needs_cases
def test_every_finding_of_a_tree_is_reported(tmp_path: Path) -> None:
    assert CASES is not None
    root = tmp_path / "data"
    shutil.copytree(CASES / "tree-findings" / "data", root)
    (root / "Part/test/dent/003.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ThreecadError) as error:
        convert(root, tmp_path / "out", to="mvtec", workers=0)
    told = str(error.value)
    for name in ("01.png", "extra", "003.png", "004.heic", "validation"):
        assert name in told, told

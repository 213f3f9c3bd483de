"""What the programs for which the formats are meant make of them.

The heavy ones are asked only with ``-m slow``, and skipped where they are not installed.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from format_trees import hard_masks, write_hard_tree

from threecad import read_mask, regions, scan
from threecad.errors import ConversionError
from threecad.formats import convert

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from threecad import Index


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hard_tree(tmp_path_factory.mktemp("hard") / "3cad")


@pytest.fixture(scope="module")
def index(tree: Path) -> Index:
    return scan(tree)


@pytest.fixture
def hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    return datasets


def masks_of(index: Index) -> dict[str, NDArray[np.bool_]]:
    return {sample.id: read_mask(sample.mask) for sample in index if sample.mask is not None}


def check_rows(rows: Any, index: Index) -> None:
    """Compare rows with image_id, image and mask with a tree."""
    masks = masks_of(index)
    assert sorted(row["image_id"] for row in rows) == [sample.id for sample in index]
    for row in rows:
        mask = masks.get(row["image_id"])
        if mask is None:
            assert row["mask"] is None
        else:
            pixels = np.asarray(row["mask"])
            assert np.unique(pixels).tolist() in ([0, 255], [255])
            np.testing.assert_array_equal(pixels > 0, mask)
            assert row["image"].size == (mask.shape[1], mask.shape[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools
def test_pycocotools_scores_the_ground_truth_perfectly(
    tree: Path, index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    convert(tree, tmp_path / "coco", to="coco", workers=0)
    assert sorted(
        p.relative_to(tmp_path / "coco").as_posix() for p in tmp_path.rglob("*.json")
    ) == [
        "annotations/instances_test.json",
        "annotations/instances_train.json",
    ]
    coco = coco_module.COCO(str(tmp_path / "coco/annotations/instances_test.json"))
    masks = masks_of(index)
    for image in coco.loadImgs(coco.getImgIds()):
        name = Path(image["file_name"]).with_suffix("").as_posix()
        assert (tmp_path / "coco/images" / image["file_name"]).is_file()
        found = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        expected = masks.get(name, np.zeros((image["height"], image["width"]), np.bool_))
        assert len(found) == len(regions(expected))
        drawn = np.zeros_like(expected)
        for annotation in found:
            part = coco.annToMask(annotation).astype(np.bool_)
            assert annotation["area"] == part.sum()
            assert not (drawn & part).any(), "regions overlap"
            drawn |= part
        np.testing.assert_array_equal(drawn, expected)
    results = [
        {key: annotation[key] for key in ("image_id", "category_id", "segmentation")}
        | {"score": 1.0}
        for annotation in coco.loadAnns(coco.getAnnIds())
    ]
    scorer = evaluation.COCOeval(coco, coco.loadRes(results), "segm")
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    assert scorer.stats[0] == 1.0
    capsys.readouterr()


def test_coco_numbers_do_not_depend_on_the_split(tree: Path, tmp_path: Path) -> None:
    convert(tree, tmp_path / "a", to="coco", workers=0)
    convert(tree, tmp_path / "b", to="coco", supervised=True, workers=0)
    numbers = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        images = [
            image
            for file in (folder / "annotations").iterdir()
            for image in json.loads(file.read_text())["images"]
        ]
        numbers.append({image["sample_id"]: image["id"] for image in images})
    assert set(numbers[0].items()) >= set(numbers[1].items())
    assert sorted(numbers[0], key=lambda name: numbers[0][name]) == sorted(numbers[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools
def test_coco_polygons_fill_holes_and_say_so(tree: Path, tmp_path: Path) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    result = convert(tree, tmp_path / "coco", to="coco", polygons=True, workers=0)
    assert result.notes["holes filled"] == 2
    coco = coco_module.COCO(str(tmp_path / "coco/annotations/instances_test.json"))
    by_name = {Path(image["file_name"]).stem: image["id"] for image in coco.imgs.values()}
    drawn = sum(
        coco.annToMask(annotation)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[by_name["hole"]]))
    )
    filled = hard_masks()["hole"] > 0
    filled[5:25, 5:30] = True
    np.testing.assert_array_equal(drawn, filled)


def test_datasets_reads_parquet(
    tree: Path, index: Index, tmp_path: Path, hugging_face: Any
) -> None:
    convert(tree, tmp_path / "pq", to="parquet", workers=0, shard_bytes=100_000)
    loaded = hugging_face.load_dataset(str(tmp_path / "pq"))
    check_rows([row for part in loaded.values() for row in part], index)
    assert len(list((tmp_path / "pq/Aluminum_Ipad").iterdir())) > 2, "several shards"
    one = hugging_face.load_dataset(str(tmp_path / "pq"), "Iron_Stator", split="test")
    assert len(one) == len(index.select(category="Iron_Stator", split="test"))
    assert one.features == loaded["train"].features
    stream = hugging_face.load_dataset(str(tmp_path / "pq"), split="test", streaming=True)
    assert sum(1 for _ in stream) == len(index.select(split="test"))


@pytest.mark.parametrize("call", ["folder", "imagefolder"])
def test_datasets_reads_imagefolder(
    call: str, tree: Path, index: Index, tmp_path: Path, hugging_face: Any
) -> None:
    if tuple(map(int, hugging_face.__version__.split(".")[:2])) < (5, 0):
        pytest.skip("before 5.0 imagefolder does not read images without a mask")
    folder = tmp_path / "data"
    convert(tree, folder, to="imagefolder", workers=0)
    loaded = (
        hugging_face.load_dataset(str(folder))
        if call == "folder"
        else hugging_face.load_dataset("imagefolder", data_dir=str(folder))
    )
    check_rows([row for part in loaded.values() for row in part], index)
    assert loaded["train"].features["defect_type"].names[0] == "good"


def test_datasets_reads_webdataset(
    tree: Path, index: Index, tmp_path: Path, hugging_face: Any
) -> None:
    convert(tree, tmp_path / "wds", to="webdataset", workers=0)
    loaded = hugging_face.load_dataset(str(tmp_path / "wds"), split="test")
    masks = masks_of(index)
    assert {row["json"]["id"] for row in loaded} == {s.id for s in index.select(split="test")}
    for row in loaded:
        pixels = np.asarray(row["mask.png"]) > 0
        np.testing.assert_array_equal(pixels, masks.get(row["json"]["id"], np.zeros_like(pixels)))


@pytest.mark.filterwarnings("ignore")  # of webdataset and what it imports
def test_webdataset_reads_its_shards(tree: Path, index: Index, tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    convert(tree, tmp_path / "wds", to="webdataset", workers=0, shard_bytes=150_000)
    shards = sorted(str(path) for path in (tmp_path / "wds").glob("test-*.tar"))
    assert len(shards) > 1
    rows = list(wds.WebDataset(shards, shardshuffle=False).decode("pil"))
    assert {row["json"]["id"] for row in rows} == {s.id for s in index.select(split="test")}
    masks = masks_of(index)
    for row in rows:
        pixels = np.asarray(row["mask.png"].convert("L")) > 0
        np.testing.assert_array_equal(pixels, masks.get(row["json"]["id"], np.zeros_like(pixels)))


def test_tar_shards_are_the_same_every_time(tree: Path, tmp_path: Path) -> None:
    for name in "ab":
        convert(tree, tmp_path / name, to="webdataset", workers=0)
    one, two = ((tmp_path / name / "test-000000.tar").read_bytes() for name in "ab")
    assert one == two
    with tarfile.open(tmp_path / "a" / "test-000000.tar") as archive:
        assert {member.mtime for member in archive} == {0}


@pytest.mark.filterwarnings("ignore")  # of mlcroissant and what it imports
def test_mlcroissant_validates_and_iterates(tree: Path, index: Index, tmp_path: Path) -> None:
    croissant = pytest.importorskip("mlcroissant")
    convert(tree, tmp_path / "c", to="croissant", workers=0)
    dataset = croissant.Dataset(str(tmp_path / "c" / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    samples = list(dataset.records("samples"))
    assert {row["samples/id"].decode() for row in samples} == {sample.id for sample in index}
    masks = masks_of(index)
    found = {row["masks/id"].decode(): row["masks/content"] for row in dataset.records("masks")}
    assert set(found) == set(masks)
    for name, image in found.items():
        np.testing.assert_array_equal(np.asarray(image.convert("L")) > 0, masks[name])
    assert sum(1 for _ in dataset.records("images")) == len(index)


@pytest.mark.filterwarnings("ignore")  # of supervision and what it imports
def test_supervision_reads_coco_and_yolo(tree: Path, index: Index, tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    convert(tree, tmp_path / "coco", to="coco", workers=0)
    coco = supervision.DetectionDataset.from_coco(
        images_directory_path=str(tmp_path / "coco/images"),
        annotations_path=str(tmp_path / "coco/annotations/instances_test.json"),
        force_masks=True,
    )
    masks = masks_of(index)
    assert len(coco) == len(index.select(split="test"))
    for path, _, detections in coco:
        name = Path(path).relative_to(tmp_path / "coco/images").with_suffix("").as_posix()
        if len(detections):
            np.testing.assert_array_equal(detections.mask.any(axis=0), masks[name])


def test_yolo_wants_defects_to_learn_from(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="`supervised=True`"):
        convert(tree, tmp_path / "yolo", to="yolo", workers=0)


def test_visa_rows_unpack_into_the_five_that_its_users_expect(tree: Path, tmp_path: Path) -> None:
    convert(tree, tmp_path / "visa", to="visa", workers=0)
    lines = (tmp_path / "visa/split_csv/1cls.csv").read_text().splitlines()
    names: dict[str, set[str]] = {}
    for line in lines[1:]:
        part, split, label, image, mask = line.split(",")
        assert split in ("train", "test")
        assert (tmp_path / "visa" / image).is_file()
        assert bool(mask) == (label == "anomaly")
        assert not mask or (tmp_path / "visa" / mask).is_file()
        assert Path(image).name not in names.setdefault(part, set()), "basenames are unique"
        names[part].add(Path(image).name)


def test_meta_json_as_its_users_read_it(tree: Path, tmp_path: Path) -> None:
    convert(tree, tmp_path / "meta", to="meta-json", placement="reference", workers=0)
    root = tmp_path / "meta"
    meta = json.loads((root / "meta.json").read_text())
    assert set(meta) == {"train", "test"}
    for entries in meta["test"].values():
        for entry in entries:
            assert (root / entry["img_path"]).is_file()
            assert bool(entry["mask_path"]) == bool(entry["anomaly"])
            if entry["anomaly"]:
                assert Path(entry["mask_path"]).stem == Path(entry["img_path"]).stem
                assert (root / entry["mask_path"]).is_file()
    assert not list(root.rglob("train")), "no image was copied"


def test_names_are_padded_so_that_sorted_images_and_masks_pair(tree: Path, tmp_path: Path) -> None:
    convert(tree, tmp_path / "mvtec", to="mvtec", workers=0)
    for folder in (tmp_path / "mvtec").glob("*/test/*"):
        if folder.name == "good":
            continue
        masks = folder.parents[1] / "ground_truth" / folder.name
        images = sorted(path.stem for path in folder.iterdir())
        assert [f"{stem}_mask" for stem in images] == sorted(path.stem for path in masks.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_anomalib_loads_mvtec(tree: Path, index: Index, tmp_path: Path) -> None:
    data = pytest.importorskip("anomalib.data", reason="anomalib is not installed")
    convert(tree, tmp_path / "mvtec", to="mvtec", workers=0)
    module = data.MVTecAD(root=tmp_path / "mvtec", category="Iron_Stator", num_workers=0)
    module.setup()
    expected = index.select(category="Iron_Stator")
    assert len(module.train_data) == len(expected.select(split="train"))
    for row in module.test_data.samples.itertuples():
        if row.label_index:
            assert Path(row.mask_path).stem == f"{Path(row.image_path).stem}_mask"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("placement", ["copy", "reference"])
def test_anomalib_loads_tables(placement: Any, tree: Path, index: Index, tmp_path: Path) -> None:
    data = pytest.importorskip("anomalib.data", reason="anomalib is not installed")
    pandas = pytest.importorskip("pandas")
    if placement == "copy" and int(pandas.__version__.split(".")[0]) >= 3:
        pytest.skip("anomalib 2.7 cannot put a root before paths with pandas 3")
    folder = tmp_path / "tables"
    convert(tree, folder, to="anomalib", placement=placement, workers=0)
    module = data.Tabular.from_file(
        name="Iron_Stator",
        file_path=folder / "Iron_Stator.csv",
        root=folder if placement == "copy" else None,
        num_workers=0,
        val_split_mode="same_as_test",
    )
    module.setup()
    expected = masks_of(index.select(category="Iron_Stator"))
    sizes = sorted(int(item.gt_mask.sum()) for item in module.test_data if item.gt_label)
    assert sizes == sorted(int(mask.sum()) for mask in expected.values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ultralytics_loads_yolo(tree: Path, tmp_path: Path) -> None:
    dataset = pytest.importorskip("ultralytics.data.dataset", reason="ultralytics is not installed")
    loading = pytest.importorskip("ultralytics.data.utils")
    convert(tree, tmp_path / "yolo", to="yolo", supervised=True, workers=0)
    description = loading.check_det_dataset(str(tmp_path / "yolo" / "data.yaml"))
    for split in ("train", "val"):
        part = dataset.YOLODataset(
            img_path=description[split], data=description, task="segment", augment=False
        )
        lines = {Path(label["im_file"]).stem: len(label["segments"]) for label in part.labels}
        for path in (tmp_path / "yolo" / "labels" / split).glob("*.txt"):
            assert lines[path.stem] == len(path.read_text().splitlines())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_labelme_opens_its_files(tree: Path, index: Index, tmp_path: Path) -> None:
    labelme = pytest.importorskip("labelme._label_file", reason="labelme is not installed")
    convert(tree, tmp_path / "labelme", to="labelme", workers=0)
    for name, mask in masks_of(index).items():
        opened = labelme.LabelFile(str(tmp_path / "labelme" / f"{name}.json"))
        drawn = np.zeros_like(mask)
        for shape in opened.shapes:
            (x0, y0), (x1, y1) = (map(int, point) for point in shape["points"])
            drawn[y0 : y1 + 1, x0 : x1 + 1] |= shape["mask"]
        np.testing.assert_array_equal(drawn, mask)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fiftyone_imports_coco(tree: Path, index: Index, tmp_path: Path) -> None:
    coco = pytest.importorskip("fiftyone.utils.coco", reason="fiftyone is not installed")
    convert(tree, tmp_path / "coco", to="coco", workers=0)
    importer = coco.COCODetectionDatasetImporter(
        data_path=str(tmp_path / "coco/images"),
        labels_path=str(tmp_path / "coco/annotations/instances_test.json"),
        label_types=["segmentations"],
    )
    with importer:
        rows = list(importer)
    assert len(rows) == len(index.select(split="test"))
    count = sum(len(label.detections) for _, _, label in rows if label is not None)
    assert count == sum(len(regions(mask)) for mask in masks_of(index).values())

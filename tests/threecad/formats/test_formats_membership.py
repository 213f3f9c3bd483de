"""Which image is for training, validation and test after a conversion; corrections on the way."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from format_trees import write_hard_tree

from threecad import scan
from threecad.dataset.errata import Errata, Erratum
from threecad.dataset.split_files import SplitFile, SplitRow
from threecad.dataset.splitting import split
from threecad.errors import UsageError
from threecad.formats import convert


@pytest.fixture(scope="module")
def hard_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hard_tree(tmp_path_factory.mktemp("hard") / "3cad")


def _records(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(path.read_text())
        for path in (folder / ".threecad").iterdir()
        if path.name in ("conversion.jsonl", "import.json")
    ]


# Errata


@pytest.mark.parametrize(
    ("name", "described_in"),
    [
        ("3cad", None),
        ("coco", "annotations/instances_test.json"),
        ("croissant", "croissant.json"),
        ("mvtec", None),
        ("parquet", "README.md"),
    ],
)
def test_errata_are_applied_and_their_digest_recorded(
    name: str, described_in: str | None, hard_tree: Path, tmp_path: Path
) -> None:
    gone, renamed = scan(hard_tree).select(split="test", label=1).samples[:2]
    errata = Errata(
        (
            Erratum(gone.id, "exclude", "for a test"),
            Erratum(renamed.id, "relabel", "for a test", defect_type="Rust"),
        ),
        tmp_path,
    )
    errata.save(tmp_path / "errata.json")
    result = convert(
        hard_tree, tmp_path / "out", to=name, errata=tmp_path / "errata.json", workers=0
    )
    assert result.errata == errata.digest
    assert [record["errata"] for record in _records(tmp_path / "out")] == [errata.digest]
    if described_in is not None:
        assert errata.digest in (tmp_path / "out" / described_in).read_text()
    convert(tmp_path / "out", tmp_path / "back", from_=name, to="3cad", workers=0)
    moved = renamed.id.replace(f"/{renamed.defect_type}/", "/Rust/")
    expected = {sample.id for sample in scan(hard_tree)} - {gone.id, renamed.id} | {moved}
    assert {sample.id for sample in scan(tmp_path / "back")} == expected


def test_a_relabelled_image_takes_nobodys_place(hard_tree: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(hard_tree, tree)
    good = scan(tree).select(split="test", label=0).samples[0]
    bad = scan(tree).select(category=good.category, split="test", label=1).samples[0]
    stem = good.image.stem
    for path in (bad.image, bad.mask):
        assert path is not None
        path.rename(path.with_stem(stem))
    folder = bad.id.rsplit("/", 1)[0]
    entry = Erratum(f"{folder}/{stem}", "relabel", "for a test", defect_type="good")
    Errata((entry,), tmp_path).save(tmp_path / "errata.json")
    convert(tree, tmp_path / "out", to="3cad", errata=tmp_path / "errata.json", workers=0)
    written = scan(tmp_path / "out")
    assert len(written) == len(scan(tree))
    assert written[good.id].image.read_bytes() == good.image.read_bytes()
    moved = written[f"{good.id}-{bad.defect_type}"]
    assert moved.image.read_bytes() == bad.image.with_stem(stem).read_bytes()
    assert moved.label == 0


def test_without_errata_none_are_recorded(hard_tree: Path, tmp_path: Path) -> None:
    assert convert(hard_tree, tmp_path / "out", to="coco", workers=0).errata is None
    assert [record["errata"] for record in _records(tmp_path / "out")] == [None]


def test_errata_are_for_trees(hard_tree: Path, tmp_path: Path) -> None:
    convert(hard_tree, tmp_path / "coco", to="coco", workers=0)
    Errata((), tmp_path).save(tmp_path / "errata.json")
    with pytest.raises(UsageError, match="this is coco"):
        convert(
            tmp_path / "coco",
            tmp_path / "out",
            to="voc",
            errata=tmp_path / "errata.json",
            workers=0,
        )


# Folds


def _ids_of_split(folder: Path) -> dict[str, set[str]]:
    ids: dict[str, set[str]] = {}
    for path in (folder / "annotations").glob("instances_*.json"):
        document = json.loads(path.read_text())
        name = path.stem.removeprefix("instances_")
        ids[name] = {image["sample_id"] for image in document["images"]}
    return ids


def test_the_fold_of_a_tree_is_held_out(hard_tree: Path, tmp_path: Path) -> None:
    made = split(scan(hard_tree), "k-fold", folds=2, workers=0)
    made.save(tmp_path / "folds.csv")
    for fold in (0, 1):
        folder = tmp_path / str(fold)
        convert(
            hard_tree, folder, to="coco", split_file=tmp_path / "folds.csv", fold=fold, workers=0
        )
        ids = _ids_of_split(folder)
        held_out = {row.id for row in made.rows if row.fold == fold}
        assert held_out <= ids["test"]
        assert ids["train"] == {row.id for row in made.rows if row.fold == 1 - fold}


def test_the_fold_of_another_layout_is_held_out(hard_tree: Path, tmp_path: Path) -> None:
    convert(hard_tree, tmp_path / "coco", to="coco", workers=0)
    rows = [
        SplitRow(
            sample.category,
            sample.split,
            "normal",
            f"images/{sample.id}{sample.image.suffix}",
            id=sample.id,
            fold=number % 2,
        )
        for number, sample in enumerate(scan(hard_tree).select(split="train"))
    ]
    SplitFile(tuple(rows)).save(tmp_path / "folds.csv")
    for fold in (0, 1):
        folder = tmp_path / str(fold)
        convert(
            tmp_path / "coco",
            folder,
            to="coco",
            split_file=tmp_path / "folds.csv",
            fold=fold,
            workers=0,
        )
        assert _ids_of_split(folder)["test"] == {row.id for row in rows if row.fold == fold}


def test_a_fold_must_be_chosen_and_exist(hard_tree: Path, tmp_path: Path) -> None:
    split(scan(hard_tree), "k-fold", folds=2, workers=0).save(tmp_path / "folds.csv")
    for fold, said in ((None, "has the folds 0, 1"), (2, "cannot hold out fold 2")):
        with pytest.raises(UsageError, match=said):
            convert(
                hard_tree,
                tmp_path / "out",
                to="coco",
                split_file=tmp_path / "folds.csv",
                fold=fold,
                workers=0,
            )
    with pytest.raises(UsageError, match="`fold` needs a split file"):
        convert(hard_tree, tmp_path / "out", to="coco", fold=0, workers=0)


# A supervised split on the way


@pytest.mark.parametrize("name", ["coco", "mvtec", "labelme"])
def test_any_layout_of_files_can_be_divided(name: str, hard_tree: Path, tmp_path: Path) -> None:
    convert(hard_tree, tmp_path / name, to=name, workers=0)
    before = set((tmp_path / name).rglob("*"))
    convert(tmp_path / name, tmp_path / "yolo", to="yolo", supervised=True, seed=2, workers=0)
    convert(hard_tree, tmp_path / "direct", to="yolo", supervised=True, seed=2, workers=0)
    for part in ("train", "val", "test"):
        labels = {p.name: p.read_bytes() for p in (tmp_path / "yolo/labels" / part).iterdir()}
        direct = {p.name: p.read_bytes() for p in (tmp_path / "direct/labels" / part).iterdir()}
        assert labels == direct
    assert any(map(bytes.strip, labels.values()))
    assert set((tmp_path / name).rglob("*")) == before  # nothing is left behind


def test_copies_stay_on_one_side(hard_tree: Path, tmp_path: Path) -> None:
    tree = tmp_path / "3cad"
    shutil.copytree(hard_tree, tree)
    copies = []
    for sample in scan(tree).select(split="train"):
        shutil.copyfile(sample.image, sample.image.with_name(f"copy-{sample.image.name}"))
        copies.append(sample.id)
    convert(tree, tmp_path / "mvtec", to="mvtec", workers=0)
    convert(tmp_path / "mvtec", tmp_path / "coco", to="coco", supervised=True, workers=0)
    ids = _ids_of_split(tmp_path / "coco")
    side = {name: part for part, names in ids.items() for name in names}
    for name in copies:
        folder, stem = name.rsplit("/", 1)
        assert side[f"{folder}/copy-{stem}"] == side[name]


def test_embedded_images_are_not_divided(hard_tree: Path, tmp_path: Path) -> None:
    convert(hard_tree, tmp_path / "tar", to="webdataset", workers=0)
    with pytest.raises(UsageError, match="Convert to the 3CAD layout first"):
        convert(tmp_path / "tar", tmp_path / "out", to="yolo", supervised=True, workers=0)


def test_a_split_is_made_or_brought(hard_tree: Path, tmp_path: Path) -> None:
    made = split(scan(hard_tree), "official", workers=0)
    replace(made).save(tmp_path / "split.csv")
    with pytest.raises(UsageError, match="Leave one out"):
        convert(
            hard_tree,
            tmp_path / "out",
            to="yolo",
            supervised=True,
            split_file=tmp_path / "split.csv",
            workers=0,
        )

"""The index: ids, pairing, stray files, findings, selection, storage."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import sys
import unicodedata
from pathlib import Path

import pytest
import trees
from PIL import Image

from threecad import CATEGORIES, Index, scan, split
from threecad.dataset.scanning import Selection
from threecad.errors import DataError, LayoutError, UsageError


def codes(index: Index) -> list[str]:
    return [finding.code for finding in index.findings]


def write_image(path: Path, size: tuple[int, int] = (8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 128).save(path)
    return path


def test_sample_has_all_categories_and_every_defect_has_its_mask(sample_tree: Path) -> None:
    index = scan(sample_tree)
    assert index.categories == sorted(CATEGORIES)
    assert index.findings == ()
    for sample in index:
        assert sample.id == f"{sample.category}/{sample.split}/{sample.defect_type}/" + (
            sample.image.stem
        )
        assert (sample.mask is not None) == (sample.label == 1) == (sample.defect_type != "good")
        if sample.mask:
            assert sample.mask.stem == sample.image.stem


def test_root_may_be_the_parent_of_the_tree(tree: Path) -> None:
    assert scan(tree.parent).root == tree
    assert len(scan(tree.parent)) == len(scan(tree))


def test_default_root_comes_from_the_environment(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREECAD_ROOT", str(tree))
    assert scan().root == tree


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "There is no folder"),
        (lambda root: root.mkdir(), "holds no category folder"),
        (lambda root: (root / "maps").mkdir(parents=True), "holds predictions, not images"),
        (lambda root: write_image(root / "train" / "good" / "1.png"), "is a single category"),
    ],
)
def test_what_is_no_tree_is_refused_with_advice(tmp_path: Path, make, message: str) -> None:
    root = tmp_path / "data"
    make(root)
    with pytest.raises(LayoutError, match=message):
        scan(root)


def test_missing_category_names_those_that_are_there(tree: Path) -> None:
    with pytest.raises(UsageError, match=r"No category 'Nope'.*Aluminum_Ipad, Copper_Stator"):
        scan(tree, categories=["Nope"])


def test_mask_is_paired_by_stem_never_by_position(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    for stem in ("1", "2", "10"):
        write_image(root / "Part" / "test" / "dent" / f"{stem}.png")
    write_image(root / "Part" / "ground_truth" / "dent" / "10.png")
    write_image(root / "Part" / "ground_truth" / "dent" / "3.png")
    index = scan(root)
    assert index["Part/test/dent/10"].mask == root / "Part/ground_truth/dent/10.png"
    assert index["Part/test/dent/1"].mask is None
    assert sorted(codes(index)) == ["mask-missing", "mask-missing", "mask-orphan"]
    missing = next(finding for finding in index.findings if finding.code == "mask-missing")
    assert missing.severity == "error"
    assert missing.id in ("Part/test/dent/1", "Part/test/dent/2")


def test_mask_of_a_good_image_is_a_finding_and_not_used(tmp_path: Path) -> None:
    write_image(tmp_path / "Part/test/good/1.png")
    write_image(tmp_path / "Part/ground_truth/good/1.png")
    index = scan(tmp_path)
    assert index["Part/test/good/1"].mask is None
    assert codes(index) == ["mask-unexpected"]


def test_stray_files_are_ignored(tree: Path) -> None:
    before = [sample.id for sample in scan(tree)]
    good = tree / "Copper_Stator" / "train" / "good"
    for name in (".DS_Store", "Thumbs.db", "._000000.png", ".threecad-tmp-1.png"):
        (good / name).write_bytes(b"stray")
    for folder in (".ipynb_checkpoints", "__MACOSX"):
        write_image(tree / "Copper_Stator" / "test" / folder / "1.png")
        write_image(tree / folder / "test" / "good" / "1.png")
    (good / "notes.txt").write_text("what is this")
    index = scan(tree)
    assert [sample.id for sample in index] == before
    assert codes(index) == ["file-unexpected"]


@pytest.mark.parametrize("suffix", [".PNG", ".jpg", ".JPEG", ".bmp", ".tif", ".TIFF"])
def test_suffixes_are_read_without_case(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "Part" / "test" / "dent" / f"a{suffix}"
    path.parent.mkdir(parents=True)
    Image.new("L", (8, 6)).save(path)
    write_image(tmp_path / "Part/ground_truth/dent/a.png")
    sample = scan(tmp_path)["Part/test/dent/a"]
    assert sample.image == path
    assert sample.mask is not None


def test_two_files_of_one_stem_are_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "Part/train/good/1.png")
    Image.new("L", (8, 6)).save(tmp_path / "Part/train/good/1.jpg")
    with pytest.raises(LayoutError, match=r"1\.jpg and 1\.png .* same stem"):
        scan(tmp_path)


def test_ids_are_nfc_whatever_the_disk_says(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "délaminé")
    write_image(tmp_path / "Part" / "test" / decomposed / "é.png".replace("é", "e\u0301"))
    write_image(tmp_path / "Part" / "ground_truth" / "délaminé" / "é.png")
    index = scan(tmp_path)
    assert [sample.id for sample in index] == ["Part/test/délaminé/é"]
    assert index["Part/test/délaminé/é"].mask is not None


def test_types_of_multiple_defects_are_unknown(tmp_path: Path) -> None:
    write_image(tmp_path / "Part/test/Multiple-defects/1.png")
    write_image(tmp_path / "Part/ground_truth/Multiple-defects/1.png")
    write_image(tmp_path / "Part/test/dent/1.png")
    write_image(tmp_path / "Part/ground_truth/dent/1.png")
    index = scan(tmp_path)
    assert index["Part/test/Multiple-defects/1"].defect_types == ()
    assert index["Part/test/dent/1"].defect_types == ("dent",)
    assert index.defect_types == ["dent"]


def test_select_filters_and_refuses_the_unknown(tree: Path) -> None:
    index = scan(tree)
    chosen = index.select(category="Copper_Stator", split="test", label=1)
    assert len(chosen) == 3
    assert all(s.category == "Copper_Stator" and s.label == 1 for s in chosen)
    assert len(index.select(defect_type="good", split="train")) == 6
    assert len(index.select(split="val")) == 0
    for wrong in ({"category": "Nope"}, {"split": "tset"}, {"defect_type": "nope"}):
        with pytest.raises(UsageError, match="There are"):
            index.select(**wrong)


def test_unknown_id_is_explained(tree: Path) -> None:
    with pytest.raises(DataError, match="without a suffix"):
        scan(tree)["Copper_Stator/test/good/000000.png"]


def test_index_survives_being_saved_and_moved(tree: Path, tmp_path: Path) -> None:
    index = scan(tree)
    index.save(tmp_path / "index.csv")
    assert Index.load(tmp_path / "index.csv", tree).samples == index.samples
    moved = Path(shutil.move(tree, tmp_path / "elsewhere"))
    again = Index.load(tmp_path / "index.csv", moved)
    assert all(sample.image.is_file() for sample in again)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "id,category\nx,y\n"])
def test_what_is_no_saved_index_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.csv").write_text(text)
    if not text:
        assert len(Index.load(tmp_path / "index.csv", tmp_path)) == 0
        return
    with pytest.raises(DataError, match="is not an index"):
        Index.load(tmp_path / "index.csv", tmp_path)


def test_fingerprint_follows_ids_and_bytes_only(tree: Path, tmp_path: Path) -> None:
    index = scan(tree)
    lines = []
    for sample in index:
        image = hashlib.sha256(sample.image.read_bytes()).hexdigest()
        mask = hashlib.sha256(sample.mask.read_bytes()).hexdigest() if sample.mask else ""
        lines.append(f"{sample.id}\t{image}\t{mask}\n")
    assert index.fingerprint == hashlib.sha256("".join(lines).encode()).hexdigest()

    elsewhere = tmp_path / "copy"
    shutil.copytree(tree, elsewhere)
    assert scan(elsewhere).fingerprint == index.fingerprint

    changed = index.samples[0].image
    data = bytearray(changed.read_bytes())
    data[-1] ^= 1
    before = changed.stat().st_mtime_ns
    changed.write_bytes(data)
    os.utime(changed, ns=(before + 1, before + 1))
    assert scan(tree).fingerprint != index.fingerprint


def test_samples_are_frozen(tree: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        scan(tree).samples[0].label = 1  # type: ignore[misc]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
def test_names_that_are_no_text_are_left_out_and_said(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path)
    before = len(scan(root))
    some = next(sample.image for sample in scan(root))
    shutil.copy(some, os.fsencode(some.parent) + b"/\xff.png")
    index = scan(root)
    assert len(index) == before
    (finding,) = [f for f in index.findings if f.code == "file-broken"]
    assert "no UTF-8" in finding.message
    finding.message.encode()
    (some.parent.parent / os.fsdecode(b"dent\xe9")).mkdir()
    with pytest.raises(LayoutError, match=r"dent\\udce9', no UTF-8. Rename"):
        scan(root)


def test_a_selection_scans_as_its_parts_do(sample_tree: Path, tmp_path: Path) -> None:
    split_file = tmp_path / "folds.csv"
    split(scan(sample_tree), "k-fold", folds=2).save(split_file)
    selection = Selection(sample_tree, ["Copper_Stator"], split_file, fold=0)
    expected = scan(sample_tree, categories=["Copper_Stator"], split_file=split_file, fold=0)
    assert selection.scan().samples == expected.samples
    assert {sample.category for sample in expected} == {"Copper_Stator"}
    assert selection.scan().samples != scan(sample_tree, categories=["Copper_Stator"]).samples
    with pytest.raises(UsageError, match="fold"):
        Selection(sample_tree, fold=0).scan()


def test_a_selection_names_its_root_and_what_is_set() -> None:
    assert Selection().arguments() == {"root": None}
    assert Selection("3cad", fold=0).arguments() == {"root": "3cad", "fold": 0}

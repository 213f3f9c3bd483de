"""Foreign layouts brought into that of 3CAD."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from format_trees import content, write_hard_tree
from PIL import Image

from threecad import scan, verify
from threecad.cli import main
from threecad.errors import ConversionError, ImageError, UsageError
from threecad.formats import convert
from threecad.images.files import read_image
from threecad.images.masks import read_mask


def write_image(path: Path, seed: int, size: tuple[int, int] = (24, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    Image.fromarray(pixels).save(path)


def write_mask(path: Path, values: list[int], size: tuple[int, int] = (24, 32)) -> None:
    mask = np.zeros(size, np.uint8)
    for row, value in enumerate(values):
        mask[row, 3:9] = value
    Image.fromarray(mask).save(path)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three types with masks beside the images, in the manner of the magnetic tiles."""
    root = tmp_path / "tiles"
    for number in range(10):
        write_image(root / "MT_Free" / "Imgs" / f"g{number}.jpg", number)
        write_mask(root / "MT_Free" / "Imgs" / f"g{number}.png", [0])
    for kind in ("Break", "Crack"):
        for number in range(3):
            write_image(root / f"MT_{kind}" / "Imgs" / f"d{number}.jpg", 100 + number)
            write_mask(root / f"MT_{kind}" / "Imgs" / f"d{number}.png", [255, 130, 120, 3])
    return root


def test_pairs_are_found_named_and_binarised(pairs: Path, tmp_path: Path) -> None:
    result = convert(pairs, tmp_path / "out", to="3cad", category="Tile", workers=0)
    assert result.from_format == "pairs"
    assert "mask of the same stem" in result.detected
    assert result.counts == {"Tile": {"train good": 8, "test good": 2, "test defective": 6}}
    assert result.masks == {"threshold": 6}
    index = scan(tmp_path / "out")
    assert index.findings == ()
    assert index.defect_types == ["Break", "Crack"]
    mask = index["Tile/test/Break/d0"].mask
    assert mask is not None
    assert mask.relative_to(tmp_path / "out").as_posix() == "Tile/ground_truth/Break/d0.png"
    values = np.asarray(Image.open(mask))
    assert np.unique(values).tolist() == [0, 255]
    assert np.flatnonzero(values.any(axis=1)).tolist() == [0, 1]  # 255 and 130, not 120 and 3


def test_mask_rule_is_obeyed(pairs: Path, tmp_path: Path) -> None:
    result = convert(pairs, tmp_path / "out", to="3cad", mask_rule="binary", workers=0)
    assert result.masks == {"binary": 6}
    sample = next(iter(scan(tmp_path / "out").select(label=1)))
    assert sample.mask is not None
    assert read_mask(sample.mask).any(axis=1).sum() == 4


def test_test_images_are_chosen_by_content(pairs: Path, tmp_path: Path) -> None:
    def chosen(name: str, **options: object) -> set[bytes]:
        convert(pairs, tmp_path / name, to="3cad", workers=0, **options)  # type: ignore[arg-type]
        samples = scan(tmp_path / name).select(split="test", label=0)
        return {sample.image.read_bytes() for sample in samples}

    first = chosen("a", test_fraction=0.4)
    for path in list((pairs / "MT_Free" / "Imgs").iterdir()):
        path.rename(path.with_name(f"renamed-{path.name}"))
    assert chosen("b", test_fraction=0.4) == first
    assert len(first) == 4
    assert chosen("c", test_fraction=0.2) < first
    assert chosen("d", test_fraction=0.4, seed=1) != first
    assert chosen("e", test_fraction=1) > first


def test_copies_of_one_photograph_stay_on_one_side(tmp_path: Path) -> None:
    for number in range(6):
        write_image(tmp_path / "ok" / f"{number}.png", number // 2)
    convert(None, tmp_path / "out", to="3cad", good=tmp_path / "ok", test_fraction=0.5, workers=0)
    index = scan(tmp_path / "out")
    sides = [
        {s.image.read_bytes() for s in index.select(split=split)} for split in ("train", "test")
    ]
    assert not sides[0] & sides[1]


def test_a_photograph_that_is_not_read_is_not_left_out_in_silence(tmp_path: Path) -> None:
    for number, suffix in enumerate(("png", "webp", "TIFF")):
        write_image(tmp_path / "ok" / f"{number}.{suffix}", number)
    for name in ("notes.txt", ".hidden.heic"):
        (tmp_path / "ok" / name).write_bytes(b"")
    convert(None, tmp_path / "out", to="3cad", good=tmp_path / "ok", workers=0)
    assert len(scan(tmp_path / "out")) == 3
    write_image(tmp_path / "ok" / "deep" / "4.gif", 4)
    with pytest.raises(ConversionError, match=r"4\.gif is in a format that is not read"):
        convert(None, tmp_path / "new", to="3cad", good=tmp_path / "ok", workers=0)
    assert not (tmp_path / "new").exists()


def test_a_folder_of_good_parts_within_that_of_bad_ones(tmp_path: Path) -> None:
    for number, name in enumerate(("good", "good", "dent", ".", "good/ng")):
        write_image(tmp_path / "photos" / name / f"{number}.png", number)
    photos = tmp_path / "photos"
    convert(photos, tmp_path / "a", to="3cad", good="good", bad=photos, category="P", workers=0)
    assert {(s.defect_type, s.image.stem) for s in scan(tmp_path / "a")} == {
        ("good", "0"), ("good", "1"), ("good", "ng_4"), ("dent", "2"), ("bad", "3"),
    }  # fmt: skip
    good = photos / "good"
    convert(good, tmp_path / "b", to="3cad", good=good, bad="ng", category="P", workers=0)
    assert {(s.defect_type, s.image.stem) for s in scan(tmp_path / "b")} == {
        ("good", "0"), ("good", "1"), ("bad", "4"),
    }  # fmt: skip
    with pytest.raises(UsageError, match="of good parts and of bad ones"):
        convert(photos, tmp_path / "c", to="3cad", good="good", bad="good", workers=0)


def test_photographs_of_floats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ok").mkdir()
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "ok" / "0.tif")
    with pytest.raises(ImageError, match="floating-point values; save it with 8 or 16 bits"):
        read_image(tmp_path / "ok" / "0.tif")
    convert(None, tmp_path / "P", to="3cad", good=tmp_path / "ok", workers=0)
    findings = verify(tmp_path / "P", deep=True, workers=0).findings
    assert any("cannot be decoded: it holds floating-point" in f.message for f in findings)


def test_photographs_without_masks(tmp_path: Path) -> None:
    for number in range(5):
        write_image(tmp_path / "photos" / "ok" / f"{number}.jpg", number)
    write_image(tmp_path / "photos" / "ng" / "1.jpg", 8)
    write_image(tmp_path / "photos" / "ng" / "scratch" / "deep" / "1.jpg", 9)
    result = convert(
        tmp_path / "photos", tmp_path / "out", to="3cad", good="ok", bad="ng", category="Part",
        workers=0,
    )  # fmt: skip
    assert result.from_format == "photographs"
    assert result.masks == {}
    index = scan(tmp_path / "out")
    assert index.findings == (), "a tree without masks is not a broken one"
    assert {sample.id for sample in index if sample.label} == {
        "Part/test/bad/1",
        "Part/test/scratch/deep_1",
    }
    assert json.loads((tmp_path / "out/.threecad/import.json").read_text())["masks"] == "none"
    with pytest.raises(ConversionError, match="2 defective images have no mask"):
        convert(tmp_path / "out", tmp_path / "coco", to="coco", workers=0)


def test_split_file_gives_ids_splits_and_masks(pairs: Path, tmp_path: Path) -> None:
    rows = [
        ("train", "normal", "MT_Free/Imgs/g1.jpg", "", "good"),
        ("test", "normal", "MT_Free/Imgs/g2.jpg", "", "good"),
        ("test", "anomaly", "MT_Break/Imgs/d0.jpg", "MT_Break/Imgs/d0.png", "Break"),
    ]
    with (tmp_path / "split.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["object", "split", "label", "image", "mask", "defect_type", "id", "fold"])
        for split, label, image, mask, kind in rows:
            name = f"Tile/{split}/{kind}/{Path(image).stem}"
            writer.writerow(["Tile", split, label, image, mask, kind, name, ""])
    result = convert(
        pairs, tmp_path / "out", from_="pairs", split_file=tmp_path / "split.csv", workers=0
    )
    assert result.left_out == 13
    assert [sample.id for sample in scan(tmp_path / "out")] == [
        "Tile/test/Break/d0",
        "Tile/test/good/g2",
        "Tile/train/good/g1",
    ]
    (pairs / "MT_Free" / "Imgs" / "g1.jpg").unlink()
    with pytest.raises(ConversionError, match=r"1 files.*'MT_Free/Imgs/g1.jpg'"):
        convert(pairs, tmp_path / "o", from_="pairs", split_file=tmp_path / "split.csv", workers=0)


def test_split_file_without_ids_decides_where_images_go(pairs: Path, tmp_path: Path) -> None:
    table = tmp_path / "split.csv"
    lines = [
        "object,split,label,image,mask",
        "Tile,train,normal,MT_Free/Imgs/g1.jpg,",
        "Tile,val,normal,MT_Free/Imgs/g3.jpg,",
        "Tile,test,normal,MT_Free/Imgs/g2.jpg,",
        "Tile,test,anomaly,MT_Break/Imgs/d0.jpg,MT_Break/Imgs/d0.png",
    ]
    table.write_text("\n".join(lines) + "\n")
    result = convert(pairs, tmp_path / "out", to="3cad", split_file=table, workers=0)
    index = scan(tmp_path / "out")
    assert [sample.id for sample in index] == [
        "Tile/test/Break/d0",
        "Tile/test/good/g2",
        "Tile/train/good/g1",
        "Tile/val/good/g3",
    ]
    assert index["Tile/test/Break/d0"].mask is not None
    kinds = ("test defective", "test good", "train good", "val good")
    assert result.counts == {"Tile": dict.fromkeys(kinds, 1)}
    assert not result.notes.get("split-not-kept")
    # Folders hold one split; another one that a split file brings is said to be lost.
    rows = ["object,split,label,image,mask"]
    rows += [f"Tile,train,normal,{s.image.relative_to(index.root).as_posix()}," for s in index]
    table.write_text("\n".join(rows[:1] + rows[2:]) + "\n")
    for name in ("3cad", "mvtec"):
        again = convert(tmp_path / "out", tmp_path / name, to=name, split_file=table, workers=0)
        assert again.notes["split-not-kept"] == 2
    kept = convert(tmp_path / "out", tmp_path / "visa", to="visa", split_file=table, workers=0)
    assert "split-not-kept" not in kept.notes


def test_mvtec_pairs_by_stem_never_by_position(tmp_path: Path) -> None:
    root = tmp_path / "bottle"
    write_image(root / "train/good/000.png", 0)
    for stem in ("1", "2", "10"):
        write_image(root / f"test/broken/{stem}.png", int(stem))
        (root / "ground_truth/broken").mkdir(parents=True, exist_ok=True)
        write_mask(root / f"ground_truth/broken/{stem}_mask.png", [0] * int(stem) + [255])
    convert(root, tmp_path / "out", from_="mvtec", workers=0)
    for sample in scan(tmp_path / "out").select(label=1):
        assert sample.mask is not None
        assert np.flatnonzero(read_mask(sample.mask).any(axis=1)).tolist() == [
            int(sample.image.stem)
        ]
    (root / "test/broken/2.png").unlink()
    with pytest.raises(ConversionError, match=r"2_mask\.png"):
        convert(root, tmp_path / "again", from_="mvtec", workers=0)


def test_validation_images_are_no_loss(tmp_path: Path) -> None:
    root = tmp_path / "bottle"
    for number, folder in enumerate(("train", "validation", "test")):
        write_image(root / folder / "good" / "000.png", number)
    convert(root, tmp_path / "tree", to="3cad", from_="mvtec", workers=0)
    ids = [f"bottle/{split}/good/000" for split in ("test", "train", "val")]
    assert [sample.id for sample in scan(tmp_path / "tree")] == ids
    convert(tmp_path / "tree", tmp_path / "mvtec", to="mvtec", workers=0)
    convert(tmp_path / "mvtec", tmp_path / "again", to="3cad", from_="mvtec", workers=0)
    assert scan(tmp_path / "again").fingerprint == scan(tmp_path / "tree").fingerprint


def test_a_single_category_is_a_tree_of_one(tmp_path: Path) -> None:
    tree = write_hard_tree(tmp_path / "3cad")
    result = convert(tree / "Iron_Stator", tmp_path / "out", to="3cad", workers=0)
    assert "single category" in result.detected
    expected = {k: v for k, v in content(tree).items() if k.startswith("Iron_Stator/")}
    assert content(tmp_path / "out") == expected


def test_what_the_source_decides_cannot_be_asked_for(pairs: Path, tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Gehäuse")
    convert(pairs, tmp_path / "tree", from_="pairs", category=decomposed, workers=0)
    assert {sample.category for sample in scan(tmp_path / "tree")} == {"Gehäuse"}
    for name in ("mvtec", "visa", "coco"):
        foreign = tmp_path / name
        convert(tmp_path / "tree", foreign, to=name, workers=0)
        with pytest.raises(UsageError, match=f"`category='Part'` cannot rename what is in {name}"):
            convert(foreign, tmp_path / "no", to="3cad", category="Part", workers=0)
        with pytest.raises(UsageError, match=f"images without splits, and {name} has them"):
            convert(foreign, tmp_path / "no", to="3cad", test_fraction=0.5, workers=0)
        assert not (tmp_path / "no").exists()


def test_the_destination_is_not_in_what_is_read(pairs: Path, tmp_path: Path) -> None:
    for target in (pairs, pairs / "tree", pairs / "MT_Free" / "tree"):
        with pytest.raises(UsageError, match="which is to be read"):
            convert(pairs, target, from_="pairs", workers=0)
        with pytest.raises(UsageError, match="which is to be read"):
            convert(None, target, good=pairs, workers=0)
    for name in ("ok", "nok"):
        write_image(tmp_path / "photos" / name / "0.png", len(name))
    photos = tmp_path / "photos"
    convert(photos, photos / "tree", good="ok", bad="nok", workers=0)  # only these two are read
    assert len(scan(photos / "tree")) == 2


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    for options in ({"from_": "mvtec"}, {"to": "3cad"}):
        with pytest.raises(ConversionError, match="There is no folder"):
            convert(tmp_path / "nowhere", tmp_path / "out", **options)  # type: ignore[arg-type]


def test_visa_label_maps_count_as_defect(tmp_path: Path) -> None:
    root = tmp_path / "VisA"
    write_image(root / "pcb1/Data/Images/Normal/0.JPG", 0)
    write_image(root / "pcb1/Data/Images/Anomaly/0.JPG", 1)
    (root / "pcb1/Data/Masks/Anomaly").mkdir(parents=True)
    write_mask(root / "pcb1/Data/Masks/Anomaly/0.png", [1, 2])
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text(
        "object,split,label,image,mask\n"
        "pcb1,train,normal,pcb1/Data/Images/Normal/0.JPG,\n"
        "pcb1,test,anomaly,pcb1/Data/Images/Anomaly/0.JPG,pcb1/Data/Masks/Anomaly/0.png\n"
    )
    result = convert(root, tmp_path / "out", to="3cad", workers=0)
    assert result.from_format == "visa"
    assert result.masks == {"labels": 1}
    sample = scan(tmp_path / "out")["pcb1/test/bad/0"]
    assert sample.mask is not None
    assert read_mask(sample.mask).sum() == 12


def test_all_broken_images_are_named_and_repaired_ones_resumed(pairs: Path, tmp_path: Path) -> None:
    broken = pairs / "MT_Crack/Imgs/d1.jpg"
    good = broken.read_bytes()
    broken.write_bytes(b"no image")
    write_mask(pairs / "MT_Break/Imgs/d2.png", [255], size=(9, 9))
    with pytest.raises(ConversionError) as error:
        convert(pairs, tmp_path / "out", to="3cad", workers=0)
    assert "2 of 16 images" in str(error.value)
    assert "d1.jpg" in str(error.value)
    assert "9x9" in str(error.value)
    assert not (tmp_path / "out").exists()
    broken.write_bytes(good)
    write_mask(pairs / "MT_Break/Imgs/d2.png", [255])
    convert(pairs, tmp_path / "out", to="3cad", workers=0)
    assert len(scan(tmp_path / "out")) == 16


def test_what_is_in_the_way_stays(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ConversionError, match="not empty"):
        convert(pairs, out, to="3cad", workers=0)
    with pytest.raises(UsageError, match="not written by"):
        convert(pairs, out, to="3cad", force=True, workers=0)
    assert (out / "thesis.txt").read_text() == "years of work"
    (out / "thesis.txt").unlink()
    convert(pairs, out, to="3cad", workers=0, category="A")
    convert(pairs, out, to="3cad", workers=0, category="B", force=True)
    assert scan(out).categories == ["B"]
    with pytest.raises(UsageError, match="Choose another folder"):
        convert(pairs, pairs.parent, to="3cad", force=True, workers=0)


@pytest.mark.parametrize("names", [("a/b", "c"), ("x", "../y"), ("x", ".hidden"), ("x", "")])
def test_names_that_lead_elsewhere_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    from threecad.formats.items import make_id

    with pytest.raises(ConversionError, match="cannot be part of a file name"):
        make_id(names[0], "test", "good", names[1])


def test_index_files_cannot_reach_outside_their_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "secret.png", 0)
    root = tmp_path / "data"
    root.mkdir()
    entry = {"img_path": "../secret.png", "mask_path": "", "cls_name": "a", "specie_name": "good",
             "anomaly": 0}  # fmt: skip
    (root / "meta.json").write_text(json.dumps({"train": {"a": [entry]}, "test": {}}))
    with pytest.raises(ConversionError, match="leads out of"):
        convert(root, tmp_path / "out", to="3cad", workers=0)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_conversion_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    tree = write_hard_tree(tmp_path / "3cad")
    code = (
        "import os, signal, sys\n"
        "import threecad.formats.writing as writing\n"
        "from threecad.formats import convert\n"
        "original, done = writing.place_image, []\n"
        "import threecad.formats.layouts.threecad as tree\n"
        "def place(*arguments):\n"
        "    if len(done) == 9: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    done.append(1)\n"
        "    return original(*arguments)\n"
        "tree.place_image = place\n"
        "convert(sys.argv[1], sys.argv[2], to='3cad', workers=0)\n"
    )
    command = [sys.executable, "-c", code, str(tree), str(tmp_path / "out")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    result = convert(tree, tmp_path / "out", to="3cad", workers=0)
    assert result.images == {"there": 9, "copied": len(scan(tree)) - 9}
    assert content(tmp_path / "out") == content(tree)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3cad", "out"]
    assert not list((tmp_path / "out").rglob(".threecad-tmp-*"))


def test_changed_source_starts_anew(tmp_path: Path) -> None:
    tree = write_hard_tree(tmp_path / "3cad")
    broken = tree / "Iron_Stator/test/dent/1.png"
    good = broken.read_bytes()
    broken.write_bytes(b"")
    with pytest.raises(ConversionError):
        convert(tree, tmp_path / "out", to="3cad", workers=0)
    broken.write_bytes(good)
    write_image(tree / "Iron_Stator/train/good/1.png", 77)
    convert(tree, tmp_path / "out", to="3cad", workers=0)
    assert content(tmp_path / "out") == content(tree)


def test_two_conversions_into_one_folder(tmp_path: Path) -> None:
    tree = write_hard_tree(tmp_path / "3cad")
    code = (
        "import sys, time, pathlib\n"
        "import threecad.formats.layouts.threecad as tree\n"
        "from threecad.formats import convert\n"
        "original = tree.place_image\n"
        "def place(*arguments):\n"
        "    pathlib.Path(sys.argv[3]).touch(); time.sleep(60)\n"
        "tree.place_image = place\n"
        "convert(sys.argv[1], sys.argv[2], to='3cad', workers=0)\n"
    )
    running = tmp_path / "running"
    command = [sys.executable, "-c", code, str(tree), str(tmp_path / "out"), str(running)]
    process = subprocess.Popen(command)
    try:
        while not running.exists() and process.poll() is None:
            time.sleep(0.02)
        with pytest.raises(ConversionError, match="Another process"):
            convert(tree, tmp_path / "out", to="3cad", workers=0)
    finally:
        process.kill()
        process.wait()
    convert(tree, tmp_path / "out", to="3cad", workers=0)
    assert content(tmp_path / "out") == content(tree)


def test_full_disk_is_noticed_before_anything_is_written(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from threecad.formats import writing

    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(ConversionError, match="GB are free"):
        convert(pairs, tmp_path / "out", to="3cad", workers=0)
    assert not (tmp_path / "out").exists()


def test_command_says_what_it_did(pairs: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(main, ["import", str(pairs), str(tmp_path / "out"), "--workers", "0"])
    assert run.exit_code == 0, run.output
    assert "as pairs (16 of its 16 images have a mask" in run.stdout
    assert "tiles: 6 test defective, 2 test good, 8 train good" in run.stdout
    assert "Masks by rule: 6 threshold." in run.stdout
    run = CliRunner().invoke(main, ["import", str(tmp_path / "out")])
    assert run.exit_code == 2
    assert "Give SRC and DST" in run.output
    run = CliRunner().invoke(
        main, ["convert", str(pairs), str(tmp_path / "x"), "--from", "nonsense"]
    )
    assert "'nonsense' cannot be read. Formats: 3cad, anomalib, coco" in run.output


def test_unknown_layout_says_what_to_do(tmp_path: Path) -> None:
    write_image(tmp_path / "photos" / "1.png", 0)
    with pytest.raises(ConversionError, match=r"`from_`.*`threecad import --good FOLDER`"):
        convert(tmp_path / "photos", tmp_path / "out", to="3cad", workers=0)


def test_magnetic_tiles(test_data: Path, tmp_path: Path) -> None:
    result = convert(
        test_data / "magnetic_tile",
        tmp_path / "out",
        to="3cad",
        split_file=test_data / "magnetic_tile_split.csv",
        placement="link",
    )
    assert result.counts == {
        "Magnetic_Tile": {"train good": 600, "test good": 200, "test defective": 392}
    }
    with (test_data / "magnetic_tile_split.csv").open(newline="") as file:
        expected = {row["id"]: row for row in csv.DictReader(file)}
    index = scan(tmp_path / "out")
    assert {sample.id for sample in index} == set(expected)
    for sample in index.select(defect_type="Fray"):
        source = test_data / "magnetic_tile" / expected[sample.id]["mask"]
        values = np.asarray(Image.open(source).convert("L"))
        assert sample.mask is not None
        np.testing.assert_array_equal(read_mask(sample.mask), values >= 128)
    published = Path(__file__).parents[3] / "docs" / "examples" / "magnetic_tile_split.csv"
    convert(
        test_data / "magnetic_tile",
        tmp_path / "published",
        to="3cad",
        split_file=published,
        placement="link",
    )
    assert scan(tmp_path / "published").fingerprint == index.fingerprint

from __future__ import annotations

import json
import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import trees
from click.testing import CliRunner
from PIL import Image

from threecad import scan
from threecad.cli import main
from threecad.dataset.findings import FindingsReport
from threecad.errors import DataError, LayoutError, UsageError
from threecad.images.facts import inspect_header, inspect_image, inspect_images
from threecad.verification import verify
from threecad.verification.manifest import read_manifest

DENT = "Widget/test/Dent/001"


@pytest.fixture
def widgets(tmp_path: Path) -> Path:
    return trees.write_tree(tmp_path / "data")


def check(root: Path, **options: object) -> FindingsReport:
    return verify(root, workers=0, **options)  # type: ignore[arg-type]


def codes(report: FindingsReport) -> dict[str, int]:
    """The findings' codes, without the one that says that Widget is not in the paper."""
    expected = {"category-unpublished", "manifest-not-written"}
    return {code: n for code, n in report.counts().items() if code not in expected}


def only(report: FindingsReport, code: str):
    """The one finding of a report, which must have this code."""
    assert codes(report) == {code: 1}
    return next(finding for finding in report.findings if finding.code == code)


def test_a_sound_tree_has_no_findings(widgets: Path) -> None:
    report = check(widgets, deep=True)
    assert report.ok
    assert codes(report) == {}
    assert report.summary["mask_rules"] == {"binary": 8}
    assert report.summary["categories"]["Widget"] == {
        "train": 6,
        "test_good": 4,
        "test_defective": 8,
        "defect_types": 2,
        "multiple_defects": 0,
        "heights": (48, 48),
        "widths": (64, 64),
        "regions_per_image": (1, 1),
        "types_per_image": (1, 1),
    }


def test_the_sample_is_sound(sample_tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "3cad"
    shutil.copytree(sample_tree, root)
    report = check(root, deep=True)
    assert report.ok, report.findings
    assert report.summary["expect"] == "none"


# Masks


def test_a_dropped_mask(widgets: Path) -> None:
    trees.corrupt_drop_mask(widgets, DENT)
    finding = only(check(widgets), "mask-missing")
    assert (finding.severity, finding.id) == ("error", DENT)
    assert "Widget/ground_truth/Dent/001.png" in finding.advice


def test_a_shrunken_mask(widgets: Path) -> None:
    trees.corrupt_shrink_mask(widgets, DENT)
    finding = only(check(widgets), "mask-size")
    assert finding.severity == "error"
    assert "32 × 24" in finding.message
    assert "64 × 48" in finding.message


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.8])
def test_a_mask_cut_short(widgets: Path, kept: float) -> None:
    trees.corrupt_truncate(trees.mask_path(widgets, DENT), kept)
    finding = only(check(widgets), "mask-unreadable")
    assert (finding.severity, finding.id) == ("error", DENT)


@pytest.mark.parametrize(
    ("values", "code"), [([0], "mask-empty"), ([255], "mask-full"), ([0, 7, 200], "mask-ambiguous")]
)
def test_an_odd_mask(widgets: Path, values: list[int], code: str) -> None:
    pixels = np.resize(np.repeat(np.array(values, np.uint8), 512), (48, 64))
    trees.write_mask(widgets, DENT, Image.fromarray(pixels))
    finding = only(check(widgets), code)
    assert (finding.severity, finding.id) == ("warning", DENT)


def test_how_much_hangs_on_an_ambiguous_mask_is_said(widgets: Path) -> None:
    pixels = np.asarray(trees.square_mask()).copy()
    area = np.count_nonzero(pixels)
    pixels[0, :5] = 9
    trees.write_mask(widgets, DENT, Image.fromarray(pixels))
    message = only(check(widgets), "mask-ambiguous").message
    assert f"{area} pixels are defect by the rule threshold, 5 more would be by" in message


def test_a_mask_rule_overrides_what_the_values_say(widgets: Path) -> None:
    pixels = np.asarray(trees.square_mask()).copy()
    pixels[0, :5] = 9
    trees.write_mask(widgets, DENT, Image.fromarray(pixels))
    assert codes(check(widgets, mask_rule="binary")) == {}
    report = check(widgets, mask_rule="binary")  # from the cache
    assert report.summary["mask_rule"] == "binary"
    assert report.summary["mask_rules"] == {"binary": 8}
    assert report.summary["categories"]["Widget"]["regions_per_image"] == (1, 2)
    assert only(check(widgets), "mask-ambiguous")
    run = CliRunner().invoke(main, ["verify", str(widgets), "--mask-rule", "binary", "--json"])
    assert json.loads(run.stdout)["summary"]["mask_rule"] == "binary"


def test_advice_names_parameters_and_the_command_line_its_flags(widgets: Path) -> None:
    words = ["verify", str(widgets), "--workers", "0", "--manifest", str(widgets / "files.csv")]
    assert CliRunner().invoke(main, words).exit_code == 0
    pixels = np.asarray(trees.square_mask()).copy()
    pixels[0, :5] = 9
    trees.write_mask(widgets, DENT, Image.fromarray(pixels))
    report = check(widgets, manifest=widgets / "files.csv")
    advice = {finding.code: finding.advice for finding in report.findings}
    assert "`mask_rule`" in advice["mask-ambiguous"]
    assert "`renew=True`" in advice["file-changed"]
    assert "`deep=True`" in report.summary["manifest"]["compared"]
    printed = CliRunner().invoke(main, words).stdout
    assert "; --mask-rule decides otherwise" in printed
    assert "write the manifest anew with --force if" in printed
    assert "(masks: SHA-256 too; --deep: all)" in printed


def test_many_warnings_are_one_example_and_a_count(widgets: Path) -> None:
    pixels = np.asarray(trees.square_mask()).copy()
    pixels[0, :5] = 9
    for sample in scan(widgets).select(label=1):
        trees.write_mask(widgets, sample.id, Image.fromarray(pixels))
    run = CliRunner().invoke(main, ["verify", str(widgets)])
    assert "mask-ambiguous (8)" in run.output
    assert run.output.count("pixels are defect by the rule") == 1
    assert "and 7 more; --json" in run.output


def test_a_mask_for_a_good_image(widgets: Path) -> None:
    trees.write_mask(widgets, "Widget/test/good/001", trees.square_mask())
    assert only(check(widgets), "mask-unexpected").id == "Widget/test/good/001"


def test_a_mask_without_an_image(widgets: Path) -> None:
    (widgets / f"{DENT}.png").unlink()
    assert only(check(widgets), "mask-orphan").path == "Widget/ground_truth/Dent/001.png"


def test_mask_rules_are_counted(widgets: Path) -> None:
    labels = np.asarray(trees.square_mask()) // 255 + np.asarray(trees.square_mask(40)) // 255 * 2
    trees.write_mask(widgets, DENT, Image.fromarray(labels.astype(np.uint8)))
    report = check(widgets)
    assert report.summary["mask_rules"] == {"binary": 7, "labels": 1}
    assert report.summary["categories"]["Widget"]["regions_per_image"] == (1, 2)


# Images


@pytest.mark.parametrize("kept", [0.0, 0.004, 0.3, 0.99])
@pytest.mark.parametrize("deep", [False, True])
def test_an_image_cut_short(widgets: Path, kept: float, deep: bool) -> None:
    trees.corrupt_truncate(widgets / f"{DENT}.png", kept)
    finding = only(check(widgets, deep=deep), "image-unreadable")
    assert (finding.severity, finding.id) == ("error", DENT)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".tif"])
def test_other_formats_cut_short(widgets: Path, suffix: str) -> None:
    path = widgets / f"{DENT}.png"
    with Image.open(path) as image:
        image.save(path.with_suffix(suffix))
    path.unlink()
    assert codes(check(widgets, deep=True)) == {}
    trees.corrupt_truncate(path.with_suffix(suffix), 0.7)
    assert codes(check(widgets, deep=True)) == {"image-unreadable": 1, "file-changed": 1}


def test_only_deep_sees_damage_in_the_middle(widgets: Path) -> None:
    trees.corrupt_flip_byte(widgets / f"{DENT}.png")
    assert codes(check(widgets)) == {}
    assert only(check(widgets, deep=True), "image-unreadable").id == DENT


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (bytes(500), "all zero bytes"),
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "a web page"),
        (b"not an image at all", "no image format"),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_a_file_that_is_no_image(widgets: Path, content: bytes, said: str, deep: bool) -> None:
    (widgets / f"{DENT}.png").write_bytes(content)
    assert said in only(check(widgets, deep=deep), "image-unreadable").message


def test_a_decompression_bomb_is_refused(widgets: Path) -> None:
    path = widgets / f"{DENT}.png"
    bomb = bytearray(path.read_bytes())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height in the IHDR chunk
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    path.write_bytes(bytes(bomb))
    for deep in (False, True):
        finding = only(check(widgets, deep=deep), "image-unreadable")
        assert "more than the 268,435,456 that are allowed" in finding.message


def test_bytes_after_the_end_are_no_damage(widgets: Path) -> None:
    path = widgets / f"{DENT}.png"
    path.write_bytes(path.read_bytes() + bytes(300))
    assert codes(check(widgets)) == {}
    assert codes(check(widgets, deep=True)) == {}


def test_no_cut_that_costs_a_pixel_goes_unseen(tmp_path: Path) -> None:
    path = trees.write_image(tmp_path, "a", trees.picture("a", (16, 12)))
    whole, pixels = path.read_bytes(), inspect_image(path).pixels
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        seen = inspect_image(path)
        assert seen.problem or seen.pixels == pixels, length
        assert inspect_header(path).problem == seen.problem, length


# Structure


def test_a_renamed_folder(widgets: Path) -> None:
    (widgets / "Widget/ground_truth").rename(widgets / "Widget/groundtruth")
    report = check(widgets)
    assert codes(report) == {"mask-missing": 8, "folder-unexpected": 1}


def test_a_category_without_train_and_test_is_not_passed_over(widgets: Path) -> None:
    (widgets / "Copper_Stator" / "Train" / "good").mkdir(parents=True)
    found = only(check(widgets), "folder-unexpected")
    assert found.path == "Copper_Stator"


def test_a_category_without_images_is_not_passed_over_in_silence(widgets: Path) -> None:
    (widgets / "Gadget" / "train" / "good").mkdir(parents=True)
    found = only(check(widgets, expect="none"), "category-empty")
    assert (found.severity, found.path) == ("warning", "Gadget")


def test_images_where_no_images_are_looked_for(widgets: Path) -> None:
    trees.write_image(widgets, "Widget/test/loose")
    trees.write_image(widgets, "Widget/test/Dent/more/000")
    found = {(finding.code, finding.path) for finding in check(widgets, expect="none").findings}
    assert found == {
        ("file-unexpected", "Widget/test/loose.png"),
        ("folder-unexpected", "Widget/test/Dent/more"),
    }


def test_a_link_to_nowhere(widgets: Path) -> None:
    (widgets / "Widget/train/good/linked.png").symlink_to(widgets / "gone.png")
    found = only(check(widgets), "file-broken")
    assert (found.severity, found.path) == ("error", "Widget/train/good/linked.png")


def test_a_renamed_mask_folder(widgets: Path) -> None:
    (widgets / "Widget/ground_truth/Dent").rename(widgets / "Widget/ground_truth/dents")
    assert codes(check(widgets)) == {"mask-missing": 4, "mask-orphan": 4}


def test_files_that_do_not_belong(widgets: Path) -> None:
    (widgets / "Widget/notes.txt").write_text("x")
    (widgets / "Widget/train/good/labels.json").write_text("{}")
    (widgets / "Widget/train/good/.DS_Store").write_text("x")
    report = check(widgets)
    assert codes(report) == {"file-unexpected": 2}
    assert report.ok


def test_two_files_with_one_stem(widgets: Path) -> None:
    shutil.copyfile(widgets / f"{DENT}.png", widgets / f"{DENT}.jpg")
    with pytest.raises(LayoutError, match=r"001\.jpg and 001\.png .*Dent have the same stem"):
        check(widgets)


def test_other_spellings_are_recognised(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path, category="Aluminum_Middle-Frame")
    finding = next(f for f in check(root).findings if f.code == "category-spelling")
    assert "Aluminum_Middle_Frame" in finding.message


def test_the_pinyin_edition_is_recognised(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path / "old", defects={"aotu": 1, "neiqiaopian": 1})
    assert "edition-pinyin" in codes(check(root))
    english = trees.write_tree(tmp_path / "new", defects={"aotu": 1, "Scratch": 1})
    assert "edition-pinyin" not in codes(check(english))


# Counts


def test_a_subset_is_said_to_be_one(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path, category="Copper_Stator", defects={"Scratch": 2})
    report = check(root)
    subset = next(f for f in report.findings if f.code == "categories-subset")
    assert "1 of 8" in subset.message
    assert "Iron_Stator" in subset.message


def test_counts_are_compared_with_the_published_ones(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path, category="Copper_Stator", train=4, defects={"Scratch": 2})
    report = check(root)
    messages = {f.message for f in report.findings if f.code == "count-differs"}
    assert messages == {
        "Copper_Stator has 4 training images; published are 409.",
        "Copper_Stator has 4 good test images; published are 196.",
        "Copper_Stator has 2 defective test images; published are 763.",
    }
    assert report.ok
    assert not check(root, expect="published").ok
    assert "count-differs" not in codes(check(root, expect="none"))


@pytest.mark.slow
def test_a_tree_with_the_published_counts_passes(tmp_path: Path) -> None:
    """All 1,368 images of Copper_Stator, as links to a few files of the published size."""
    base = trees.write_tree(tmp_path / "base", train=1, good=1, defects={"Scratch": 1})
    root = tmp_path / "3cad"
    image = trees.picture("one", (1024, 1024))
    few, many = np.zeros((1024, 1024), np.uint8), np.zeros((1024, 1024), np.uint8)
    few[:9, :9] = 255
    for i in range(9):
        many[20 * i : 20 * i + 5, :5] = 255
    image.save(base / "image.png")
    Image.fromarray(few).save(base / "few.png")
    Image.fromarray(many).save(base / "many.png")

    def link(source: str, target: str) -> None:
        path = root / "Copper_Stator" / target
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(base / source, path)

    for folder, number in (("train/good", 409), ("test/good", 196), ("test/wire damage", 763)):
        for i in range(number):
            link("image.png", f"{folder}/{i:06d}.png")
    for i in range(763):
        link("many.png" if i == 0 else "few.png", f"ground_truth/wire damage/{i:06d}.png")
    report = verify(root, expect="published", workers=2)
    assert codes(report) == {"categories-subset": 1}
    (root / "Copper_Stator/train/good/000007.png").unlink()
    assert codes(verify(root, expect="published", workers=2))["count-differs"] == 1


def test_types_behind_the_meta_label_are_not_determinable(widgets: Path) -> None:
    name = "Widget/test/Multiple-defects/000"
    trees.write_image(widgets, name)
    trees.write_mask(widgets, name, trees.square_mask())
    figures = check(widgets).summary["categories"]["Widget"]
    assert figures["types_per_image"] == "not determinable"
    assert (figures["defect_types"], figures["multiple_defects"]) == (2, 1)


def test_a_label_map_tells_the_types(widgets: Path) -> None:
    name = "Widget/test/Multiple-defects/000"
    trees.write_image(widgets, name)
    labels = np.asarray(trees.square_mask()) // 255 + np.asarray(trees.square_mask(40)) // 255 * 2
    trees.write_mask(widgets, name, Image.fromarray(labels.astype(np.uint8)))
    assert check(widgets).summary["categories"]["Widget"]["types_per_image"] == (1, 2)


# Manifest


@pytest.mark.parametrize("name", ["files.csv", "files.parquet"])
def test_a_manifest_is_written_once_and_names_every_change(
    widgets: Path, tmp_path: Path, name: str
) -> None:
    manifest = tmp_path / name
    assert check(widgets, manifest=manifest).summary["manifest"]["written"]
    rows = {row.path: row for row in read_manifest(manifest)}
    assert len(rows) == 18 + 8
    assert (rows[f"{DENT}.png"].width, rows[f"{DENT}.png"].height) == (64, 48)
    assert rows[f"{DENT}.png"].sha256 == inspect_image(widgets / f"{DENT}.png").sha256
    before = manifest.read_bytes()
    assert codes(check(widgets, manifest=manifest, deep=True)) == {}

    trees.write_image(widgets, DENT, trees.picture("another"))
    trees.write_image(widgets, "Widget/train/good/new")
    (widgets / "Widget/train/good/003.png").unlink()
    report = check(widgets, manifest=manifest, deep=True)
    assert {(f.code, f.path, f.severity) for f in report.findings if f.code.startswith("file")} == {
        ("file-changed", f"{DENT}.png", "error"),
        ("file-extra", "Widget/train/good/new.png", "warning"),
        ("file-missing", "Widget/train/good/003.png", "error"),
    }
    assert manifest.read_bytes() == before
    assert check(widgets, manifest=manifest, renew=True).ok
    assert check(widgets, manifest=manifest, deep=True).ok


def test_deep_sees_a_flipped_byte_behind_an_unchanged_date(widgets: Path) -> None:
    path = trees.write_image(widgets, "Widget/train/good/000")
    with Image.open(path) as image:
        image.save(path.with_suffix(".bmp"))  # damage to a BMP still decodes
    path.unlink()
    check(widgets, deep=True)
    trees.corrupt_flip_byte(path.with_suffix(".bmp"))
    finding = only(check(widgets, deep=True), "file-changed")
    assert finding.path == "Widget/train/good/000.bmp"
    assert "SHA-256" in finding.message


def test_a_damaged_tree_gets_no_manifest(widgets: Path, tmp_path: Path) -> None:
    trees.corrupt_drop_mask(widgets, DENT)
    report = check(widgets, manifest=tmp_path / "files.csv")
    assert report.counts()["manifest-not-written"] == 1
    assert not (tmp_path / "files.csv").exists()


@pytest.mark.parametrize("name", ["files.txt", "files"])
def test_a_manifest_of_no_known_kind_is_refused(widgets: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=rf"\.csv or a \.parquet file, not .*{name}"):
        check(widgets, manifest=tmp_path / name)
    assert not (tmp_path / name).exists()


def test_one_category_is_compared_with_its_part_of_the_manifest(
    widgets: Path, tmp_path: Path
) -> None:
    trees.write_tree(widgets, category="Gadget")
    check(widgets, manifest=tmp_path / "files.csv")
    report = check(widgets, manifest=tmp_path / "files.csv", categories=["Gadget"], deep=True)
    assert codes(report) == {}


@pytest.mark.parametrize(
    "content", ["", "path,size\na,1\n", "path,size,sha256,width,height\na,1,x,1,1\n"]
)
def test_a_broken_manifest_is_said(widgets: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "files.csv").write_text(content)
    with pytest.raises(DataError, match="is not a manifest"):
        check(widgets, manifest=tmp_path / "files.csv")


def test_a_broken_parquet_manifest_is_said(widgets: Path, tmp_path: Path) -> None:
    (tmp_path / "files.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="is not a manifest"):
        check(widgets, manifest=tmp_path / "files.parquet")


# Cache and command


def test_the_cache_is_trusted_only_while_nothing_changed(widgets: Path) -> None:
    paths = [sample.image for sample in scan(widgets)]
    first = inspect_images(widgets, paths, workers=0)
    assert inspect_images(widgets, paths, workers=0) == first
    trees.write_image(widgets, DENT, trees.picture("another"))
    again = inspect_images(widgets, paths, workers=0)
    changed = {path for path in paths if again[path] != first[path]}
    assert changed == {widgets / f"{DENT}.png"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_tree_can_be_verified(widgets: Path) -> None:
    folders = [path for path in widgets.rglob("*") if path.is_dir()] + [widgets]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert check(widgets, deep=True).ok
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_an_unknown_expectation_is_refused(widgets: Path) -> None:
    with pytest.raises(UsageError, match="expected one of auto, published, none"):
        check(widgets, expect="all")


def test_the_command_prints_json_alone_and_sets_the_exit_code(widgets: Path) -> None:
    arguments = ["verify", str(widgets), "--workers", "0"]
    sound = CliRunner().invoke(main, [*arguments, "--json"])
    assert sound.exit_code == 0
    trees.corrupt_drop_mask(widgets, DENT)
    broken = CliRunner().invoke(main, [*arguments, "--json"])
    assert broken.exit_code == 1
    report = json.loads(broken.stdout)
    assert report["schema"] == "threecad.findings/1"
    assert report["summary"]["errors"] == 1
    assert report["findings"][0]["code"] == "mask-missing"
    told = CliRunner().invoke(main, arguments)
    assert told.exit_code == 1
    assert "is defective but has no mask" in told.stdout

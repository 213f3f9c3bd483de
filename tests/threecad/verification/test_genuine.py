"""What the archive is known to hold is called right, and what it does not hold is noticed."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trees
from click.testing import CliRunner
from genuine import pinyin_names, png, type_folders, write_genuine
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy.sparse.csgraph import connected_components

from threecad import CATEGORIES, read_mask, scan, split, verify
from threecad.auditing import Audit, audit, examination
from threecad.auditing.corrections import write_errata
from threecad.cli import main
from threecad.cli.info import print_overview
from threecad.dataset.archive_facts import Edition, archive_facts
from threecad.dataset.catalog import is_multiple_defects
from threecad.dataset.duplicates import exact as duplicates
from threecad.dataset.duplicates.forest import Edges, Forest
from threecad.dataset.duplicates.near import CLOSEST, largest_group, survey_near
from threecad.dataset.findings import Finding, FindingsReport
from threecad.dataset.overview import count
from threecad.dataset.samples import Sample
from threecad.dataset.scanning import Index
from threecad.images.facts import ImageFacts
from threecad.images.hashing import GRADIENT_BITS
from threecad.pages.audit_page import render_page
from threecad.statistics.overview import describe_categories

NEW_FRAME, NEW_TABLET, TABLET = "Aluminum_New_Middle_Frame", "Aluminum_New_Ipad", "Aluminum_Ipad"
COVER, STATOR = "Aluminum_Camera_Cover", "Iron_Stator"


def check(root: Path, **options: Any) -> FindingsReport:
    return verify(root, expect="published", workers=0, **options)


def named(report: FindingsReport, code: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.code == code]


def problems(report: FindingsReport) -> set[str]:
    """The codes of what is wrong; the tiny pictures of a stand-in are not of the true sizes."""
    return {f.code for f in report.findings if f.severity != "info"} - {"range-differs"}


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    return write_genuine(tmp_path / "3cad", categories=[NEW_FRAME])


# Facts


def test_the_facts_of_the_archive_agree_with_the_published_table() -> None:
    for category in CATEGORIES.values():
        types = category.archive_types()
        assert sum(types.values()) == category.test_defective
        assert any(map(is_multiple_defects, types)) == (category.types_per_image[1] > 1)
        assert set(category.archive.pinyin.values()) <= set(types)
    known = {c.code: dict(c.known_differences) for c in CATEGORIES.values()}
    assert {code: set(fields) for code, fields in known.items() if fields} == {
        "ANI": {"widths"},
        "ANMF": {"defect_types"},
    }
    assert sum(category.expected("defect_types") for category in CATEGORIES.values()) == 46


def test_the_pinyin_names_of_one_category_are_known() -> None:
    pinyin = CATEGORIES[COVER].archive_types("pinyin")
    assert pinyin["huashang"] == CATEGORIES[COVER].archive_types()["scratche"] == 330
    assert sum(pinyin.values()) == 1077
    assert CATEGORIES[STATOR].archive_types("pinyin") == {}


def test_every_fact_names_its_source() -> None:
    facts = archive_facts()
    for category in facts.categories.values():
        assert all("@" in source for source in category.sources.values())
    assert all("@" in group.source for group in facts.duplicates)
    assert all("@" in total.source for total in facts.totals)


# The archive as it is


@pytest.mark.parametrize("edition", ["english", "pinyin"])
@pytest.mark.parametrize("name", [COVER, NEW_FRAME, STATOR])
def test_a_pristine_category_is_clean(tmp_path: Path, name: str, edition: Edition) -> None:
    root = write_genuine(tmp_path / "3cad", categories=[name], edition=edition)
    report = check(root, manifest=tmp_path / "manifest.csv")
    assert report.ok
    assert problems(report) == set()
    assert (tmp_path / "manifest.csv").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("edition", ["english", "pinyin"])
def test_the_pristine_archive_is_clean(tmp_path: Path, edition: Edition) -> None:
    root = write_genuine(tmp_path / "3cad", edition=edition)
    report = verify(root, expect="published", deep=True, workers=0)
    assert problems(report) == set()
    assert (report.summary["images"], report.summary["masks"]) == (27_039, 11_462)
    assert (root / ".threecad/manifest.csv").is_file()


def test_a_known_difference_to_the_published_table_is_called_known(frames: Path) -> None:
    (finding,) = named(check(frames), "difference-known")
    assert finding.severity == "info"
    assert "5 defect types; the published table says 6" in finding.message
    assert "bovw_forensics" in finding.advice


def test_the_known_widths_are_compared_before_the_published_ones(tmp_path: Path) -> None:
    """A new tablet housing of 376 pixels' width is in order; one of 375 is not."""
    for width, code in ((376, "difference-known"), (375, "range-differs")):
        root = tmp_path / str(width)
        for i, side in enumerate((width, 1024)):
            path = root / NEW_TABLET / f"train/good/{i:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(str(i), side))
        findings = [f for f in verify(root, workers=0).findings if "widths" in f.message]
        assert [finding.code for finding in findings] == [code]
        assert "376 to 1024" in findings[0].message or "375 to 1024" in findings[0].message


def test_info_and_statistics_show_no_difference(
    frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = scan(frames)
    print_overview(count(index))
    shown = capsys.readouterr().out
    assert "5 (6)" not in shown
    assert "the published table says 6 types; the archive is known to have 5" in shown
    (row,) = describe_categories(index, [], {sample.image: (0, 0) for sample in index})
    assert "defect_types" not in row.differences


def test_the_label_for_several_types_is_no_type_too_many_where_its_name_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five folders in the pinyin edition, of which one may be the label: no difference to four."""
    index = scan(write_genuine(tmp_path / "3cad", categories=[STATOR], edition="pinyin"))
    (row,) = describe_categories(index, [], {sample.image: (0, 0) for sample in index})
    assert row.defect_types == 5
    assert "defect_types" not in row.differences
    print_overview(count(index))
    assert "5 (4)" not in capsys.readouterr().out


# The archive with a fault


def test_a_missing_image_is_named(frames: Path, tmp_path: Path) -> None:
    for part in ("test", "ground_truth"):
        (frames / NEW_FRAME / part / "bump/000123.png").unlink()
    report = check(frames, manifest=tmp_path / "manifest.csv")
    assert problems(report) == {"count-differs", "type-count-differs"}
    assert not report.ok
    (finding,) = named(report, "type-count-differs")
    assert finding.path == f"{NEW_FRAME}/test/bump"
    assert "has 523 images; the archive has 524. Not there: 000123." in finding.message
    assert named(report, "manifest-not-written")


@pytest.mark.parametrize("folder", ["train/good", "test/good"])
def test_a_missing_good_image_is_named(frames: Path, folder: str) -> None:
    (frames / NEW_FRAME / folder / "000123.png").unlink()
    report = check(frames)
    (finding,) = named(report, "count-differs")
    assert finding.severity == "error"
    assert "Not there: 000123." in finding.message


def test_an_image_moved_between_types_is_named(frames: Path) -> None:
    for part in ("test", "ground_truth"):
        (frames / NEW_FRAME / part / "bump/000123.png").rename(
            frames / NEW_FRAME / part / "ink/000006.png"
        )
    report = check(frames)
    assert not report.ok
    lacking, gaining = sorted(f.message for f in named(report, "type-count-differs"))
    assert "test/bump has 523 images; the archive has 524. Not there: 000123." in lacking
    assert "test/ink has 7 images; the archive has 6. Not in the archive: 000006." in gaining


def test_an_image_moved_in_the_pinyin_edition_is_named(tmp_path: Path) -> None:
    root = write_genuine(tmp_path / "known", categories=[COVER], edition="pinyin")
    for part in ("test", "ground_truth"):
        (root / COVER / part / "huashang/000007.png").rename(root / COVER / part / "yise/x.png")
    report = check(root)
    assert not report.ok
    found = {f.path: f.message for f in named(report, "type-count-differs")}
    assert set(found) == {f"{COVER}/test/huashang", f"{COVER}/test/yise"}
    assert "Not there: 000007." in found[f"{COVER}/test/huashang"]


def test_an_image_moved_between_unpublished_names_is_noticed_by_the_sizes(tmp_path: Path) -> None:
    root = write_genuine(tmp_path / "3cad", categories=[STATOR], edition="pinyin")
    names = pinyin_names(STATOR)
    source, target = names["fracture"], names["paint nodule"]
    for part in ("test", "ground_truth"):
        (root / STATOR / part / source / "000003.png").rename(
            root / STATOR / part / target / "000119.png"
        )
    report = check(root)
    assert not report.ok
    (finding,) = named(report, "type-count-differs")
    assert f"8 images in {source}, 120 images in {target}" in finding.message
    assert "9 images in fracture, 119 images in paint nodule" in finding.message
    assert any("Not there: 000003" in f.message for f in named(report, "name-differs"))


@pytest.mark.parametrize("folder", ["train/good", "test/bump", "test/bruise"])
def test_a_renamed_image_is_named(frames: Path, folder: str) -> None:
    last = type_folders(NEW_FRAME)[folder] - 1
    for part in (folder, folder.replace("test", "ground_truth")):
        path = frames / NEW_FRAME / part / f"{last:06d}.png"
        if path.exists():
            path.rename(path.with_stem("part_7"))
    report = check(frames)
    assert not report.ok
    (finding,) = named(report, "name-differs")
    assert finding.path == f"{NEW_FRAME}/{folder}"
    assert f"Not there: {last:06d}; not in the archive: part_7." in finding.message


def test_a_renamed_type_is_named(frames: Path) -> None:
    for part in ("test", "ground_truth"):
        (frames / NEW_FRAME / part / "scratche").rename(frames / NEW_FRAME / part / "scratch")
    report = check(frames)
    assert not report.ok
    messages = " ".join(finding.message for finding in named(report, "type-count-differs"))
    assert "test/scratche has no image; the archive has 174" in messages
    assert "test/scratch has 174 images; the archive has no such folder" in messages


def test_another_spelling_of_the_label_for_several_types_is_the_same(frames: Path) -> None:
    for part in ("test", "ground_truth"):
        folder = frames / NEW_FRAME / part / "Multiple-defects"
        folder.rename(folder.with_name("multiple_defects"))
    assert problems(check(frames)) == set()


def test_a_lost_mask_is_named(frames: Path) -> None:
    (frames / NEW_FRAME / "ground_truth/ink/000002.png").unlink()
    report = check(frames)
    assert problems(report) == {"mask-missing"}
    assert named(report, "mask-missing")[0].id == f"{NEW_FRAME}/test/ink/000002"


def test_a_lost_type_is_named(frames: Path) -> None:
    for part in ("test", "ground_truth"):
        shutil.rmtree(frames / NEW_FRAME / part / "ink")
    messages = " ".join(f.message for f in check(frames).findings if f.severity == "error")
    assert "has 4 defect types; in the archive are 5" in messages
    assert "test/ink has no image; the archive has 6" in messages


def test_a_category_that_is_numbered_otherwise_is_not_compared_by_name(tmp_path: Path) -> None:
    root = write_genuine(tmp_path / "3cad", categories=[STATOR])
    for path in sorted(root.rglob("*.png")):
        path.rename(path.with_stem(f"part_{path.stem}"))
    assert problems(check(root)) == set()


# Duplicates


def examine(root: Path, **options: Any) -> Audit:
    return audit(root, workers=0, **options)


def codes(result: Audit, prefix: str = "duplicate-") -> dict[str, int]:
    return Counter(f.code for f in result.report.findings if f.code.startswith(prefix))


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Two categories that share pictures, as most duplicates of the archive are shared."""
    root = tmp_path / "shared"
    for name in (TABLET, NEW_TABLET):
        trees.write_tree(root, category=name, defects={"bruise": 4, "bump": 4})
    for source, target in (
        ("train/good/000", "test/good/000"),
        ("test/good/001", "test/bump/001"),
        ("test/bruise/002", "test/bump/002"),
        ("train/good/003", "train/good/003"),
    ):
        trees.copy_sample(root, f"{TABLET}/{source}", f"{NEW_TABLET}/{target}")
    return root


def test_a_picture_in_two_categories_is_no_error_for_detectors_of_one(shared: Path) -> None:
    result = examine(shared)
    assert result.report.ok
    assert codes(result) == {"duplicate-categories": 4}
    messages = [f.message for f in named(result.report, "duplicate-categories")]
    said = " ".join(messages)
    assert "For a detector of all categories they are on both sides of a split." in said
    assert "For a detector of all categories they are good and defective at once." in said
    assert "For a detector of all categories they are under several defect types." in said
    assert sorted("detector" in message for message in messages) == [False, True, True, True]


def test_a_picture_in_two_categories_is_a_leak_for_a_detector_of_all(shared: Path) -> None:
    result = examine(shared, across_categories=True)
    assert codes(result) == {
        "duplicate-categories": 4,
        "duplicate-leak": 1,
        "duplicate-contradiction": 1,
        "duplicate-types": 1,
    }
    assert not result.report.ok


def test_a_leak_within_a_category_is_found_in_a_group_of_several(shared: Path) -> None:
    trees.copy_sample(shared, f"{TABLET}/train/good/000", f"{TABLET}/test/good/leak")
    result = examine(shared)
    (leak,) = named(result.report, "duplicate-leak")
    assert NEW_TABLET not in leak.message
    assert codes(result)["duplicate-categories"] == 4


def test_errata_keep_to_a_category_unless_asked(shared: Path, tmp_path: Path) -> None:
    assert write_errata(examine(shared), tmp_path / "one.json").entries == ()
    across = write_errata(examine(shared, across_categories=True), tmp_path / "all.json")
    assert {entry.id: entry.action for entry in across.entries} == {
        f"{TABLET}/train/good/000": "exclude",
        f"{TABLET}/test/good/001": "exclude",
        f"{NEW_TABLET}/test/bump/001": "exclude",
        f"{TABLET}/test/bruise/002": "replace-mask",
        f"{NEW_TABLET}/test/bump/002": "exclude",
    }


def test_the_commands_take_across_categories(shared: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    errata = tmp_path / "errata.json"
    arguments = ["audit", str(shared), "--workers", "0", "--write-errata", str(errata)]
    assert run(main, arguments).exit_code == 0
    assert json.loads(errata.read_text())["entries"] == []
    assert run(main, [*arguments, "--force", "--across-categories"]).exit_code == 1
    assert len(json.loads(errata.read_text())["entries"]) == 5


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """One picture twice under one type, with different masks, as ANI bump 001540 and 001541."""
    root = trees.write_tree(tmp_path / "pair", category=NEW_TABLET, defects={"bump": 4})
    trees.copy_sample(root, f"{NEW_TABLET}/test/bump/001", f"{NEW_TABLET}/test/bump/copy")
    trees.write_mask(root, f"{NEW_TABLET}/test/bump/copy", trees.square_mask(x=22, side=9))
    return root


def test_equal_pictures_with_different_masks_are_found(pair: Path) -> None:
    result = examine(pair)
    assert codes(result) == {"duplicate-masks": 1}
    (finding,) = named(result.report, "duplicate-masks")
    assert finding.severity == "warning"
    assert f"{NEW_TABLET}/test/bump/001 64, {NEW_TABLET}/test/bump/copy 81" in finding.message
    trees.write_mask(pair, f"{NEW_TABLET}/test/bump/copy", trees.square_mask())
    assert codes(examine(pair)) == {"duplicate-copy": 1}


@pytest.mark.parametrize(
    ("choice", "left", "pixels"),
    [
        ("keep", {"001", "copy"}, 64),
        ("union", {"001"}, 8 * 8 + 9 * 9 - 6 * 8),
        ("first", {"001"}, 64),
        ("exclude", set(), 0),
    ],
)
def test_errata_offer_a_choice_of_masks(
    pair: Path, tmp_path: Path, choice: str, left: set[str], pixels: int
) -> None:
    errata = tmp_path / "errata.json"
    arguments = ["audit", str(pair), "--workers", "0", "--write-errata", str(errata)]
    assert CliRunner().invoke(main, [*arguments, "--different-masks", choice]).exit_code == 0
    index = scan(pair, errata=errata)
    names = [f"{NEW_TABLET}/test/bump/{stem}" for stem in sorted({"001", "copy"})]
    kept = [sample for sample in index if sample.id in names]
    assert {sample.id.split("/")[-1] for sample in kept} == left
    if kept:
        assert np.count_nonzero(read_mask(kept[0].mask)) == pixels


def test_the_published_duplicates_are_counted(tmp_path: Path) -> None:
    root = write_genuine(tmp_path / "3cad", categories=[COVER], duplicates=True)
    result = examine(root)
    (finding,) = named(result.report, "duplicates-published")
    assert "Of 5 published groups of equal images 5 are equal here" in finding.message
    assert "of 14 training images published as copies, 14" in finding.message
    assert "5 training images equal a test image" in finding.message
    (root / COVER / "test/good/000049.png").write_bytes(png("another"))
    (root / COVER / "train/good/000042.png").write_bytes(png("a third"))
    found = examine(root).report.summary["published_duplicates"]
    assert (found["groups_found"], found["copies_found"]) == (4, 13)
    assert found["missing"] == [
        f"{COVER}/test/good/000049",
        f"{COVER}/train/good/000042",
        f"{COVER}/train/good/000395",
    ]


def test_the_sample_has_no_published_duplicates(sample_tree: Path) -> None:
    assert named(examine(sample_tree).report, "duplicates-published") == []


@pytest.mark.slow
def test_all_published_duplicates_are_found_in_the_whole_archive(tmp_path: Path) -> None:
    root = write_genuine(tmp_path / "3cad", duplicates=True)
    result = examine(root)
    assert codes(result, "duplicate") == {
        "duplicate-leak": 5,
        "duplicate-copy": 1,
        "duplicate-masks": 1,
        "duplicates-published": 1,
    }
    found = result.report.summary["published_duplicates"]
    assert (found["groups"], found["groups_found"], found["copies_found"]) == (6, 6, 14)


# Near duplicates in bounds


def alike(number: int, views: int = 2) -> tuple[list[Sample], dict[Path, ImageFacts]]:
    """Images of a few views of one part, so that each looks like all others of its view.

    The last two of them, one in train and one in test, are nearer than any others.
    """
    rng = np.random.default_rng(0)
    bases = rng.integers(0, 2, (views, GRADIENT_BITS), dtype=np.uint8)
    samples, facts, previous = [], {}, bases[0]
    for i in range(number):
        place = "train/good" if i % 2 else "test/good" if i % 4 else "test/bump"
        split, kind = place.split("/")
        name = f"{NEW_TABLET}/{place}/{i:06d}"
        bits = bases[i % views] ^ (rng.random(GRADIENT_BITS) < 0.02)
        if i == number - 1:
            bits = previous ^ (np.arange(GRADIENT_BITS) == 0)
        previous = bits
        types = () if kind == "good" else (kind,)
        path = Path(f"{i}.png")
        samples.append(Sample(name, NEW_TABLET, split, kind, types, len(types), path, None))
        facts[path] = ImageFacts(1, "", 8, 8, f"{i}", np.packbits(bits).tobytes().hex())
    return samples, facts


def test_a_category_that_looks_alike_is_no_group_of_duplicates() -> None:
    samples, facts = alike(400)
    survey = survey_near(samples, facts)
    assert survey.pairs > 30_000
    assert survey.groups == ()
    assert len(survey.alike) == 400
    assert max(map(len, survey.closer), default=0) <= largest_group(400)
    closest = {f"{NEW_TABLET}/test/good/000398", f"{NEW_TABLET}/train/good/000399"}
    assert {survey.closest[0].first, survey.closest[0].second} == closest
    assert any(closest <= set(group) for group in survey.closer)


def test_a_category_that_looks_alike_is_one_finding(
    shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    samples, facts = alike(200)
    monkeypatch.setattr(examination, "inspect_images", lambda *_, **__: facts)
    result = audit(Index(tmp_path, samples), near=True, workers=0)
    assert codes(result, "near-") == {"near-alike": 1}
    (finding,) = named(result.report, "near-alike")
    assert "200 of 200 images look alike" in finding.message
    assert result.near == ()
    assert result.report.summary["near"]["alike"] == {NEW_TABLET: 200}
    assert write_errata(result, tmp_path / "errata.json").entries == ()


@pytest.mark.parametrize("kind", ["holdout", "few-shot", "k-fold", "leak-free", "supervised"])
def test_a_category_that_looks_alike_is_still_split(
    monkeypatch: pytest.MonkeyPatch, kind: str, tmp_path: Path
) -> None:
    samples, facts = alike(400)
    monkeypatch.setattr(duplicates, "inspect_images", lambda *_, **__: facts)
    index = Index(tmp_path, samples)
    index.__dict__["fingerprint"] = ""
    made = split(index, kind, near=True)
    sides = Counter(row.split for row in made.rows)
    assert sides["train"] >= (4 if kind == "few-shot" else 100)
    assert len({row.fold for row in made.rows} - {None}) == (5 if kind == "k-fold" else 0)


def test_a_near_leak_is_found_beside_a_copy_in_an_earlier_category(tmp_path: Path) -> None:
    """The copy in another category does not hide the picture from its own."""
    for name in ("Gadget", "Widget"):
        trees.write_tree(tmp_path, category=name, train=10)
    trees.copy_sample(tmp_path, "Widget/train/good/001", "Gadget/train/good/x")
    with Image.open(tmp_path / "Widget/train/good/001.png") as image:
        ImageEnhance.Brightness(image).enhance(1.05).save(tmp_path / "Widget/test/good/x.png")
    result = examine(tmp_path, near=True)
    (leak,) = named(result.report, "near-leak")
    assert "Widget/test/good/x and Widget/train/good/001" in leak.message
    assert codes(result, "near-") == {"near-leak": 1, "near-categories": 1}


def test_several_near_images_are_one_finding(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path, train=12)
    with Image.open(root / "Widget/train/good/001.png") as image:
        for i, factor in enumerate((1.03, 1.06, 1.09)):
            altered = ImageEnhance.Brightness(image).enhance(factor)
            altered.save(root / f"Widget/train/good/x{i}.png")
    result = examine(root, near=True)
    assert codes(result, "near-") == {"near-copy": 1}
    assert result.report.summary["near"]["groups"] == 1
    assert len(result.near) == 6
    page = render_page(result)
    assert "Looks the same, twice in one folder (1)" in page
    assert "4 images, the closest" in page
    assert page.count("data:image/jpeg") == 4


def test_a_category_without_a_readable_image_has_no_near_duplicates(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path, category="Widget")
    for path in (root / "Widget").rglob("*.png"):
        path.write_bytes(b"no image")
    trees.write_tree(root, category="Gadget")
    result = examine(root, near=True)
    assert codes(result, "near-") == {"near-undecidable": 1}


@pytest.mark.slow
def test_seven_thousand_images_that_look_alike_stay_in_bounds() -> None:
    samples, facts = alike(7_000)
    tracemalloc.start()
    survey = survey_near(samples, facts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert survey.pairs > 10_000_000
    assert peak < 300e6
    assert len(survey.closest) == CLOSEST
    assert survey.groups == ()
    assert max(map(len, survey.closer)) <= largest_group(7_000) == 50
    closest = {f"{NEW_TABLET}/test/good/006998", f"{NEW_TABLET}/train/good/006999"}
    assert any(closest <= set(group) for group in survey.closer)


@settings(max_examples=40)
@given(
    pairs=st.lists(
        st.tuples(st.integers(0, 14), st.integers(0, 14), st.integers(0, 5)), max_size=40
    ),
    cuts=st.lists(st.integers(0, 40), max_size=3),
    largest=st.integers(1, 15),
)
def test_a_forest_has_the_groups_of_all_pairs_at_each_limit(
    pairs: list[tuple[int, int, int]], cuts: list[int], largest: int
) -> None:
    """Against connected components of all pairs, limit by limit."""
    forest = Forest(15)
    edges = sorted((min(i, j), max(i, j), d) for i, j, d in pairs if i != j)
    bounds = [0, *sorted(cuts), len(edges)]
    for start, end in pairwise(bounds):
        columns = np.array(edges[start:end], np.int32).reshape(-1, 3).T
        forest.add(Edges(columns[0], columns[1], columns[2].astype(np.int16)))
    expected, crowded = list(range(15)), [False] * 15
    for limit in range(6):
        graph = np.zeros((15, 15))
        for i, j, d in edges:
            graph[i, j] = d <= limit or graph[i, j]
        _, labels = connected_components(graph, directed=False)
        for member in range(15):
            together = np.flatnonzero(labels == labels[member])
            crowded[member] = len(together) > largest
            if not crowded[member]:
                expected[member] = int(together[0])
    group, lowered = forest.groups(largest)
    assert group.tolist() == expected
    assert lowered.tolist() == crowded

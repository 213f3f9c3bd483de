from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import trees
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from threecad import ThreeCAD, scan
from threecad.cli import main
from threecad.dataset.samples import Index, Sample
from threecad.dataset.split_files import SplitFile, SplitRow, apply_split, read_split
from threecad.dataset.splitting import split
from threecad.errors import DataError, UsageError

KINDS = (
    "official",
    "leak-free",
    "holdout",
    "few-shot",
    "k-fold",
    "supervised",
    "one-class",
    "noisy",
)


@pytest.fixture
def widgets(tmp_path: Path) -> Path:
    """One category in which pictures repeat within train, across the split and across labels."""
    root = trees.write_tree(tmp_path / "data", train=12, good=6, defects={"Dent": 8, "Scratch": 9})
    trees.copy_sample(root, "Widget/train/good/000", "Widget/train/good/copy0")
    trees.copy_sample(root, "Widget/train/good/001", "Widget/test/good/leak1")
    trees.copy_sample(root, "Widget/train/good/002", "Widget/test/Dent/wrong2")
    trees.write_mask(root, "Widget/test/Dent/wrong2", trees.square_mask())
    trees.copy_sample(root, "Widget/test/Dent/003", "Widget/test/Scratch/both3")
    return root


COPIES = [
    ("Widget/train/good/000", "Widget/train/good/copy0"),
    ("Widget/train/good/001", "Widget/test/good/leak1"),
    ("Widget/train/good/002", "Widget/test/Dent/wrong2"),
    ("Widget/test/Dent/003", "Widget/test/Scratch/both3"),
]


def placed(made: SplitFile) -> dict[str, tuple[str, int | None]]:
    return {row.id: (row.split, row.fold) for row in made.rows}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "official"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_copies_never_straddle_a_boundary(widgets: Path, kind: str, seed: int) -> None:
    options = {"folds": 3} if kind == "k-fold" else {}
    where = placed(split(scan(widgets), kind, seed=seed, workers=0, **options))
    for pair in COPIES:
        assert len({where[name] for name in pair if name in where}) <= 1, pair


def test_official_is_the_tree(widgets: Path) -> None:
    index = scan(widgets)
    made = split(index, "official", workers=0)
    assert {row.id: row.split for row in made.rows} == {s.id: s.split for s in index}


def test_leak_free_loses_exactly_the_leaks(widgets: Path) -> None:
    made = split(scan(widgets), "leak-free", workers=0)
    lost = {sample.id for sample in scan(widgets)} - set(placed(made))
    assert lost == {"Widget/train/good/001", "Widget/train/good/002"} == set(made.left_out)


def test_holdout_moves_the_fraction_and_leaves_test_alone(widgets: Path) -> None:
    made = split(scan(widgets), "holdout", fraction=0.4, workers=0)
    counts = Counter(row.split for row in made.rows)
    assert counts["val"] == pytest.approx(0.4 * 11, abs=1)
    assert counts["train"] + counts["val"] == 13 - 2
    tested = {row.id for row in made.rows if row.split == "test"}
    assert tested == {s.id for s in scan(widgets).select(split="test")}


def test_fewer_shots_are_part_of_more(widgets: Path) -> None:
    chosen = [
        {
            row.id
            for row in split(scan(widgets), "few-shot", shots=n, workers=0).rows
            if row.split == "train"
        }
        for n in (1, 2, 5, 9)
    ]
    assert [len(ids) for ids in chosen] == [1, 2, 5, 9]
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3]


def test_shots_are_different_pictures(widgets: Path) -> None:
    made = split(scan(widgets), "few-shot", shots=9, workers=0)
    train = {row.id for row in made.rows if row.split == "train"}
    assert not set(COPIES[0]) <= train


def test_too_many_shots_is_said(widgets: Path) -> None:
    with pytest.raises(UsageError, match="Widget has 10 different good training images"):
        split(scan(widgets), "few-shot", shots=11, workers=0)


def test_every_good_image_is_held_out_once_and_defects_are_never_trained_on(widgets: Path) -> None:
    index = scan(widgets)
    made = split(index, "k-fold", folds=3, workers=0)
    held_out: Counter[str] = Counter()
    for fold in made.folds:
        part = apply_split(index, made, fold=fold)
        assert all(sample.label == 0 for sample in part.select(split="train"))
        assert len(part) == len(index)
        held_out.update(s.id for s in part.select(split="test") if s.label == 0)
    assert made.folds == [0, 1, 2]
    contradicted = {"Widget/train/good/002"}  # the same picture as a defect: tested in every fold
    assert {name for name, n in held_out.items() if n == 3} == contradicted
    assert {n for name, n in held_out.items() if name not in contradicted} == {1}


def test_folds_have_nearly_one_size(widgets: Path) -> None:
    sizes = Counter(row.fold for row in split(scan(widgets), "k-fold", folds=3, workers=0).rows)
    sizes.pop(None)
    assert max(sizes.values()) - min(sizes.values()) <= 2


def test_supervised_has_defects_of_each_type_in_each_part(widgets: Path) -> None:
    made = split(scan(widgets), "supervised", workers=0)
    parts = Counter((row.split, row.defect_type) for row in made.rows)
    for part in ("train", "val", "test"):
        for defect_type in ("good", "Dent", "Scratch"):
            assert parts[part, defect_type] >= 1
    assert len(made.rows) == len(scan(widgets))


def test_one_class_trains_with_good_images_alone(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path / "data", train=12, good=8, defects={"Dent": 8})
    shutil.move(root / "Widget/test/Dent", root / "Widget/train/Dent")  # as a set for detection
    trees.copy_sample(root, "Widget/train/good/000", "Widget/train/Dent/wrong")
    made = split(scan(root), "one-class", fraction=0.25, workers=0)
    where = placed(made)
    assert {where[s.id][0] for s in scan(root) if s.label} == {"test"}
    good = [where[sample.id][0] for sample in scan(root) if not sample.label]
    assert where["Widget/train/good/000"][0] == "test"
    assert Counter(good) == {"train": 14, "test": 6}
    assert not made.left_out


def test_one_class_needs_two_good_pictures(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path / "data", train=1, good=0, defects={"Dent": 3})
    with pytest.raises(UsageError, match=r"Widget has 1 different good image\(s\)"):
        split(scan(root), "one-class", workers=0)


def test_rare_types_are_noted(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path, train=8, good=8, defects={"Dent": 2, "Rare": 1, "Scratch": 6})
    made = split(scan(root), "supervised", workers=0)
    assert [note for note in made.notes if "Dent has 2" in note and "val has none" in note]
    assert [note for note in made.notes if "Rare has 1" in note and "val and test have" in note]


def test_noisy_moves_the_stated_share_of_each_type(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path, train=5, good=5, defects={"Dent": 10, "Scratch": 20})
    made = split(scan(root), "noisy", fraction=0.3, workers=0)
    moved = Counter(r.defect_type for r in made.rows if r.split == "train" and r.label == "anomaly")
    assert moved == {"Dent": 3, "Scratch": 6}
    assert len(made.rows) == 40


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_file(widgets: Path, tmp_path: Path, kind: str) -> None:
    for name, workers in (("a.csv", 0), ("b.csv", 2)):
        split(scan(widgets), kind, seed=3, workers=workers).save(tmp_path / name)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.csv.json").read_bytes() == (tmp_path / "b.csv.json").read_bytes()


def test_another_seed_gives_another_draw(widgets: Path) -> None:
    draws = {
        tuple(row.id for row in split(scan(widgets), "few-shot", seed=seed, workers=0).rows)
        for seed in range(5)
    }
    assert len(draws) > 1


def test_other_categories_do_not_change_the_draw(widgets: Path) -> None:
    alone = split(scan(widgets), "holdout", workers=0).rows
    trees.write_tree(widgets, category="Another")
    together = split(scan(widgets), "holdout", workers=0).rows
    assert alone == tuple(row for row in together if row.object == "Widget")


def write_shared(root: Path) -> Path:
    """Two categories that share pictures, of every kind: in train, in test, good and defective."""
    for category in ("Gadget", "Widget"):
        trees.write_tree(root, category=category, train=12, good=6, defects={"Dent": 8, "Burr": 8})
    for source, target in (
        ("train/good/000", "train/good/000"),
        ("train/good/001", "test/good/001"),
        ("test/good/002", "train/good/002"),
        ("train/good/003", "test/Dent/003"),
        ("test/Dent/004", "test/good/004"),
        ("test/Dent/005", "test/Burr/005"),
    ):
        trees.copy_sample(root, f"Widget/{source}", f"Gadget/{target}")
    return root


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_split_of_a_category_does_not_depend_on_what_others_share_with_it(
    tmp_path: Path, kind: str, near: bool
) -> None:
    root = write_shared(tmp_path)
    together = split(scan(root), kind, near=near, workers=0)
    for category in ("Gadget", "Widget"):
        alone = split(scan(root, categories=[category]), kind, near=near, workers=0)
        assert alone.rows == tuple(row for row in together.rows if row.object == category)
        assert alone.left_out == {
            name: why for name, why in together.left_out.items() if name.startswith(category)
        }
        assert set(alone.notes) <= set(together.notes)


def test_across_categories_a_test_image_of_another_is_not_trained_on(tmp_path: Path) -> None:
    index = scan(write_shared(tmp_path))
    assert split(index, "leak-free", workers=0).left_out == {}
    made = split(index, "leak-free", across_categories=True, workers=0)
    assert set(made.left_out) == {
        "Widget/train/good/001",
        "Gadget/train/good/002",
        "Widget/train/good/003",
    }
    assert made.options == {"near": False, "across_categories": True}


def test_across_categories_a_shared_defect_is_drawn_with_its_first_category(tmp_path: Path) -> None:
    """It is not a type of its own, too small to be tested, but a defect among its like."""
    made = split(scan(write_shared(tmp_path)), "supervised", across_categories=True, workers=0)
    assert made.notes == ()
    where = placed(made)
    assert where["Gadget/test/Burr/005"] == where["Widget/test/Dent/005"]


@pytest.mark.parametrize(("fraction", "drawn"), [(0.22, 2), (0.28, 3)])
def test_a_fraction_is_rounded_to_whole_images(tmp_path: Path, fraction: float, drawn: int) -> None:
    root = trees.write_tree(tmp_path, train=10)
    made = split(scan(root), "holdout", fraction=fraction, workers=0)
    assert Counter(row.split for row in made.rows)["val"] == drawn


def test_as_many_shots_as_there_are_pictures_are_possible(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path, train=5)
    made = split(scan(root), "few-shot", shots=5, workers=0)
    assert Counter(row.split for row in made.rows)["train"] == 5


def test_copies_in_two_categories_stay_together(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path, train=9, good=3)
    trees.write_tree(root, category="Xidget", train=9, good=3)
    for i in range(5):
        trees.copy_sample(root, f"Widget/train/good/00{i}", f"Xidget/train/good/00{i}")
    options = {"fraction": 0.5, "across_categories": True, "workers": 0}
    where = placed(split(scan(root), "holdout", **options))
    for i in range(5):
        assert where[f"Widget/train/good/00{i}"] == where[f"Xidget/train/good/00{i}"]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("halves", {}, "none of official"),
        ("official", {"shots": 1}, "only for: few-shot"),
        ("holdout", {"folds": 2}, "only for: k-fold"),
        ("few-shot", {"shots": 0}, "at least 1"),
        ("k-fold", {"folds": 1}, "at least 2"),
        ("holdout", {"fraction": 1.0}, "between 0 and 1"),
        ("supervised", {"fraction": 0.5}, "between 0 and 0.5"),
        ("noisy", {"fraction": -0.1}, "between 0 and 1"),
        ("k-fold", {"folds": 30}, "too few different good images"),
    ],
)
def test_impossible_requests(widgets: Path, kind: str, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        split(scan(widgets), kind, workers=0, **options)


# Files


def test_a_file_comes_back_as_it_was_written(widgets: Path, tmp_path: Path) -> None:
    made = split(scan(widgets), "k-fold", folds=2, seed=9, workers=0)
    made.save(tmp_path / "s.csv")
    again = read_split(tmp_path / "s.csv")
    assert again.rows == made.rows
    assert (again.kind, again.seed, again.options) == ("k-fold", 9, {"folds": 2, "near": False})
    assert again.fingerprint == scan(widgets).fingerprint


def test_the_table_has_the_documented_columns(widgets: Path, tmp_path: Path) -> None:
    split(scan(widgets), "official", workers=0).save(tmp_path / "s.csv")
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert ",".join(rows[0]) == "object,split,label,image,mask,defect_type,id,fold"
    assert [
        "Widget",
        "train",
        "normal",
        "Widget/train/good/000.png",
        "",
        "good",
        "Widget/train/good/000",
        "",
    ] in rows


def test_datasets_follow_the_file(widgets: Path, tmp_path: Path) -> None:
    split(scan(widgets), "holdout", workers=0).save(tmp_path / "s.csv")
    validation = ThreeCAD(widgets, split="val", split_file=tmp_path / "s.csv")
    assert len(validation) > 0
    assert all(sample.id.startswith("Widget/train/good/") for sample in validation.index)
    assert validation[0]["label"] == 0


def test_a_tree_with_other_folders_is_matched_by_stem(tmp_path: Path) -> None:
    """A split made where all good images are in train fits a tree that has them in test too."""
    root = trees.write_tree(tmp_path / "tree", train=4, good=0)
    rows = [
        SplitRow(
            "Widget", "test", "normal", "MT_Free/Imgs/001.jpg", "", "good", "Widget/test/good/001"
        )
    ]
    index = apply_split(scan(root), SplitFile(tuple(rows)))
    assert [(s.id, s.split) for s in index] == [("Widget/train/good/001", "test")]


def test_five_columns_from_elsewhere_are_enough(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path / "tree")
    table = tmp_path / "visa.csv"
    table.write_text(
        "\ufeffobject,split,label,image,mask\n"
        "Widget,train,normal,Widget/train/good/002.png,\n"
        "Widget,test,anomaly,Widget/test/Dent/001.png,Widget/ground_truth/Dent/001.png\n",
        encoding="utf-8",
    )
    index = scan(root, split_file=table)
    assert [s.id for s in index] == ["Widget/test/Dent/001", "Widget/train/good/002"]


def test_rows_without_an_image_are_counted_and_named(widgets: Path) -> None:
    made = split(scan(widgets), "official", workers=0)
    (widgets / "Widget/train/good/005.png").unlink()
    (widgets / "Widget/test/good/000.png").unlink()
    with pytest.raises(DataError, match=r"2 of its 39 rows have no image in .*good/00"):
        apply_split(scan(widgets), made)


def test_other_data_are_refused(widgets: Path, tmp_path: Path) -> None:
    made = split(scan(widgets), "official", workers=0)
    other = trees.write_tree(tmp_path / "other", category="Gadget")
    with pytest.raises(DataError, match=r"names Widget; the categories in .* are: Gadget"):
        apply_split(scan(other), made)


def test_a_subset_of_the_categories_is_fine(widgets: Path) -> None:
    trees.write_tree(widgets, category="Another")
    made = split(scan(widgets), "official", workers=0)
    shutil.rmtree(widgets / "Another")
    assert apply_split(scan(widgets), made).categories == ["Widget"]


def test_an_ambiguous_row_is_refused(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path)
    row = SplitRow("Widget", "train", "normal", "elsewhere/000.png", defect_type="good")
    with pytest.raises(DataError, match="could mean several images"):
        apply_split(scan(root), SplitFile((row,)))


def test_a_fold_must_be_chosen_and_exist(widgets: Path) -> None:
    index = scan(widgets)
    folds = split(index, "k-fold", folds=2, workers=0)
    with pytest.raises(UsageError, match="has the folds 0, 1"):
        apply_split(index, folds)
    with pytest.raises(UsageError, match="cannot hold out fold 2: its folds are 0, 1"):
        apply_split(index, folds, fold=2)
    with pytest.raises(UsageError, match="it has no folds"):
        apply_split(index, split(index, "official", workers=0), fold=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 'object' is missing"),
        ("object,split,label\n", "column 'image' is missing"),
        ("object,split,label,image\n", "no rows"),
        ("object,split,label,image\nW,tset,normal,a.png\n", "split 'tset' in line 2"),
        ("object,split,label,image\nW,test,good,a.png\n", "label 'good' in line 2"),
        ("object,split,label,image\nW,test,normal\n", "line 2 has more or fewer cells"),
        ("object,split,label,image\nW,test,normal,a,b\n", "line 2 has more or fewer cells"),
        ("object,split,label,image,fold\nW,test,normal,a,x\n", "fold 'x' in line 2"),
        ("object,split,label,image\n\xff\xfe\x00", "not a split file"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        read_split(path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no split file"):
        read_split(tmp_path / "none.csv")


def test_the_command_writes_and_reports(widgets: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    arguments = ["split", str(widgets), "--kind", "holdout", "--out", str(out), "--workers", "0"]
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["counts"]["Widget"]["val normal"] == 2
    assert read_split(out).kind == "holdout"
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert CliRunner().invoke(main, [*arguments, "--force"]).exit_code == 0


# Properties, on samples without files


@st.composite
def units(draw: st.DrawFn) -> list[tuple[str, str, str]]:
    """(split, defect_type, picture) of each sample; equal pictures are duplicates."""
    places = [("train", "good"), ("test", "good"), ("test", "Dent"), ("test", "Scratch")]
    pictures = st.integers(0, 30).map(str)
    return [
        (*draw(st.sampled_from(places)), draw(pictures)) for _ in range(draw(st.integers(12, 40)))
    ]


@settings(max_examples=60)
@given(content=units(), kind=st.sampled_from(KINDS[1:]), seed=st.integers(0, 5))
def test_any_tree_is_split_without_straddling(
    content: list[tuple[str, str, str]], kind: str, seed: int
) -> None:
    samples, groups = [], {}
    for number, (part, defect_type, picture) in enumerate(content):
        name = f"W/{part}/{defect_type}/{number:03d}"
        good = defect_type == "good"
        samples.append(
            Sample(
                name,
                "W",
                part,
                defect_type,
                () if good else (defect_type,),
                int(not good),
                Path(f"/r/{name}.png"),
                None,
            )
        )
        groups.setdefault(picture, []).append(name)
    by_name = {name: min(members) for members in groups.values() for name in members}
    index = Index("/r", samples)
    index.__dict__["fingerprint"] = ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("threecad.dataset.splitting.duplicate_groups", lambda *_, **__: by_name)
        try:
            made = split(index, kind, seed=seed)
        except UsageError:
            return
    where = placed(made)
    for members in groups.values():
        assert len({where[name] for name in members if name in where}) <= 1
    assert not set(where) & set(made.left_out)
    if kind in ("leak-free", "holdout", "noisy"):
        assert set(where) | set(made.left_out) == {sample.id for sample in samples}
    if kind in ("k-fold", "supervised"):
        assert set(where) == {sample.id for sample in samples}

"""Counts per category and type, beside the published ones where they apply."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from threecad import CATEGORIES, scan
from threecad.cli.info import print_overview
from threecad.dataset.catalog import find_category
from threecad.dataset.overview import count


def test_counts_are_those_of_the_tree(tree: Path) -> None:
    overview = count(scan(tree))
    stator = next(c for c in overview.categories if c.name == "Copper_Stator")
    files = {
        name: len(list((tree / "Copper_Stator").glob(pattern)))
        for name, pattern in {
            "train": "train/good/*.png",
            "good": "test/good/*.png",
            "all": "test/*/*.png",
            "masks": "ground_truth/*/*.png",
        }.items()
    }
    assert stator.train == files["train"]
    assert stator.test_good == files["good"]
    assert stator.test_defective == files["all"] - files["good"] == stator.masks == files["masks"]
    assert sum(stator.defect_types.values()) + stator.multiple_defects == stator.test_defective
    assert stator.code == "CS"
    assert json.loads(json.dumps(overview.to_dict()))["schema"] == "threecad.overview/1"


def test_published_counts_stand_beside_a_tree_without_marker_only(
    sample_tree: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_overview(count(scan(sample_tree)))
    assert "published" not in capsys.readouterr().out
    print_overview(count(scan(tree)))
    shown = capsys.readouterr().out
    assert "3 (409)" in shown
    assert "published count" in shown


def test_findings_are_shown(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next((tree / "Copper_Stator" / "ground_truth").rglob("*.png")).unlink()
    print_overview(count(scan(tree)))
    assert "error: mask-missing" in capsys.readouterr().out


def test_published_counts_add_up_to_the_published_totals() -> None:
    categories = CATEGORIES.values()
    assert sum(c.train for c in categories) == 10_493
    assert sum(c.test for c in categories) == 16_546
    assert sum(c.test_good for c in categories) == 5_084
    assert sum(c.test_defective for c in categories) == 11_462
    assert sum(c.defect_types for c in categories) == 47


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Aluminum_Middle-Frame", "Aluminum_Middle_Frame"),
        ("aluminum middle frame", "Aluminum_Middle_Frame"),
        ("AMF", "Aluminum_Middle_Frame"),
        ("Copper_Stator", "Copper_Stator"),
    ],
)
def test_categories_are_found_by_any_spelling(spelling: str, name: str) -> None:
    found = find_category(spelling)
    assert found is not None
    assert found.name == name


def test_unknown_category_is_none() -> None:
    assert find_category("Magnetic_Tile") is None

"""Good parts that were wrongly stopped join the good ones, and never the test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_lines import run_line
from PIL import Image

from cfrg.training.hard_negatives import read_hard_negatives
from threecad import scan
from threecad.errors import DataError, UsageError

CATEGORY = "Copper_Stator"
PREFIX = f"{CATEGORY}/train/hard-negatives/"


@pytest.fixture
def stopped(tree: Path, tmp_path: Path) -> Path:
    """Photographs of good parts that no split holds: textures that are like nothing there."""
    folder = tmp_path / "stopped" / "monday"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(4):
        coarse = rng.integers(0, 255, (6, 6, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((96, 96)).save(folder / f"{i}.png")
    return folder.parent


def _image(tree: Path, split: str) -> Path:
    return sorted((tree / CATEGORY / split / "good").iterdir())[0]


def test_they_are_good_training_images(tree: Path, stopped: Path) -> None:
    joined = read_hard_negatives(scan(tree), stopped, CATEGORY)
    assert [s.id for s in joined.samples] == [f"{PREFIX}monday__{i}" for i in range(4)]
    assert {(s.split, s.label) for s in joined.samples} == {("train", 0)}


def test_a_copy_of_a_test_image_is_refused_whatever_its_encoding(tree: Path, stopped: Path) -> None:
    Image.open(_image(tree, "test")).convert("RGB").save(stopped / "again.jpg", quality=90)
    with pytest.raises(DataError, match=r"again\.jpg shows the same photograph as .*test"):
        read_hard_negatives(scan(tree), stopped, CATEGORY)


def test_copies_of_training_images_and_of_each_other_count_once(tree: Path, stopped: Path) -> None:
    shutil.copy(_image(tree, "train"), stopped / "known.png")
    shutil.copy(stopped / "monday" / "0.png", stopped / "twice.png")
    joined = read_hard_negatives(scan(tree), stopped, CATEGORY)
    assert len(joined.samples) == 4
    assert joined.known == 2
    assert "2 more are copies" in str(joined)


def test_trees_and_all_categories_are_refused(tree: Path, stopped: Path) -> None:
    with pytest.raises(UsageError, match="category"):
        read_hard_negatives(scan(tree), stopped, "all")
    with pytest.raises(UsageError, match="tree"):
        read_hard_negatives(scan(tree), tree, CATEGORY)


def test_training_records_them_and_calibration_counts_them(
    tree: Path, stopped: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = run_line(
        f"cfrg train {tree} --category {CATEGORY} --preset memory --image-size 64 --device cpu "
        f"--set validation_fraction=0.6 --hard-negatives {stopped} --out {run}"
    )
    assert result.exit_code == 0, result.output
    assert "4 hard negatives join the good images" in result.stderr
    record = json.loads((run / "run.json").read_text())
    held_out = [name for name in record["held_out"] if name.startswith(PREFIX)]
    trained_on = (run / "trained_on.sha256").read_text()
    assert record["hard_negatives"] == 4
    assert record["images"] == 7
    assert 0 < len(held_out) < 4
    assert trained_on.count("monday") == 4 - len(held_out)
    calibrate = f"cfrg calibrate {run} {tree} --false-alarm-rate 0.6 --device cpu"
    refused = run_line(calibrate)
    assert refused.exit_code == 1
    assert "--hard-negatives FOLDER" in refused.output
    result = run_line(f"{calibrate} --hard-negatives {stopped}")
    assert result.exit_code == 0, result.output
    assert f"{len(held_out)} hard negatives" in result.output
    written = json.loads((run / "calibration.json").read_text())
    assert written["hard_negatives"] == len(held_out)

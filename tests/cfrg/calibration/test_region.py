"""A region of interest: given at calibration, kept by the run, and what it hides is counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_lines import run_line
from PIL import Image
from small_networks import SMALL

from cfrg import CFRG, CFRGConfig, Predictor
from cfrg.calibration.calibrating import calibrate
from cfrg.evaluation.accuracy import evaluate_run
from cfrg.export.writing import export_run
from cfrg.inference.thresholds import read_threshold
from cfrg.network.interest import stretch_region
from threecad import scan
from threecad.dataset.samples import read_sample_mask
from threecad.errors import DataError, ModelError, UsageError
from threecad.images.files import read_size
from threecad.images.regions import label_regions

CATEGORY = "Copper_Stator"


@pytest.fixture(autouse=True)
def _few_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfrg.calibration.calibrating.LEAST_DEFECTS", 8)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = CFRG(CFRGConfig.preset("lite", image_size=64, **SMALL))
    model.load_teacher()
    model.companions["run.json"] = {"category": CATEGORY, "seed": 0}
    model.eval().save_pretrained(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def area(tmp_path: Path, sample_tree: Path) -> Path:
    """The left half of the parts, drawn at twice their size."""
    height, width = read_size(next(iter(scan(sample_tree, categories=[CATEGORY]))).image)
    drawn = np.zeros((2 * height, 2 * width), np.uint8)
    drawn[:, :width] = 255
    Image.fromarray(drawn).save(tmp_path / "area.png")
    return tmp_path / "area.png"


def look(run: Path, tree: Path, **options: object) -> object:
    options = {"on": "test-good", "false_alarm_rate": 0.8, "device": "cpu", **options}
    return calibrate(run, tree, **options)  # type: ignore[arg-type]


def hidden_regions(tree: Path) -> tuple[int, int]:
    """Count the labelled regions, and those wholly in the right half."""
    hidden = total = 0
    for sample in scan(tree, categories=[CATEGORY]).select(split="test", label=1):
        labels = label_regions(read_sample_mask(sample, read_size(sample.image)))
        total += int(labels.max())
        seen = np.unique(labels[:, : labels.shape[1] // 2])
        hidden += int(labels.max()) - int((seen > 0).sum())
    return hidden, total


def test_the_region_becomes_that_of_the_run(run: Path, sample_tree: Path, area: Path) -> None:
    whole = look(run, sample_tree)
    said = str(look(run, sample_tree, roi=area, defects=True))
    hidden, total = hidden_regions(sample_tree)
    assert "looked at        50.0% of the image" in said
    assert (f"hides {hidden} of {total} labelled regions" in said) == (hidden > 0)
    test = [s.image for s in scan(sample_tree, categories=[CATEGORY]).select(split="test")]
    predictor = Predictor.from_pretrained(run, device="cpu")
    region = predictor.detector.config.region
    for found in predictor.predict(test):
        assert found.map is not None
        inside = stretch_region(region, found.map.shape)
        assert found.map[~inside].max() < found.map[inside].min()
        for flagged in found.regions or ():
            assert flagged.box[0] < found.size[1] / 2 + 1
    again = look(run, sample_tree)  # stays the run's
    assert read_threshold(run).region == region  # type: ignore[union-attr]
    assert again.threshold.image_threshold <= whole.threshold.image_threshold  # type: ignore[attr-defined]
    back = look(run, sample_tree, roi="none")
    assert back.threshold.image_threshold == whole.threshold.image_threshold  # type: ignore[attr-defined]
    assert not Predictor.from_pretrained(run, device="cpu").detector.config.region


def test_an_evaluation_counts_the_inside_alone(run: Path, sample_tree: Path, area: Path) -> None:
    whole = evaluate_run(run, sample_tree, device="cpu")["model"]
    look(run, sample_tree, roi=area)
    result = evaluate_run(run, sample_tree, device="cpu")["model"]
    hidden, total = hidden_regions(sample_tree)
    assert result.settings["ignore"]["regions"] == hidden
    assert result.settings["ignore"]["of_regions"] == total
    assert result.mean.counts["pixels"] < 0.55 * whole.mean.counts["pixels"]
    with pytest.raises(UsageError, match="paper's protocol"):
        evaluate_run(run, sample_tree, protocol="paper", device="cpu")


def test_thresholds_of_another_region_are_not_used(
    run: Path, sample_tree: Path, area: Path
) -> None:
    look(run, sample_tree, roi=area)
    values = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**values, "region": ""}))
    with pytest.raises(ModelError, match="another region of interest"):
        Predictor.from_pretrained(run, device="cpu")


def test_images_of_another_shape_have_no_answer(
    run: Path, sample_tree: Path, area: Path, tmp_path: Path
) -> None:
    look(run, sample_tree, roi=area)
    Image.new("RGB", (300, 100)).save(tmp_path / "long.png")
    (found,) = Predictor.from_pretrained(run, device="cpu").predict([tmp_path / "long.png"])
    assert "another shape" in str(found.error)
    with pytest.raises(UsageError, match="another shape"):
        export_run(run, "torch-export", out=tmp_path / "long.pt2", input_size=(100, 300))
    drawn = np.zeros((100, 300), np.uint8)
    drawn[:50] = 255
    Image.fromarray(drawn).save(tmp_path / "other.png")
    before = (run / "config.json").read_bytes()
    with pytest.raises(DataError, match="another shape"):
        look(run, sample_tree, roi=tmp_path / "other.png")
    assert (run / "config.json").read_bytes() == before


def test_the_command(run: Path, sample_tree: Path, area: Path) -> None:
    line = f"cfrg calibrate {run} {sample_tree} --on test-good --false-alarm-rate 0.8 --device cpu"
    said = run_line(f"{line} --roi {area}")
    assert said.exit_code == 0
    assert "of the image: the region of interest" in said.output
    refused = run_line(f"{line} --roi {area.parent / 'nothing.png'}")
    assert refused.exit_code != 0
    assert "nothing.png" in refused.output

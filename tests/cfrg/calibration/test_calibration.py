"""Thresholds that hold, what they are read from, and when there are none."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_lines import run_line
from PIL import Image
from scipy import stats

from cfrg import CFRG, CFRGConfig, Predictor
from cfrg.calibration.calibrating import calibrate
from cfrg.calibration.report import Calibration, draw_scores
from cfrg.calibration.tolerance import (
    average_rank,
    clopper_pearson,
    needed,
    rate_interval,
    tolerance_rank,
)
from cfrg.inference.thresholds import Threshold, digest_weights, read_threshold
from threecad import scan
from threecad.errors import DataError, ModelError, UsageError
from threecad.images.hashing import hash_file

CONFIG = CFRGConfig.preset("lite", image_size=64)

THRESHOLD = Threshold(
    image_threshold=2.5,
    pixel_threshold=3.5,
    false_alarm_rate=0.01,
    interval=(0.0001, 0.012),
    images=299,
    source="held-out",
    data_fingerprint="0" * 64,
    weights_digest="1" * 64,
    version="0.1.0",
)


@pytest.fixture(autouse=True)
def _few_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw fewer synthetic defects than one would."""
    monkeypatch.setattr("cfrg.calibration.calibrating.LEAST_DEFECTS", 20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that nobody has trained, which held images out of that. Shared: do not change it."""
    torch.manual_seed(0)
    model = CFRG(CONFIG)
    model.load_teacher()
    held_out = [f"Copper_Stator/train/good/{name:03d}" for name in range(3)]
    model.companions["run.json"] = {"category": "Copper_Stator", "held_out": held_out}
    folder = tmp_path_factory.mktemp("runs") / "run"
    model.eval().save_pretrained(folder)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path, sample_tree: Path) -> Path:
    folder = shutil.copytree(trained, tmp_path / "run")
    good = scan(sample_tree).select(category="Copper_Stator", split="train", label=0)
    change(folder, held_out=[sample.id for sample in good][:2])
    return folder


def change(run: Path, **values: object) -> None:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (run / "run.json").write_text(json.dumps({**record, **values}), encoding="utf-8")


@pytest.mark.parametrize(("number", "rate"), [(59, 0.05), (60, 0.05), (299, 0.01), (2000, 0.02)])
def test_threshold_holds_with_the_confidence_asked_for(number: int, rate: float) -> None:
    """The share above the k-th smallest of n is Beta(n − k + 1, k) distributed."""
    rank = tolerance_rank(number, rate)
    assert rank is not None
    assert stats.beta.cdf(rate, number - rank + 1, rank) >= 0.95
    assert rank == 1 or stats.beta.cdf(rate, number - rank + 2, rank - 1) < 0.95
    expected = stats.beta.ppf([0.025, 0.975], number - rank + 1, rank)
    assert rate_interval(rank, number) == pytest.approx(tuple(expected), abs=1e-9)
    average = average_rank(number, rate)
    assert average is not None
    assert (number - average + 1) / (number + 1) <= rate + 1e-12
    assert (number - average + 2) / (number + 1) > rate


def test_threshold_holds_in_simulation() -> None:
    """Of many calibrations, one in twenty at most lets too many false alarms through."""
    rng = np.random.default_rng(0)
    rank = tolerance_rank(100, 0.05)
    assert rank is not None
    thresholds = np.sort(rng.random((4000, 100)))[:, rank - 1]
    reached = 1 - thresholds  # of scores that are uniform on [0, 1]
    assert 0.95 <= (reached <= 0.05).mean() <= 0.985


@pytest.mark.parametrize("rate", [0.3, 0.05, 0.01, 0.001])
def test_number_of_images_needed_is_the_least(rate: float) -> None:
    number = needed(rate)
    assert tolerance_rank(number, rate) == number
    assert tolerance_rank(number - 1, rate) is None
    assert (1 - rate) ** number <= 0.05 < (1 - rate) ** (number - 1)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 2])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(UsageError, match="is impossible"):
        needed(rate)


@pytest.mark.parametrize(("count", "number"), [(0, 10), (3, 10), (10, 10), (7, 200), (1, 1)])
def test_interval_of_a_share_is_that_of_scipy(count: int, number: int) -> None:
    expected = stats.binomtest(count, number).proportion_ci()
    assert clopper_pearson(count, number) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_thresholds_survive_the_file(tmp_path: Path) -> None:
    assert read_threshold(tmp_path) is None
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({**THRESHOLD.to_dict(), "of a later version": 1}))
    assert read_threshold(tmp_path) == THRESHOLD


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        json.dumps({**THRESHOLD.to_dict(), "schema": "another/1"}),
        json.dumps({**THRESHOLD.to_dict(), "image_threshold": "3"}),
        json.dumps({**THRESHOLD.to_dict(), "pixel_threshold": float("nan")}),
        json.dumps({**THRESHOLD.to_dict(), "interval": [0.1]}),
        json.dumps({k: v for k, v in THRESHOLD.to_dict().items() if k != "images"}),
    ],
)
def test_damaged_thresholds_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(ModelError, match=r"calibration\.json .*cfrg calibrate"):
        read_threshold(tmp_path)


def test_calibration_is_used_by_predict(run: Path, sample_tree: Path) -> None:
    found = calibrate(run, sample_tree, false_alarm_rate=0.8, device="cpu").threshold
    assert read_threshold(run) == found
    assert (found.images, found.source) == (2, "held-out")
    held_out = json.loads((run / "run.json").read_text())["held_out"]
    index = scan(sample_tree)
    chosen = index.with_samples(index[name] for name in held_out)
    assert found.data_fingerprint == chosen.fingerprint
    predictor = Predictor.from_pretrained(run, device="cpu")
    assert predictor.threshold == found.image_threshold
    assert predictor.pixel_threshold == found.pixel_threshold
    predictions = list(predictor.predict_files([(s.id, s.image) for s in chosen]))
    rank = tolerance_rank(2, 0.8)
    assert rank is not None
    assert sorted(p.score for p in predictions)[rank - 1] == found.image_threshold
    assert sum(bool(p.defective) for p in predictions) == 2 - rank
    assert sum(bool(p.regions) for p in predictions) == 2 - rank
    given = Predictor.from_pretrained(run, device="cpu", threshold=-9.0)
    assert (given.threshold, given.pixel_threshold) == (-9.0, found.pixel_threshold)
    assert (run / "figures" / "calibration.png").stat().st_size > 1000


def test_calibration_says_what_it_will_miss_and_can_be_repeated(
    run: Path, sample_tree: Path
) -> None:
    first = calibrate(run, sample_tree, false_alarm_rate=0.8, device="cpu")
    kept = json.loads((run / "calibration.json").read_text())
    assert kept["synthetic_defects"]["drawn"] == 20
    assert kept["synthetic_defects"]["missed"] == first.missed
    low, high = kept["synthetic_defects"]["interval"]
    assert low <= first.missed / 20 <= high
    again = calibrate(run, sample_tree, false_alarm_rate=0.8, device="cpu")
    assert again.to_dict() == first.to_dict()
    other = calibrate(run, sample_tree, false_alarm_rate=0.8, device="cpu", seed=1)
    assert (other.defect_scores != first.defect_scores).any()


def test_a_run_on_a_read_only_disk_predicts_and_says_that_it_cannot_keep_thresholds(
    run: Path, sample_tree: Path, tmp_path: Path, small_disk: Callable[..., Path]
) -> None:
    disk = small_disk(64 << 20)
    shutil.copytree(run, disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    out = tmp_path / "found"
    assert not run_line(f"cfrg predict {disk}/run {sample_tree} --out {out} --device cpu").exit_code
    assert (out / "scores.csv").exists()
    command = f"cfrg calibrate {disk}/run {sample_tree} --false-alarm-rate 0.8 --device cpu"
    result = run_line(command)
    assert result.exit_code == 2
    assert f"Error: {disk}/run cannot be written" in result.output


def test_too_few_images_are_refused_with_the_number_needed(run: Path, sample_tree: Path) -> None:
    with pytest.raises(UsageError, match=r"2 good images are too few .* 299 are needed"):
        calibrate(run, sample_tree, false_alarm_rate=0.01)
    assert not (run / "calibration.json").exists()


def test_images_trained_on_are_no_measure(run: Path, sample_tree: Path, tmp_path: Path) -> None:
    change(run, held_out=[])
    with pytest.raises(UsageError, match="held no good image out"):
        calibrate(run, sample_tree, false_alarm_rate=0.8)
    for on, warning in (("test-good", "used up"), ("train-good", "trained on these")):
        found = calibrate(run, sample_tree, false_alarm_rate=0.8, on=on, device="cpu")
        assert found.threshold.source == on
        assert warning in str(found.warning)
        assert json.loads((run / "calibration.json").read_text())["warning"] == found.warning
    folder = shutil.copytree(sample_tree / "Copper_Stator" / "test" / "good", tmp_path / "new")
    found = calibrate(run, false_alarm_rate=0.8, on=str(folder), device="cpu")
    assert (found.threshold.source, found.warning) == (str(folder), None)
    photographs = sorted(folder.iterdir())
    lines = [f"{hash_file(path)}  train/good/{path.name}\n" for path in photographs]
    (run / "trained_on.sha256").write_text("".join(lines[1:]))
    calibrate(run, false_alarm_rate=0.96, on=str(folder), device="cpu")
    kept = json.loads((run / "calibration.json").read_text())
    assert kept["images"] == 1
    assert f"{len(lines) - 1} of the {len(lines)} images" in kept["warning"]
    (run / "trained_on.sha256").write_text("".join(lines))
    with pytest.raises(UsageError, match="was trained on every image of"):
        calibrate(run, false_alarm_rate=0.8, on=str(folder))


def encode_anew(image: Image.Image, folder: Path, number: int) -> None:
    """Save copies of an image of several qualities, sizes and formats."""
    folder.mkdir(parents=True)
    for i in range(number):
        if i % 3 == 0:
            image.save(folder / f"{i:03d}.png", compress_level=i % 9)
        elif i % 3 == 1:
            image.save(folder / f"{i:03d}.jpg", quality=40 + i % 50)
        else:
            size = (image.width * (100 - i % 5) // 100, image.height * (100 - i % 5) // 100)
            image.resize(size, Image.Resampling.BICUBIC).save(folder / f"{i:03d}.bmp")


def test_copies_of_a_photograph_count_once(run: Path, sample_tree: Path, tmp_path: Path) -> None:
    good = sorted((sample_tree / "Copper_Stator" / "test" / "good").iterdir())
    with Image.open(good[0]) as image:
        encode_anew(image.convert("RGB"), tmp_path / "copies", 59)
    command = f"cfrg calibrate {run} --on {tmp_path / 'copies'} --device cpu --false-alarm-rate"
    result = run_line(f"{command} 0.05")
    assert result.exit_code == 2
    assert "59 good images, 1 of them different" in result.output
    assert "59 are needed" in result.output
    assert not (run / "calibration.json").exists()
    shutil.copy(good[1], tmp_path / "copies" / "other.png")
    result = run_line(f"{command} 0.8")
    assert "60 good images, 2 of them different" in result.output
    kept = json.loads((run / "calibration.json").read_text())
    assert (kept["images"], kept["copies"]) == (2, 58)
    without = {key: value for key, value in kept.items() if key != "copies"}
    assert Threshold.from_dict(without).copies == 0


@pytest.mark.parametrize("on", ["test-good", "held-out"])
def test_copies_in_a_tree_count_once(run: Path, sample_tree: Path, tmp_path: Path, on: str) -> None:
    tree = shutil.copytree(sample_tree, tmp_path / "tree")
    folder = tree / "Copper_Stator" / ("test" if on == "test-good" else "train") / "good"
    before = len(list(folder.iterdir()))
    first = min(folder.iterdir())
    with Image.open(first) as image:
        image.convert("RGB").save(folder / "copy.jpg", quality=70)
    index = scan(tree).select(category="Copper_Stator", split="train", label=0)
    change(run, held_out=[sample.id for sample in index])
    found = calibrate(run, tree, on=on, false_alarm_rate=0.9, device="cpu")
    assert (found.threshold.images, found.threshold.copies) == (before, 1)


def test_all_bad_images_among_the_good_ones_are_named(
    run: Path, sample_tree: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    good = sorted((sample_tree / "Copper_Stator" / "train" / "good").iterdir())[:3]
    for file in good:
        (folder / file.name).write_bytes(file.read_bytes())
        (folder / f"cut {file.name}").write_bytes(file.read_bytes()[:300])
    with pytest.raises(DataError, match=r"^3 images cannot be used:") as caught:
        calibrate(run, sample_tree, on=str(folder), false_alarm_rate=0.8, device="cpu")
    assert all(f"cut {file.name} cannot be read" in str(caught.value) for file in good)


def test_a_tree_is_no_folder_of_good_images(run: Path, sample_tree: Path) -> None:
    with pytest.raises(UsageError, match="Give it as `root` with `on=test-good`"):
        calibrate(run, false_alarm_rate=0.8, on=str(sample_tree))


def test_the_figure_parts_its_bars_at_the_threshold() -> None:
    scores, defects = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.5, 3.0, 3.5, 5.0, 99.0])
    threshold = replace(THRESHOLD, image_threshold=3.0, pixel_threshold=4.0)
    figure = draw_scores(Calibration(threshold, None, scores, scores, defects, None))
    axis = figure.axes[0]
    good, defective = (list(bars) for bars in axis.containers)
    for bars, above in ((good, 1), (defective, 3)):  # a score on the threshold is good
        right = [bar for bar in bars if bar.get_x() > 3.0]
        assert sum(bar.get_height() for bar in right) == above
        assert sum(bar.get_height() for bar in bars) == len(scores if bars is good else defects)
    low, high = axis.get_xlim()
    assert low < 1.0
    assert high < 9  # the lone score far off does not squeeze the rest


def test_another_tree_than_that_of_the_training_is_refused(run: Path, sample_tree: Path) -> None:
    change(run, held_out=["Copper_Stator/train/good/nowhere"])
    with pytest.raises(DataError, match="lacks 1 of the 1 images"):
        calibrate(run, sample_tree, false_alarm_rate=0.8)


def test_thresholds_of_other_weights_or_tiles_are_not_used(run: Path, sample_tree: Path) -> None:
    calibrate(run, sample_tree, false_alarm_rate=0.8, device="cpu")
    with pytest.raises(UsageError, match="belong to whole images, not to tiles of 48"):
        Predictor.from_pretrained(run, tile=48)
    Predictor.from_pretrained(run, tile=48, threshold=1.0, pixel_threshold=1.0)
    Predictor.from_pretrained(run, tile=48, calibrated=False)
    values = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**values, "smoothing_sigma": 3.0}))
    with pytest.raises(ModelError, match="other weights"):
        Predictor.from_pretrained(run)


def test_digest_follows_weights_and_configuration(trained: Path) -> None:
    model = CFRG.from_pretrained(trained)
    before = digest_weights(model)
    assert digest_weights(CFRG.from_pretrained(trained)) == before
    model.config = replace(CONFIG, tile=100)
    assert digest_weights(model) == before, "tiles are told apart by themselves"
    model.config = CONFIG
    with torch.no_grad():
        next(model.unet.parameters()).mul_(1.001)
    assert digest_weights(model) != before


def test_tiles_are_calibrated_as_tiles(run: Path, sample_tree: Path) -> None:
    found = calibrate(run, sample_tree, false_alarm_rate=0.8, tile=64, overlap=16, device="cpu")
    assert (found.threshold.tile, found.threshold.tile_overlap) == (64, 16)
    predictor = Predictor.from_pretrained(run, tile=64, overlap=16, device="cpu")
    assert predictor.threshold == found.threshold.image_threshold

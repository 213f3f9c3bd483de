"""Two thresholds from good images, and the shares that they keep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from command_lines import run_line
from scipy import stats

from cfrg import CFRG, CFRGConfig, Predictor
from cfrg.calibration.calibrating import calibrate
from cfrg.calibration.policies import check_rates, find_policy, review_rank
from cfrg.calibration.tolerance import tolerance_rank
from cfrg.inference.thresholds import read_policy
from threecad import read_mask, scan
from threecad.errors import UsageError


def test_both_rates_hold_with_the_confidence_promised() -> None:
    """Of many calibrations on uniform scores, one in twenty at most breaks either rate."""
    rng = np.random.default_rng(0)
    stopped, reviewed = [], []
    for _ in range(2000):
        scores = rng.random(200)
        policy = find_policy([None] * 200, scores, scores, false_alarm_rate=0.03, review_rate=0.1)
        assert policy.defective is not None
        assert policy.review is not None
        stopped.append(1 - policy.defective)
        reviewed.append(policy.defective - policy.review)
    assert (np.array(stopped) <= 0.03).mean() >= 0.94
    assert 0.94 <= (np.array(reviewed) <= 0.1).mean() < 0.99


@pytest.mark.parametrize(("number", "rate", "review"), [(300, 0.01, 0.05), (100, 0.03, 0.2)])
def test_the_review_takes_as_much_as_its_rate_allows(
    number: int, rate: float, review: float
) -> None:
    """The share between the j-th and the k-th of n is Beta(k − j, n − k + j + 1) distributed."""
    k = tolerance_rank(number, rate)
    assert k is not None
    j = review_rank(k, number, review)
    assert stats.beta.cdf(review, k - j, number - k + j + 1) >= 0.95
    assert stats.beta.cdf(review, k - j + 1, number - k + j) < 0.95


def test_each_category_has_its_own_thresholds_and_too_few_images_are_refused_by_name() -> None:
    groups = ["Ring"] * 60 + ["Stator"] * 60
    scores = np.concatenate([np.arange(60.0), 100 + np.arange(60.0)])
    policy = find_policy(groups, scores, scores, false_alarm_rate=0.05)
    assert (policy.of("Ring").defective, policy.of("Stator").defective) == (59.0, 159.0)
    assert policy.defective == 59.0
    with pytest.raises(UsageError, match=r"needs 59 .*: Nut has 2\. Ask"):
        find_policy([*groups, "Nut", "Nut"], np.zeros(122), np.zeros(122), false_alarm_rate=0.05)


def test_too_few_images_for_the_review_and_rates_of_all_images_are_refused() -> None:
    with pytest.raises(UsageError, match=r"1\.00% needs 299 .* the run has 60"):
        find_policy(
            [None] * 60, np.zeros(60), np.zeros(60), false_alarm_rate=0.05, review_rate=0.01
        )
    with pytest.raises(UsageError, match="are all images"):
        check_rates(0.5, 0.5)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A model of all categories that nobody has trained."""
    torch.manual_seed(0)
    model = CFRG(CFRGConfig.preset("lite", image_size=64))
    model.load_teacher()
    model.companions["run.json"] = {"category": "all"}
    model.eval().save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def test_calibrated_policy_decides_what_predict_writes(
    run: Path, sample_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfrg.calibration.calibrating.LEAST_DEFECTS", 5)
    rates = "--false-alarm-rate 0.6 --review-rate 0.35 --on test-good --device cpu"
    found = run_line(f"cfrg calibrate {run} {sample_tree} {rates} --least-area 30 --defects")
    assert found.exit_code == 0, found.output
    defective = list(scan(sample_tree).select(split="test", label=1))
    areas: list[int] = []
    for sample in defective:
        assert sample.mask is not None
        mask = read_mask(sample.mask).astype(np.uint8)
        areas += cv2.connectedComponentsWithStats(mask)[2][1:, 4].tolist()
    hidden = sum(area < 30 for area in areas)
    assert f"hides {hidden} of {len(areas)} labelled regions" in found.output
    kept = json.loads((run / "calibration.json").read_text())
    assert kept["labelled_defects"]["images"] == len(defective)
    policy = read_policy(run)
    assert policy is not None
    assert policy.review is not None
    assert policy.least_area == 30
    out = tmp_path / "found"
    assert not run_line(f"cfrg predict {run} {sample_tree} --out {out} --device cpu").exit_code
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    decisions = {line["id"]: line["decision"] for line in lines}
    assert set(decisions.values()) == {"good", "review", "defective"}
    assert all(region["area"] >= 30 for line in lines for region in line["regions"])
    assert all(line["decision"] == "good" for line in lines if not line["regions"])
    missed = sum(decisions[sample.id] == "good" for sample in defective)
    assert kept["labelled_defects"]["good"] == missed


def test_a_run_of_all_categories_decides_each_image_by_its_own(
    run: Path, sample_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfrg.calibration.calibrating.LEAST_DEFECTS", 5)
    options: dict[str, Any] = {"on": "test-good", "device": "cpu", "per_category": True}
    with pytest.raises(UsageError, match=r"different good images: Aluminum_Camera_Cover has \d"):
        calibrate(run, sample_tree, false_alarm_rate=0.2, **options)
    calibrate(run, sample_tree, false_alarm_rate=0.9, **options)
    predictor = Predictor.from_pretrained(run, device="cpu")
    index = scan(sample_tree)
    assert set(predictor.policy.categories) == {sample.category for sample in index}
    samples = list(index.select(split="test"))
    for found in predictor.predict_files([(s.id, s.image) for s in samples]):
        own = predictor.policy.categories[found.id.partition("/")[0]]
        assert found.decision == own.decide(found.score)

"""Figures of decisions: against the plainest code that says what they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from threecad.errors import UsageError
from threecad.evaluation.counting.device_maps import DeviceMap
from threecad.evaluation.counting.maps import ArrayMap
from threecad.evaluation.operation.peaks import credit_peak
from threecad.evaluation.operation.point import OperatingPoint
from threecad.metrics import Evaluator, Result


def make_images(seed: int = 0, n: int = 40, side: int = 32):
    """Return maps, masks, scores and labels; half of the defective maps peak elsewhere."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    masks = np.zeros((n, side, side), bool)
    maps = rng.normal(size=masks.shape).astype(np.float32)
    for i in np.flatnonzero(labels):
        row, column = rng.integers(2, side - 8, 2)
        masks[i, row : row + 5, column : column + 1 + i % 5] = True
        peak = (row + 1, column) if i % 4 == 1 else (side - 1, side - 1)
        maps[i][peak] = 4 + rng.uniform(0, 4)
    return maps, masks, maps.max((1, 2)), labels


def credit_plainly(scores: np.ndarray, mask: np.ndarray, reach: float) -> float:
    near = ndimage.distance_transform_edt(~mask) <= reach * np.hypot(*mask.shape)
    return float(near[scores == scores.max()].mean())


@pytest.mark.parametrize("kind", [ArrayMap, lambda a: DeviceMap(torch.from_numpy(a))])
@pytest.mark.parametrize("reach", [0.0, 0.02, 0.1, 1.0])
def test_the_credit_of_a_peak_is_the_share_of_highest_points_near_a_region(kind, reach) -> None:
    rng = np.random.default_rng(1)
    for levels in (2, 5, 10_000):
        scores = rng.integers(0, levels, (24, 40)).astype(np.float32)
        mask = np.zeros((24, 40), bool)
        mask[3:6, 30:35] = mask[20, 2] = True
        assert credit_peak(kind(scores), mask, reach) == credit_plainly(scores, mask, reach)
    assert credit_peak(kind(scores), np.zeros_like(mask), reach) is None


def evaluate(images, batches: int = 1, types=None, **settings) -> Result:
    evaluator = Evaluator(**settings)
    for part in np.array_split(np.arange(len(images[3])), batches):
        groups = None if types is None else {"defect_type": [types[i] for i in part]}
        evaluator.update(*(values[part] for values in images), groups)
    return evaluator.compute()


def right_plainly(images, threshold: float, reach: float, chosen) -> float:
    maps, masks, scores, labels = images
    decided = np.flatnonzero((labels == 1) & (scores > threshold) & chosen)
    return float(np.mean([credit_plainly(maps[i], masks[i], reach) for i in decided]))


@pytest.mark.parametrize("point", [{}, {"threshold": 6.0}, {"alarm_rate": 0.2, "reach": 0.0}])
def test_right_for_the_reason_by_type_and_size(point) -> None:
    images = make_images()
    _, masks, scores, labels = images
    types = ["good" if not label else f"type {i % 3}" for i, label in enumerate(labels)]
    result = evaluate(images, types=types, operation=point, bootstrap=200)
    asked = OperatingPoint(**point)
    threshold = asked.threshold
    if threshold is None:
        good = np.sort(scores[labels == 0])[::-1]
        threshold = good[int(asked.alarm_rate * good.size)]
    everything = np.ones(labels.size, bool)
    figure = result["right_reason"]
    assert figure.value == pytest.approx(
        right_plainly(images, threshold, asked.reach, everything), abs=1e-12
    )
    assert figure.low <= figure.value <= figure.high
    assert figure.confidence[0] < figure.value < figure.confidence[1]
    for name, scored in result.by_defect_type.items():
        chosen = np.array([name.endswith(kind) for kind in types])
        expected = right_plainly(images, threshold, asked.reach, chosen)
        assert scored.figures["right_reason"].value == pytest.approx(expected, abs=1e-12)
    areas = masks.sum((1, 2)) / masks[0].size
    large = right_plainly(images, threshold, asked.reach, areas > 0.005)
    of_size = result.by_size["large"].figures["right_reason"]
    assert of_size.value == pytest.approx(large, abs=1e-12)
    assert of_size.confidence is not None
    assert Result.from_dict(result.to_dict())["right_reason"] == figure


def test_no_figure_of_decisions_depends_on_the_batches() -> None:
    images = make_images(3)
    one, many = evaluate(images, bootstrap=20), evaluate(images, 7, bootstrap=20)
    assert one.to_dict() == many.to_dict()


def test_where_no_image_is_decided_defective_there_is_a_reason_and_no_figure() -> None:
    figure = evaluate(make_images(), operation={"threshold": 1e9})["right_reason"]
    assert figure.value is None
    assert "no defective image" in str(figure.reason)


def test_scores_from_the_background_are_said() -> None:
    maps, masks, _, labels = make_images(n=40)
    maps[labels == 1, -1, -1] = 100
    (warning,) = evaluate((maps, masks, maps.max((1, 2)), labels)).warnings
    assert "only 0 % have the highest point" in warning
    assert "background" in warning
    maps[masks] = 200
    assert not evaluate((maps, masks, maps.max((1, 2)), labels)).warnings


@pytest.mark.parametrize(
    "point", [{"alarm_rate": 0}, {"miss_rate": 1}, {"threshold": float("nan")}, {"reach": -1}]
)
def test_a_point_out_of_range_is_refused(point) -> None:
    with pytest.raises(UsageError, match=next(iter(point))):
        Evaluator(operation=point)


def found_plainly(scores: np.ndarray, labels: np.ndarray, rate: float) -> float:
    """Return the largest recall over all thresholds whose false alarms do not exceed the rate."""
    good, defective = scores[labels == 0], scores[labels == 1]
    thresholds = [t for t in [*scores, np.inf] if np.mean(good >= t) <= rate]
    return max(float(np.mean(defective >= t)) for t in thresholds)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.5])
def test_defects_found_and_good_passed_at_a_rate(seed: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(60 + seed) % 3 > 0).astype(int)
    scores = np.round(rng.normal(size=labels.size) + labels, 1 if seed % 2 else 8)
    maps = np.zeros((labels.size, 2, 2))
    images = (maps, np.zeros(maps.shape, bool), scores, labels)
    point = {"alarm_rate": rate, "miss_rate": rate}
    result = evaluate(images, operation=point, bootstrap=50)
    percent = f"{round(100 * rate):02d}"
    found, passed = result[f"defects_found_{percent}"], result[f"good_passed_{percent}"]
    assert found.value == pytest.approx(found_plainly(scores, labels, rate), abs=1e-12)
    assert passed.value == pytest.approx(found_plainly(-scores, 1 - labels, rate), abs=1e-12)
    assert found.high - found.low < 1e-9
    assert found.confidence is not None


ANOMALIB = [
    (0, 0.05, (0.459016383, 0.346534640)),
    (1, 0.1, (0.688524604, 0.702970326)),
    (2, 0.2, (0.737704933, 0.752475262)),
    (3, 0.05, (0.491803288, 0.564356446)),
]
"""Seed, rate, and PB and PG of anomalib 2.7.0 (``_PBn(fpr=rate)``, ``_PGn(fnr=rate)``) on the
scores of ``make_scores(seed)``."""


def make_scores(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.array([0] * 101 + [1] * 61)
    return (rng.normal(size=162) + 1.5 * labels).astype(np.float32), labels


@pytest.mark.parametrize(("seed", "rate", "expected"), ANOMALIB)
def test_equal_to_anomalib_where_its_threshold_is_a_score(seed, rate, expected) -> None:
    scores, labels = make_scores(seed)
    maps = np.zeros((labels.size, 2, 2))
    point = {"alarm_rate": rate, "miss_rate": rate}
    result = evaluate((maps, np.zeros(maps.shape, bool), scores, labels), operation=point)
    percent = f"{round(100 * rate):02d}"
    got = [result[f"{name}_{percent}"].value for name in ("defects_found", "good_passed")]
    assert got == pytest.approx(expected, abs=1e-6)


COSTS = {"miss": 20.0, "alarm": 3.0, "defect_rate": 0.02}


def cost_plainly(scores: np.ndarray, labels: np.ndarray, threshold: float) -> float:
    missed = np.mean(scores[labels == 1] <= threshold)
    stopped = np.mean(scores[labels == 0] > threshold)
    return float(0.02 * 20 * missed + 0.98 * 3 * stopped)


@pytest.mark.parametrize("seed", range(3))
def test_expected_cost_at_a_threshold_and_the_least(seed: int) -> None:
    images = make_images(seed)
    _, _, scores, labels = images
    result = evaluate(images, operation={"threshold": 3.5, "costs": COSTS}, bootstrap=50)
    expected, least = result["expected_cost"], result["least_cost"]
    assert 20 * expected.value == pytest.approx(cost_plainly(scores, labels, 3.5))
    every = [cost_plainly(scores, labels, t) for t in [*scores, -np.inf]]
    assert 20 * least.value == pytest.approx(min(every))
    assert least.value <= min(expected.value, 0.02)
    assert expected.confidence is not None
    text = " ".join(str(result).split())
    assert f"A part costs {20 * expected.value:.4g} at the threshold" in text
    assert "0.4 without a detector" in text
    assert Evaluator(**Evaluator(operation={"costs": COSTS}).settings()).operation.costs is not None


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ({"miss": -1}, "cost of miss"),
        ({"miss": 0, "alarm": 0}, "cost nothing"),
        ({"defect_rate": 1.0}, "defect_rate"),
    ],
)
def test_costs_out_of_range_are_refused(costs, message) -> None:
    with pytest.raises(UsageError, match=message):
        Evaluator(operation={"costs": COSTS | costs})

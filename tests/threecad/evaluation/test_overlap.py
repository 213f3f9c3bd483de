"""AUPIMO: against anomalib, and against the definition as plainly as it can be written."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from click.testing import CliRunner

import threecad
from threecad.cli import main
from threecad.evaluation.operation.overlap import GoodTail
from threecad.metrics import Result

CATEGORIES = ("Copper_Stator", "Iron_Stator")

ANOMALIB = [
    (0, True, (0.0023, 0.0519), [0.196954253, 0.245025119, 0.299105393, 0.233444952]),
    (0, False, (0.002, 0.05), [0.188867574, 0.23592922, 0.290610513, 0.225865905]),
    (1, True, (0.002, 0.0549), [0.215796432, 0.235056696, 0.22715226, 0.277620206]),
    (1, False, (0.002, 0.05), [0.208397913, 0.227915441, 0.220242969, 0.272016917]),
]
"""Seed, whether scores lie on a grid, bounds, and ``aupimo_scores`` of anomalib 2.7.0 for
the maps of ``make_maps``: with one threshold for each step of the grid, or 300,000."""


def make_maps(seed: int, grid: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    masks = np.zeros((9, 40, 50), bool)
    masks[5:, 10:20, 10:22] = True
    maps = rng.normal(size=masks.shape) + 1.5 * masks
    if grid:
        maps = np.clip(np.round(maps * 20), -100, 100)
    return maps.astype(np.float32), masks


def score_all(maps, masks, bounds) -> list[float]:
    tail = GoodTail(5, bounds)
    for values in maps[:5]:
        tail.add(values)
    return [tail.score(values[mask]) for values, mask in zip(maps[5:], masks[5:], strict=True)]


@pytest.mark.parametrize(("seed", "grid", "bounds", "expected"), ANOMALIB)
def test_equal_to_anomalib(seed, grid, bounds, expected) -> None:
    tolerance = 1e-6 if grid else 1e-5  # off the grid, 300,000 thresholds miss some scores
    assert score_all(*make_maps(seed, grid), bounds) == pytest.approx(expected, abs=tolerance)


def score_plainly(good: list[np.ndarray], defective: np.ndarray, bounds) -> float:
    """Average the overlap at a million rates, evenly spaced in their logarithm."""
    levels = np.unique(np.concatenate([g.ravel() for g in good]))[::-1]
    rates = np.array([np.mean([(g >= t).mean() for g in good]) for t in levels])
    share = np.array([((defective > t).mean() + (defective >= t).mean()) / 2 for t in levels])
    asked = np.exp(np.linspace(*np.log(bounds), 200_001))
    asked = (asked[1:] + asked[:-1]) / 2
    return float(share[np.minimum(np.searchsorted(rates, asked), levels.size - 1)].mean())


def test_images_of_different_sizes_weigh_the_same() -> None:
    rng = np.random.default_rng(4)
    good = [rng.normal(size=size) for size in [(30, 30), (10, 12), (50, 40)]]
    defective = rng.normal(size=80) + 2
    tail = GoodTail(3, (0.003, 0.05))
    for values in good:
        tail.add(values)
    expected = score_plainly(good, defective, (0.003, 0.05))
    assert tail.score(defective) == pytest.approx(expected, abs=1e-4)
    assert tail.pixels == 3020


def test_flat_maps_cost_half_and_perfect_ones_nothing() -> None:
    tail = GoodTail(2)
    for _ in range(2):
        tail.add(np.zeros((100, 100)))
    assert tail.score(np.zeros(5)) == pytest.approx(0.5)
    assert tail.score(np.ones(5)) == pytest.approx(1.0)
    assert tail.score(-np.ones(5)) == pytest.approx(0.0)
    assert not tail.resolved


def test_evaluate_gives_mean_spread_and_each_image(tmp_path) -> None:
    root = tmp_path / "tree"
    threecad.write_sample(root, categories=CATEGORIES, per_category=4, size=64, workers=0)
    index = threecad.scan(root)
    rng = np.random.default_rng(0)
    ids = [sample.id for sample in index if sample.split == "test"]
    maps = {name: rng.normal(size=(64, 64)).astype(np.float32) for name in ids}
    with threecad.PredictionWriter(tmp_path / "predictions") as writer:
        for name, values in maps.items():
            writer.add(name, values, float(values.max()))
    out, table = tmp_path / "result.json", tmp_path / "images.csv"
    arguments = ["evaluate", str(root), str(tmp_path / "predictions"), "--bootstrap", "50"]
    arguments += ["--aupimo", "--out", str(out), "--per-image", str(table)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "AUPIMO" in done.output
    result = Result.from_json(out)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["id"] for row in rows} == set(ids)
    for category, scores in result.by_category.items():
        figure = scores.figures["aupimo"]
        values = [float(r["aupimo"]) for r in rows if r["aupimo"] and r["id"].startswith(category)]
        assert figure.value == pytest.approx(np.mean(values))
        assert result.quantiles[category]["50"] == pytest.approx(np.median(values))
        assert figure.confidence[0] <= figure.value <= figure.confidence[1]
    assert any("too few" in warning for warning in result.warnings)
    assert Result.from_dict(result.to_dict()) == result

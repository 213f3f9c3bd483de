"""Predictions that cannot be right are refused or doubted, and those that can be are not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from trees import write_tree

from threecad import Evaluator
from threecad.cli import main
from threecad.dataset.scanning import scan
from threecad.errors import EvaluationError, UsageError
from threecad.evaluation.pipeline import evaluate
from threecad.evaluation.predictions import PredictionWriter
from threecad.evaluation.results import Result

SIZE = (48, 64)  # height, width


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Pictures of 48 × 64, whose defects are squares."""
    return scan(write_tree(tmp_path_factory.mktemp("tree"), good=6)).select(split="test")


@pytest.fixture(scope="module")
def maps(index):
    rng = np.random.default_rng(0)
    found = {}
    for sample in index:
        found[sample.id] = rng.random(SIZE, np.float32)
        if sample.label:
            found[sample.id][10:18, 20:28] += 1 + rng.random(dtype=np.float32)
    return found


def evaluate_all_ways(index, maps, tmp_path, **options):
    """Evaluate a mapping, a function and a folder; all must say the same."""
    with PredictionWriter(tmp_path / "maps") as writer:
        for name, values in maps.items():
            writer.add(name, values, float(values.max()))
    (tmp_path / "maps" / "scores.csv").unlink()
    sources = (maps, maps.__getitem__, tmp_path / "maps")
    results = [evaluate(index, source, **options) for source in sources]
    assert results[0].warnings == results[1].warnings == results[2].warnings
    return results[0]


def test_right_predictions_raise_no_doubt(index, maps, tmp_path):
    assert evaluate_all_ways(index, maps, tmp_path).warnings == []
    square = {name: values[:40:2, :40:2] for name, values in maps.items()}
    assert evaluate(index, square).warnings == []
    one_quiet = {name: values * (i > 0) for i, (name, values) in enumerate(maps.items())}
    assert evaluate(index, one_quiet).warnings == []


@pytest.mark.parametrize("step", [1, 2, 3])
def test_transposed_maps_are_refused_by_name(index, maps, step, tmp_path):
    turned = {name: np.ascontiguousarray(m.T[::step, ::step]) for name, m in maps.items()}
    with pytest.raises(EvaluationError, match="transposed") as error:
        evaluate(index, turned)
    assert next(iter(turned)) in str(error.value)
    assert str(error.value).startswith(f"{len(turned)} predictions not usable")
    with pytest.raises(EvaluationError, match="transposed"):
        evaluate(index, turned.__getitem__)
    upright = {name: values[::step, ::step] for name, values in maps.items()}
    assert evaluate(index, upright).warnings == []


def test_one_map_across_among_others_of_the_size_of_their_images_is_refused(index, maps):
    first, *_ = maps
    with pytest.raises(EvaluationError, match="1 prediction not usable") as error:
        evaluate(index, {**maps, first: np.ascontiguousarray(maps[first].T)})
    assert f"{first}: The map is transposed: 64 × 48 (height × width) for an image of 48 × 64" in (
        str(error.value)
    )


@pytest.mark.parametrize(
    ("normalise", "said"),
    [
        (lambda m: (m - m.min()) / (m.max() - m.min()), "runs from 0 to 1"),
        (lambda m: (m - m.min()) / (m.max() - m.min() + 1e-8) * 255, "runs from 0 to 255"),
        (lambda m: (m + 1) / (m.max() + 1), "ends at 1"),
        (lambda m: (m - m.mean()) / m.std(), "has mean .* and deviation 1"),
    ],
)
def test_maps_normalised_one_by_one_are_doubted(index, maps, tmp_path, normalise, said):
    wrong = {name: normalise(values) for name, values in maps.items()}
    (warning,) = [w for w in evaluate_all_ways(index, wrong, tmp_path).warnings if "Each map" in w]
    assert said.split(" .* ")[0] in warning
    assert next(iter(sorted(wrong))) in warning
    command = ["evaluate", str(index.root), str(tmp_path / "maps"), "--bootstrap", "0"]
    ended = CliRunner().invoke(main, [*command, "--workers", "0"])
    assert "Warning: Widget: Each map" in ended.output
    ended = CliRunner().invoke(main, [*command, "--workers", "0", "--json"])
    assert warning in json.loads(ended.stdout)["warnings"]
    assert warning in ended.stderr


def test_constant_maps_identical_maps_and_inverted_signs_are_doubted(index, maps):
    flat = {name: np.full(SIZE, i / 7, np.float32) for i, name in enumerate(maps)}
    assert any("one value everywhere" in line for line in evaluate(index, flat).warnings)
    first, second, *_ = maps
    (line,) = evaluate(index, {**maps, first: maps[second]}).warnings
    assert "2 images that differ have one and the same map" in line
    assert first in line
    assert second in line
    inverted = evaluate(index, {name: -values for name, values in maps.items()})
    assert any("is the sign inverted" in line for line in inverted.warnings)
    assert Result.from_dict(inverted.to_dict()) == inverted
    old = {key: value for key, value in inverted.to_dict().items() if key != "warnings"}
    assert Result.from_dict(old) == replace(inverted, warnings=[])


def test_scores_of_other_images_are_doubted(index, maps):
    peaks = {name: float(values.max()) for name, values in maps.items()}
    assert evaluate(index, maps, scores=peaks).warnings == []
    moved = dict(zip(peaks, [*list(peaks.values())[1:], next(iter(peaks.values()))], strict=True))
    (line,) = [w for w in evaluate(index, maps, scores=moved).warnings if "other images" in w]
    assert next(iter(peaks)) in line


@pytest.mark.parametrize(
    "score", ["0.5", "high", None, True, np.bool_(True), float("nan"), [1.0, 2.0], 1j, "nan"]
)
def test_what_is_no_score_names_its_id(index, maps, score):
    scores = {name: float(values.max()) for name, values in maps.items()}
    first, *_ = scores
    with pytest.raises(EvaluationError, match="1 prediction not usable") as error:
        evaluate(index, maps, scores={**scores, first: score})
    assert f"{first}: The score is " in str(error.value)
    fine = {**scores, first: torch.tensor(scores[first])}
    assert evaluate(index, maps, scores=fine) == evaluate(index, maps, scores=scores)
    with pytest.raises(UsageError, match="scores is list"):
        evaluate(index, maps, scores=list(scores.values()))


@pytest.mark.parametrize("score", ["true", '"0.5"', "null", "[1]"])
def test_what_is_no_score_in_a_table_names_its_row(index, maps, tmp_path, score):
    (tmp_path / "scores.jsonl").write_text(f'{{"id": "Widget/test/good/000", "score": {score}}}')
    with pytest.raises(EvaluationError, match=r"row 1 .*Widget/test/good/000"):
        evaluate(index, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"maps": None}, {"maps": 3}, {"maps": "ab"}, {"masks": 5}, {"masks": ["a", "b"]},
        {"scores": [True, False]}, {"scores": ["1", "2"]}, {"scores": {0: 1.0, 1: 2.0}},
        {"labels": None}, {"labels": ["0", "1"]}, {"labels": np.float32(1)},
        {"groups": ["category"]}, {"groups": {1: ["a", "b"]}},
    ],
    ids=str,
)  # fmt: skip
def test_arguments_of_a_wrong_type_are_named(change):
    (name,) = change
    batch = {"maps": np.zeros((2, 4, 4)), "masks": None, "scores": [0, 1], "labels": [0, 1]}
    with pytest.raises((EvaluationError, UsageError), match=f"(?i){name.rstrip('s')}"):
        Evaluator().update(**{**batch, **change})


@pytest.mark.parametrize(
    "settings",
    [{"bootstrap": "3"}, {"seed": None}, {"max_bins": 300.5}, {"pro_limits": 0.3},
     {"pro_limits": ["a"]}, {"bootstrap": True}],
    ids=str,
)  # fmt: skip
def test_settings_of_a_wrong_type_are_named(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        Evaluator(**settings)
    with pytest.raises(UsageError, match="str cannot be merged"):
        Evaluator().merge("another")

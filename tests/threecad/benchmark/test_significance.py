"""Tests between methods: against the definitions, known values, and simulated worlds."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats
from sklearn.metrics import roc_auc_score

from threecad.benchmark.interval_figure import _alike, draw_ranks
from threecad.benchmark.significance import (
    Category,
    Ranks,
    auroc,
    correct_by_holm,
    delong,
    judge,
    rank,
)
from threecad.cli import main
from threecad.errors import UsageError
from threecad.evaluation.results import Result
from threecad.evaluation.scores import Figure, Scores


def make_category(seed: int, *, good: int = 30, defective: int = 25, digits: int = 1) -> Category:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([False, True], [good, defective]))
    shared = rng.normal(size=labels.size)
    scores = np.round(shared + rng.normal(size=(3, labels.size)) + labels, digits)
    return Category(labels, scores)


def delong_plainly(category: Category) -> np.ndarray:
    """Return the covariance from the placement of every image among those of the other label."""
    wins = [
        np.array(
            [[(x > y) + (x == y) / 2 for y in s[~category.labels]] for x in s[category.labels]]
        )
        for s in category.scores
    ]
    by_defective = np.cov([w.mean(1) for w in wins])
    by_good = np.cov([w.mean(0) for w in wins])
    return by_defective / category.labels.sum() + by_good / (~category.labels).sum()


@pytest.mark.parametrize("seed", range(4))
def test_auroc_and_its_covariance_with_ties(seed: int) -> None:
    category = make_category(seed)
    expected = [roc_auc_score(category.labels, scores) for scores in category.scores]
    assert auroc(category) == pytest.approx(expected, abs=1e-12)
    assert delong(category) == pytest.approx(delong_plainly(category), abs=1e-12)


def make_results(categories: dict[str, Category], names: str = "ABC") -> dict[str, Result]:
    undefined = Scores({"image_auroc": Figure.undefined("not needed")})
    return {
        name: Result(
            mean=undefined,
            by_category=dict.fromkeys(categories, undefined),
            provenance={"fingerprint": "same"},
            images={
                f"{category}/test/x/{i:03}": {"label": int(label), "score": float(score)}
                for category, (labels, scores) in categories.items()
                for i, (label, score) in enumerate(zip(labels, scores[m], strict=True))
            },
        )
        for m, name in enumerate(names)
    }


def test_p_values_are_uniform_where_methods_do_not_differ() -> None:
    p = []
    for seed in range(400):
        category = make_category(seed, good=60, defective=60, digits=8)
        (difference,) = judge(make_results({"X": category}, "AB"), replicates=2).differences
        p.append(difference.p)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09


def test_intervals_of_the_bootstrap_are_as_wide_as_those_of_delong() -> None:
    category = make_category(1, good=150, defective=150, digits=8)
    difference = judge(make_results({"X": category}, "AB")).differences[0]
    covariance = delong(category)
    deviation = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    low, high = difference.interval
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.1)
    assert low < difference.difference < high


def test_holm_by_hand() -> None:
    assert correct_by_holm([0.01, 0.04, 0.03, None]) == [0.04, 0.09, 0.09, None]
    assert correct_by_holm([0.6, 0.9]) == [1.0, 1.0]


def test_critical_differences_are_those_of_the_tables() -> None:
    for methods, q in ((3, 2.343), (5, 2.728), (10, 3.164)):  # Demšar 2006, table 5, 5 %
        figures = np.random.default_rng(0).normal(size=(14, methods))
        ranks = rank([str(i) for i in range(methods)], figures)
        expected = q * np.sqrt(methods * (methods + 1) / (6 * 14))
        assert ranks.critical_difference == pytest.approx(expected, abs=1e-3)
        assert sum(ranks.mean.values()) == pytest.approx(methods * (methods + 1) / 2)
        assert list(ranks.mean.values()) == sorted(ranks.mean.values())


def test_sentences_say_what_is_established_and_what_is_not() -> None:
    categories = {name: make_category(i) for i, name in enumerate("XYZ")}
    for category in categories.values():
        category.scores[0][category.labels] += 3
    results = make_results(categories)
    found = judge(results)
    text = str(found)
    (clear, _, unclear) = found.differences
    assert clear.established
    assert clear.better == "A"
    assert not unclear.established
    assert "On 165 images A exceeds B by" in text
    assert "after Holm over 3 comparisons" in text
    assert "not established" in text
    assert "Mean ranks over 3 categories: A 1.00" in text
    assert clear.p_holm == pytest.approx(max(3 * clear.p, 0), rel=1e-9) or clear.p_holm < 0.001
    alone = judge({name: results[name] for name in "AB"})
    assert "Holm" not in str(alone)
    assert alone.ranks is None


def test_a_method_beside_itself_does_not_differ() -> None:
    results = make_results({"X": make_category(0)}, "A")
    (difference,) = judge({"A": results["A"], "copy": results["A"]}).differences
    assert (difference.difference, difference.p, difference.interval) == (0, 1, (0, 0))
    assert "have the same image AUROC" in str(difference)


def test_results_of_other_images_are_refused(tmp_path) -> None:
    results = make_results({"X": make_category(0)}, "AB")
    images = dict(results["B"].images)
    images.pop(next(iter(images)))
    wrong = {
        "not of the same images": replace(results["B"], images=images),
        "fingerprints same and other": replace(results["B"], provenance={"fingerprint": "other"}),
        "does not hold the scores": replace(results["B"], images={}),
    }
    for message, other in wrong.items():
        with pytest.raises(UsageError, match=message):
            judge({"A": results["A"], "B": other})
    with pytest.raises(UsageError, match="two results"):
        judge({"A": results["A"]})


def test_the_command_line_prints_sentences_and_json(tmp_path) -> None:
    figures = Scores({"image_auroc": Figure(0.9, 0.9, 0.9)})
    paths = []
    for name, result in make_results({"X": make_category(0)}, "AB").items():
        path = tmp_path / f"{name}.json"
        replace(result, mean=figures, by_category={"X": figures}).to_json(path)
        paths.append(str(path))
    done = CliRunner().invoke(main, ["compare", *paths, "--test"])
    assert done.exit_code == 0, done.output
    assert "On 55 images" in done.output
    assert "DeLong" in done.output
    plain = json.loads(CliRunner().invoke(main, ["compare", *paths, "--test", "--json"]).output)
    (difference,) = plain["significance"]["differences"]
    assert difference["comparisons"] == 1
    figure = tmp_path / "differences.svg"
    drawn = CliRunner().invoke(main, ["compare", *paths, "--test-figure", str(figure)])
    assert drawn.exit_code == 0, drawn.output
    assert "<svg" in figure.read_text()
    refused = CliRunner().invoke(main, ["compare", *paths, "--test-figure", "differences.txt"])
    assert refused.exit_code == 2
    few = CliRunner().invoke(main, ["compare", *paths, "--rank-figure", str(figure)])
    assert few.exit_code != 0
    assert "three results or more" in few.output
    assert "significance" not in json.loads(
        CliRunner().invoke(main, ["compare", *paths, "--json"]).output
    )


@pytest.mark.parametrize(
    ("values", "reach", "runs"),
    [
        ([1.0, 1.5, 2.6, 3.4], 1.2, [(0, 1), (1, 2), (2, 3)]),
        ([1.0, 1.5, 2.0, 4.0], 1.2, [(0, 2)]),
        ([1.0, 2.0, 3.0], math.inf, [(0, 2)]),
        ([1.0, 2.5, 4.0], 1.2, []),
    ],
)
def test_a_bar_joins_the_longest_runs_that_lie_together(values, reach, runs) -> None:
    assert _alike(values, reach) == runs


def test_ranks_are_drawn_from_three_results_on(tmp_path: Path) -> None:
    ranks = Ranks({"best": 1.2, "middle": 1.9, "last": 2.9}, 8, 0.001, 1.1)
    draw_ranks(ranks, tmp_path / "ranks.svg")
    drawn = (tmp_path / "ranks.svg").read_text()
    assert "<svg" in drawn

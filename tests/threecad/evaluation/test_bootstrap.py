from dataclasses import replace

import numpy as np
import pytest
from exact_metrics import pixel_figures

from threecad.evaluation.bootstrap import add_mean_confidence
from threecad.evaluation.curves import Counts, interpolated_recall
from threecad.metrics import Evaluator


def draw(rng, n_good, n_bad, size=12):
    """Images whose scores share an offset, so that they and not pixels are independent."""
    n = n_good + n_bad
    masks = np.zeros((n, size, size), bool)
    labels = np.array([0] * n_good + [1] * n_bad)
    for i in range(n_good, n):
        y, x = rng.integers(0, size - 4, 2)
        masks[i, y : y + 3, x : x + 4] = True
    maps = rng.normal(size=masks.shape) + rng.normal(size=(n, 1, 1)) + 1.5 * masks
    scores = rng.normal(size=n) + 1.2 * labels
    return maps.astype(np.float32), masks, scores, labels


def collect(batch, **settings):
    evaluator = Evaluator(**settings)
    evaluator.update(*batch)
    return evaluator


def test_intervals_do_not_depend_on_order_and_do_on_the_seed():
    rng = np.random.default_rng(0)
    maps, masks, scores, labels = draw(rng, 8, 8)
    first = collect((maps, masks, scores, labels), bootstrap=100, seed=1)
    order = rng.permutation(len(labels))
    parts = [
        collect((maps[part], masks[part], scores[part], labels[part]), bootstrap=100, seed=1)
        for part in np.array_split(order, 3)
    ]
    parts[2].merge(parts[0])
    parts[2].merge(parts[1])
    assert parts[2].compute() == first.compute()
    other = collect((maps, masks, scores, labels), bootstrap=100, seed=2).compute()
    assert other["pixel_auroc"].confidence != first.compute()["pixel_auroc"].confidence


def test_replicates_agree_with_drawing_whole_images():
    """The few bins of the bootstrap give the spread that full recomputation gives."""
    rng = np.random.default_rng(1)
    maps, masks, scores, labels = draw(rng, 10, 10)
    found = collect((maps, masks, scores, labels), bootstrap=400).compute()
    replicates = []
    for _ in range(200):
        chosen = np.concatenate([rng.integers(0, 10, 10), rng.integers(10, 20, 10)])
        replicates.append(pixel_figures(maps[chosen], masks[chosen]))
    for key in ("pixel_auroc", "pixel_ap", "pixel_f1_max", "pro_30"):
        low, high = np.quantile([r[key] for r in replicates], [0.025, 0.975])
        expected, width = high - low, found[key].confidence[1] - found[key].confidence[0]
        assert 0.6 * expected < width < 1.6 * expected, key
        assert found[key].confidence[0] < found[key].value < found[key].confidence[1]


def test_mean_over_categories_is_narrower_than_its_parts():
    rng = np.random.default_rng(2)
    evaluator = Evaluator(bootstrap=200)
    for name in "abcd":
        maps, masks, scores, labels = draw(rng, 8, 8)
        evaluator.update(maps, masks, scores, labels, {"category": [name] * 16})
    result = evaluator.compute()

    def width(scores):
        low, high = scores.figures["image_auroc"].confidence
        return high - low

    parts = [width(scores) for scores in result.by_category.values()]
    assert width(result.mean) < 0.8 * np.mean(parts)


def test_interval_of_a_mean_from_those_of_its_parts_is_that_of_joint_replicates():
    rng = np.random.default_rng(3)
    evaluator = Evaluator(bootstrap=2000)
    for name, n in (("a", 10), ("b", 20), ("c", 40)):
        maps, masks, scores, labels = draw(rng, n, n)
        evaluator.update(maps, masks, scores, labels, {"category": [name] * 2 * n})
    result = evaluator.compute()
    parts = list(result.by_category.values())
    bare = {key: replace(f, confidence=None) for key, f in result.mean.figures.items()}
    found = add_mean_confidence(replace(result.mean, figures=bare), parts).figures
    for key, figure in result.mean.figures.items():
        low, high = figure.confidence
        assert np.subtract(found[key].confidence, (low, high)) == pytest.approx(
            0, abs=0.15 * (high - low)
        ), key
    some = replace(parts[0], figures=bare)
    unknown = add_mean_confidence(replace(result.mean, figures=bare), [some, *parts[1:]])
    assert all(figure.confidence is None for figure in unknown.figures.values())


@pytest.mark.slow
def test_coverage():
    """A 95 % interval holds the truth in about 95 % of samples: bootstrap is a little narrow."""
    rng = np.random.default_rng(3)
    keys = ("image_auroc", "pixel_auroc", "pro_30")
    big = collect(draw(rng, 4000, 4000)).compute()
    hits = dict.fromkeys(keys, 0)
    trials = 300
    for _ in range(trials):
        result = collect(draw(rng, 40, 40), bootstrap=200).compute()
        for key in keys:
            low, high = result[key].confidence
            hits[key] += low <= big[key].value <= high
    for key in keys:
        assert 0.88 <= hits[key] / trials <= 0.99, (key, hits[key] / trials)


def test_region_recall_of_replicates_is_interpolated_in_the_rate():
    rng = np.random.default_rng(0)
    negatives, found = rng.integers(0, 50, (4, 9)), rng.integers(0, 5, (4, 9))
    counts = Counts(negatives, found, found, np.ones(9, bool))
    for rate in (0.01, 0.05, 0.5, 1.0):
        expected = []
        for n, f in zip(negatives, found, strict=True):
            false, true = np.append(0, n.cumsum()) / n.sum(), np.append(0, f.cumsum()) / f.sum()
            expected.append(np.interp(rate, false, true))
        assert interpolated_recall(counts, rate) == pytest.approx(expected)


def test_interval_of_region_recall_is_about_that_of_drawing_whole_images():
    batch = draw(np.random.default_rng(3), 40, 40)
    maps, masks, scores, labels = batch
    figure = collect(batch, bootstrap=300).compute()["region_recall_05"]
    rng, values = np.random.default_rng(4), []
    for _ in range(60):
        drawn = np.concatenate([rng.integers(0, 40, 40), rng.integers(40, 80, 40)])
        again = collect((maps[drawn], masks[drawn], scores[drawn], labels[drawn]), max_bins=2**16)
        values.append(again.compute()["region_recall_05"].value)
    low, high = figure.confidence
    assert high - low == pytest.approx(np.ptp(np.quantile(values, [0.025, 0.975])), rel=0.5)

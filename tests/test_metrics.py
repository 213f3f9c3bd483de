import pickle

import numpy as np
import pytest
from exact_metrics import KINDS, pixel_figures, random_case

from threecad.errors import EvaluationError
from threecad.metrics import Evaluator


def evaluate(maps, masks, labels, **settings):
    evaluator = Evaluator(**settings)
    evaluator.update(maps, masks, [float(m.max()) for m in maps], labels)
    return evaluator.compute()


@pytest.mark.parametrize("max_bins", [2**22, 2**11])
@pytest.mark.parametrize("kind", KINDS)
def test_interval_contains_the_exact_value(kind, max_bins):
    rng = np.random.default_rng(KINDS.index(kind))
    for _ in range(4):
        maps, masks, labels = random_case(rng, kind)
        result = evaluate(maps, masks, labels, max_bins=max_bins)
        for key, exact in pixel_figures(maps, masks).items():
            figure = result[key]
            assert figure.low <= exact <= figure.high, key
            assert figure.low <= figure.value <= figure.high, key
            if max_bins == 2**22 and kind != "float64":
                assert figure.within_tolerance, key
                assert figure.value == pytest.approx(exact, abs=1e-5)


def test_batches_order_and_merging_do_not_matter():
    rng = np.random.default_rng(0)
    parts = [random_case(rng, kind) for kind in ("smooth", "half", "float64", "zeros", "wide")]
    batches = [(m, k, [float(x.max()) for x in m], y) for m, k, y in parts]

    def collect(order):
        evaluator = Evaluator(max_bins=2**12)
        for i in order:
            evaluator.update(*batches[i])
        return evaluator

    expected = collect([0, 1, 2, 3, 4]).compute()
    assert collect([4, 2, 0, 3, 1]).compute() == expected
    left, right = collect([3, 0]), collect([4, 1, 2])
    right.merge(pickle.loads(pickle.dumps(left)))
    assert right.compute() == expected
    left.merge(collect([2]))
    left.merge(collect([1, 4]))
    assert left.compute() == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_is_an_error_that_names_the_image_and_adds_nothing(value):
    maps, masks, labels = random_case(np.random.default_rng(1), "normal")
    evaluator = Evaluator()
    bad = maps.copy()
    bad[1, 0, 0] = value
    with pytest.raises(EvaluationError, match="image 1"):
        evaluator.update(bad, masks, bad.max((1, 2)), labels)
    with pytest.raises(EvaluationError, match="No image was added"):
        evaluator.compute()

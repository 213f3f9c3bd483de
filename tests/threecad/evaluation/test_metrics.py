import json
import pickle

import numpy as np
import pytest
import torch
from exact_metrics import KINDS, pixel_figures, random_case

from threecad.errors import EvaluationError, UsageError
from threecad.evaluation.counting.pixels import SIZES
from threecad.metrics import Evaluator, Result


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


def refine(evaluator, batches, passes=8):
    for _ in range(passes):
        if not evaluator.start_refinement():
            return
        for batch in batches:
            evaluator.update(*batch)
        evaluator.finish_refinement()


@pytest.mark.parametrize("kind", KINDS)
def test_refinement_reaches_the_tolerance(kind):
    rng = np.random.default_rng(100 + KINDS.index(kind))
    for _ in range(3):
        maps, masks, labels = random_case(rng, kind)
        names = {"defect_type": ["bent" if label else "good" for label in labels]}
        batch = (maps, masks, [0.0] * len(labels), labels, names)
        evaluator = Evaluator(max_bins=2**10)
        evaluator.update(*batch)
        refine(evaluator, [batch])
        result = evaluator.compute()
        for scores in (result.mean, *result.by_defect_type.values(), *result.by_size.values()):
            for key, figure in scores.figures.items():
                assert figure.within_tolerance, key
        for key, exact in pixel_figures(maps, masks).items():
            assert result[key].low <= exact <= result[key].high, key


def test_refinement_in_parts_is_the_same():
    rng = np.random.default_rng(3)
    batches = []
    for _ in range(3):
        maps, masks, labels = random_case(rng, "float64")
        batches.append((maps, masks, [0.0] * len(labels), labels))

    def collect(split):
        evaluator = Evaluator(max_bins=2**10)
        for batch in batches:
            evaluator.update(*batch)
        while evaluator.start_refinement():
            left, right = evaluator.empty(), evaluator.empty()
            for batch in batches[:split]:
                left.update(*batch)
            for batch in batches[split:]:
                right.update(*batch)
            evaluator.merge(pickle.loads(pickle.dumps(right)))
            evaluator.merge(left)
            evaluator.finish_refinement()
        return evaluator.compute()

    assert collect(1) == collect(2) == collect(3)


def test_categories_that_need_no_refinement_are_not_counted_again():
    rng = np.random.default_rng(6)
    batches = []
    for kind in ("float64", "ties"):
        maps, masks, labels = random_case(rng, kind)
        names = {"category": [kind] * len(labels)}
        batches.append((maps, masks, [0.0] * len(labels), labels, names))
    evaluator = Evaluator(max_bins=2**10)
    for batch in batches:
        evaluator.update(*batch)
    before = {name: scores.counts for name, scores in evaluator.compute().by_category.items()}
    refine(evaluator, batches)
    after = evaluator.compute()
    assert {name: scores.counts for name, scores in after.by_category.items()} == before
    assert all(figure.within_tolerance for figure in after.mean.figures.values())


def random_batch(seed, category="all"):
    maps, masks, labels = random_case(np.random.default_rng(seed), "float64")
    return maps, masks, maps.max((1, 2)), labels, {"category": [category] * len(labels)}


@pytest.mark.parametrize("merging", [False, True])
def test_images_may_follow_a_refinement(merging):
    evaluator, other, alone = (Evaluator(max_bins=2**10) for _ in range(3))
    evaluator.update(*random_batch(1))
    refine(evaluator, [random_batch(1)])
    if merging:
        other.update(*random_batch(2))
        evaluator.merge(other)
    else:
        evaluator.update(*random_batch(2))
    alone.update(*random_batch(1))
    alone.update(*random_batch(2))
    assert evaluator.compute() == alone.compute()


def test_only_what_was_counted_again_is_merged_in_a_refinement():
    evaluator = Evaluator(max_bins=2**10)
    evaluator.update(*random_batch(1, "open"))
    flat = np.zeros((2, 4, 4))
    evaluator.update(flat, [flat[0], flat[0] + 1], [0, 1], [0, 1], {"category": ["settled"] * 2})
    assert evaluator.start_refinement()
    part = pickle.loads(pickle.dumps(evaluator))
    part.update(*random_batch(1, "open"))
    evaluator.merge(part)
    evaluator.finish_refinement()
    assert evaluator.compute().by_category["settled"].counts["good"] == 1


def test_evaluators_in_different_refinements_do_not_merge():
    first, second = Evaluator(max_bins=2**10), Evaluator(max_bins=2**10)
    first.update(*random_batch(1))
    second.update(*random_batch(2))
    assert first.start_refinement()
    with pytest.raises(UsageError, match="Only one"):
        first.merge(second)
    assert second.start_refinement()
    with pytest.raises(UsageError, match="different refinements"):
        first.merge(second)


def test_other_maps_in_the_second_pass_are_an_error():
    maps, masks, labels = random_case(np.random.default_rng(4), "float64")
    evaluator = Evaluator(max_bins=2**10)
    evaluator.update(maps, masks, labels * 1.0, labels)
    assert evaluator.start_refinement()
    evaluator.update(maps + 0.01, masks, labels * 1.0, labels)
    with pytest.raises(EvaluationError, match="changed"):
        evaluator.finish_refinement()


def test_breakdowns_equal_evaluations_of_their_images():
    rng = np.random.default_rng(5)
    maps, masks, labels = random_case(rng, "normal")
    while labels.sum() < 3 or labels.all():
        maps, masks, labels = random_case(rng, "normal")
    kinds = np.where(labels == 1, np.where(np.arange(len(labels)) % 2, "odd", "even"), "good")
    scores = maps.max((1, 2))
    evaluator = Evaluator()
    evaluator.update(maps, masks, scores, labels, {"defect_type": list(kinds)})
    result = evaluator.compute()
    for kind in ("odd", "even"):
        chosen = (kinds == kind) | (labels == 0)
        alone = Evaluator()
        alone.update(maps[chosen], masks[chosen], scores[chosen], labels[chosen])
        expected = alone.compute()
        part = result.by_defect_type[f"all/{kind}"]
        assert part.counts == expected.mean.counts
        for key, figure in part.figures.items():
            assert figure.value == pytest.approx(expected[key].value, abs=1e-6), key


def test_sizes_and_region_recall():
    masks = np.zeros((3, 100, 100), bool)
    masks[0, 2:4, 2:4] = True  # 0.04 %
    masks[0, 20:25, 20:25] = True  # 0.25 %
    masks[1, 10:30, 10:30] = True  # 4 %
    maps = np.zeros(masks.shape, np.float32)
    maps[0, 2:4, 2] = 2  # half of the small region is found
    maps[0, 20:25, 20:22] = 2  # less than half of the medium one
    maps[1, 10:30, 10:30] = 2
    evaluator = Evaluator()
    evaluator.update(maps, masks, [2, 2, 0], [1, 1, 0])
    result = evaluator.compute()
    assert [result.by_size[s].counts["regions"] for s in ("small", "medium", "large")] == [1, 1, 1]
    recall = [result.by_size[s].figures["region_recall_01"].value for s in SIZES]
    assert recall == [1, 0, 1]
    assert result["region_recall_01"].value == pytest.approx(2 / 3)
    assert result.by_size["small"].figures["pro_30"].value == pytest.approx(
        0.5 + 0.5 * 0.15, abs=1e-3
    )


def test_mean_is_unweighted_over_defined_categories():
    rng = np.random.default_rng(6)
    masks = np.zeros((7, 8, 8), bool)
    masks[[1, 2, 4], 2:4, 2:5] = True
    maps = (rng.normal(size=masks.shape) + masks).astype(np.float32)
    names = {"category": ["a", "a", "a", "b", "b", "c", "c"]}
    labels = [0, 1, 1, 0, 1, 0, 0]
    evaluator = Evaluator()
    evaluator.update(maps, masks, maps.max((1, 2)), labels, names)
    result = evaluator.compute()
    a, b, c = (result.by_category[name].figures["pixel_auroc"] for name in "abc")
    assert result["pixel_auroc"].value == pytest.approx((a.value + b.value) / 2)
    assert result["pixel_auroc"].n == 2
    assert c.value is None
    assert c.reason == "no defective pixels"
    assert result.by_category["c"].figures["image_auroc"].reason == "no defective images"
    alone = Evaluator()
    alone.update(maps, masks, maps.max((1, 2)), labels)
    assert result.pooled.figures == alone.compute().mean.figures or all(
        figure.value == alone.compute()[key].value for key, figure in result.pooled.figures.items()
    )


def test_images_without_masks_count_at_image_level_alone():
    evaluator = Evaluator()
    maps = np.random.default_rng(0).normal(size=(4, 8, 8))
    evaluator.update(maps, None, [0, 1, 2, 3], [0, 0, 1, 1])
    result = evaluator.compute()
    assert result["image_auroc"].value == 1
    assert result["pixel_auroc"].to_dict() == {"value": None, "reason": "no masks", "n": 0}


def test_defective_image_with_an_empty_mask_keeps_its_label():
    masks = np.zeros((3, 8, 8), bool)
    masks[0, 1, 1] = True
    maps = np.random.default_rng(0).normal(size=masks.shape)
    evaluator = Evaluator()
    evaluator.update(maps, masks, [3, 2, 1], [1, 1, 0])
    counts = evaluator.compute().mean.counts
    assert (counts["defective"], counts["regions"]) == (2, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 2]}, "label of image 1 is 2"),
        ({"labels": [0, 0.5]}, "label of image 1 is 0.5"),
        ({"labels": [0, np.nan]}, "label of image 1 is nan"),
        ({"labels": ["good", "bad"]}, "labels are .*expected a number per image"),
        ({"scores": None}, "scores are None; expected a number per image"),
        ({"maps": [[["a"]]] * 2}, "image 0 is list"),
        ({"labels": [0, 0]}, "image 1 is labelled good|Image 1 is labelled good"),
        ({"scores": [0.0, np.nan]}, "score of image 1"),
        ({"scores": [0.0]}, "1 scores for 2 labels"),
        ({"masks": np.zeros((2, 4, 5), bool)}, "mask of image 0"),
        ({"maps": np.zeros((2, 4, 4), np.int32)}, "int32"),
        ({"groups": {"category": ["a"]}}, "1 names of 'category'"),
    ],
)
def test_bad_batches_are_refused(change, message):
    masks = np.zeros((2, 4, 4), bool)
    masks[1, 0, 0] = True
    batch = {"maps": np.zeros((2, 4, 4)), "masks": masks, "scores": [0, 1], "labels": [0, 1]}
    with pytest.raises(EvaluationError, match=message):
        Evaluator().update(**{**batch, **change})


@pytest.mark.parametrize(
    "settings",
    [
        {"pro_limits": ()},
        {"pro_limits": (0.3, 1.5)},
        {"bootstrap": -1},
        {"seed": -1},
        {"max_bins": 255},
        {"protocol": "other"},
    ],
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        Evaluator(**settings)
    with pytest.raises(UsageError, match="differ in seed: 0 and 1"):
        Evaluator().merge(Evaluator(seed=1))


def test_groups_are_any_labels():
    maps, masks, labels = random_case(np.random.default_rng(0), "normal")
    n = len(labels)
    evaluator = Evaluator(bootstrap=np.int64(2), pro_limits=np.array([0.3], np.float32))
    groups = {"category": torch.arange(n) % 2, "defect_type": [None, *range(n - 1)]}
    evaluator.update(maps, masks, [torch.tensor(0.5)] * n, labels, groups)
    result = evaluator.compute()
    assert set(result.by_category) == {"0", "1"}
    assert Result.from_dict(json.loads(result.to_json())) == result


def test_monotone_rescaling_changes_nothing():
    maps, masks, labels = random_case(np.random.default_rng(8), "normal")
    first = evaluate(maps.astype(np.float64), masks, labels)
    second = evaluate(np.exp(maps.astype(np.float64)) * 1e-3, masks, labels)
    for key, figure in first.mean.figures.items():
        other = second[key]
        if figure.value is None:
            assert (other.value, other.reason) == (None, figure.reason), key
            continue
        assert max(figure.low, other.low) <= min(figure.high, other.high), key


def test_torch_tensors_give_the_same():
    torch = pytest.importorskip("torch")
    maps, masks, labels = random_case(np.random.default_rng(9), "half")
    a, b = Evaluator(), Evaluator()
    a.update(maps, masks, [0.0] * len(labels), labels)
    tensors = [torch.from_numpy(x) for x in (maps, masks, labels)]
    b.update(tensors[0], tensors[1], torch.zeros(len(labels)), tensors[2])
    assert a.compute() == b.compute()
    c = Evaluator()
    c.update(tensors[0].bfloat16(), list(masks), torch.zeros(len(labels)), labels)
    d = Evaluator()
    d.update(tensors[0].bfloat16().float().numpy(), masks, [0.0] * len(labels), labels)
    assert c.compute() == d.compute()

"""Histograms against their definition: sorted ordinals, and the smallest shift that fits."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from threecad.evaluation.counting import histograms, kernels, page_table
from threecad.evaluation.counting.bins import trailing_zeros
from threecad.evaluation.counting.histograms import ScoreHistogram
from threecad.evaluation.counting.page_table import Pages

KINDS = ("smooth", "tight", "two clusters", "half", "float64", "wide", "ties", "signed")


def ordinals_of(scores):
    """The key of every score, in Python integers."""
    bits = scores.astype(np.float64).view(np.uint64).astype(object)
    return [2**63 - (b - 2**63) if b >= 2**63 else 2**63 + b for b in bits]


def expected_bins(scores, weights, max_bins, page_bits):
    ordinals = ordinals_of(scores)
    union = 0
    for key in ordinals:
        union |= abs(key - 2**63)
    shift = alignment = trailing_zeros(union)
    while len({key >> (shift + page_bits) for key in ordinals}) > max_bins >> page_bits:
        shift += 1
    counts = {}
    for key, weight in zip(ordinals, weights, strict=True):
        n, total = counts.get(key >> shift, (0, 0))
        counts[key >> shift] = n + 1, total + int(weight)
    return counts, shift, alignment


def draw(rng, kind, n):
    return {
        "smooth": lambda: rng.uniform(0.1, 0.9, n).astype(np.float32),
        "tight": lambda: 1000 + 1e-9 * rng.normal(size=n),
        "two clusters": lambda: np.where(rng.random(n) < 0.5, 0, 1 + 1e-9 * rng.random(n)),
        "half": lambda: rng.normal(size=n).astype(np.float16).astype(np.float32),
        "float64": lambda: rng.normal(size=n),
        "wide": lambda: 10.0 ** rng.uniform(-300, 300, n) * rng.choice([-1, 1], n),
        "ties": lambda: rng.integers(-3, 4, n).astype(np.float32),
        "signed": lambda: rng.normal(size=n).astype(np.float32),
    }[kind]()


@pytest.mark.parametrize("dense", [True, False])
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    budget=st.integers(8, 14),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40)
def test_state_is_a_function_of_the_scores_alone(dense, kinds, budget, seed):
    rng = np.random.default_rng(seed)
    parts = [draw(rng, kind, int(rng.integers(1, 900))) for kind in kinds]
    weights = [rng.integers(0, 2**40, part.size) for part in parts]
    channels = 1 if dense else 2

    def collect(order):
        histogram = ScoreHistogram(max_bins=2**budget, channels=channels, dense=dense)
        for i in order:
            histogram.add(parts[i], None if dense else weights[i])
        return histogram

    order = list(rng.permutation(len(parts)))
    merged = collect(order[:1])
    merged.merge(pickle.loads(pickle.dumps(collect(order[1:]))))
    counts, shift, alignment = expected_bins(
        np.concatenate([part.astype(np.float64) for part in parts]),
        np.concatenate(weights),
        2**budget,
        8 if dense else 0,
    )
    for histogram in (collect(range(len(parts))), collect(order), merged):
        bins = histogram.bins()
        assert (bins.shift, bins.alignment) == (shift, alignment)
        found = dict(zip(bins.ids.tolist(), bins.counts.tolist(), strict=True))
        assert found == {key: list(pair[:channels]) for key, pair in sorted(counts.items())}
        assert list(found) == sorted(found)
        assert histogram.total == sum(part.size for part in parts)


def test_long_streams_fold_and_widen(monkeypatch):
    monkeypatch.setattr(histograms, "MAX_WAITING", 100)
    rng = np.random.default_rng(0)
    parts = [draw(rng, kind, 700) for kind in KINDS]
    one = ScoreHistogram(max_bins=2**11, dense=True)
    one.add(np.concatenate([part.astype(np.float64) for part in parts]))
    many = ScoreHistogram(max_bins=2**11, dense=True)
    for part in parts:
        many.add(part)
    for a, b in zip(one.bins(), many.bins(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("kind", ["smooth", "signed"])
def test_pages_widen_where_they_are(kind):
    scores = draw(np.random.default_rng(1), kind, 3000)
    pages, wide = Pages(shift=32, max_pages=2**14), Pages(shift=33, max_pages=2**14)
    assert pages.count(scores).size == wide.count(scores).size == 0
    pages.widen()
    for a, b in zip(pages.bins(29), wide.bins(29), strict=True):
        assert np.array_equal(a, b)
    assert pages.count(scores).size == 0
    assert pages.bins(29).counts.sum() == pages.total == 6000


def test_pages_count_no_further_than_their_integers(monkeypatch):
    monkeypatch.setattr(histograms, "MAX_TOTAL", 1000)
    monkeypatch.setattr(page_table, "MAX_TOTAL", 1000)
    scores = draw(np.random.default_rng(2), "smooth", 900)
    histogram = ScoreHistogram(max_bins=2**14, dense=True)
    for _ in range(3):
        histogram.add(scores)
    assert histogram.bins().counts.sum() == 2700
    assert (histogram.bins().counts % 3 == 0).all()


@given(
    labels=hnp.arrays(
        np.int32, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 3)
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_regions_have_the_area_and_the_middle_of_their_pixels(labels, seed):
    scores = np.random.default_rng(seed).integers(0, 5, labels.shape).astype(np.float32)
    names = np.unique(labels[labels > 0])
    labels = np.searchsorted(names, labels).astype(np.int32) + (labels > 0)
    inside = labels > 0
    region, areas, middle = kernels.measure_regions(labels, scores[inside], len(names))
    assert np.array_equal(region, labels[inside] - 1)
    for i in range(len(names)):
        ordered = np.sort(scores[labels == i + 1])
        assert areas[i] == ordered.size
        assert middle[i] == ordered[::-1][(ordered.size + 1) // 2 - 1]


@given(hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(allow_nan=False)))
def test_keys_are_in_the_order_of_the_numbers(scores):
    ordinals = kernels.ordinals_of(scores)
    assert ordinals.tolist() == ordinals_of(scores)
    assert np.array_equal(np.argsort(ordinals, kind="stable"), np.argsort(scores, kind="stable"))
    finite = bool(np.isfinite(scores).all())
    assert kernels.scan(scores)[1] == finite

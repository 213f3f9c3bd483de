"""Maps in tensors: the code for GPUs, run on the processor, against the compiled loops."""

import numpy as np
import pytest
from exact_metrics import KINDS, random_case
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from threecad.errors import EvaluationError
from threecad.evaluation import arguments
from threecad.evaluation.counting.histograms import ScoreHistogram
from threecad.evaluation.counting.maps import ArrayMap
from threecad.metrics import Evaluator

torch = pytest.importorskip("torch")

from threecad.evaluation.counting import device_maps  # noqa: E402
from threecad.evaluation.counting.device_maps import DeviceMap  # noqa: E402

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    ),
]


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a, b)


def same_bins(array, tensor, max_bins):
    on_host, on_device = ArrayMap(array), DeviceMap(tensor)
    for dense in (True, False):
        a = ScoreHistogram(max_bins=max_bins, dense=dense)
        b = ScoreHistogram(max_bins=max_bins, dense=dense)
        on_host.count_in(a)
        on_device.count_in(b)
        assert_same(a.bins(), b.bins())
        assert a.total == b.total
    assert_same(on_host.coarse_bins(), on_device.coarse_bins())


@pytest.mark.parametrize("device", DEVICES)
@given(
    values=hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=20),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    budget=st.integers(8, 16),
)
@settings(max_examples=150)
def test_bins_are_the_same_for_any_scores(device, values, budget):
    array = values.astype(np.float32) if values.dtype == np.float16 else values
    same_bins(array, torch.from_numpy(values).to(device), 2**budget)


@pytest.mark.parametrize("device", DEVICES)
def test_bins_are_the_same_where_they_must_be_sorted(device, monkeypatch):
    monkeypatch.setattr(device_maps, "MAX_WINDOW", 8)
    values = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    same_bins(values, torch.from_numpy(values).to(device), 2**12)


def tensors(batch, device):
    maps, masks, scores, labels, groups = batch
    maps = torch.from_numpy(maps).to(device)
    masks = torch.from_numpy(masks).to(device)
    return maps, masks, torch.tensor(scores, device=device), torch.tensor(labels), groups


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("max_bins", [2**21, 2**10])
def test_results_are_the_same_bit_for_bit(device, max_bins, monkeypatch):
    rng = np.random.default_rng(0)
    batches = []
    for kind in KINDS:
        maps, masks, labels = random_case(rng, kind)
        names = {"category": [kind[0]] * len(labels)}
        names["defect_type"] = ["bent" if label else "good" for label in labels]
        batches.append((maps, masks, [float(m.max()) for m in maps], labels, names))

    def collect(batches):
        evaluator = Evaluator(bootstrap=20, max_bins=max_bins)
        for batch in batches:
            evaluator.update(*batch)
        while evaluator.start_refinement():
            for batch in batches:
                evaluator.update(*batch)
            evaluator.finish_refinement()
        return evaluator.compute()

    expected = collect(batches)
    monkeypatch.setattr(arguments, "HOST_DEVICES", ())
    monkeypatch.setattr(ArrayMap, "count_in", lambda *_: pytest.fail("it was counted on the host"))
    assert collect([tensors(batch, device) for batch in batches]) == expected


def test_paper_protocol_and_bfloat16(monkeypatch):
    maps, masks, labels = random_case(np.random.default_rng(3), "normal")
    margins = [(0, 0), *((0, 256 - side) for side in maps.shape[1:])]
    maps, masks = (np.pad(values, margins, mode="wrap") for values in (maps, masks))
    halved = torch.from_numpy(maps).bfloat16()

    def result(maps, **settings):
        evaluator = Evaluator(**settings)
        evaluator.update(maps, masks, labels * 1.0, labels)
        return evaluator.compute()

    expected = [result(halved.float().numpy(), protocol=p) for p in ("full", "paper")]
    monkeypatch.setattr(arguments, "HOST_DEVICES", ())
    assert [result(halved, protocol=p) for p in ("full", "paper")] == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_is_an_error(value, monkeypatch):
    monkeypatch.setattr(arguments, "HOST_DEVICES", ())
    maps = torch.zeros(2, 4, 4)
    maps[1, 2, 3] = value
    with pytest.raises(EvaluationError, match="map of image 1 holds NaN or infinite"):
        Evaluator().update(maps, np.zeros((2, 4, 4)), [0, 0], [0, 0])

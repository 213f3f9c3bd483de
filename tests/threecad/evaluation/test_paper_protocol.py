import numpy as np
import pytest
from scipy import ndimage

from threecad.errors import EvaluationError
from threecad.evaluation.counting.paper_protocol import per_image_pro
from threecad.metrics import Evaluator


def transcribe(anomaly_map, mask):
    """The paper's definition, step by step."""
    least, largest = float(anomaly_map.min()), float(anomaly_map.max())
    delta = (largest - least) / 200
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    points = []
    for threshold in np.arange(least, largest, delta):
        binary = anomaly_map > threshold
        overlap = np.mean([binary[labels == k].mean() for k in range(1, count + 1)])
        rate = np.logical_and(~mask, binary).sum() / (~mask).sum()
        if rate < 0.3:
            points.append((rate, overlap))
    if len(points) < 2 or max(rate for rate, _ in points) == 0:
        return None
    points.sort()
    x = np.array([rate for rate, _ in points]) / points[-1][0]
    y = np.array([overlap for _, overlap in points])
    return float(((x[1:] - x[:-1]) * (y[1:] + y[:-1])).sum() / 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_per_image_pro_follows_the_definition(dtype):
    rng = np.random.default_rng(0)
    defined = 0
    for _ in range(60):
        mask = ndimage.gaussian_filter(rng.normal(size=(24, 31)), 2) > rng.uniform(0.05, 0.3)
        if not mask.any():
            continue
        signal = ndimage.gaussian_filter(rng.normal(size=mask.shape), rng.uniform(0, 3))
        anomaly_map = (signal + rng.uniform(0, 1) * mask).astype(dtype)
        expected = transcribe(anomaly_map, mask)
        found = per_image_pro(anomaly_map, mask)
        assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))
        defined += expected is not None
    assert defined > 30


def test_undefined_cases():
    mask = np.zeros((4, 4), bool)
    flat = np.zeros((4, 4))
    assert per_image_pro(flat + np.arange(4), mask) is None
    mask[0, 0] = True
    assert per_image_pro(flat, mask) is None
    assert per_image_pro(np.where(mask, 1.0, 0.0), mask) is None  # no false positive anywhere
    assert per_image_pro(flat + np.arange(4), ~np.zeros((4, 4), bool)) is None


def test_paper_result_has_its_own_pro():
    rng = np.random.default_rng(1)
    masks = np.zeros((4, 256, 256), bool)
    masks[:2, 30:80, 30:80] = True
    maps = rng.normal(size=masks.shape) + masks
    evaluator = Evaluator(protocol="paper")
    evaluator.update(maps, masks, maps.max((1, 2)), [1, 1, 0, 0])
    result = evaluator.compute()
    expected = np.mean([transcribe(m, k) for m, k in zip(maps[:2], masks[:2], strict=True)])
    assert result["pro_per_image"].value == pytest.approx(expected)
    assert result["pro_30"].value is None
    assert "pro_per_image" in result["pro_30"].reason
    assert not result.by_defect_type
    assert result["pixel_auroc"].value is not None


def test_maps_of_another_size_are_refused():
    evaluator = Evaluator(protocol="paper")
    maps = np.random.default_rng(0).normal(size=(2, 16, 16))
    masks = np.zeros(maps.shape, bool)
    with pytest.raises(
        EvaluationError, match=r"\(16, 16\); the paper's protocol takes \(256, 256\)"
    ):
        evaluator.update(maps, masks, [0, 0], [0, 0])
    evaluator.update(maps, None, [0, 1], [0, 1])  # image scores have no size
    assert evaluator.compute()["image_auroc"].value == 1

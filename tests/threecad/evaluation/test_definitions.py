"""The table of figures: one entry is a figure everywhere."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from threecad.evaluation import curves, definitions
from threecad.evaluation.definitions import Definition
from threecad.metrics import Evaluator, Result

PIXEL_RECALL = Definition(
    "pixel_recall_10",
    "Pixel recall@0.1",
    "recall @0.1",
    "pixels",
    partial(curves.recall_at, rate=0.1),
    1e-5,
    doubts=partial(curves.recall_doubts, rate=0.1),
    of_sizes=False,
)
FOUND = Definition(
    "image_recall_20",
    "Defects found@0.2",
    "found @0.2",
    "images",
    partial(curves.recall_at, rate=0.2),
    1e-5,
)


def recall_by_sklearn(labels: np.ndarray, scores: np.ndarray, rate: float) -> float:
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(true[false <= rate].max())


def test_an_entry_is_computed_refined_resampled_stored_and_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(definitions, "PIXEL_FIGURES", (*definitions.PIXEL_FIGURES, PIXEL_RECALL))
    monkeypatch.setattr(definitions, "IMAGE_FIGURES", (*definitions.IMAGE_FIGURES, FOUND))
    rng = np.random.default_rng(0)
    labels = np.array([0] * 10 + [1] * 10)
    masks = np.zeros((20, 16, 16), np.uint8)
    masks[10:, 4:8, 4:9] = 1
    maps = rng.normal(size=masks.shape).astype(np.float32) + masks
    scores = maps.max((1, 2))
    evaluator = Evaluator(bootstrap=50, max_bins=256)
    types = ["good"] * 10 + ["scratch"] * 10
    evaluator.update(maps, masks, scores, labels, {"defect_type": types})
    while evaluator.start_refinement():
        evaluator.update(maps, masks, scores, labels, {"defect_type": types})
        evaluator.finish_refinement()
    result = evaluator.compute()
    pixel, image = result["pixel_recall_10"], result["image_recall_20"]
    assert pixel.value == pytest.approx(
        recall_by_sklearn(masks.ravel(), maps.ravel(), 0.1), abs=1e-9
    )
    assert image.value == pytest.approx(recall_by_sklearn(labels, scores, 0.2), abs=1e-9)
    for figure in (pixel, image):
        assert figure.within_tolerance
        assert figure.confidence is not None
        assert figure.confidence[0] <= figure.value <= figure.confidence[1]
    assert Result.from_dict(result.to_dict())["pixel_recall_10"] == pixel
    assert "pixel_recall_10" in str(result)
    (of_type,) = result.by_defect_type.values()
    assert "pixel_recall_10" in of_type.figures
    assert all("pixel_recall_10" not in sizes.figures for sizes in result.by_size.values())


def test_keys_and_names_are_what_results_on_disk_hold() -> None:
    assert definitions.KEYS == (
        "image_auroc",
        "image_ap",
        "image_f1_max",
        "pixel_auroc",
        "pixel_ap",
        "pixel_f1_max",
        "pro_30",
        "pro_05",
    )
    assert list(definitions.FIGURE_NAMES) == [
        *definitions.KEYS,
        "pro_per_image",
        "region_recall_05",
        "region_recall_01",
        "defects_found_05",
        "good_passed_05",
        "right_reason",
        "aupimo",
        "expected_cost",
        "least_cost",
    ]
    assert definitions.FIGURE_NAMES["pro_05"] == "PRO@0.05"
    assert definitions.SHORT_NAMES["region_recall_01"] == "recall @0.01"

"""Results as text."""

import numpy as np
import pytest

from threecad.dataset.catalog import CATEGORIES
from threecad.metrics import Evaluator


def evaluate(categories, **settings):
    rng = np.random.default_rng(0)
    evaluator = Evaluator(**settings)
    for name in categories:
        masks = np.zeros((6, 256, 256), bool)
        masks[2, 10:12, 10:13] = masks[3, 20:40, 20:40] = True
        masks[4:, 30:39, 30:38] = True
        maps = (rng.normal(size=masks.shape) + 2 * masks).astype(np.float32)
        types = ["good", "good", "scratch", "scratch", "dent", "dent"]
        groups = {"category": [name] * 6, "defect_type": types}
        labels = np.arange(6) > 1
        evaluator.update(maps, masks, maps.max((1, 2)), labels, groups)
    return evaluator.compute()


@pytest.fixture(scope="module")
def all_categories():
    return evaluate(list(CATEGORIES))


def test_one_category_lists_figures_intervals_types_and_sizes():
    result = evaluate(["Copper_Stator"], bootstrap=20)
    text = str(result)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "Protocol full, Copper_Stator, percent"
    figure = result["pixel_auroc"]
    low, high = figure.confidence
    assert f"{100 * figure.value:.2f} [{100 * low:.1f}, {100 * high:.1f}]" in text
    rows = [line.split() for line in lines]
    of_scratch = result.by_defect_type["Copper_Stator/scratch"].figures
    row = next(row for row in rows if row[:1] == ["scratch"])
    assert row[1] == f"{100 * of_scratch['pixel_auroc'].value:.2f}"
    assert row[-1] == "2"
    assert [row[0] for row in rows if row[:1] in (["small"], ["medium"], ["large"])] == [
        "small",
        "medium",
        "large",
    ]
    assert text.count("Copper_Stator") == 1


def test_all_categories_fit_80_columns(all_categories):
    text = str(all_categories)
    assert max(map(len, text.splitlines())) <= 80
    assert "mean of 8 categories" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    for name, scores in all_categories.by_category.items():
        assert rows[name][1] == f"{100 * scores.figures['image_auroc'].value:.2f}"
        assert len(rows[name]) == 9
    assert rows["Mean"][-1] == f"{100 * all_categories['pro_05'].value:.2f}"


def test_undefined_figures_say_why_within_80_columns():
    evaluator = Evaluator()
    evaluator.update(np.zeros((2, 4, 4)), None, [0, 1], [0, 0])
    text = str(evaluator.compute())
    assert "Image AUROC             –" in text
    reason = (
        "Image AUROC, Image AP, Image F1-max, Defects found@0.05, Good passed@0.05, Right for the "
        "reason are undefined: no defective images"
    )
    assert reason in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


def test_text_is_plain_on_a_terminal_too(all_categories, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b" not in str(all_categories)

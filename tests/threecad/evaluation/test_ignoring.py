"""Pixels that take no part: figures are those of the pixels that are left."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from exact_metrics import KINDS, auroc, average_precision, pixel_figures, random_case
from PIL import Image
from sklearn.metrics import roc_auc_score

from threecad.benchmark.comparison import compare
from threecad.cli import main
from threecad.dataset.samples import read_sample_mask
from threecad.dataset.scanning import scan
from threecad.errors import EvaluationError, UsageError
from threecad.evaluation.evaluator import Evaluator
from threecad.evaluation.pipeline import evaluate
from threecad.evaluation.predictions import PredictionWriter
from threecad.images.files import read_size

CATEGORY = "Copper_Stator"


def feed(evaluator, maps, masks, labels, **options):
    evaluator.update(maps, masks, [m.max() for m in maps], labels, **options)
    return evaluator


@pytest.mark.parametrize("kind", KINDS)
def test_ignoring_columns_is_cropping_them(kind):
    rng = np.random.default_rng([KINDS.index(kind), 7])
    maps, masks, labels = random_case(rng, kind)
    width = masks.shape[2]
    kept = max(1, width // 2)
    masks[0, 0, 0] = True  # a region is left
    labels[0] = 1
    if masks[:, :, :kept].all():
        masks[0, -1, 0] = False
    ignored = np.zeros(masks.shape, bool)
    ignored[:, :, kept:] = True
    options = {"bootstrap": 20, "breakdowns": False}
    rest = feed(Evaluator(**options), maps, masks, labels, ignore=ignored).compute()
    cropped = Evaluator(**options)
    cropped.update(
        [m[:, :kept] for m in maps],
        [m[:, :kept] for m in masks],
        [m.max() for m in maps],
        labels,
    )
    expected = cropped.compute()
    for key, figure in expected.mean.figures.items():
        if key != "right_reason":  # its reach is a part of the diagonal
            assert rest.mean.figures[key] == figure, key
    for key, exact in pixel_figures([m[:, :kept] for m in maps], masks[:, :, :kept]).items():
        assert rest[key].low - 1e-12 <= exact <= rest[key].high + 1e-12, key


def test_any_shape_against_scikit_learn():
    rng = np.random.default_rng(3)
    masks = rng.random((6, 30, 40)) < 0.1
    masks[:2] = False
    maps = rng.normal(size=masks.shape).astype(np.float32) + masks
    ignored = rng.random(masks.shape) < 0.4
    result = feed(Evaluator(), maps, masks, [0, 0, 1, 1, 1, 1], ignore=ignored).compute()
    scores, positive = maps[~ignored], masks[~ignored]
    for key, exact in (
        ("pixel_auroc", auroc(scores, positive)),
        ("pixel_ap", average_precision(scores, positive)),
    ):
        assert result[key].low <= exact <= result[key].high
        assert abs(result[key].value - exact) < 1e-3


def test_what_is_ignored_may_be_no_number():
    maps = np.zeros((2, 4, 4), np.float32)
    maps[:, 0, 0] = np.nan
    masks = np.zeros((2, 4, 4), bool)
    masks[1, 2, 2] = True
    ignored = np.isnan(maps)
    evaluator = Evaluator()
    evaluator.update(maps, masks, [0.0, 1.0], [0, 1], ignore=ignored)
    assert evaluator.compute().mean.counts["pixels"] == 30


@pytest.mark.parametrize(
    ("ignored", "said"),
    [
        (np.ones((1, 4, 4), bool), "All of image 0"),
        (np.zeros((1, 4, 5), bool), "shape"),
        (np.array([[["a"]]]), "expected booleans"),
        (np.zeros((2, 4, 4), bool), "2 masks to ignore"),
    ],
)
def test_masks_to_ignore_are_checked(ignored, said):
    evaluator = Evaluator()
    with pytest.raises(EvaluationError, match=said):
        evaluator.update(np.zeros((1, 4, 4)), None, [0.0], [0], ignore=ignored)


def test_the_papers_protocol_counts_all_pixels():
    evaluator = Evaluator(protocol="paper")
    with pytest.raises(UsageError, match="paper's protocol"):
        evaluator.update(
            np.zeros((1, 256, 256)), None, [0.0], [0], ignore=np.ones((1, 256, 256), bool)
        )


@pytest.fixture(scope="module")
def index(sample_tree):
    return scan(sample_tree, categories=[CATEGORY])


@pytest.fixture(scope="module")
def maps(index):
    rng = np.random.default_rng(0)
    found = {}
    for sample in index.select(split="test"):
        shape = read_size(sample.image)
        found[sample.id] = rng.random(shape, np.float32) + 0.3 * read_sample_mask(sample, shape)
    return found


@pytest.fixture(scope="module")
def hiding_one_image(index, tmp_path_factory):
    """Areas: a corner everywhere, and all regions of one defective image."""
    folder = tmp_path_factory.mktemp("areas")
    test = index.select(split="test")
    corner = np.zeros(read_size(next(iter(test)).image), np.uint8)
    corner[: corner.shape[0] // 4, : corner.shape[1] // 4] = 255
    Image.fromarray(corner).save(folder / f"{CATEGORY}.png")
    chosen = next(sample for sample in test if sample.label)
    mask = read_sample_mask(chosen, read_size(chosen.image))
    path = folder / f"{chosen.id}.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return folder, chosen


def test_areas_of_a_tree(index, maps, hiding_one_image):
    folder, chosen = hiding_one_image
    result = evaluate(index, maps, ignore=folder)
    left = [sample for sample in index.select(split="test") if sample.id != chosen.id]
    assert chosen.id not in result.images
    assert result.settings["ignore"]["images"] >= 1
    scores, positive, image_scores = [], [], []
    for sample in left:
        values = maps[sample.id]
        keep = np.ones(values.shape, bool)
        keep[: values.shape[0] // 4, : values.shape[1] // 4] = False
        scores.append(values[keep])
        positive.append(read_sample_mask(sample, values.shape)[keep])
        image_scores.append(float(values[keep].max()))
    in_result = [i for i, sample in enumerate(left) if sample.id in result.images]
    exact = auroc(
        np.concatenate([scores[i] for i in in_result]),
        np.concatenate([positive[i] for i in in_result]),
    )
    assert result["pixel_auroc"].low <= exact <= result["pixel_auroc"].high
    labels = [left[i].label for i in in_result]
    chosen_scores = [image_scores[i] for i in in_result]
    assert result["image_auroc"].value == pytest.approx(roc_auc_score(labels, chosen_scores))
    assert "The ignored areas hide" in str(result)
    assert evaluate(index, maps, ignore=folder, workers=2) == result


def test_small_maps_are_covered_where_their_image_is(index, maps, hiding_one_image):
    folder, _ = hiding_one_image
    small = {name: values[::2, ::2] for name, values in maps.items()}
    result = evaluate(index, small, ignore=folder)
    for sample_id, seen in result.images.items():
        values = small[sample_id]
        height, width = values.shape
        keep = np.ones((height, width), bool)
        keep[: height // 4, : width // 4] = False
        assert seen["score"] == pytest.approx(float(values[keep].max()))


def test_aupimo_leaves_ignored_pixels_out(index, maps, hiding_one_image):
    folder, _ = hiding_one_image
    spoiled = {}
    for name, values in maps.items():
        spoiled[name] = values.copy()
        spoiled[name][: values.shape[0] // 4, : values.shape[1] // 4] = 99
    scores = {name: float(values.max()) for name, values in maps.items()}
    options = {"ignore": folder, "aupimo": True, "scores": scores}
    clean, covered = (evaluate(index, each, **options).mean for each in (maps, spoiled))
    for key, figure in clean.figures.items():
        assert covered.figures[key] == figure, key


def test_the_command_says_what_is_hidden(sample_tree, index, maps, hiding_one_image, tmp_path):
    folder, _ = hiding_one_image
    with PredictionWriter(tmp_path / "predictions") as writer:
        for sample_id, values in maps.items():
            writer.add(sample_id, values, float(values.max()))
    common = ["evaluate", str(sample_tree), str(tmp_path / "predictions"), "--category", CATEGORY]
    common += ["--bootstrap", "0", "--workers", "0"]
    out = tmp_path / "rest.json"
    said = CliRunner().invoke(main, [*common, "--ignore", str(folder), "--out", str(out)])
    assert said.exit_code == 0, said.output
    assert "The ignored areas hide" in said.output
    stored = json.loads(out.read_text())["settings"]["ignore"]
    assert stored["of_regions"] > stored["regions"] >= 1
    refused = CliRunner().invoke(main, [*common, "--ignore", str(folder), "--protocol", "paper"])
    assert refused.exit_code != 0
    assert "All pixels count" in refused.output
    (folder / "Nowhere.png").write_bytes((folder / f"{CATEGORY}.png").read_bytes())
    misspelt = CliRunner().invoke(main, [*common, "--ignore", str(folder)])
    (folder / "Nowhere.png").unlink()
    assert misspelt.exit_code != 0
    assert "Nowhere.png" in misspelt.output


def test_results_with_other_areas_are_not_compared(index, maps, hiding_one_image):
    folder, _ = hiding_one_image
    table = compare({"all": evaluate(index, maps), "rest": evaluate(index, maps, ignore=folder)})
    assert "ignored" in table.to_markdown() or "test images differ" in table.to_markdown()

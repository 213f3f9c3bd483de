import json
import math
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from exact_metrics import pixel_figures
from PIL import Image

from threecad.cli import main
from threecad.dataset.scanning import scan
from threecad.errors import DataError, EvaluationError, UsageError
from threecad.evaluation.counting import kernels
from threecad.evaluation.evaluables import resize_map, score_image
from threecad.evaluation.pipeline import evaluate
from threecad.evaluation.predictions import PredictionFolder, PredictionWriter, read_map
from threecad.images.files import read_size
from threecad.images.masks import read_mask


def model(sample):
    """A stand-in for a model: (24, 24) float32, of the sample's content alone."""
    with Image.open(sample.image) as image:
        grey = np.asarray(image.convert("L").resize((24, 24)), np.float32)
    anomaly_map = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 2)) / 255
    if sample.mask is not None:
        mask = read_mask(sample.mask).astype(np.float32)
        anomaly_map += 0.1 * cv2.resize(mask, (24, 24), interpolation=cv2.INTER_AREA)
    return anomaly_map


@pytest.fixture(scope="module")
def index(sample_tree):
    return scan(sample_tree, categories=["Aluminum_Ipad", "Copper_Stator"])


@pytest.fixture(scope="module")
def maps(index):
    return {sample.id: model(sample) for sample in index if sample.split == "test"}


@pytest.fixture(scope="module")
def folder(maps, tmp_path_factory):
    path = tmp_path_factory.mktemp("predictions")
    with PredictionWriter(path) as writer:
        for sample_id, anomaly_map in maps.items():
            writer.add(sample_id, anomaly_map, float(anomaly_map.max()))
    return path


@pytest.fixture(scope="module")
def result(index, folder):
    return evaluate(index, folder)


def test_full_protocol_is_at_the_size_of_the_masks(index, maps, result):
    for category in index.categories:
        samples = [s for s in index if s.category == category and s.split == "test"]
        masks, resized = [], []
        for sample in samples:
            with Image.open(sample.image) as image:
                shape = image.height, image.width
            mask = np.zeros(shape, bool) if sample.mask is None else read_mask(sample.mask)
            masks.append(mask)
            resized.append(resize_map(maps[sample.id], shape))
        figures = result.by_category[category].figures
        for key, exact in pixel_figures(resized, masks).items():
            assert figures[key].low <= exact <= figures[key].high, key
            assert figures[key].within_tolerance


def test_every_figure_is_within_tolerance_after_the_passes(result):
    for group in (result.by_category, result.by_defect_type, result.by_size):
        for scores in group.values():
            assert all(figure.within_tolerance for figure in scores.figures.values())


def test_sources_and_workers_do_not_matter(index, maps, folder, result):
    assert evaluate(index, maps, scores={k: m.max() for k, m in maps.items()}) == result
    parallel = evaluate(index, folder, workers=2)
    assert parallel == result
    by_function = evaluate(index, maps.__getitem__)
    assert by_function.mean == result.mean
    assert by_function.settings["image_score"] == "max"


def test_paper_protocol_is_at_256(index, maps):
    result = evaluate(index, maps, protocol="paper")
    assert result.protocol == "paper"
    n = sum(s.split == "test" for s in index)
    assert result.mean.counts["pixels"] == n * 256 * 256
    assert 0 < result["pro_per_image"].value < 1
    assert result["pro_30"].value is None


def test_resize_is_bilinear_at_half_pixel_centres():
    import torch
    from torch.nn.functional import interpolate

    values = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    expected = interpolate(torch.from_numpy(values)[None, None], (23, 16), mode="bilinear")[0, 0]
    assert np.abs(resize_map(values, (23, 16)) - expected.numpy()).max() < 1e-5
    assert resize_map(values.astype(np.float16), (23, 16)).dtype == np.float32


def test_image_scores():
    values = np.arange(100, dtype=np.float32).reshape(10, 10)
    assert score_image(values, "max") == 99
    assert score_image(values, "top:0.03") == 98
    assert score_image(values, "top:1") == 49.5
    for rule in ("top", "top:0", "top:2", "mean", "top:x"):
        with pytest.raises(UsageError, match="top:F"):
            score_image(values, rule)


def test_missing_and_extra_predictions_are_listed(index, maps):
    wrong = dict(maps)
    gone = next(iter(wrong))
    wrong["Nowhere/test/good/1"] = wrong.pop(gone)
    with pytest.raises(EvaluationError) as error:
        evaluate(index, wrong)
    assert gone in str(error.value)
    assert "Nowhere/test/good/1" in str(error.value)


def test_all_unusable_predictions_are_listed(index, maps):
    wrong = dict(maps)
    first, *_, second, third = wrong
    wrong[first] = np.full((4, 4), np.nan)
    wrong[second] = np.zeros((1, 4, 4))
    wrong[third] = np.full((4, 4), -np.inf)
    with pytest.raises(EvaluationError) as error:
        evaluate(index, wrong)
    message = str(error.value)
    assert message.startswith("3 predictions")
    assert all(name in message for name in (first, second, third))


def test_everything_wrong_with_a_folder_is_said_at_once_before_counting(
    index, maps, tmp_path, monkeypatch
):
    first, second, third, fourth, *_ = maps
    with PredictionWriter(tmp_path) as writer:
        for sample_id, anomaly_map in maps.items():
            if sample_id != first:
                writer.add(sample_id, anomaly_map, np.nan if sample_id == second else 1.0)
        writer.add("Nowhere/test/good/1", maps[first], 0.0)
    np.save(tmp_path / "maps" / f"{third}.npy", np.zeros((1, 4, 4)))
    np.save(tmp_path / "maps" / f"{fourth}.npy", np.array([[1.0, np.inf]]))
    monkeypatch.setattr("threecad.metrics.Evaluator.update", lambda *_: pytest.fail("it counted"))
    with pytest.raises(EvaluationError) as error:
        evaluate(index, tmp_path)
    message = str(error.value)
    assert f"1 prediction without a map:\n  {first}" in message
    assert "1 prediction whose map belongs to no sample:\n  Nowhere/test/good/1" in message
    assert f"{second}: The score is nan" in message
    assert f"{third}: " in message
    assert "(1, 4, 4)" in message
    assert f"{fourth}: The map holds NaN or infinite values" in message


def test_a_map_of_a_folder_is_read_once_and_its_pixels_are_scanned_once(index, folder, monkeypatch):
    read, scanned = [], []

    def read_and_note(path, **options):
        read.append(path)
        return read_map(path, **options)

    def scan_and_note(scores, scan=kernels.scan):
        scanned.append(scores.size)
        return scan(scores)

    monkeypatch.setattr("threecad.evaluation.predictions.read_map", read_and_note)
    monkeypatch.setattr(kernels, "scan", scan_and_note)
    evaluate(index, folder, passes=1)
    assert sorted(read) == sorted(PredictionFolder(folder).maps.values())
    sizes = sorted(math.prod(read_size(s.image)) for s in index if s.split == "test")
    assert sorted(size for size in scanned if size >= sizes[0]) == sizes


def test_a_function_is_asked_for_each_map_once_and_all_problems_are_named(index, maps):
    first, *_, last = maps
    wrong = {**maps, first: np.zeros((1, 4, 4)), last: np.full((4, 4), np.nan)}
    asked = []

    def predict(sample_id):
        asked.append(sample_id)
        return wrong[sample_id]

    with pytest.raises(EvaluationError) as error:
        evaluate(index, predict)
    assert f"{first}: The map has shape (1, 4, 4)" in str(error.value)
    assert f"{last}: The map holds NaN or infinite values" in str(error.value)
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("damage", ["image", "mask", "size"])
def test_damaged_data_is_named(index, maps, tmp_path, damage):
    tree = shutil.copytree(index.root / "Copper_Stator", tmp_path / "tree" / "Copper_Stator")
    copy = scan(tree.parent)
    sample = next(s for s in copy if s.split == "test" and s.label == (damage != "image"))
    path = sample.image if damage == "image" else sample.mask
    path.write_bytes(b"no picture")
    if damage == "size":
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(path)
    message = {
        "image": "read as an image",
        "mask": "decoded",
        "size": "4 × 3 pixels, but its image",
    }
    with pytest.raises(DataError, match=f"{path.name}.*{message[damage]}"):
        evaluate(copy, {name: value for name, value in maps.items() if name in copy})


def test_no_masks_leaves_image_figures(index, maps):
    bare = index.with_samples(replace(sample, mask=None) for sample in index)
    result = evaluate(bare, maps)
    assert result["image_auroc"].value is not None
    assert "no defective pixels" in result["pixel_auroc"].reason


def test_a_mask_rule_decides_what_is_defect(tree):
    index = scan(tree, categories=["Copper_Stator"]).select(split="test")
    sample = next(iter(index.select(label=1)))
    grey = read_mask(sample.mask).astype(np.uint8) * 255
    grey[:5, :5] = 100  # defect to one rule and not to the other
    Image.fromarray(grey).save(sample.mask)
    maps = {each.id: model(each) for each in index}
    plain, threshold, binary = (
        evaluate(index, maps, mask_rule=rule) for rule in (None, "threshold", "binary")
    )
    assert plain["pixel_auroc"] == threshold["pixel_auroc"]
    assert binary.mean.counts["defective_pixels"] == plain.mean.counts["defective_pixels"] + 25
    assert binary.settings["mask_rule"] == "binary"


def test_bad_arguments(index, maps):
    for arguments in ({"protocol": "mine"}, {"image_score": "mean"}, {"image_score": "table"}):
        with pytest.raises(UsageError):
            evaluate(index, maps, **arguments)
    with pytest.raises(EvaluationError, match="no images of split 'val'"):
        evaluate(index, maps, split="val")
    with pytest.raises(UsageError, match="predictions is list; expected a folder"):
        evaluate(index, list(maps.values()))


def test_tensors_of_any_kind_are_maps(index, maps, result):
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in maps.items()}
    scores = {name: value.max() for name, value in maps.items()}
    assert evaluate(index, tensors, scores=scores) == result
    half = evaluate(index, lambda name: tensors[name].bfloat16(), scores=scores)
    assert half["pixel_auroc"].value == pytest.approx(result["pixel_auroc"].value, abs=0.01)


def test_folds_and_one_category_of_all_predictions(sample_tree, index, folder, tmp_path):
    one = scan(sample_tree, categories=["Aluminum_Ipad"])
    assert list(evaluate(one, folder).by_category) == ["Aluminum_Ipad"]
    splits = tmp_path / "folds.json"
    run = CliRunner().invoke(
        main, ["split", str(sample_tree), "--kind", "k-fold", "--folds", "2", "--out", str(splits)]
    )
    assert run.exit_code == 0, run.output
    arguments = ["evaluate", str(sample_tree), "--split-file", str(splits), "--bootstrap", "0"]
    counts = []
    for fold in (0, 1):
        held_out = scan(sample_tree, split_file=splits, fold=fold)
        with PredictionWriter(tmp_path / str(fold)) as writer:
            for sample in held_out:
                if sample.split == "test":
                    writer.add(sample.id, model(sample), 0.5)
        run = CliRunner().invoke(
            main, [*arguments, str(tmp_path / str(fold)), "--fold", str(fold), "--json"]
        )
        assert run.exit_code == 0, run.output
        counts.append(json.loads(run.stdout)["mean"]["counts"])
    assert counts[0]["defective"] == counts[1]["defective"]
    good = sum(sample.label == 0 for sample in scan(sample_tree))
    assert counts[0]["good"] + counts[1]["good"] >= good


def test_command_line(sample_tree, folder, result, tmp_path):
    arguments = [str(sample_tree), str(folder), "--category", "Aluminum_Ipad"]
    arguments += ["--category", "Copper_Stator", "--bootstrap", "50", "--workers", "0"]
    out, page = tmp_path / "result.json", tmp_path / "report.html"
    run = CliRunner().invoke(
        main, ["evaluate", *arguments, "--json", "--out", str(out), "--html", str(page)]
    )
    assert run.exit_code == 0, run.output
    printed = json.loads(run.stdout)
    assert printed == json.loads(out.read_text(encoding="utf-8"))
    assert printed["pixel_auroc"] == result["pixel_auroc"].value
    low, high = printed["mean"]["figures"]["pixel_auroc"]["confidence"]
    assert low <= printed["pixel_auroc"] <= high
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    run = CliRunner().invoke(main, ["evaluate", str(sample_tree), str(tmp_path / "none")])
    assert run.exit_code == 1
    assert "There is no folder" in run.output

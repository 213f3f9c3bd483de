"""From a tree to a run folder, to predictions, to figures beside the baseline's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from cfrg import CFRG, CFRGConfig, NearestNeighbourMemory, TrainingOptions
from cfrg.evaluation.accuracy import evaluate_run
from cfrg.network.processing import normalize, resize
from cfrg.training.loop import Interrupted
from cfrg.training.reading import plain
from cfrg.training.runs import read_run, train
from threecad import scan
from threecad.errors import ModelError, UsageError
from threecad.images.files import read_image

CONFIG = CFRGConfig.preset("lite", image_size=64, memory=100)


def options(**changes: object) -> TrainingOptions:
    values = {"steps": 2, "batch_size": 2, "area": 0, "device": "cpu"}
    return TrainingOptions.preset("lite", **{**values, **changes})


def start(root: Path, run: Path, **changes) -> Path:
    arguments = {"category": "Copper_Stator", "config": CONFIG, "options": options(), **changes}
    return train(root, run, **arguments)


@pytest.fixture(scope="module")
def run(sample_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps. Shared: do not change it."""
    return start(sample_tree, tmp_path_factory.mktemp("runs") / "run")


def test_run_folder_is_what_from_pretrained_reads(run: Path, sample_tree: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names >= {"config.json", "model.safetensors", "README.md", "run.json", "log.jsonl"}
    assert (run / "figures" / "curve.png").is_file()
    lines = (run / "trained_on.sha256").read_text().splitlines()
    listed = dict(reversed(line.split("  ")) for line in lines)
    assert len(listed) + len(read_run(run)["held_out"]) == read_run(run)["images"]
    assert listed == {
        name: hashlib.sha256((sample_tree / name).read_bytes()).hexdigest() for name in listed
    }
    model = CFRG.from_pretrained(run)
    assert model.config == CONFIG
    record = read_run(run)
    training = scan(sample_tree).select(category="Copper_Stator", split="train")
    assert record["data_fingerprint"] == training.fingerprint
    assert record["category"] == "Copper_Stator"
    assert record["options"]["steps"] == 2
    assert record["versions"]["torch"] == torch.__version__.split("+")[0] or record["versions"]


def test_same_seed_same_files(sample_tree: Path, run: Path, tmp_path: Path) -> None:
    again = start(sample_tree, tmp_path / "again")
    name = "model.safetensors"
    assert (again / name).read_bytes() == (run / name).read_bytes()
    other = start(sample_tree, tmp_path / "other", options=options(seed=7))
    assert (other / name).read_bytes() != (run / name).read_bytes()


def test_interrupted_run_resumes_to_the_same_files(
    sample_tree: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cfrg.training.runs

    complete = cfrg.training.runs.fit
    monkeypatch.setattr(cfrg.training.runs, "fit", lambda *a, **k: complete(*a, **k, stop_after=1))
    with pytest.raises(Interrupted):
        start(sample_tree, tmp_path / "run")
    monkeypatch.setattr(cfrg.training.runs, "fit", complete)
    start(sample_tree, tmp_path / "run", resume=True)
    name = "model.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (run / name).read_bytes()


def test_run_folder_is_not_overwritten_by_accident(sample_tree: Path, tmp_path: Path) -> None:
    run = start(sample_tree, tmp_path / "run")
    with pytest.raises(UsageError, match="holds a run already"):
        start(sample_tree, run)
    with pytest.raises(UsageError, match="another category"):
        start(sample_tree, run, category="Aluminum_Ipad", resume=True)
    with pytest.raises(UsageError, match="another seed"):
        start(sample_tree, run, options=options(seed=9), resume=True)
    start(sample_tree, run, options=options(workers=1), resume=True)
    start(sample_tree, run, options=options(seed=9), force=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        start(sample_tree, tmp_path / "notes", force=True)


def test_category_without_training_images_is_refused(tree: Path, tmp_path: Path) -> None:
    for path in (tree / "Copper_Stator" / "train").rglob("*.png"):
        path.unlink()
    with pytest.raises(UsageError, match="no good training images of Copper_Stator"):
        start(tree, tmp_path / "run")


def test_missing_teacher_weights_leave_no_run_behind(
    sample_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ModelError("no weights")

    monkeypatch.setattr(CFRG, "load_teacher", fail)
    with pytest.raises(ModelError, match="no weights"):
        start(sample_tree, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a run folder"):
        read_run(tmp_path)


def test_model_and_memory_are_scored_on_the_same_images(run: Path, sample_tree: Path) -> None:
    results = evaluate_run(run, sample_tree, baseline=True, mask_rule="labels", device="cpu")
    assert set(results) == {"model", "memory"}
    assert all(result.settings["mask_rule"] == "labels" for result in results.values())
    for result in results.values():
        plain = result.to_dict()
        assert 0 <= plain["image_auroc"] <= 1
        assert 0 <= plain["pixel_auroc"] <= 1
        assert json.loads(json.dumps(plain))
        assert result.provenance["run"]["category"] == "Copper_Stator"
    assert results["model"].to_dict() != results["memory"].to_dict()
    kept = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert kept["image_auroc"] == results["model"].to_dict()["image_auroc"]
    assert "AUROC" in (run / "README.md").read_text(encoding="utf-8")


def test_memory_knows_what_it_has_seen(sample_tree: Path) -> None:
    images = torch.stack(
        [
            torch.from_numpy(resize(read_image(sample.image), (64, 64))).permute(2, 0, 1)
            for sample in scan(sample_tree).select(category="Iron_Stator", split="train")
        ]
    )
    batch = normalize(images, CONFIG)
    memory = NearestNeighbourMemory(plain(CONFIG)).fit([batch])
    maps, scores = memory.predict(batch)
    assert maps.shape == (3, 1, 64, 64)
    assert float(scores.max()) < 1e-1
    changed = batch.clone()
    changed[:, :, 20:40, 20:40] = 3.0
    assert (memory.predict(changed)[1] > 10 * scores).all()


def test_run_names_what_it_held_out(run: Path, sample_tree: Path, tmp_path: Path) -> None:
    ids = {sample.id for sample in scan(sample_tree).select(category="Copper_Stator", label=0)}
    held_out = read_run(run)["held_out"]
    assert len(held_out) == 1
    assert ids.issuperset(held_out)
    paper = options(validation_fraction=TrainingOptions.preset("paper").validation_fraction)
    assert read_run(start(sample_tree, tmp_path / "all", options=paper))["held_out"] == []


def test_run_on_crops_with_every_switch_resumes_to_the_same_files(
    sample_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cfrg.training.runs

    changes = {
        "config": CFRGConfig.preset("lite", image_size=32, tile=48, tile_overlap=8),
        "options": options(
            steps=3,
            foreground=True,
            fixed_textures=True,
            repeat_rotations=True,
            smallest_defect=2.0,
            validation_fraction=0.4,
            validate_every=1,
            select="best",
        ),
    }
    whole = start(sample_tree, tmp_path / "whole", **changes)
    complete = cfrg.training.runs.fit
    monkeypatch.setattr(cfrg.training.runs, "fit", lambda *a, **k: complete(*a, **k, stop_after=2))
    with pytest.raises(Interrupted):
        start(sample_tree, tmp_path / "parts", **changes)
    monkeypatch.setattr(cfrg.training.runs, "fit", complete)
    parts = start(sample_tree, tmp_path / "parts", resume=True, **changes)
    name = "model.safetensors"
    assert (parts / name).read_bytes() == (whole / name).read_bytes()
    assert CFRG.from_pretrained(whole).config.tile == 48
    record = read_run(whole)
    assert record["config"]["tile"] == 48
    assert record["options"]["select"] == "best"
    results = evaluate_run(whole, sample_tree, baseline=True, device="cpu")
    assert set(results) == {"model", "memory"}

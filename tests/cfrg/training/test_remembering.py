"""A memory is a run like any other: trained, read, calibrated, scored, exported."""

from __future__ import annotations

import hashlib
import json
import os
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import cfrg.cli
from cfrg import CFRG, CFRGConfig, NearestNeighbourMemory, Predictor, TrainingOptions
from cfrg.calibration.calibrating import calibrate
from cfrg.evaluation.accuracy import evaluate_run
from cfrg.evaluation.complexity import measure_complexity
from cfrg.export.writing import FORMATS, export_run
from cfrg.inference.loading import load_model
from cfrg.network.pretrained import read_config
from cfrg.training.runs import read_run, train
from threecad import scan
from threecad.errors import ModelError, UsageError

CATEGORY = "Copper_Stator"


def start(root: Path, run: Path, **changes: object) -> Path:
    """Remember two hundred vectors at 96 × 96, or a little more."""
    area = changes.pop("area", 96**2)
    config = CFRGConfig.preset("memory", memory=changes.pop("memory", 200))
    options = TrainingOptions.preset("memory", area=area, device="cpu", **changes)
    return train(root, run, category=CATEGORY, config=config, options=options)


@pytest.fixture(scope="module")
def run(sample_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory. Shared: do not change it."""
    return start(sample_tree, tmp_path_factory.mktemp("memories") / "run")


def test_it_is_read_as_what_it_is(run: Path) -> None:
    memory = load_model(run)
    assert isinstance(memory, NearestNeighbourMemory)
    assert len(memory.vectors) == memory.config.memory == 200
    assert memory.config.image_size == read_config(run).image_size == (96, 96)
    with pytest.raises(ModelError, match="memory"):
        CFRG.from_pretrained(run)
    record = read_run(run)
    assert record["geometry"].startswith("Input 96 × 96")
    assert record["weights_digest"]
    card = (run / "README.md").read_text()
    assert "200 feature vectors" in card
    assert "NearestNeighbourMemory.from_pretrained" in card


def test_saved_and_loaded_it_says_the_same(run: Path, tmp_path: Path) -> None:
    memory = NearestNeighbourMemory.from_pretrained(run)
    image = torch.rand(2, 3, 96, 96)
    expected = memory.predict(image)
    memory.save_pretrained(tmp_path / "copy")
    copy = NearestNeighbourMemory.from_pretrained(tmp_path / "copy")
    for found, wanted in zip(copy.predict(image), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_distances_by_place_are_saved_too(sample_tree: Path, tmp_path: Path) -> None:
    config = CFRGConfig.preset("memory", memory=50, image_size=64)
    memory = NearestNeighbourMemory(config)
    images = torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    images[:, :, :32] *= torch.linspace(0, 8, 16)[:, None, None, None]  # varies in the upper half
    memory.fit([images]).fit_places([images])
    assert memory.config.by_place
    memory.save_pretrained(tmp_path / "memory")
    copy = NearestNeighbourMemory.from_pretrained(tmp_path / "memory")
    torch.testing.assert_close(copy.predict(images)[0], memory.predict(images)[0])
    with pytest.raises(UsageError, match="tiles"):
        Predictor(copy, tile=32)


def test_own_vectors_are_left_out_where_good_images_are_studied() -> None:
    memory = NearestNeighbourMemory(CFRGConfig.preset("memory", memory=10_000, image_size=64))
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    memory.fit([images])
    features = memory._features(images[1:2])
    own = memory._distances(features)
    others = memory._distances(features, other_than=1)
    rest = NearestNeighbourMemory(memory.config, teacher=memory.teacher).fit([images[[0, 2]]])
    assert float(own.max()) < 0.05 * float(others.min())
    torch.testing.assert_close(others, rest._distances(features), atol=1e-3, rtol=1e-4)


def test_scores_thresholds_and_figures(run: Path, sample_tree: Path, tmp_path: Path) -> None:
    copied = start(sample_tree, tmp_path / "run")
    rate = 0.65
    threshold = calibrate(copied, sample_tree, on="test-good", false_alarm_rate=rate).threshold
    results = evaluate_run(copied, sample_tree, baseline=True)
    assert set(results) == {"model", "memory"}
    samples = scan(sample_tree).select(category=CATEGORY, split="test", label=0)
    predictor = Predictor.from_pretrained(copied)
    assert predictor.threshold == threshold.image_threshold
    predictions = list(predictor.predict([str(sample.image) for sample in samples]))
    assert all(prediction.map.shape == (96, 96) for prediction in predictions)
    assert sum(prediction.defective for prediction in predictions) <= rate * len(predictions)


def test_the_same_seed_gives_the_same_memory(run: Path, sample_tree: Path, tmp_path: Path) -> None:
    again = start(sample_tree, tmp_path / "again")
    other = start(sample_tree, tmp_path / "other", seed=7)
    digests = [read_run(folder)["weights_digest"] for folder in (run, again, other)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="onnx is not installed",
)
def test_it_is_exported_and_computes_the_same(run: Path, tmp_path: Path) -> None:
    report = export_run(run, "onnx", out=tmp_path / "memory.onnx", limit=4)
    assert report.parity.relative_error < 1e-4
    with pytest.raises(UsageError, match="float32"):
        export_run(run, "onnx", out=tmp_path / "half.onnx", precision="float16")


@pytest.fixture(scope="module")
def transformer_run(sample_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory on a small transformer's random weights. Shared: do not change it."""
    timm = pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("transformer")
    torch.manual_seed(0)
    published = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=518)
    for name, parameter in published.named_parameters():
        if name.endswith("gamma"):  # LayerScale begins near zero
            torch.nn.init.constant_(parameter, 0.3)
    save_file(published.state_dict(), folder / "model.safetensors")
    line = ["train", str(sample_tree), "--category", CATEGORY, "--preset", "memory", "--device"]
    line += ["cpu", "--teacher", "dinov2_s", "--image-size", "96", "--set", "memory=150"]
    line += ["--teacher-weights", str(folder / "model.safetensors"), "--out", str(folder / "run")]
    result = CliRunner().invoke(cfrg.cli.main, line)
    assert result.exit_code == 0, result.output
    return folder / "run"


def test_a_transformer_remembers(transformer_run: Path, sample_tree: Path, tmp_path: Path) -> None:
    """The same run folder, the same commands."""
    memory = load_model(transformer_run)
    assert memory.vectors.shape == (150, 3 * 384)
    copied = copytree(transformer_run, tmp_path / "run")
    calibrate(copied, sample_tree, on="test-good", false_alarm_rate=0.65)
    predictor = Predictor.from_pretrained(copied)
    samples = scan(sample_tree).select(category=CATEGORY, split="test")
    for prediction in predictor.predict([str(sample.image) for sample in samples]):
        assert prediction.map.shape == (96, 96)
        assert np.isfinite(prediction.map).all()
    read = read_run(transformer_run)["teacher_weights"]
    file = transformer_run.parent / "model.safetensors"
    assert read == {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    described = CliRunner().invoke(cfrg.cli.main, ["info", str(transformer_run)]).stdout
    for part in ("dinov2_s", "Apache-2.0", "Not measured here yet", read["sha256"]):
        assert part in " ".join(described.split())
    assert "Apache-2.0" in (transformer_run / "README.md").read_text()


@pytest.mark.parametrize(
    ("to", "packages"),
    [
        pytest.param("onnx", ("onnx", "onnxruntime", "onnxscript"), marks=pytest.mark.slow),
        ("openvino", ("onnx", "onnxruntime", "onnxscript", "openvino")),
        ("torch-export", ()),
    ],
)
def test_a_transformers_memory_passes_the_gate(
    to: str, packages: tuple[str, ...], transformer_run: Path, tmp_path: Path
) -> None:
    for package in packages:
        pytest.importorskip(package)
    out = tmp_path / f"memory{FORMATS[to]}"
    report = export_run(transformer_run, to, out=out, limit=2, dynamic=to == "openvino")
    assert report.parity.relative_error < 1e-4
    assert report.parity.images == 2


def test_its_parts_are_counted() -> None:
    config = CFRGConfig.preset("memory", memory=1000, image_size=(64, 96))
    teacher, memory = measure_complexity(config).parts
    assert (teacher.name, memory.name) == ("teacher", "memory")
    assert memory.flops == 2 * (8 * 12) * 1000 * (24 + 40 + 112)
    assert teacher.flops > 0
    assert teacher.trained == memory.trained == 0


def test_what_it_cannot_follow_is_refused_by_name(sample_tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="steps"):
        start(sample_tree, tmp_path / "run", steps=5)


def test_the_command_line(sample_tree: Path, tmp_path: Path) -> None:
    line = ["train", str(sample_tree), "--category", CATEGORY, "--device", "cpu", "--out"]
    memory = [*line, str(tmp_path / "memory"), "--preset", "memory", "--set", "memory=100"]
    first = CliRunner().invoke(cfrg.cli.main, [*memory, "--image-size", "64"])
    assert first.exit_code == 0, first.output
    assert read_config(tmp_path / "memory").image_size == (64, 64)
    described = CliRunner().invoke(cfrg.cli.main, ["info", str(tmp_path / "memory"), "--json"])
    assert [part["name"] for part in json.loads(described.stdout)["parts"]] == ["teacher", "memory"]
    lite = [*line, str(tmp_path / "lite"), "--steps", "1", "--batch-size", "2"]
    second = CliRunner().invoke(cfrg.cli.main, [*lite, "--set", "image_size=auto"])
    assert second.exit_code == 0, second.output
    height, width = read_config(tmp_path / "lite").image_size
    assert f"Input {width} × {height} pixels" in second.output


@pytest.mark.skipif("THREECAD_TEST_DATA" not in os.environ, reason="needs photographs")
def test_scratches_on_photographed_plates_are_found(tmp_path: Path) -> None:
    plates = Path(os.environ["THREECAD_TEST_DATA"], "foreign", "metal_plate")
    if not plates.is_dir():
        pytest.skip("no photographs of plates")
    tree = tmp_path / "tree" / "Plate"
    for split in ("train/good", "test/good", "test/defect"):
        (tree / split).mkdir(parents=True)
        for file in sorted((plates / split).iterdir())[:12]:
            (tree / split / file.name).symlink_to(file)
    (tree / "ground_truth").mkdir()
    masks = tree / "ground_truth" / "defect"
    masks.mkdir()
    for file in (tree / "test" / "defect").iterdir():
        mask = next((plates / "ground_truth" / "defect").glob(f"{file.stem}*"))
        (masks / f"{file.stem}.png").symlink_to(mask)
    config = CFRGConfig.preset("memory", memory=3000)
    options = TrainingOptions.preset("memory", area=192**2, device="cpu")
    run = train(tree.parent, tmp_path / "run", category="Plate", config=config, options=options)
    figures = evaluate_run(run, tree.parent)["model"].mean.figures
    assert figures["image_auroc"].value > 0.95
    assert figures["pixel_ap"].value > 0.7
    assert np.isfinite(load_model(run).vectors.numpy()).all()

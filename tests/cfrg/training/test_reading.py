"""What good images look like to a trained network: remembered, measured by place, added up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cfrg import CFRG, CFRGConfig, Predictor, TrainingOptions
from cfrg.export.writing import export_run
from cfrg.images.cache import ImageCache
from cfrg.network import processing
from cfrg.network.neighbours import join_levels, nearest_distances
from cfrg.network.reading import MEMORY
from cfrg.training.reading import learn_to_read, plain
from cfrg.training.runs import read_run, train
from threecad import scan
from threecad.dataset.pytorch import ThreeCAD
from threecad.errors import ModelError

CATEGORY = "Copper_Stator"


def config(**changes: object) -> CFRGConfig:
    return CFRGConfig.preset("lite", **{"image_size": (64, 96), "memory": 300, **changes})


@pytest.fixture(scope="module")
def images(sample_tree: Path) -> ImageCache:
    good = scan(sample_tree).select(category=CATEGORY, split="train", label=0)
    return ImageCache(ThreeCAD(good), (64, 96))


@pytest.fixture(scope="module")
def network() -> CFRG:
    torch.manual_seed(0)
    model = CFRG(plain(config()))
    model.load_teacher()
    return model.eval()


def reads(network: CFRG, images: ImageCache, **changes: object) -> CFRG:
    """A copy of the network that has learnt to read."""
    wanted = config(**changes)
    model = CFRG(plain(wanted))
    model.load_state_dict(network.state_dict())
    learn_to_read(model.eval(), wanted, images, None, seed=0)
    return model


def inputs(images: ImageCache, model: CFRG) -> torch.Tensor:
    pixels = torch.stack([processing.to_tensor(images[i]) for i in range(len(images))])
    return processing.normalize(pixels, model.config)


@pytest.fixture(params=[False, True], ids=["as a whole", "by place"])
def model(
    network: CFRG,
    images: ImageCache,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> CFRG:
    monkeypatch.setattr("cfrg.training.reading.helps", lambda *_: request.param)
    monkeypatch.setattr("cfrg.training.reading.FEWEST", 2)
    learnt = reads(network, images)
    assert learnt.config.by_place is request.param
    return learnt


def test_a_map_is_the_sum_over_branches_and_scales(model: CFRG, images: ImageCache) -> None:
    image = inputs(images, model)[:2].flip(-1)
    expected = torch.zeros(2, 1, 64, 96)
    for weight, reading, side in zip(
        model.config.scales, (model.calibration, *model.smaller), (1, 2), strict=True
    ):
        smaller = F.avg_pool2d(image, side)
        padded = F.pad(smaller, (0, -smaller.shape[-1] % 32, 0, 0), mode="replicate")
        with torch.no_grad():
            teacher = model.teach(padded)
            logits = CFRG.forward(alone(model), padded).logits
        distances = nearest_distances(join_levels(teacher), reading.vectors)
        total = torch.zeros_like(logits)
        for name, branch, counts in (("segmentation", logits, 2), (MEMORY, distances, 1)):
            i = reading.names.index(name)
            if model.config.by_place:
                size = branch.shape[-2:]
                mean, deviation = (
                    F.interpolate(v[i][None, None], size, mode="bilinear")
                    for v in (reading.places.mean, reading.places.deviation)
                )
            else:
                mean, deviation = reading.mean[i], reading.std[i]
            measured = (branch - mean) / deviation
            total += counts * F.interpolate(
                measured, logits.shape[-2:], mode="bilinear", align_corners=name != MEMORY
            )
        total = total[..., : smaller.shape[-2], : smaller.shape[-1]]
        expected += weight * F.interpolate(total, (64, 96), mode="bilinear")
    with torch.no_grad():
        torch.testing.assert_close(model(image).anomaly_map, expected, atol=2e-4, rtol=1e-4)


def alone(model: CFRG) -> CFRG:
    """The trained parts, which read nothing."""
    bare = CFRG(plain(model.config))
    trained = {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith(("calibration", "smaller"))
    }
    bare.load_state_dict({**bare.state_dict(), **trained})
    return bare.eval()


def test_maps_of_good_images_are_on_one_scale(model: CFRG, images: ImageCache) -> None:
    """Each image's own features left out, every branch has mean 0 and deviation 1."""
    segmentation = []
    for image in inputs(images, model):
        for reading, teacher, found in model.see(image[None]):
            if reading is model.calibration:
                branch = reading.branch("segmentation", teacher, found)
                segmentation.append(reading.standardize("segmentation", branch))
    rows = torch.stack(segmentation)
    assert float(rows.mean()) == pytest.approx(0, abs=1e-4)
    assert float(rows.std()) == pytest.approx(1, abs=1e-3)


def test_an_image_is_not_compared_with_itself(network: CFRG, images: ImageCache) -> None:
    """A memory of everything is at distance 0 from each image, and would have no deviation."""
    model = reads(network, images, memory=100_000)
    assert model.config.memory == len(images) * 8 * 12
    known = inputs(images, model)[:1]
    distances = nearest_distances(join_levels(model.teach(known)), model.calibration.vectors)
    level = float(model.calibration.mean[model.calibration.names.index(MEMORY)])
    assert float(distances.mean()) < 0.05 * level


def test_the_choice_belongs_to_the_seed(network: CFRG, images: ImageCache) -> None:
    first, again = (reads(network, images).state_dict() for _ in range(2))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.fixture(scope="module")
def run(sample_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps. Shared: do not change it."""
    options = TrainingOptions.preset(
        "lite", steps=3, batch_size=2, area=96**2, crop=64, device="cpu"
    )
    return train(
        sample_tree,
        tmp_path_factory.mktemp("runs") / "run",
        category=CATEGORY,
        config=CFRGConfig.preset("lite", memory=300),
        options=options,
    )


def test_a_run_is_trained_on_crops_and_reads_whole_images(run: Path, sample_tree: Path) -> None:
    model = CFRG.from_pretrained(run)
    assert model.config.image_size == (96, 96)
    assert model.config.scales == (1.0, 0.5)
    assert model.config.memory == 300
    assert read_run(run)["geometry"].startswith("Input 96 × 96")
    image = next(iter(scan(sample_tree).select(category=CATEGORY, split="test"))).image
    (prediction,) = Predictor.from_pretrained(run).predict([image])
    assert prediction.map is not None
    assert prediction.map.shape == (96, 96)
    assert np.isfinite(prediction.score)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_its_export_says_the_same(run: Path, tmp_path: Path, precision: str) -> None:
    pytest.importorskip("onnxruntime")
    report = export_run(run, "onnx", out=tmp_path / "model.onnx", precision=precision)
    assert report.parity.images > 0


def test_without_a_memory_it_still_reads_on_both_scales(sample_tree: Path, tmp_path: Path) -> None:
    run = train(
        sample_tree,
        tmp_path / "run",
        category=CATEGORY,
        config=CFRGConfig.preset("lite", image_size=64, memory=0, memory_weight=0.0),
        options=TrainingOptions.preset("lite", steps=1, batch_size=2, area=0, device="cpu"),
    )
    model = CFRG.from_pretrained(run)
    assert model.config.scales == (1.0, 0.5)
    assert float(model.smaller[0].std[-1]) != 1


def test_a_network_is_no_memory(run: Path) -> None:
    from cfrg import NearestNeighbourMemory

    with pytest.raises(ModelError, match="CFRG network"):
        NearestNeighbourMemory.from_pretrained(run)


def test_weights_of_a_memory_need_a_memory() -> None:
    with pytest.raises(ModelError, match="memory_weight needs a memory"):
        CFRGConfig(memory_weight=1.0)
    with pytest.raises(ModelError, match="scales"):
        CFRGConfig(scales=())

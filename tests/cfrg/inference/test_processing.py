"""A step that is put into the one description of the way is met on every way to a decision."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import SMALL

from cfrg import CFRG, CFRGConfig, NearestNeighbourMemory, Predictor
from cfrg.app.inspector import Inspector
from cfrg.app.page import describe_verdict
from cfrg.calibration.calibrating import calibrate
from cfrg.evaluation import latency
from cfrg.export.comparing import compare_each
from cfrg.export.graph import DetectionGraph
from cfrg.export.writing import export_run
from cfrg.inference.thresholds import Threshold, digest_weights, read_threshold
from cfrg.network import processing
from cfrg.network.interest import encode_region, stretch_region
from cfrg.runtimes.parity import compare
from cfrg.runtimes.sessions import Session, open_session
from cfrg.training import validation
from cfrg.training.validation import Validation
from threecad.images.files import read_image
from threecad.metrics import Evaluator
from threecad.system import atomic

SIDE, COLUMN, OUTSIDE = 64, 20, -700.0
CONFIG = CFRGConfig.preset(
    "lite",
    image_size=SIDE,
    **SMALL,
    score_fraction=0.0,
)

Found = tuple[Any, float]
"""Anomaly map (h, w), if it is shown, and image score."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = CFRG(CONFIG)
    model.load_teacher()
    folder = tmp_path_factory.mktemp("runs") / "run"
    model.eval().save_pretrained(folder)
    threshold = Threshold(
        image_threshold=-1e6,
        pixel_threshold=0.0,
        false_alarm_rate=0.5,
        interval=(0.0, 1.0),
        images=5,
        source="test-good",
        data_fingerprint="0" * 64,
        weights_digest=digest_weights(model),
        version="0",
    )
    atomic.write_json(folder / "calibration.json", threshold.to_dict())
    (folder / "run.json").write_text(json.dumps({"category": "Copper_Stator", "seed": 3}))
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(5):
        pixels = rng.integers(0, 256, (80, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


def by_model(run: Path, image: Path, _: Path) -> Found:
    maps, scores = CFRG.from_pretrained(run).predict(processing.prepare(read_image(image), CONFIG))
    return maps[0, 0].numpy(), float(scores[0])


def by_memory(run: Path, image: Path, _: Path) -> Found:
    memory = NearestNeighbourMemory(CONFIG, teacher=CFRG.from_pretrained(run).teacher)
    prepared = processing.prepare(read_image(image), CONFIG)
    maps, scores = memory.fit([torch.zeros_like(prepared)]).predict(prepared)
    return maps[0, 0].numpy(), float(scores[0])


def by_predictor(run: Path, image: Path, _: Path) -> Found:
    (found,) = Predictor.from_pretrained(run, device="cpu").predict([str(image)])
    return found.map, found.score


def by_tiles(run: Path, image: Path, _: Path) -> Found:
    predictor = Predictor.from_pretrained(run, device="cpu", tile=48, calibrated=False)
    (found,) = predictor.predict([str(image)])
    return found.map, found.score


def by_validation(run: Path, image: Path, _: Path) -> Found:
    pixels = processing.to_tensor(processing.resize(read_image(image), CONFIG.image_size))
    pair = {"clean": pixels, "defective": pixels, "mask": torch.ones(1, SIDE, SIDE)}
    seen: list[Found] = []

    class Pairs:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, _: Any) -> dict[str, torch.Tensor]:
            return pair

    class Watched(Evaluator):
        def update(self, maps: Any, masks: Any, scores: Any, *rest: Any, **named: Any) -> None:
            seen.append((maps[0], float(scores[0])))
            super().update(maps, masks, scores, *rest, **named)

    model = CFRG.from_pretrained(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "Evaluator", Watched)
        Validation(Pairs()).score(model)  # type: ignore[arg-type]
    return seen[0]


def by_calibration(run: Path, image: Path, _: Path) -> Found:
    stored = (run / "calibration.json").read_bytes()
    try:
        found = calibrate(run, on=str(image.parent), false_alarm_rate=0.5, device="cpu")
    finally:
        (run / "calibration.json").write_bytes(stored)
    return None, float(found.scores[int(image.stem)])


def by_latency(run: Path, image: Path, _: Path) -> Found:
    threads = torch.get_num_threads()
    task = latency.Task("torch", run, {}, (image,), 1, threads)
    maps, scores = latency._open_torch(task)["whole"](read_image(image))
    return maps[0, 0].numpy(), float(scores[0])


def by_graph(run: Path, image: Path, _: Path) -> Found:
    graph = DetectionGraph(CFRG.from_pretrained(run), None, input_size=(80, 96))
    maps, scores = graph(torch.from_numpy(read_image(image))[None])
    return maps[0].numpy(), float(scores[0])


def by_exported_file(run: Path, image: Path, folder: Path) -> Found:
    out = folder / "model.pt2"
    export_run(run, "torch-export", images=image.parent, out=out, input_size=(80, 96), force=True)
    maps, scores, *_ = open_session(out).run(read_image(image)[None])
    return maps[0], float(scores[0])


class GraphSession(Session):
    """A graph as a runtime shows it, before it is written."""

    outputs = ("anomaly_map", "score", "decision")

    def __init__(self, graph: DetectionGraph) -> None:
        self.graph = graph

    def run(self, image: Any) -> list[Any]:
        return [output.numpy() for output in self.graph(torch.from_numpy(image))]


def by_page(run: Path, image: Path, _: Path) -> Found:
    predictor = Predictor.from_pretrained(run, device="cpu")
    found = Inspector("name", predictor, 0.0, 0.0, "", decides=True).inspect(image)
    return found.map, found.score


WAYS = (
    by_model,
    by_memory,
    by_predictor,
    by_tiles,
    by_validation,
    by_calibration,
    by_latency,
    by_graph,
    by_page,
    pytest.param(by_exported_file, marks=pytest.mark.slow),
)


@pytest.fixture(autouse=True)
def _few_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfrg.calibration.calibrating.LEAST_DEFECTS", 5)


@pytest.mark.parametrize("way", WAYS)
def test_a_region_of_interest_in_finish_is_kept_to_on_every_way(
    way: Callable[[Path, Path, Path], Found],
    run: Path,
    images: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, free = way(run, images[1], tmp_path)
    finish = processing.finish

    def finish_within(maps: torch.Tensor, config: CFRGConfig) -> tuple[torch.Tensor, torch.Tensor]:
        inside = torch.arange(maps.shape[-1], device=maps.device) == COLUMN
        return finish(torch.where(inside, maps, OUTSIDE), config)

    monkeypatch.setattr(processing, "finish", finish_within)
    anomaly_map, score = way(run, images[1], tmp_path)
    assert score < free
    if anomaly_map is not None:
        assert (np.delete(anomaly_map, COLUMN, axis=1) == OUTSIDE).all()
        assert score == pytest.approx(float(anomaly_map.max()), abs=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_the_region_of_a_run_is_kept_to_on_every_way(
    way: Callable[[Path, Path, Path], Found],
    run: Path,
    images: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inside = np.zeros((80, 96), bool)
    inside[20:50, 30:60] = True
    within = tmp_path / "within"
    shutil.copytree(run, within)
    config = replace(CONFIG, region=encode_region(inside))
    atomic.write_json(within / "config.json", config.to_dict())
    threshold = read_threshold(within)
    assert threshold is not None
    atomic.write_json(
        within / "calibration.json", replace(threshold, region=config.region).to_dict()
    )
    monkeypatch.setitem(globals(), "CONFIG", config)
    anomaly_map, score = way(within, images[1], tmp_path)
    if anomaly_map is None:
        (found,) = Predictor.from_pretrained(within, device="cpu").predict([str(images[1])])
        assert score == pytest.approx(found.score, abs=1e-5)
    else:
        seen = stretch_region(config.region, anomaly_map.shape)
        assert anomaly_map[~seen].max() < anomaly_map[seen].min()
        assert score == pytest.approx(float(anomaly_map[seen].max()), abs=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_a_step_before_the_network_is_taken_on_every_way(
    way: Callable[[Path, Path, Path], Found],
    run: Path,
    images: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def score() -> tuple[float, float]:
        return way(run, images[0], tmp_path)[1], way(run, images[1], tmp_path)[1]

    one, other = score()
    assert one != other
    normalize = processing.normalize
    monkeypatch.setattr(processing, "normalize", lambda x, config: 0 * normalize(x, config))
    one, other = score()
    assert one == pytest.approx(other, abs=1e-5)


def test_another_rule_of_decision_is_followed_on_every_way(
    run: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every score is above the run's threshold; by the rule put in place here none is."""

    def decisions() -> list[bool]:
        model = CFRG.from_pretrained(run)
        predictor = Predictor(model, device="cpu", threshold=-1e6)
        (found,) = predictor.predict([str(images[0])])
        inspector = Inspector("name", predictor, -1e6, 0.0, "", decides=True)
        verdict = describe_verdict(inspector, inspector.inspect(images[0]), -1e6)
        image = processing.resize(read_image(images[0]), CONFIG.image_size)
        session = GraphSession(DetectionGraph(model, -1e6, input_size=CONFIG.image_size))
        decision = session.run(image[None])[2]
        parity = compare(compare_each(session, model, [("0", image)]), -1e6)
        assert (parity.decisions_changed, parity.undecidable) == (0, 0)
        return [bool(found.defective), "Defective" in verdict, bool(decision[0])]

    assert decisions() == [True, True, True]
    monkeypatch.setattr(processing, "decide", lambda scores, threshold: scores > threshold + 1e9)
    assert decisions() == [False, False, False]

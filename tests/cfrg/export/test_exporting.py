"""Exported files compute what the model computes, and say so."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from command_lines import run_line
from PIL import Image
from small_networks import SMALL

import cfrg.cli
from cfrg.export import graph
from cfrg.export.graph import DetectionGraph, Preprocessing
from cfrg.export.writing import ExportReport, decider, export_run, policy_file, read_policy_of
from cfrg.inference.policy import DecisionPolicy
from cfrg.inference.predictor import Predictor
from cfrg.inference.thresholds import Threshold, digest_weights, read_policy
from cfrg.network import processing
from cfrg.network.config import TILED, CFRGConfig
from cfrg.network.model import CFRG
from cfrg.network.processing import normalize, resize, to_tensor
from cfrg.runtimes.formats import write_onnx
from cfrg.runtimes.parity import TOLERANCES, ModelAndGraph, compare
from cfrg.runtimes.sessions import open_session
from threecad.errors import DataError, ModelError, UsageError
from threecad.images.files import read_image
from threecad.system import atomic

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
SIZE = (64, 96)


def needs(*packages: str) -> pytest.MarkDecorator:
    missing = [name for name in packages if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def find_spec(name: str) -> object:
    import importlib.util

    return importlib.util.find_spec(name)


needs_onnx = needs("onnx", "onnxruntime", "onnxscript")
needs_openvino = needs("onnx", "onnxruntime", "onnxscript", "openvino")


@pytest.fixture(scope="module")
def model() -> CFRG:
    torch.manual_seed(0)
    config = CFRGConfig.preset(
        "lite",
        **TILED,
        image_size=SIZE,
        **SMALL,
    )
    model = CFRG(config)
    model.load_teacher()
    return model.eval()


@pytest.fixture(scope="module")
def run(model: CFRG, tmp_path_factory: pytest.TempPathFactory, sample_tree: Path) -> Path:
    folder = tmp_path_factory.mktemp("run")
    model.save_pretrained(folder)
    image = read_image(min(sample_tree.glob("Copper_Stator/test/good/*.png")))
    _, score = model.predict(prepare(model, image))
    threshold = Threshold(
        image_threshold=float(score[0]) - 0.01,
        pixel_threshold=1.0,
        false_alarm_rate=0.1,
        interval=(0.0, 0.2),
        images=3,
        source="test-good",
        data_fingerprint="0" * 64,
        weights_digest=digest_weights(model),
        version="0",
    )
    atomic.write_json(folder / "calibration.json", threshold.to_dict())
    atomic.write_json(folder / "run.json", {"category": "Copper_Stator", "seed": 3})
    return folder


@pytest.fixture(scope="module")
def onnx_report(run: Path, sample_tree: Path) -> ExportReport:
    """What the command exports."""
    reports: list[ExportReport] = []

    def export(*arguments: Any, **options: Any) -> ExportReport:
        reports.append(export_run(*arguments, **options))
        return reports[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cfrg.export.writing.export_run", export)
        result = run_line(f"cfrg export {run} --to onnx --images {sample_tree} --input-size 96x130")
    assert result.exit_code == 0, result.output
    return reports[0]


def prepare(model: CFRG, image: Any) -> torch.Tensor:
    return normalize(to_tensor(resize(image, model.config.image_size))[None], model.config)


def noise(height: int, width: int) -> Any:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "source",
    [(64, 96), (64, 200), (1, 1), (333, 97), (97, 333), (700, 101), (1024, 1024), (1000, 1536)],
    ids=str,
)
def test_a_fixed_size_is_resized_exactly_as_pillow_does(source: tuple[int, int]) -> None:
    config = CFRGConfig.preset("lite", image_size=SIZE)
    for image in (noise(*source), noise(*source) // 128 * 255):
        found = Preprocessing(config, source)(torch.from_numpy(image)[None])
        expected = normalize(to_tensor(resize(image, SIZE))[None], config)
        torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_any_size_is_resized_exactly_too() -> None:
    config = CFRGConfig.preset("lite", image_size=SIZE)
    preprocessing = Preprocessing(config, None)
    for source in [(64, 96), (100, 300), (50, 70), (64, 40), (97, 96), (900, 150), (100, 101)]:
        image = noise(*source)
        found = preprocessing(torch.from_numpy(image)[None])
        expected = normalize(to_tensor(resize(image, SIZE))[None], config)
        torch.testing.assert_close(found, expected, atol=0, rtol=0)


LINE_SCANS = [(24, 9000), (9000, 24), (200, 16384), (40000, 40), (40, 40000), (3, 65536)]


def stripes(height: int, width: int) -> Any:
    """Noise, and black and white by turns, on which every rounding shows."""
    image = noise(height, width)
    image[::2] = image[::2] // 128 * 255
    return image


@pytest.mark.parametrize("source", LINE_SCANS, ids=str)
def test_line_scans_are_resized_exactly_whether_their_size_is_known_or_free(
    source: tuple[int, int],
) -> None:
    image = stripes(*source)
    for size in (SIZE, (32, 256)):
        config = CFRGConfig.preset("lite", image_size=size)
        expected = normalize(to_tensor(resize(image, size))[None], config)
        for known in (source, None):
            found = Preprocessing(config, known)(torch.from_numpy(image)[None])
            torch.testing.assert_close(found, expected, atol=0, rtol=0)


@needs_openvino
def test_line_scans_in_the_runtimes_are_resized_exactly(tmp_path: Path) -> None:
    """The preprocessing alone: what a network makes of it would hide small differences."""
    config = CFRGConfig.preset("lite", image_size=SIZE)
    path = tmp_path / "resize.onnx"
    write_onnx(
        Preprocessing(config, None),
        torch.zeros(2, 96, 160, 3, dtype=torch.uint8),
        path,
        {},
        ("batch", "height", "width"),
        ("pixels",),
    )
    for runtime in ("onnxruntime", "openvino"):
        session = open_session(path, runtime)
        for source in [(70, 100), *LINE_SCANS]:
            image = stripes(*source)
            expected = normalize(to_tensor(resize(image, SIZE))[None], config)
            (found,) = session.run(image[None])
            np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=f"{runtime} {source}")


def test_the_graph_computes_what_the_model_predicts(model: CFRG) -> None:
    image = noise(90, 120)
    maps, scores = model.predict(prepare(model, image))
    threshold = float(scores[0]) - 1e-3
    found = DetectionGraph(model, threshold, input_size=(90, 120))(torch.from_numpy(image)[None])
    torch.testing.assert_close(found[0], maps[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1], scores, atol=1e-5, rtol=1e-4)
    assert found[2].tolist() == [True]
    assert len(DetectionGraph(model, None, input_size=SIZE)) == 3


@needs_onnx
def test_onnx_gives_map_score_and_decision(
    model: CFRG, onnx_report: ExportReport, run: Path
) -> None:
    assert onnx_report.path == run / "export" / "model-float32.onnx"
    assert onnx_report.parity.relative_error < TOLERANCES["float32"].error
    assert onnx_report.parity.decisions_changed == 0
    session = open_session(onnx_report.path)
    image = noise(96, 130)
    anomaly_map, score, decision = session.run(image[None])
    maps, scores = model.predict(prepare(model, image))
    np.testing.assert_allclose(anomaly_map, maps[:, 0].numpy(), atol=1e-4)
    np.testing.assert_allclose(score, scores.numpy(), atol=1e-4)
    assert decision.tolist() == [bool(scores[0] > onnx_report.image_threshold)]


@needs_onnx
def test_thresholds_beside_the_file_change_without_a_new_export(
    onnx_report: ExportReport, run: Path, tmp_path: Path
) -> None:
    beside = policy_file(onnx_report.path)
    policy = read_policy_of(onnx_report.path)
    assert policy == read_policy(run)
    copy = tmp_path / "model.onnx"
    assert read_policy_of(copy) is None
    changed = {**json.loads(beside.read_text()), "defective": 9.0, "review": 1.0}
    policy_file(copy).write_text(json.dumps(changed))
    policy = read_policy_of(copy)
    assert policy is not None
    assert [policy.decide(score) for score in (0.5, 5.0, 9.5)] == ["good", "review", "defective"]
    policy_file(copy).write_text("{")
    with pytest.raises(ModelError, match="Export the run again"):
        read_policy_of(copy)


@needs_onnx
def test_what_is_known_travels_in_the_file(onnx_report: ExportReport, model: CFRG) -> None:
    metadata = open_session(onnx_report.path).metadata
    assert CFRGConfig.from_dict(metadata["config"]) == model.config
    assert metadata["threshold"]["image_threshold"] == onnx_report.image_threshold
    assert metadata["weights_digest"] == digest_weights(model)
    assert metadata["run"] == {
        "category": "Copper_Stator", "seed": 3, "data_fingerprint": None,
    }  # fmt: skip
    assert metadata["input_size"] == [96, 130]
    assert set(metadata["versions"]) == {"threecad", "torch", "pillow"}


def test_the_page_shows_the_consumer_script() -> None:
    page = (EXAMPLES.parent / "export.md").read_text(encoding="utf-8")
    assert (EXAMPLES / "decide_onnxruntime.py").read_text(encoding="utf-8") in page


@needs_onnx
def test_the_consumer_script_needs_onnxruntime_alone(
    onnx_report: ExportReport, sample_tree: Path, model: CFRG, tmp_path: Path
) -> None:
    check_consumer("decide_onnxruntime.py", onnx_report.path, sample_tree, model, tmp_path)


@needs_openvino
def test_openvino_and_its_consumer_script(
    run: Path,
    sample_tree: Path,
    model: CFRG,
    onnx_report: ExportReport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Made from the ONNX file of the same run and size, which is not written again here."""

    def write(graph: object, example: object, path: Path, *_: object) -> None:
        shutil.copyfile(onnx_report.path, path)

    monkeypatch.setattr("cfrg.export.writing.write_onnx", write)
    report = export_run(
        run, "openvino", images=sample_tree, input_size=(96, 130), out=tmp_path / "model.xml"
    )
    assert report.parity.relative_error < TOLERANCES["float32"].error
    assert report.parity.decisions_changed == 0
    assert {p.name for p in tmp_path.iterdir()} == {
        *("model.xml", "model.bin", "model.policy.json"),
    }
    assert open_session(report.path).metadata["threshold"]["images"] == 3
    check_consumer("decide_openvino.py", report.path, sample_tree, model, tmp_path)


def check_consumer(name: str, path: Path, tree: Path, model: CFRG, folder: Path) -> None:
    """Run an example without torch and our packages: it decides as the predictor does."""
    image = noise(96, 130)
    Image.fromarray(image).save(folder / "part.png")
    blocked = "import sys; sys.modules.update(dict.fromkeys(('torch', 'cfrg', 'threecad')));"
    script = EXAMPLES / name

    def run(*options: str) -> list[str]:
        words = [
            f"{blocked} import runpy; sys.argv[0] = {str(script)!r};"
            f"runpy.run_path({str(script)!r}, run_name='__main__')",
            *(str(path), str(folder / "part.png"), *options),
        ]
        finished = subprocess.run(
            [sys.executable, "-c", *words], capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout.split()

    (found,) = Predictor(model, device="cpu").predict([image])
    score, lowest = found.score, float(found.map.min())
    kept = policy_file(path).read_text()
    answers = []
    for change in (
        {},
        {"defective": score + 1, "review": score - 1},
        {"defective": score - 1, "review": None, "pixel_threshold": lowest - 1, "least_area": 9},
        {"defective": score - 1, "review": None, "least_area": 130 * 96 + 1},
    ):
        policy = DecisionPolicy.from_dict({**json.loads(kept), **change})
        atomic.write_json(policy_file(path), policy.to_dict())
        (expected,) = Predictor(model, device="cpu", policy=policy).predict([image])
        said = run()
        assert said[1] == expected.decision, change
        assert float(said[-1]) == pytest.approx(score, abs=1e-3)
        answers.append(said[1])
    assert answers[1:] == ["review", "defective", "good"]
    own = replace(policy, categories={"Part": DecisionPolicy(defective=score - 1)})
    atomic.write_json(policy_file(path), own.to_dict())
    assert [run("--category", name)[1] for name in ("Part", "Other")] == ["defective", "good"]
    policy_file(path).write_text(kept)


def test_torch_export_without_threshold_has_no_decision(
    run: Path, sample_tree: Path, tmp_path: Path, model: CFRG
) -> None:
    plain = tmp_path / "plain"
    model.save_pretrained(plain)
    images = sample_tree / "Copper_Stator" / "test" / "good"
    report = export_run(plain, "torch-export", images=images, dynamic=True)
    assert report.path.name == "model-float32.pt2"
    assert report.image_threshold is None
    assert report.parity.decisions_changed is None
    session = open_session(report.path)
    assert session.metadata["threshold"] is None
    batch = np.stack([noise(96, 70)] * 3)
    anomaly_map, score = session.run(batch)
    assert anomaly_map.shape == (3, *SIZE)
    assert score.shape == (3,)


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_smaller_precisions(
    run: Path, sample_tree: Path, tmp_path: Path, to: Any, precision: Any, onnx_report: ExportReport
) -> None:
    suffix = ".onnx" if to == "onnx" else ".xml"
    report = export_run(
        run, to, images=sample_tree, precision=precision, out=tmp_path / f"small{suffix}"
    )
    # Eight bits hold the U-Net alone; half precision holds every weight.
    assert report.length < (0.75 if precision == "float16" else 1) * onnx_report.length
    assert report.figures is not None
    assert set(report.figures) == {"model", "exported"}
    assert report.figures["model"]["image_auroc"] == pytest.approx(
        report.figures["exported"]["image_auroc"], abs=0.5
    )
    assert open_session(report.path).metadata["precision"] == precision


@needs_onnx
def test_on_drawn_images_nothing_is_scored(run: Path, tmp_path: Path) -> None:
    report = export_run(
        run, "torch-export", out=tmp_path / "half.pt2", precision="float16", limit=2
    )
    assert report.parity.images == 2
    assert report.figures is None


def test_a_graph_that_differs_is_not_written(
    run: Path, sample_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def smooth_more(raw: torch.Tensor, config: CFRGConfig) -> torch.Tensor:
        return processing.smooth_maps(raw, config.smoothing_sigma + 1)

    other = SimpleNamespace(**{**vars(processing), "smooth": smooth_more})
    monkeypatch.setattr(graph, "processing", other)
    out = tmp_path / "wrong.pt2"
    out.write_bytes(b"before")
    with pytest.raises(ModelError, match=r"Copper_Stator/test/.*row \d+, column \d+.*instead of"):
        export_run(run, "torch-export", images=sample_tree, out=out, force=True)
    assert out.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [out]


def pair(
    found: float, expected: float, decision: bool | None = None, name: str = "a"
) -> ModelAndGraph:
    anomaly_map = np.eye(2, dtype=np.float32)
    return ModelAndGraph(name, anomaly_map, anomaly_map, expected, found, decision)


def test_parity_counts_decisions_off_the_threshold_only() -> None:
    parity = compare(
        [
            pair(0.2, 0.1, decision=True, name="changed"),
            pair(0.5, 0.5, decision=True),
            pair(0.15, 0.15 + 1e-6, decision=False, name="on the threshold"),
        ],
        0.15,
    )
    assert (parity.images, parity.decisions_changed, parity.undecidable) == (3, 1, 1)
    assert parity.score_error == pytest.approx(0.1)
    assert parity.relative_error == pytest.approx(0.1)
    with pytest.raises(ModelError, match="1 of 3 decisions changed"):
        parity.check(TOLERANCES["int8"], "It")


def test_parity_counts_all_that_a_policy_decides() -> None:
    strict = DecisionPolicy(defective=0.4, review=0.3, pixel_threshold=0.5)
    policy = DecisionPolicy(
        defective=0.6,
        review=0.2,
        pixel_threshold=0.5,
        least_area=3,
        categories={"Part": strict},
    )
    small = np.zeros((4, 4), np.float32)
    small[0, :2] = 1.0
    large = small.copy()
    large[0, 2] = 0.5 + 1e-3
    pairs = [
        pair(0.31, 0.29, name="Part/test/good/1"),  # to be reviewed, not good
        pair(0.25, 0.21, name="Part/test/good/2"),  # good, although above the others' review
        replace(pair(0.7, 0.7, name="3"), expected=small, found=large),  # a region large enough
        pair(0.3, 0.3 + 1e-6, name="Part/test/good/4"),  # on the threshold
    ]
    parity = compare(pairs, None, decider(policy))
    assert (parity.decisions_changed, parity.undecidable) == (2, 1)
    with pytest.raises(ModelError, match="2 of 4 decisions changed"):
        parity.check(TOLERANCES["int8"], "It")


def test_not_a_number_is_no_parity() -> None:
    broken = replace(pair(0.1, 0.1), found=np.full((2, 2), np.nan, np.float32))
    with pytest.raises(ModelError, match="a, row 0, column 0: nan instead of 1"):
        compare([pair(0.1, 0.1), broken], None).check(TOLERANCES["int8"], "It")
    with pytest.raises(ModelError, match="no image"):
        compare([], None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "onnx", "out": "x.xml"}, "ends in .onnx"),
        ({"to": "onnx", "precision": "int8"}, "`images`"),
        ({"to": "onnx", "images": "nowhere", "force": True}, "nowhere"),
        ({"to": "torch-export", "precision": "int8", "images": "."}, "not for torch-export"),
    ],
)
def test_arguments_that_do_not_go_together(
    run: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((UsageError, DataError), match=message):
        export_run(run, **options)


@pytest.mark.parametrize("size", [(65537, 8), (8, 65537), (0, 8)])
def test_sides_too_long_for_an_exact_resize_are_refused(run: Path, size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="65,536"):
        export_run(run, "torch-export", input_size=size, out=run / "not-there.pt2")


def test_an_existing_file_needs_force(run: Path, tmp_path: Path) -> None:
    (tmp_path / "there.onnx").touch()
    with pytest.raises(UsageError, match="`force=True`"):
        export_run(run, "onnx", out=tmp_path / "there.onnx")


def test_a_place_that_cannot_be_written_is_said(run: Path, read_only_disk: Path) -> None:
    out = read_only_disk / "model.pt2"
    result = run_line(f"cfrg export {run} --to torch-export --out {out}")
    assert result.exit_code == 2
    assert f"Error: {read_only_disk} cannot be written" in result.output


def test_foreign_thresholds_are_refused(run: Path, model: CFRG, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    values = json.loads((run / "calibration.json").read_text())
    atomic.write_json(tmp_path / "calibration.json", {**values, "weights_digest": "1" * 64})
    with pytest.raises((ModelError, UsageError), match=r"cfrg calibrate"):
        export_run(tmp_path, "torch-export")


def test_a_missing_extra_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError, match=r"threecad\[onnx\]"):
        export_run(run, "onnx", out=run / "not-there.onnx")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    for suffix, package in ((".onnx", "onnxruntime"), (".xml", "openvino"), (".pt2", "torch")):
        path = tmp_path / f"model{suffix}"
        with pytest.raises(ModelError, match="no exported model"):
            open_session(path)
        path.write_bytes(b"not a model")
        if find_spec(package):
            with pytest.raises(ModelError, match="cannot be opened"):
                open_session(path)


def test_sizes_on_the_command_line(run: Path) -> None:
    arguments = ["export", str(run), "--to", "onnx", "--input-size", "12by4"]
    result = CliRunner().invoke(cfrg.cli.main, arguments)
    assert result.exit_code == 2
    assert "1024x1280" in result.output

"""Another runtime gives the maps of PyTorch, or PyTorch gives them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_lines import run_line
from PIL import Image
from small_networks import SMALL

from cfrg.inference import predictor
from cfrg.inference.predictor import Predictor
from cfrg.network.config import CFRGConfig
from cfrg.network.model import CFRG
from cfrg.runtimes import compiled
from cfrg.runtimes.compiled import choose_runtime
from threecad.errors import UsageError

SIZE = (64, 96)

missing = [
    name
    for name in ("onnx", "onnxruntime", "onnxscript", "openvino")
    if importlib.util.find_spec(name) is None
]
needs_runtimes = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = CFRGConfig.preset(
        "lite",
        image_size=SIZE,
        **SMALL,
    )
    model = CFRG(config)
    model.load_teacher()
    folder = tmp_path_factory.mktemp("runtimes") / "run"
    model.eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def graph(run: Path) -> bytes:
    """The run as a graph, which takes seconds to make."""
    return compiled._write_graph(CFRG.from_pretrained(run))


@pytest.fixture
def made(graph: bytes, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What has been made a graph of, one entry each time."""
    detectors: list[object] = []

    def write(detector: object) -> bytes:
        detectors.append(detector)
        return graph

    monkeypatch.setattr(compiled, "_write_graph", write)
    return detectors


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(5):
        pixels = rng.integers(0, 256, (90 + 10 * i, 130, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@needs_runtimes
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize("tile", [0, 70])
def test_maps_scores_and_order_are_those_of_pytorch(
    run: Path, images: Path, made: list[object], runtime: str, tile: int
) -> None:
    options = {"device": "cpu", "batch_size": 3, "tile": tile}
    expected = list(Predictor.from_pretrained(run, **options).predict(images))
    predictor = Predictor.from_pretrained(run, **options, runtime=runtime)
    assert isinstance(predictor._network, compiled.CompiledDetector)
    found = list(predictor.predict(images))
    assert [p.id for p in found] == [p.id for p in expected]
    span = max(float(np.ptp(p.map)) for p in expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.map, other.map, atol=1e-4 * span)
        assert one.score == pytest.approx(other.score, abs=1e-4 * span)


@needs_runtimes
def test_the_network_is_exported_once_and_a_damaged_one_again(
    run: Path, tmp_path: Path, made: list[object]
) -> None:
    options = {"device": "cpu", "runtime": "onnx", "runtime_folder": tmp_path / "kept"}
    Predictor.from_pretrained(run, **options)
    Predictor.from_pretrained(run, **options)
    assert len(made) == 1
    (path,) = (tmp_path / "kept").iterdir()
    whole = path.read_bytes()
    for times, damaged in enumerate(
        (b"", whole[: len(whole) // 2], whole[:-1] + bytes([whole[-1] ^ 1])), 2
    ):
        path.write_bytes(damaged)
        predictor = Predictor.from_pretrained(run, **options)
        assert isinstance(predictor._network, compiled.CompiledDetector)
        assert len(made) == times
        assert path.read_bytes() == whole


@needs_runtimes
def test_other_weights_and_another_configuration_have_their_own_graph(
    run: Path,
) -> None:
    model = CFRG.from_pretrained(run)
    names = {compiled._name(model, "onnxruntime", "cpu")}
    names.add(compiled._name(CFRG.from_pretrained(run, smoothing_sigma=7.0), "onnxruntime", "cpu"))
    names.add(compiled._name(model, "openvino", "cpu"))
    with torch.no_grad():
        next(model.unet.parameters()).add_(0.5)
    names.add(compiled._name(model, "onnxruntime", "cpu"))
    assert len(names) == 4


@needs_runtimes
def test_a_graph_with_other_maps_is_not_used(
    run: Path, tmp_path: Path, made: list[object], monkeypatch: pytest.MonkeyPatch, images: Path
) -> None:
    predict_maps = compiled.CompiledDetector.predict_maps
    monkeypatch.setattr(
        compiled.CompiledDetector, "predict_maps", lambda self, x: predict_maps(self, x) * 1.001
    )
    options = {"device": "cpu", "runtime": "onnx", "runtime_folder": tmp_path / "kept"}
    with pytest.warns(UserWarning, match=r"off by .*\n.*[Cc]omputing with PyTorch instead"):
        predictor = Predictor.from_pretrained(run, **options)
    assert not (tmp_path / "kept").exists()
    expected = Predictor.from_pretrained(run, device="cpu").predict(images)
    for one, other in zip(predictor.predict(images), expected, strict=True):
        np.testing.assert_array_equal(one.map, other.map)


@needs_runtimes
def test_a_run_that_cannot_be_written_is_cached_for_its_user(
    run: Path, tmp_path: Path, made: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREECAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled.os, "access", lambda *_: False)
    Predictor.from_pretrained(run, device="cpu", runtime="onnx")
    assert len(list((tmp_path / "cache" / "runtimes").glob("onnxruntime-*.graph"))) == 1


@needs_runtimes
@pytest.mark.slow
def test_two_processes_may_export_at_once(run: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from cfrg import Predictor; "
        "p = Predictor.from_pretrained(sys.argv[1], device='cpu', runtime='onnx', "
        "runtime_folder=sys.argv[2]); print(type(p._network).__name__)"
    )
    command = [sys.executable, "-c", code, str(run), str(tmp_path / "kept")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [p.communicate()[0].strip() for p in started] == ["CompiledDetector"] * 2
    (path,) = (tmp_path / "kept").iterdir()
    assert compiled._read(path) is not None


@needs_runtimes
def test_devices_that_a_runtime_lacks_are_refused(run: Path) -> None:
    for runtime, device in [("onnx", "cuda"), ("onnx", "gpu"), ("openvino", "cuda")]:
        with pytest.raises(UsageError, match="runtime=torch"):
            Predictor.from_pretrained(run, device=device, runtime=runtime)
    with pytest.raises(UsageError, match="There are: torch, auto, onnx, openvino"):
        choose_runtime("tensorrt", None)


@needs_runtimes
def test_auto_takes_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_runtime("auto", "cpu") == ("onnx", "cpu")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert choose_runtime("auto", "cpu") == ("openvino", "cpu")
    with pytest.raises(UsageError, match=r"pip install 'threecad\[onnx\]'"):
        choose_runtime("onnx", "cpu")
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert choose_runtime("auto", "cpu") == ("torch", "cpu")


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class _Runtimes:
    """In place of ONNX Runtime and OpenVINO: what they would say they compute on."""

    def __init__(self, providers: list[str], devices: list[str]) -> None:
        self.get_available_providers = lambda: providers
        self.available_devices = devices

    def Core(self) -> _Runtimes:  # noqa: N802  (as OpenVINO calls it)
        return self


@pytest.mark.parametrize(
    ("choice", "device", "providers", "graphics", "chosen"),
    [
        ("auto", None, [CUDA, CPU], True, ("onnx", "cuda")),
        ("onnx", None, [CUDA, CPU], True, ("onnx", "cuda")),
        ("onnx", "cpu", [CUDA, CPU], True, ("onnx", "cpu")),
        ("onnx", "cuda:1", [CUDA, CPU], True, ("onnx", "cuda:1")),
        ("openvino", None, [CUDA, CPU], True, ("openvino", "cpu")),
        ("openvino", "gpu:1", [CPU], False, ("openvino", "gpu:1")),
        ("auto", "gpu", [CPU], False, ("openvino", "gpu")),
        ("auto", None, [CPU], True, ("torch", None)),  # which has CUDA
        ("onnx", None, [CPU], True, ("onnx", "cpu")),
        ("auto", None, [CUDA, CPU], False, ("onnx", "cpu")),
        ("torch", None, [CUDA, CPU], True, ("torch", None)),
    ],
)
def test_no_device_is_the_graphics_card_where_there_is_one(
    choice: str,
    device: str | None,
    providers: list[str],
    graphics: bool,
    chosen: tuple[str, str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtimes = _Runtimes(providers, ["CPU", "GPU.0", "GPU.1"])
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, runtimes)
    monkeypatch.setattr(compiled, "find_version", lambda package: "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: graphics)
    assert choose_runtime(choice, device) == chosen


def test_a_device_that_the_runtime_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    runtimes = _Runtimes([CPU], ["CPU"])
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, runtimes)
    with pytest.raises(UsageError, match="onnxruntime-gpu"):
        choose_runtime("onnx", "cuda")
    with pytest.raises(UsageError, match="no such device here, only cpu"):
        choose_runtime("openvino", "gpu")


@needs_runtimes
def test_the_predictor_computes_where_it_was_chosen(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def compile_detector(detector: object, *where: object) -> None:
        asked.append(where[:2])  # and cannot: PyTorch computes instead

    def find_device(name: str | None) -> torch.device:
        asked.append(name)
        return torch.device("cpu")

    monkeypatch.setattr(predictor, "choose_runtime", lambda choice, device: ("onnx", "cuda"))
    monkeypatch.setattr(predictor, "compile_detector", compile_detector)
    monkeypatch.setattr(predictor, "find_device", find_device)
    assert Predictor.from_pretrained(run, runtime="auto").batch_size == 16
    assert asked == ["cpu", ("onnx", "cuda"), "cuda"]


@needs_runtimes
def test_the_command_line_takes_it(
    run: Path, images: Path, tmp_path: Path, made: list[object]
) -> None:
    out = tmp_path / "out"
    result = run_line(f"cfrg predict {run} {images} --out {out} --runtime auto --device cpu")
    assert result.exit_code == 0, result.output
    assert len(list((out / "maps").iterdir())) == 5
    assert len(list((run / "runtimes").glob("onnxruntime-*.graph"))) == 1
    refused = run_line(f"cfrg predict {run} {images} --out {out}2 --runtime onnx --device cuda")
    assert refused.exit_code == 2
    assert "--device=cuda" in refused.output or "--device cuda" in refused.output

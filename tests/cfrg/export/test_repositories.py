"""Model repositories for servers: their files lie where these look, and say what is true."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from command_lines import run_line
from detector_servers import write_run
from PIL import Image
from small_networks import SMALL

from cfrg import Predictor
from cfrg.export.repositories import _add_model
from cfrg.runtimes.sessions import open_session

needs_onnx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="needs the extra onnx",
)
needs_openvino = pytest.mark.skipif(
    not importlib.util.find_spec("openvino"), reason="needs the extra openvino"
)
pytestmark = needs_onnx


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(
        tmp_path_factory.mktemp("runs") / "a stator",
        **SMALL,
    )


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for seed in range(2):
        noise = np.random.default_rng(seed).integers(0, 255, (80, 100, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def triton(run: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("triton")
    line = f"cfrg export '{run}' --for triton --images {photographs} --out {root} --name any"
    result = run_line(f"{line} --dynamic")
    assert result.exit_code == 0, result.output
    assert "config.pbtxt: for triton, under the name any" in result.output
    return root


def test_triton_finds_model_and_tensors(triton: Path) -> None:
    session = open_session(triton / "any" / "1" / "model.onnx")
    text = (triton / "any" / "config.pbtxt").read_text()
    assert 'name: "any"\nbackend: "onnxruntime"\nmax_batch_size: 0\n' in text
    assert 'name: "image"\n    data_type: TYPE_UINT8\n    dims: [ -1, -1, -1, 3 ]' in text
    for output in session.outputs:
        assert f'name: "{output}"' in text


def test_triton_reads_the_configuration(triton: Path) -> None:
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format

    parsed = text_format.Parse((triton / "any" / "config.pbtxt").read_text(), schema.ModelConfig())
    assert (parsed.name, parsed.backend, parsed.max_batch_size) == ("any", "onnxruntime", 0)
    (image,) = parsed.input
    assert (image.data_type, list(image.dims)) == (schema.TYPE_UINT8, [-1, -1, -1, 3])
    outputs = {each.name: (each.data_type, len(each.dims)) for each in parsed.output}
    assert outputs["anomaly_map"] == (schema.TYPE_FP32, 3)
    assert outputs["score"] == (schema.TYPE_FP32, 1)
    assert outputs["decision"] == (schema.TYPE_BOOL, 1)


@needs_openvino
def test_openvino_model_server_finds_all_models_of_a_repository(
    run: Path, photographs: Path, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    root.mkdir()
    other = {"config": {"name": "other", "base_path": "/models/other"}}
    (root / "config.json").write_text(
        json.dumps({"model_config_list": [other], "mediapipe_config_list": []})
    )
    line = f"cfrg export '{run}' --for ovms --images {photographs} --out {root} --input-size 80x100"
    result = run_line(f"{line} --json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["name"] == "a-stator"
    said = json.loads((root / "config.json").read_text())
    assert said["mediapipe_config_list"] == []
    first, second = said["model_config_list"]
    assert first == other
    model = root / second["config"]["base_path"] / "1" / "model.xml"
    image = np.asarray(Image.open(photographs / "0.png"))
    anomaly_map, score, *_ = open_session(model).run(image[None])
    (expected,) = Predictor.from_pretrained(run, device="cpu").predict([image])
    np.testing.assert_allclose(anomaly_map[0], expected.map, rtol=0, atol=1e-4)
    assert score[0] == pytest.approx(expected.score, abs=1e-4)
    assert run_line(line).exit_code == 2  # it is there


def test_what_a_user_changed_in_a_configuration_stays() -> None:
    known = {"model_config_list": [{"config": {"name": "part", "nireq": 4}}, "odd", {}]}
    assert _add_model(known, "part") == known
    assert len(_add_model(known, "other")["model_config_list"]) == 4


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("", "--for SERVER"),
        ("--to onnx --for triton", "--for SERVER"),
        ("--to onnx --name x", "--name is for a model repository"),
        ("--for triton --name ../x", "expected up to 64"),
        ("--for triton --name .x", "expected up to 64"),
        ("--for ovms --out broken", "config.json cannot be read"),
        ("--for ovms --out odd", "model_config_list"),
    ],
)
def test_what_makes_no_repository_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("broken", "{"), ("odd", "{}")):
        Path(name).mkdir()
        Path(name, "config.json").write_text(text)
    result = run_line(f"cfrg export '{run}' {options}")
    assert (result.exit_code, sentence in result.output) == (2, True), result.output
    assert not list(tmp_path.rglob("model.*"))

"""The Open Inference Protocol: what its clients send, and what they are told."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detector_servers import DetectorServer, serving, write_run
from PIL import Image

from cfrg import Predictor

PIXELS = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)


def encode(pixels: Any, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


PNG = encode(PIXELS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "part")


@pytest.fixture(scope="module")
def server(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DetectorServer]:
    loose = write_run(tmp_path_factory.mktemp("runs") / "loose", tile=64, calibrated=False)
    with serving(run, loose, place=tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def expected(run: Path) -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    (prediction,) = Predictor.from_pretrained(run, device="cpu", batch_size=1).predict([PIXELS])
    torch.set_num_threads(threads)
    return prediction


def infer(
    server: DetectorServer, request: Any, binary: bytes = b"", model: str = "part"
) -> tuple[int, Any]:
    text = json.dumps(request).encode()
    length = {"Inference_Header_Content_Length": str(len(text))} if binary else {}
    return server.post(f"/v2/models/{model}/infer", text + binary, **length)


def tensor(**changes: Any) -> dict[str, Any]:
    data = [base64.b64encode(PNG).decode()]
    return {"name": "image", "datatype": "BYTES", "shape": [1], "data": data, **changes}


def test_health_and_descriptions_are_as_the_protocol_has_them(server: DetectorServer) -> None:
    for path in ("live", "ready"):
        assert server.get(f"/v2/health/{path}") == (200, {path: True})
    assert {*server.get("/v2")[1]} == {"name", "version", "extensions"}
    assert server.get("/v2/models/part/ready") == (200, {"name": "part", "ready": True})
    described = server.get("/v2/models/part")[1]
    assert (described["name"], described["platform"]) == ("part", "cfrg")
    assert {each["name"]: each["datatype"] for each in described["outputs"]} == {
        "score": "FP32",
        "decision": "BYTES",
        "prediction": "BYTES",
        "anomaly_map": "FP32",
    }


@pytest.mark.parametrize(
    "given",
    [
        tensor(),
        tensor(shape=[1, 1], data=[tensor()["data"]], parameters={"content_type": "base64"}),
        tensor(datatype="UINT8", shape=[50, 70, 3], data=PIXELS.tolist()),
        tensor(datatype="UINT8", shape=[1, 50, 70, 3], data=PIXELS.ravel().tolist()),
    ],
    ids=["file", "file of two axes", "pixels", "flat pixels"],
)
def test_every_form_of_an_image_gives_the_predictors_answer(
    server: DetectorServer, expected: Any, given: Any
) -> None:
    status, said = infer(server, {"id": "a17", "inputs": [given]})
    assert status == 200, said
    assert (said["id"], said["model_name"]) == ("a17", "part")
    outputs = {each["name"]: each for each in said["outputs"]}
    assert outputs["score"]["data"] == [expected.score]
    assert outputs["decision"]["data"] == [expected.to_dict()["decision"]]
    assert outputs["anomaly_map"]["shape"] == [1, 64, 64]
    np.testing.assert_array_equal(
        np.reshape(outputs["anomaly_map"]["data"], (64, 64)).astype(np.float32), expected.map
    )
    line = json.loads(outputs["prediction"]["data"][0])
    assert line["regions"] == expected.to_dict()["regions"]


def test_tensors_may_be_binary_both_ways(server: DetectorServer, expected: Any) -> None:
    two = b"".join(len(PNG).to_bytes(4, "little") + PNG for _ in range(2))
    sent = tensor(shape=[2], parameters={"binary_data_size": len(two)})
    del sent["data"]
    wanted = [
        {"name": "anomaly_map", "parameters": {"binary_data": True}},
        {"name": "decision", "parameters": {"binary_data": True}},
        {"name": "score"},
    ]
    text = json.dumps({"inputs": [sent], "outputs": wanted}).encode()
    status, answer, fields = server.ask(
        "/v2/models/part/infer", text + two, Inference_Header_Content_Length=str(len(text))
    )
    assert status == 200, answer
    length = int(fields["inference-header-content-length"])
    outputs = {each["name"]: each for each in json.loads(answer[:length])["outputs"]}
    assert {*outputs} == {"anomaly_map", "decision", "score"}
    assert outputs["score"]["data"] == [expected.score] * 2
    sizes = [
        outputs[name]["parameters"]["binary_data_size"] for name in ("decision", "anomaly_map")
    ]
    assert sum(sizes) == len(answer) - length
    decision = str(expected.to_dict()["decision"]).encode()
    assert answer[length:][: sizes[0]] == 2 * (len(decision).to_bytes(4, "little") + decision)
    maps = np.frombuffer(answer[length + sizes[0] :], "<f4").reshape(2, 64, 64)
    np.testing.assert_array_equal(maps, np.stack([expected.map] * 2))


def test_a_run_without_thresholds_decides_nothing(server: DetectorServer) -> None:
    wanted = {"inputs": [tensor()], "outputs": [{"name": "decision"}]}
    status, said = infer(server, wanted, model="loose")
    assert (status, said["outputs"][0]["data"]) == (200, ["none"])


def test_maps_of_several_sizes_fit_in_no_tensor(server: DetectorServer) -> None:
    files = [base64.b64encode(encode(PIXELS[:n])).decode() for n in (50, 40)]
    request: dict[str, Any] = {"inputs": [tensor(shape=[2], data=files)]}
    status, said = infer(server, request, model="loose")
    assert (status, "several sizes" in said["error"]) == (400, True)
    request["outputs"] = [{"name": "score"}]
    status, said = infer(server, request, model="loose")
    assert (status, said["outputs"][0]["shape"]) == (200, [2])


@pytest.mark.parametrize(
    ("request_", "binary", "status", "sentence"),
    [
        ([], b"", 400, "expected an object"),
        ({"inputs": []}, b"", 400, "one tensor"),
        ({"inputs": [tensor(), tensor()]}, b"", 400, "one tensor"),
        ({"inputs": [tensor(name="x")]}, b"", 400, "called image"),
        ({"inputs": [tensor(datatype="FP32")]}, b"", 400, "BYTES (image files) or UINT8"),
        ({"inputs": [tensor(shape=[0])]}, b"", 400, "positive"),
        ({"inputs": [tensor(shape=[True])]}, b"", 400, "positive"),
        ({"inputs": [tensor(shape=[2])]}, b"", 400, "says 2 images, 1 were sent"),
        ({"inputs": [tensor(data=["é"])]}, b"", 400, "base64"),
        ({"inputs": [tensor(data=[1])]}, b"", 400, "base64"),
        ({"inputs": [tensor(data="x")]}, b"", 400, "list"),
        ({"inputs": [tensor(data=["AAAA"])]}, b"", 422, "Image 0: The image cannot be used"),
        ({"inputs": [tensor(shape=[65], data=["AAAA"] * 65)]}, b"", 413, "64 images"),
        ({"inputs": [tensor(datatype="UINT8", data=[1, 2])]}, b"", 400, "(H, W, 3)"),
        (
            {"inputs": [tensor(datatype="UINT8", shape=[1, 1, 3], data=[1, 2, 256])]},
            *(b"", 400, "0 to 255"),
        ),
        (
            {"inputs": [tensor(datatype="UINT8", shape=[1, 1, 3], data=[1, 2, 0.5])]},
            *(b"", 400, "0 to 255"),
        ),
        (
            {"inputs": [tensor(datatype="UINT8", shape=[1, 1, 3], data=[[1], [2, 3]])]},
            *(b"", 400, "0 to 255"),
        ),
        (
            {"inputs": [tensor(datatype="UINT8", shape=[9000, 9000, 3], data=[1])]},
            *(b"", 400, "243000000 values"),
        ),
        ({"inputs": [tensor(parameters={"binary_data_size": 5})]}, b"1234", 400, "not what"),
        (
            {"inputs": [tensor(parameters={"binary_data_size": 5})]},
            *(b"\xff\xff\xff\xff1", 400, "ends before"),
        ),
        ({"inputs": [tensor()], "outputs": [{"name": "mask"}]}, b"", 400, "The outputs are"),
        ({"inputs": [tensor()], "id": 3}, b"", 400, "`id`"),
    ],
)
def test_what_is_no_such_request_is_refused_in_a_sentence(
    server: DetectorServer, request_: Any, binary: bytes, status: int, sentence: str
) -> None:
    answer, said = infer(server, request_, binary)
    assert (answer, sentence in said["error"]) == (status, True), said


def test_json_without_end_is_refused(server: DetectorServer) -> None:
    nested = [b"[" * n + b"]" * n for n in (900, 960, 980, 990, 1000, 100_000)]
    for body in (b"", b"{", b"\xff", b"[" * 200_000, b'{"inputs": [1e999]}', b"NaN", *nested):
        status, said = server.post("/v2/models/part/infer", body)
        assert status == 400, said
    for length in ("x", "-1", "99999999", "9" * 5000):
        headers = {"Inference_Header_Content_Length": length}
        assert server.post("/v2/models/part/infer", b"{}", **headers)[0] == 400


def test_tritons_own_client_is_answered(server: DetectorServer, expected: Any) -> None:
    client_library = pytest.importorskip("tritonclient.http")
    client = client_library.InferenceServerClient(server.address)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("part")
    assert not client.is_model_ready("other")
    assert client.get_model_metadata("part")["inputs"][0]["name"] == "image"
    for binary in (True, False):
        given = client_library.InferInput("image", [50, 70, 3], "UINT8")
        given.set_data_from_numpy(PIXELS, binary_data=binary)
        wanted = [
            client_library.InferRequestedOutput(name, binary_data=binary)
            for name in ("score", "decision", "anomaly_map")
        ]
        found = client.infer("part", [given], outputs=wanted, request_id="9")
        assert found.get_response()["id"] == "9"
        assert float(found.as_numpy("score")[0]) == expected.score
        np.testing.assert_array_equal(found.as_numpy("anomaly_map")[0], expected.map)
    given = client_library.InferInput("image", [2], "BYTES")
    given.set_data_from_numpy(np.array([PNG, PNG], object))
    found = client.infer("part", [given])
    assert found.as_numpy("score").tolist() == [np.float32(expected.score)] * 2
    decision = str(expected.to_dict()["decision"]).encode()
    assert found.as_numpy("decision").tolist() == [decision] * 2
    with pytest.raises(client_library.InferenceServerException, match="no run of this name"):
        client.infer("other", [given])
    client.close()


KSERVE = """
import asyncio, base64, json, sys
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

async def ask(base, file, pixels):
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
    assert await client.is_server_ready(base)
    assert await client.is_model_ready(base, "part")
    array = InferInput("image", list(pixels.shape), "UINT8")
    array.set_data_from_numpy(pixels, binary_data=False)
    text = InferInput("image", [1], "BYTES", [base64.b64encode(file).decode()])
    for given in (array, text):
        answer = await client.infer(base, InferRequest("part", [given]), model_name="part")
        said = {each.name: each.data for each in answer.outputs}
        print(json.dumps([said["score"], said["decision"]]))

asyncio.run(ask(sys.argv[1], open(sys.argv[2], "rb").read(), np.load(sys.argv[3])))
"""


def test_kserves_own_client_is_answered(
    server: DetectorServer, expected: Any, tmp_path: Path
) -> None:
    if importlib.util.find_spec("kserve") is None:
        pytest.skip("needs kserve")
    (tmp_path / "a.png").write_bytes(PNG)
    np.save(tmp_path / "a.npy", PIXELS)
    # In a process of its own: its protocol buffers and Triton's do not bear each other.
    files = [str(tmp_path / name) for name in ("a.png", "a.npy")]
    answers = subprocess.run(
        [sys.executable, "-c", KSERVE, f"http://{server.address}", *files],
        capture_output=True,
        text=True,
    )
    assert answers.returncode == 0, answers.stderr
    for line in answers.stdout.splitlines()[-2:]:
        assert json.loads(line) == [[expected.score], [expected.to_dict()["decision"]]]

"""Whatever is sent, the server answers with something better than a mistake of its own."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from detector_servers import DetectorServer, form, say, serving, write_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


PNG = png()
ADDRESSES = (
    *("/", "/docs", "/openapi.json", "/predict", "/runs", "/runs/part/predict", "/metrics", "/v2"),
    *("/v2/health/live", "/v2/models/part", "/v2/models/part/infer", "/v2/models/part/ready"),
)
MANY = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DetectorServer]:
    run = write_run(tmp_path_factory.mktemp("runs") / "part")
    with serving(run, "--timeout", 20, place=tmp_path_factory.mktemp("server")) as server:
        yield server
        assert server.process.poll() is None
        status, said = server.post("/predict", PNG)
        assert (status, said["size"]) == (200, [30, 20])
        assert b"cfrg_requests_accepted 0.0" in server.ask("/metrics")[1]
        assert "Traceback" not in server.errors.read_text()


def check(answer: tuple[int, bytes, dict[str, str]]) -> None:
    status, body, _ = answer
    assert status < 500, body
    assert b"Traceback" not in body
    if status >= 400:
        said = json.loads(body)
        assert said["error"].endswith((".", "…")), said


def harmed(content: bytes) -> st.SearchStrategy[bytes]:
    """Bytes of a file with some cut off or changed."""

    def harm(parts: tuple[int, int, bytes]) -> bytes:
        start, length, new = parts
        return content[:start] + new + content[start + length :]

    size = st.integers(0, len(content))
    return st.tuples(size, size, st.binary(max_size=20)).map(harm)


text = st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=30)
kinds = st.sampled_from(
    ["image/png", "image/*", "application/json", "multipart/form-data; boundary=x", "", "x" * 999]
)


@MANY
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"]),
    address=st.sampled_from(ADDRESSES),
    rest=text.map(lambda t: t.encode("latin-1").hex())
    | st.sampled_from(["?map=npy", "/..", "%00"]),
    kind=kinds,
    body=harmed(PNG),
)
def test_any_method_address_and_body(
    server: DetectorServer, method: str, address: str, rest: str, kind: str, body: bytes
) -> None:
    answer = server.ask(address + rest, body, method=method, Content_Type=kind)
    check(answer if method != "HEAD" else (answer[0], b'{"error": "."}', {}))


@MANY
@given(body=harmed(form(("a.png", PNG), ("b.png", b"x"))[0]))
def test_any_form(server: DetectorServer, body: bytes) -> None:
    kind = "multipart/form-data; boundary=x"
    check(server.ask("/predict", body, Content_Type=kind))


values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
tensors = st.fixed_dictionaries(
    {"name": st.just("image") | values, "datatype": st.sampled_from(["BYTES", "UINT8"]) | values},
    optional={
        "shape": st.lists(st.integers(-1, 70), max_size=5) | values,
        "data": st.lists(st.integers(0, 255), max_size=12) | st.lists(st.just("iVBO")) | values,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(0, 9)}) | values,
    },
)


@MANY
@given(
    request_=st.fixed_dictionaries(
        {"inputs": st.lists(tensors, min_size=1, max_size=1) | values},
        optional={"outputs": st.lists(st.fixed_dictionaries({"name": values})) | values},
    )
    | values,
    binary=st.binary(max_size=9),
    length=st.none() | st.integers(-1, 60).map(str) | text,
)
def test_any_tensor(
    server: DetectorServer, request_: Any, binary: bytes, length: str | None
) -> None:
    body = json.dumps(request_).encode() + binary
    length = length and length.encode("latin-1", "ignore").decode("latin-1")
    check(server.ask("/v2/models/part/infer", body, Inference_Header_Content_Length=length))


@MANY
@given(
    lines=st.lists(st.binary(max_size=40), max_size=5),
    start=st.sampled_from([b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"GET ", b""]),
)
def test_what_is_hardly_http(server: DetectorServer, lines: list[bytes], start: bytes) -> None:
    answer = say(server.address, start + b"\r\n".join(lines) + b"\r\n\r\n")
    assert not answer or not answer.startswith(b"HTTP/1.1 5"), answer

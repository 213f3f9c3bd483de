"""``cfrg serve``: what it answers, and what it refuses and how."""

from __future__ import annotations

import base64
import io
import json
import signal
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import open_browser, requested_addresses
from detector_servers import DetectorServer, finish, form, serving, write_run
from PIL import Image

from cfrg import Predictor
from threecad.evaluation.predictions import read_map

TOKEN = "0123456789abcdef-not-to-be-guessed"
BEARER = f"Bearer {TOKEN}"


def png(width: int = 70, height: int = 50, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def declared(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header says how large it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def without_times(said: dict[str, Any]) -> dict[str, Any]:
    assert {*said.pop("milliseconds")} >= {"read", "network"}
    return said


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "tiles", tile=64, tile_overlap=16)


@pytest.fixture(scope="module")
def server(
    run: Path, tiled: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DetectorServer]:
    with serving(run, f"tiled={tiled}", place=tmp_path_factory.mktemp("open")) as server:
        yield server


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DetectorServer]:
    """One that is small in everything, asks for a token and stands behind a proxy."""
    options = "--queue 0 --timeout 5 --max-bytes 20000 --max-pixels 1000000 --root-path /parts"
    tiles = write_run(tmp_path_factory.mktemp("runs") / "tiles", tile=64, tile_overlap=48)
    with serving(
        tiles,
        *options.split(),
        "--allow-host",
        "parts.example",
        place=tmp_path_factory.mktemp("strict"),
        CFRG_TOKEN=TOKEN,
    ) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute here as the servers do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def predictors(run: Path, tiled: Path) -> dict[str, Predictor]:
    return {
        name: Predictor.from_pretrained(folder, device="cpu", batch_size=1)
        for name, folder in (("whole", run), ("tiled", tiled))
    }


def predict(predictor: Predictor, content: bytes, name: str = "0") -> tuple[Any, Any]:
    """What the predictor says of an image, as JSON, and its map."""
    image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    (prediction,) = predictor.predict([(name, image)])
    return without_times(prediction.to_dict()), prediction.map


@pytest.mark.parametrize("name", ["whole", "tiled"])
def test_an_answer_is_the_predictors_to_the_last_bit(
    server: DetectorServer, predictors: dict[str, Predictor], name: str
) -> None:
    content = png(200, 130)
    expected, anomaly_map = predict(predictors[name], content)
    assert expected["decision"] is not None
    assert expected["regions"]
    status, said = server.post(f"/runs/{name}/predict?map=npy", content)
    assert status == 200
    sent = said.pop("map")
    assert sent["size"] == [anomaly_map.shape[1], anomaly_map.shape[0]]
    np.testing.assert_array_equal(np.load(io.BytesIO(base64.b64decode(sent["data"]))), anomaly_map)
    assert without_times(said) == expected


def test_a_png_of_the_map_comes_with_its_scale(
    server: DetectorServer, predictors: dict[str, Predictor], tmp_path: Path
) -> None:
    _, anomaly_map = predict(predictors["whole"], png())
    _, said = server.post("/predict?run=whole&map=png16", png())
    sent = said["map"]
    (tmp_path / "map.png").write_bytes(base64.b64decode(sent["data"]))
    values = read_map(tmp_path / "map.png", scale=sent["scale"], offset=sent["offset"])
    np.testing.assert_allclose(values, anomaly_map, rtol=0, atol=0.51 * sent["scale"])
    assert sent["scale"] == pytest.approx(np.ptp(anomaly_map) / 65535)


def test_a_form_of_one_image_is_answered_as_its_body_would_be(
    server: DetectorServer, predictors: dict[str, Predictor]
) -> None:
    body, kind = form(("part 1.png", png()))
    status, said = server.post("/predict?run=whole", body, Content_Type=kind)
    assert (status, without_times(said)) == (
        200,
        predict(predictors["whole"], png(), "part 1.png")[0],
    )


def test_of_several_images_one_may_be_broken(
    server: DetectorServer, predictors: dict[str, Predictor]
) -> None:
    contents = {"a.png": png(seed=1), "b.png": b"no image", "c.png": png(90, 40, seed=2)}
    body, kind = form(*contents.items())
    status, said = server.post("/predict?run=whole", body, Content_Type=kind)
    first, second, third = said["predictions"]
    assert status == 200
    assert without_times(first) == predict(predictors["whole"], contents["a.png"], "a.png")[0]
    assert {*second} == {"id", "error"}
    assert "no image format" in second["error"]
    assert without_times(third) == predict(predictors["whole"], contents["c.png"], "c.png")[0]


def test_the_image_of_a_body_may_have_a_name(server: DetectorServer) -> None:
    assert server.post("/predict?run=whole&id=part%2F17", png())[1]["id"] == "part/17"


def test_every_format_that_is_read_elsewhere_is_read_here(
    server: DetectorServer, predictors: dict[str, Predictor]
) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (50, 70), np.uint8)
    for kind in ("JPEG", "TIFF", "BMP", "WEBP"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        status, said = server.post("/predict?run=whole", buffer.getvalue())
        assert status == 200, said
        assert without_times(said) == predict(predictors["whole"], buffer.getvalue())[0]


def test_runs_are_asked_by_name(server: DetectorServer) -> None:
    status, said = server.get("/runs")
    assert status == 200
    assert [(each["name"], each["tile"]) for each in said["runs"]] == [("whole", 0), ("tiled", 64)]
    for path, expected in (
        ("/predict?run=tiled", 200),
        ("/predict", 400),
        ("/predict?run=other", 404),
        ("/predict?run=whole&run=tiled", 400),
        ("/runs/other/predict", 404),
        ("/v2/models/other", 404),
        ("/v2/models/other/ready", 404),
        ("/v2/models/other/infer", 404),
    ):
        post = "predict" in path or "infer" in path
        status, said = server.post(path, png()) if post else server.get(path)
        assert status == expected, path
        assert status != 404 or "whole" in said["error"], path


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "sentence"),
    [
        ("/predict?run=whole", png(), {"Content_Type": "text/plain"}, 415, "Content-Type: image"),
        ("/predict?run=whole", png(), {"Content_Type": None}, 415, "multipart/form-data"),
        ("/predict?run=whole", png(), {"Content_Encoding": "gzip"}, 415, "one image"),
        ("/predict?run=whole", b"", {}, 400, "empty"),
        ("/predict?run=whole", b"no image", {}, 422, "cannot be used"),
        ("/predict?run=whole", png()[:900], {}, 422, "cannot be used"),
        ("/predict?run=whole", declared(6000, 6000), {}, 413, "36000000|36,000,000|6000 × 6000"),
        ("/predict?run=whole", declared(60000, 60000), {}, 413, "60000 × 60000"),
        ("/predict?run=whole&map=gif", png(), {}, 400, "npy, png16"),
        ("/predict?run=whole", b"x", {"Content_Type": "multipart/form-data"}, 400, "form"),
        ("/predict?run=whole", *form(("a", png()), field="file"), 400, "no file `image`"),
        ("/predict?run=whole", *form(*[("a", b"x")] * 65), 413, "64 images"),
        ("/nothing", b"", {}, 404, "nothing"),
        ("/runs", b"", {}, 405, "does not"),
    ],
)
def test_what_is_refused_is_said_in_a_sentence(
    server: DetectorServer, path: str, body: bytes, headers: Any, status: int, sentence: str
) -> None:
    headers = {"Content_Type": headers} if isinstance(headers, str) else headers
    answer, said = server.post(path, body, **headers)
    assert answer == status, said
    assert any(part in said["error"] for part in sentence.split("|")), said


def test_a_large_body_is_heard_out_and_refused(strict: DetectorServer) -> None:
    body = bytes(3_000_000)
    status, said = strict.post("/predict", body, Authorization=BEARER)
    assert (status, said["error"]) == (413, "This server takes up to 20,000 bytes a request.")
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [bytes(50_000)] * 9)
    status, said = strict.post(
        "/predict",
        chunked + b"0\r\n\r\n",
        Authorization=BEARER,
        Content_Length=None,
        Transfer_Encoding="chunked",
    )
    assert status == 413
    status, said = strict.post("/predict", body)
    assert status == 401  # and heard, although it did not come that far


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(
    strict: DetectorServer,
) -> None:
    status, said = strict.post("/predict", declared(1001, 1000), Authorization=BEARER)
    assert (status, "1,000,000" in said["error"]) == (413, True)
    status, _ = strict.post("/predict", declared(1000, 1000), Authorization=BEARER)
    assert status == 422


def test_nobody_but_the_bearer_of_the_token_is_answered(strict: DetectorServer) -> None:
    for given in (None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"):
        for path in ("/runs", "/metrics", "/v2", "/v2/models/tiles", "/nothing", "/parts/runs"):
            status, answer, fields = strict.ask(path, Authorization=given)
            assert status == 401, (path, given)
            assert fields["www-authenticate"] == "Bearer"
            assert b"token" in answer
        assert strict.post("/predict", png(40, 40), Authorization=given)[0] == 401
    for path in ("/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"):
        assert strict.ask(path)[0] == 200
    assert strict.get("/runs", Authorization=BEARER)[0] == 200
    assert strict.get("/runs", Authorization=f"bearer {TOKEN}")[0] == 200
    assert TOKEN not in strict.errors.read_text()


def test_other_names_and_other_sites_are_refused(strict: DetectorServer) -> None:
    for host, expected in (
        (strict.address, 200),
        ("parts.example", 200),
        ("localhost:1", 200),
        ("rebound.example", 403),
        (None, 400),
    ):
        assert strict.ask("/v2/health/live", Host=host)[0] == expected, host
    for origin, expected in (
        (f"http://{strict.address}", 200),
        ("https://parts.example", 200),
        ("http://evil.example", 403),
        ("null", 403),
    ):
        assert strict.ask("/v2/health/live", Origin=origin)[0] == expected, origin


def test_behind_a_proxy_both_paths_lead_here(strict: DetectorServer) -> None:
    for path in ("/runs", "/parts/runs"):
        assert strict.get(path, Authorization=BEARER)[0] == 200
    assert strict.ask("/parts/")[2]["location"] == "/parts/docs"
    status, described = strict.get("/parts/openapi.json")
    assert (status, described["servers"]) == (200, [{"url": "/parts"}])
    assert f"http://{strict.address}/parts/predict" in strict.ask("/docs")[1].decode()


def test_a_full_queue_says_when_to_come_again(strict: DetectorServer) -> None:
    content = png(40, 40)
    with strict.half_a_request("/predict", content, Authorization=BEARER) as first:
        deadline = time.monotonic() + 4
        while (
            answer := strict.ask(
                "/predict", content, Content_Type="image/png", Authorization=BEARER
            )
        )[0] == 200:
            assert time.monotonic() < deadline, "the first has no place yet"
        assert answer[0] == 429
        assert answer[2]["retry-after"] == "1"
        assert "waiting" in json.loads(answer[1])["error"]
        assert finish(first, content)[0] == 200
    assert strict.post("/predict", content, Authorization=BEARER)[0] == 200


def test_time_ends_for_a_slow_sender_and_for_many_tiles(strict: DetectorServer) -> None:
    with strict.half_a_request("/predict", png(40, 40), Authorization=BEARER) as slow:
        answer = slow.getresponse()
        assert answer.status == 408
    buffer = io.BytesIO()
    Image.new("RGB", (1000, 1000)).save(buffer, "PNG")  # 3,600 tiles
    status, said = strict.post("/predict", buffer.getvalue(), Authorization=BEARER)
    assert (status, said["error"]) == (504, "There was no answer within 5 s.")
    assert strict.post("/predict", png(40, 40), Authorization=BEARER)[0] == 200


def test_who_hangs_up_leaves_the_place_to_others(strict: DetectorServer) -> None:
    for _ in range(3):
        with strict.half_a_request("/predict", png(40, 40), Authorization=BEARER):
            pass
    deadline = time.monotonic() + 10
    while strict.post("/predict", png(40, 40), Authorization=BEARER)[0] == 429:
        assert time.monotonic() < deadline


def test_figures_count_what_was_asked_with_few_labels(server: DetectorServer) -> None:
    def read() -> dict[str, float]:
        text = server.ask("/metrics")[1].decode()
        rows = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in rows}

    decision = server.post("/predict?run=whole", png())[1]["decision"]
    before = read()
    for _ in range(3):
        server.post("/predict?run=whole", png())
    server.post("/predict?run=whole", b"no image")
    for number in range(20):
        server.ask(f"/nothing/{number}")
        server.ask(f"/v2/models/{number}")
    after = read()

    def more(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert more(f'cfrg_predictions_total{{decision="{decision}",run="whole"}}') == 3
    assert more('cfrg_predictions_total{decision="error",run="whole"}') == 1
    assert more('cfrg_requests_total{address="/predict",status="200"}') == 3
    assert more('cfrg_requests_total{address="/predict",status="422"}') == 1
    assert more('cfrg_requests_total{address="other",status="404"}') == 20
    assert more('cfrg_requests_total{address="/v2/models/{name}",status="404"}') == 20
    assert more('cfrg_step_seconds_count{run="whole",step="network"}') == 3
    assert after["cfrg_requests_accepted"] == 0
    assert after["cfrg_places"] == 65
    assert len(after) - len(before) < 70


def test_the_page_of_the_api_needs_no_other_server(server: DetectorServer) -> None:
    status, page, fields = server.ask("/docs")
    text = page.decode()
    assert status == 200
    assert "default-src 'none'" in fields["content-security-policy"]
    assert "<script" not in text
    assert text.count("http://") == text.count(f"http://{server.address}/")
    described = server.get("/openapi.json")[1]
    for path, methods in described["paths"].items():
        assert f"<code>{path}</code>" in text
        for said in methods.values():
            assert said["summary"]
            assert "200" in said["responses"]
            assert "422" not in said["responses"] or "broken" in str(said["responses"]["422"])


def test_a_browser_asks_nobody_else_for_the_page(server: DetectorServer) -> None:
    with open_browser() as driver:
        driver.get(f"http://{server.address}/")
        assert driver.current_url == f"http://{server.address}/docs"
        assert "cfrg serve" in driver.find_element("tag name", "h1").text
        for address in requested_addresses(driver):
            assert address.startswith((f"http://{server.address}/", "data:"))
        styled = driver.find_element("tag name", "pre").value_of_css_property("border-radius")
        assert styled != "0px"


def test_told_to_end_it_answers_who_waits_and_refuses_others(run: Path, tmp_path: Path) -> None:
    content = png()
    with serving(run, place=tmp_path) as server:
        with server.half_a_request("/predict", content) as first:
            until = time.monotonic() + 30
            while b"cfrg_requests_accepted 1.0" not in server.ask("/metrics")[1]:
                assert time.monotonic() < until
            server.process.send_signal(signal.SIGTERM)
            while (answer := server.ask("/v2/health/ready"))[0] == 200:
                assert time.monotonic() < until
            assert answer[0] == 503
            assert server.ask("/v2/health/live")[0] == 200
            status, said = server.post("/predict", content)
            assert (status, said["error"]) == (503, "The server is about to end.")
            assert finish(first, content)[0] == 200
        assert server.process.wait(30) == 0
    assert "Traceback" not in server.errors.read_text()


def test_many_clients_at_once_lose_nothing(
    server: DetectorServer, predictors: dict[str, Predictor]
) -> None:
    contents = [png(60 + 5 * n, 50, seed=n) for n in range(6)]
    expected = [predict(predictors["whole"], content)[0] for content in contents]

    def ask(number: int) -> tuple[int, Any]:
        return server.post("/predict?run=whole", contents[number % 6])

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(ask, range(60)))
    for number, (status, said) in enumerate(answers):
        assert status == 200
        assert without_times(said) == expected[number % 6]


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_threads_share_a_runtime_and_mix_nothing_up(
    run: Path, tmp_path: Path, runtime: str
) -> None:
    packages = {"onnx": "onnxruntime", "openvino": "openvino"}
    for package in ("onnxscript", packages[runtime]):
        pytest.importorskip(package)
    alone = Predictor.from_pretrained(run, device="cpu", batch_size=1, runtime=runtime)
    contents = [png(60 + 5 * n, 50, seed=n) for n in range(6)]
    expected = [predict(alone, content)[0] for content in contents]
    options = ("--runtime", runtime, "--workers", "4")
    with serving(run, *options, place=tmp_path / runtime) as server:

        def ask(number: int) -> tuple[int, Any]:
            return server.post("/predict", contents[number % 6])

        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(ask, range(60)))
    for number, (status, said) in enumerate(answers):
        assert status == 200
        said, wanted = without_times(said), expected[number % 6]
        assert said["score"] == pytest.approx(wanted["score"], abs=1e-4)
        assert said["decision"] == wanted["decision"]
    assert "PyTorch instead" not in server.errors.read_text()

"""The page of ``cfrg app`` as an outsider sees it: over HTTP, with anything that can be sent.

What is asked for here comes from no browser that shows the page.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import image_contents
import numpy as np
import page_visitors
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from page_visitors import Visitor, named, served
from PIL import Image

from cfrg import CFRG, CFRGConfig, Predictor
from cfrg.app import inspector as inspection_module
from cfrg.app.guard import MAX_EVENT
from cfrg.app.inspector import Inspections, Inspector
from cfrg.app.server import WAITING
from cfrg.app.uploads import PER_SESSION, Uploads
from cfrg.images.tiling import Tiling
from cfrg.server.listening import is_own_host
from threecad.errors import ImageError

SECRET = b"a secret of the user's\n"
PAGES = ("", "config", "gradio_api/info", "theme.css")


def png(width: int = 70, height: int = 50) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "run"
    torch.manual_seed(0)
    CFRG(CFRGConfig.preset("lite", image_size=64)).eval().save_pretrained(folder)
    (folder / "run.json").write_text(json.dumps({"schema": "cfrg.run/1", "category": "Part"}))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page") / "place"


@pytest.fixture(scope="module")
def address(run: Path, place: Path) -> Iterator[str]:
    with served(run, "--allow-host", "inspector.example", place=place) as address:
        yield address


@pytest.fixture
def visitor(address: str) -> Visitor:
    return Visitor(address)


@pytest.fixture(scope="module")
def secrets_of_the_user(
    tmp_path_factory: pytest.TempPathFactory, address: str, place: Path
) -> list[str]:
    """Paths that lead to a file nobody uploaded: its own, links to it, detours."""
    folder = tmp_path_factory.mktemp("user")
    secret = folder / "secret.png"
    secret.write_bytes(SECRET)
    (folder / "link.png").symlink_to(secret)
    (folder / "linked").symlink_to(folder)
    upload = Path(Visitor(address).put(png()))
    inside = upload.parent / "link.png"
    inside.symlink_to(secret)
    (upload.parent.parent / "linked").symlink_to(folder)
    return [
        str(secret),
        str(folder / "link.png"),
        str(folder / "linked" / "secret.png"),
        str(inside),
        str(upload.parent.parent / "linked" / "secret.png"),
        f"{inside.parent}/../{inside.parent.name}/link.png",
        f"{folder}/../{folder.name}/secret.png",
        f"/proc/self/root{secret}",
        f"/proc/self/cwd/../../..{secret}",
        f"file://{secret}",
        secret.as_uri(),
        f"/gradio_api/file={secret}",
        os.path.relpath(secret, place / "home"),
        "/etc/passwd",
        "/proc/self/environ",
    ]


def test_a_visitor_gets_what_is_theirs(visitor: Visitor) -> None:
    path = visitor.put(png(), "stator 1.png")
    answers = visitor.join(named(path, orig_name="stator 1.png", url=f"http://{visitor.host}/x"))
    assert answers[0] == 200
    done = list(visitor.answers())[-2]
    assert done["success"], done
    assert "70 × 50 pixels" in json.dumps(done, ensure_ascii=False)
    (picture,) = [v for v in done["output"]["data"] if isinstance(v, dict) and "path" in v]
    for file in (path, picture["path"]):
        assert visitor.ask(f"/gradio_api/file={file.replace(' ', '%20')}")[0] == 200


def test_no_file_of_the_user_is_copied_or_served(
    visitor: Visitor, place: Path, secrets_of_the_user: list[str]
) -> None:
    for path in secrets_of_the_user:
        for image in (
            named(path),
            named(path, url=path),
            {"path": path},
            {**named(visitor.put(png())), "path": path},
            [named(path)],
            path,
        ):
            assert visitor.join(image)[0] in (400, 403), (path, image)
        for prefix in ("/gradio_api/file=", "/gradio_api/file/", "/file=", "/gradio_api/proxy="):
            for ask in (path, path.replace("/", "%2F")):
                status, body = visitor.ask(f"{prefix}{ask.replace(' ', '%20')}")
                assert status in (403, 404), (prefix, ask)
                assert SECRET not in body
    kept = [file for file in (place / "tmp").resolve().glob("*/*/*") if file.resolve() == file]
    assert len(kept) > len(secrets_of_the_user)  # the uploads, to begin with
    assert SECRET not in [file.read_bytes() for file in kept if file.is_file()]


def test_no_address_is_fetched(visitor: Visitor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.png"
        for image in (named(url), named(url, url=url), {"url": url, "path": "", "meta": {}}):
            assert visitor.join(image)[0] in (400, 403)
        for ask in (f"/gradio_api/file={url}", f"/gradio_api/proxy={url}", f"/proxy={url}"):
            assert visitor.ask(ask)[0] in (403, 404)
        # A path of theirs beside a foreign address: the address is not even read.
        assert visitor.join(named(visitor.put(png()), url=url))[0] == 200
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_session_keeps_its_uploads_to_itself(address: str) -> None:
    first, second = Visitor(address), Visitor(address)
    path = first.put(png())
    assert first.join(named(path))[0] == 200
    assert first.join(named(path))[0] == 200
    assert second.join(named(path))[0] == 403
    # Who knows the pixels knows nothing about who uploaded them.
    assert Path(second.put(png())).parent != Path(path).parent


def test_nothing_is_saved_to_be_shared(visitor: Visitor) -> None:
    assert visitor.join(named(visitor.put(png())))[0] == 200
    list(visitor.answers())
    status, _ = visitor.ask(f"/gradio_api/deep_link?session_hash={visitor.session}")
    assert status == 404
    plain = visitor.config()
    for link in ("x", "../x", "%2e%2e/x"):
        status, body = visitor.ask(f"/config?deep_link={link}")
        assert (status, json.loads(body)) == (200, plain)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7860",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example:127.0.0.1",
        "localhost@evil.example",
        "inspector.example.evil.example",
        "0.0.0.0",
        "169.254.169.254",
        "[::2]",
        "",
        None,
    ],
)
def test_another_hosts_name_is_refused(visitor: Visitor, host: str | None) -> None:
    path = visitor.put(png())
    for ask in (*(f"/{page}" for page in PAGES), f"/gradio_api/file={path}"):
        assert visitor.ask(ask, host=host)[0] in (400, 403), ask
    body = json.dumps(visitor.event("upload", named(path))).encode()
    for ask in ("/gradio_api/queue/join", "/gradio_api/upload"):
        assert visitor.ask(ask, body, host=host)[0] in (400, 403)
    streams = (f"/gradio_api/heartbeat/{visitor.session}", "/gradio_api/queue/data?session_hash=a")
    for ask in streams:
        assert visitor.ask(ask, host=host)[0] in (400, 403)
        upgrade = {"upgrade": "websocket", "connection": "Upgrade", "sec_websocket_version": "13"}
        key = "AAAAAAAAAAAAAAAAAAAAAA=="
        assert visitor.ask(ask, host=host, sec_websocket_key=key, **upgrade)[0] in (400, 403)
    if host:
        assert visitor.ask("/", x_forwarded_host=host)[0] == 403


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:7860", "inspector.example"]
)
def test_the_pages_own_names_are_answered(visitor: Visitor, host: str) -> None:
    assert all(visitor.ask(f"/{page}", host=host)[0] == 200 for page in PAGES)


def test_scripts_of_other_sites_have_no_access(visitor: Visitor) -> None:
    path = visitor.put(png())
    body = json.dumps(visitor.event("upload", named(path))).encode()
    other_port = "http://127.0.0.1:1"
    for origin in ("http://evil.example", "null", other_port, "http://localhost", ""):
        for ask, content in (
            ("/gradio_api/queue/join", body),
            ("/gradio_api/upload", b"x"),
            ("/config", None),
            (f"/gradio_api/heartbeat/{visitor.session}", None),
        ):
            status, _ = visitor.ask(ask, content, origin=origin, content_type="text/plain")
            assert status == 403, (origin, ask)
        status, _ = visitor.ask(
            "/gradio_api/queue/join",
            method="OPTIONS",
            origin=origin,
            access_control_request_method="POST",
        )
        assert status == 403
    own = f"http://{visitor.host}"
    assert visitor.ask("/gradio_api/queue/join", body, origin=own)[0] == 200
    behind = {"host": "inspector.example", "origin": "https://inspector.example"}
    assert visitor.ask("/gradio_api/queue/join", body, **behind)[0] == 200


def test_answers_are_for_the_page_alone(visitor: Visitor) -> None:
    connection = http.client.HTTPConnection(visitor.host)
    connection.request("GET", "/config", headers={"Origin": f"http://{visitor.host}"})
    headers = connection.getresponse().headers
    connection.close()
    assert not [name for name in headers if name.lower().startswith("access-control-")]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    _, html = visitor.ask("/")
    assert b"googleapis" not in html
    assert b"cdnjs" not in html


ANSWERED = {
    "/", "/config", "/theme.css", "/gradio_api/theme.css", "/favicon.ico", "/robots.txt",
    "/manifest.json", "/gradio_api/info", "/gradio_api/upload", "/gradio_api/upload_progress",
    "/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/heartbeat/{session_hash}",
    "/gradio_api/file={path_or_url:path}", "/static/{path:path}", "/assets/{path:path}",
}  # fmt: skip


def test_what_else_gradio_could_answer_is_not_there(visitor: Visitor) -> None:
    # In a process of its own: gradio leaves loops open behind it.
    code = "import json, page_visitors as p; print(json.dumps(p.gradios_addresses()))"
    command = [sys.executable, "-c", code]
    text = subprocess.check_output(command, text=True, cwd=Path(page_visitors.__file__).parent)
    addresses = [(method, path) for method, path in json.loads(text.splitlines()[-1])]
    assert ("POST", "/gradio_api/queue/join") in addresses
    assert len(addresses) > 60
    extra = [("GET", path) for path in ("/openapi.json", "/docs", "/redoc", "/gradio_api/mcp")]
    for method, path in [*addresses, *extra]:
        if path in ANSWERED:
            continue
        ask = path.replace("{session_hash}", visitor.session)
        for part in ("{event_id}", "{api_name}", "{path:path}", "{page}"):
            ask = ask.replace(part, "x")
        ask = ask.replace("{url_path:path}", "http://127.0.0.1/").replace("{", "").replace("}", "")
        status, _ = visitor.ask(ask, b"{}" if method == "POST" else None, method=method)
        assert status in (404, 405), (method, ask)
    for path in ("/assets/../routes.py", "/static/..%2f..%2froutes.py", "//etc/passwd", "/assets/"):
        assert visitor.ask(path)[0] == 404, path


def bomb(side: int) -> bytes:
    """Return a PNG of one colour that says it is ``side`` pixels wide and high, and is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    deflate = zlib.compressobj(9)
    row = bytes(1 + side)
    rows = b"".join([*(deflate.compress(row) for _ in range(side)), deflate.flush()])
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_by_its_header(visitor: Visitor) -> None:
    content = bomb(13_000)
    assert len(content) < 200 << 10
    visitor.join(named(visitor.put(content)))
    said = json.dumps(list(visitor.answers()), ensure_ascii=False)
    assert "13000 × 13000 pixels, more than the 33,554,432 of the page" in said


def test_the_pixels_of_a_bomb_are_never_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb(13_000))

    def decode(path: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Tiling, "read", decode)
    with pytest.raises(ImageError, match="33,554,432"):
        Inspections({"Part": inspector()}).find("Part", str(tmp_path / "bomb.png"))


def inspector() -> Inspector:
    torch.manual_seed(0)
    model = CFRG(CFRGConfig.preset("lite", image_size=64)).eval()
    return Inspector("Part", Predictor(model, device="cpu"), 4.0, 2.0, "For a test.", True)


def test_an_inspection_ends_in_time_and_the_last_ones_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    paths = [tmp_path / f"{k}.png" for k in range(inspection_module.REMEMBERED + 4)]
    for path in paths:
        path.write_bytes(png())
    inspections = Inspections({"Part": inspector()})
    found = [inspections.find("Part", str(path)) for path in paths]
    assert len(inspections._recent) == inspection_module.REMEMBERED
    paths[-1].unlink()
    assert inspections.find("Part", str(paths[-1])) is found[-1]
    goes_on = threading.Event()
    monkeypatch.setattr(inspection_module, "PATIENCE", 0.2)
    monkeypatch.setattr(Inspector, "inspect", lambda *_: goes_on.wait(60))
    with pytest.raises(ImageError, match="takes longer than"):
        inspections.find("Part", str(paths[0]))
    goes_on.set()


class Slow:
    """A detector that needs a moment for every tile, and counts them."""

    def __init__(self) -> None:
        self.config = CFRGConfig.preset("lite", image_size=64)
        self.tiles = 0

    def predict_maps(self, image: torch.Tensor) -> torch.Tensor:
        self.tiles += 1
        time.sleep(0.02)
        return torch.zeros(len(image), 1, *image.shape[2:])


def test_an_inspection_that_was_given_up_leaves_the_next_one_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large.png").write_bytes(bomb(2_000))
    (tmp_path / "small.png").write_bytes(bomb(64))
    slow = Slow()
    predictor = Predictor(slow, device="cpu", batch_size=1, tile=64, overlap=0)
    whole = predictor.tiling.count((2_000, 2_000))
    inspections = Inspections({"Part": Inspector("Part", predictor, 4.0, 2.0, "Test.", True)})
    monkeypatch.setattr(inspection_module, "PATIENCE", 0.3)
    with pytest.raises(ImageError, match="takes longer than"):
        inspections.find("Part", str(tmp_path / "large.png"))
    monkeypatch.undo()
    assert inspections.find("Part", str(tmp_path / "small.png")).size == (64, 64)
    assert slow.tiles < whole / 2


def test_large_inspections_are_not_all_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{k}.png" for k in range(4)]
    for path in paths:
        path.write_bytes(png())
    inspections = Inspections({"Part": inspector()})
    first = inspections.find("Part", str(paths[0]))
    limit = 2 * (first.map.nbytes + first.image.nbytes)
    monkeypatch.setattr(inspection_module, "REMEMBERED_BYTES", limit)
    last = [inspections.find("Part", str(path)) for path in paths][-1]
    assert [path for _, path in inspections._recent] == [str(path) for path in paths[-2:]]
    monkeypatch.setattr(inspection_module, "REMEMBERED_BYTES", 0)
    paths[-1].unlink()
    assert inspections.find("Part", str(paths[-1])) is last


def test_uploads_are_bounded_and_the_oldest_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfrg.app.uploads.MAX_FILES", 20)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "example.png").write_bytes(b"x")
    uploads = Uploads(tmp_path)
    own = [uploads.add("a.png", io.BytesIO(b"x")) for _ in range(PER_SESSION + 3)]
    assert all(uploads.claim(path, "me") for path in own)
    assert [Path(path).exists() for path in own] == [False] * 3 + [True] * PER_SESSION
    for k in range(25):
        last = uploads.add(f"{k}.png", io.BytesIO(b"x"))
    assert len(list(tmp_path.glob("*/*"))) == 20 + 1
    assert Path(own[-1]).exists()  # what the session uses; its earlier ones went
    assert not any(Path(path).exists() for path in own[:-1])
    assert (tmp_path / "kept" / "example.png").exists()
    assert uploads.claim(last, "me")
    assert not uploads.claim(last, "you")
    assert not uploads.claim(own[0], "me")


def test_uploads_are_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfrg.app.uploads.MAX_TOTAL", 1000)
    uploads = Uploads(tmp_path)
    paths = [uploads.add("a.png", io.BytesIO(bytes(300))) for _ in range(5)]
    assert [Path(path).exists() for path in paths] == [False, False, True, True, True]


@pytest.mark.parametrize("names", [0, 1, 100])
def test_nobody_pushes_out_what_another_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: int
) -> None:
    monkeypatch.setattr("cfrg.app.uploads.MAX_FILES", 20)
    monkeypatch.setattr("cfrg.app.uploads.MAX_TOTAL", 5000)
    uploads = Uploads(tmp_path)
    used = uploads.add("a.png", io.BytesIO(bytes(300)))
    assert uploads.claim(used, "me")
    for k in range(50):
        flood = uploads.add("b.png", io.BytesIO(bytes(400)))
        if names:
            assert uploads.claim(flood, f"flooder {k % names}")
    assert uploads.claim(used, "me")
    sizes = [path.stat().st_size for path in tmp_path.glob("*/*")]
    assert len(sizes) <= 20
    assert sum(sizes) <= 5000
    # The page still takes uploads from others.
    other = uploads.add("c.png", io.BytesIO(bytes(300)))
    uploads.sweep()
    assert uploads.claim(other, "you")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../../x.png", "C:\\x.png", "/etc/passwd", "a\0b", "é" * 400, "CON.png"]
)
def test_a_name_leads_nowhere(tmp_path: Path, name: str) -> None:
    path = Path(Uploads(tmp_path).add(name, io.BytesIO(b"x")))
    assert path.parent.parent == tmp_path.resolve()
    assert len(path.name.encode()) <= 255


def test_links_among_the_pages_files_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(SECRET)
    folder = tmp_path / "page" / "x"
    folder.mkdir(parents=True)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "up").symlink_to(tmp_path)
    uploads = Uploads(tmp_path / "page")
    assert not uploads.serves(str(folder / "link.png"))
    assert not uploads.serves(str(folder / "up" / "secret.png"))
    assert not uploads.serves(f"{folder}/../../secret.png")
    assert not uploads.serves(str(folder))


def test_bodies_are_bounded(visitor: Visitor, place: Path) -> None:
    assert visitor.upload(b"x", count=2)[0] == 400
    assert visitor.upload(b"x", count=900)[0] == 400
    assert visitor.ask("/gradio_api/queue/join", b"[" * (MAX_EVENT + 1))[0] == 413
    assert visitor.ask("/gradio_api/queue/join", b"[" * MAX_EVENT)[0] == 400
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded"):
        assert visitor.ask("/gradio_api/upload", b"files=x", content_type=kind)[0] == 400
    # One who says they send more than they do, and goes.
    host, port = visitor.host.split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = (
            f"POST /gradio_api/upload HTTP/1.1\r\nHost: {visitor.host}\r\nContent-Length: 9999\r\n"
        )
        connection.sendall(
            head.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"
        )
    assert visitor.ask("/")[0] == 200
    assert "Traceback" not in (place / "errors.txt").read_text()


def test_a_full_queue_says_so(visitor: Visitor) -> None:
    # As large as the page allows, so that those behind them wait.
    large = [named(visitor.put(bomb(5_700))) for _ in range(3)]
    visitor.event("upload")
    statuses = [visitor.join(large[k % 3]) for k in range(WAITING + 10)]
    assert {status for status, _ in statuses} == {200, 503}
    assert all(b"ueue is full" in answer for status, answer in statuses if status == 503)
    assert visitor.ask("/")[0] == 200
    done = [each for each in visitor.answers() if each["msg"] == "process_completed"]
    assert len(done) == [status for status, _ in statuses].count(200)
    assert all(each["success"] for each in done)
    assert visitor.join(named(visitor.put(png())))[0] == 200  # there is room again


# Anything at all ------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["/etc/passwd", "Part", "Overlay", "http://127.0.0.1:1/", "gradio.FileData"]),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(
            st.sampled_from(["path", "url", "meta", "_type", "data", "is_stream", "value", "index"])
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "data": st.lists(VALUES, min_size=3, max_size=6) | VALUES,
        "fn_index": st.integers(-2, 8) | VALUES,
        "session_hash": st.text(max_size=8) | VALUES,
        "trigger_id": st.integers(-1, 40) | VALUES,
        "event_data": VALUES,
        "batched": VALUES,
        "simple_format": VALUES,
    },
)
fuzzing = settings(
    max_examples=int(os.environ.get("THREECAD_FUZZ", "60")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@fuzzing
@given(changes=EVENTS, whole=VALUES | st.none())
def test_any_event_is_answered_or_refused(visitor: Visitor, changes: Any, whole: Any) -> None:
    global _EVENT
    if _EVENT is None or _EVENT[0] != visitor.host:
        _EVENT = (visitor.host, visitor.event("upload", None))
    body = {**_EVENT[1], **changes} if whole is None else whole
    status, answer = visitor.ask("/gradio_api/queue/join", json.dumps(body).encode())
    assert status in (200, 400, 403, 413, 503), (body, answer)


_EVENT: Any = None


@fuzzing
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"]),
    start=st.sampled_from(
        [
            "/",
            "/gradio_api/",
            "/gradio_api/file=",
            "/gradio_api/proxy=",
            "/gradio_api/queue/",
            "/gradio_api/run/",
            "/assets/",
            "/static/",
            "/config",
        ]
    ),
    rest=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30),
    body=st.binary(max_size=100) | st.none(),
    kind=st.sampled_from(["application/json", "multipart/form-data; boundary=x", "text/plain"]),
)  # fmt: skip
def test_any_request_is_answered_or_refused(
    visitor: Visitor, method: str, start: str, rest: str, body: bytes | None, kind: str
) -> None:
    if start == "/gradio_api/heartbeat/" and method in ("GET", "HEAD"):
        rest += "/"  # a name alone would be answered for ever
    status, _ = visitor.ask(start + rest, body, method=method, content_type=kind)
    assert status < 500


FORMS = st.lists(
    st.binary(max_size=30)
    | st.sampled_from(
        [
            b"--x",
            b"\r\n",
            b"\r\n\r\n",
            b"--x--\r\n",
            b'Content-Disposition: form-data; name="files"; filename="a.png"',
            b'Content-Disposition: form-data; name="x"',
            b"Content-Type: image/png",
        ]
    ),
    max_size=14,
).map(b"".join)


@fuzzing
@given(
    body=FORMS,
    kind=st.sampled_from(["multipart/form-data; boundary=x", "multipart/form-data"])
    | st.text(st.characters(max_codepoint=126, min_codepoint=32), max_size=20).map(
        "multipart/form-data; boundary={}".format
    ),
)
def test_any_form_is_taken_or_refused(visitor: Visitor, body: bytes, kind: str) -> None:
    status, answer = visitor.ask("/gradio_api/upload", body, content_type=kind.rstrip())
    assert status in (200, 400, 413, 503), answer


@cache
def contents() -> list[bytes]:
    return list(image_contents.everything().values())


@fuzzing
@given(
    which=st.integers(0, 10_000),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
    cut=st.none() | st.floats(0, 1),
)
def test_any_content_is_inspected_or_said_to_be_broken(
    visitor: Visitor, which: int, changes: list[tuple[float, int]], cut: float | None
) -> None:
    content = bytearray(contents()[which % len(contents())])
    for place, value in changes if content else []:
        content[int(place * len(content))] = value
    upload = visitor.put(bytes(content[: None if cut is None else int(cut * len(content))]))
    assert visitor.join(named(upload))[0] == 200
    done = list(visitor.answers())[-2]
    assert done["success"], done
    said = json.dumps(done)
    assert "Cannot be read" in said or "is above" in said or "not above" in said or "Move" in said


@fuzzing
@given(st.text(max_size=40))
def test_only_our_own_names_are_ours(text: str) -> None:
    assert not is_own_host(text, {"localhost"}) or text.lower().split(":")[0] == "localhost"


def test_whatever_came_the_page_goes_on(visitor: Visitor, place: Path) -> None:
    """What outsiders send above is no reason to write a traceback."""
    assert visitor.ask("/")[0] == 200
    assert "Traceback" not in (place / "errors.txt").read_text()

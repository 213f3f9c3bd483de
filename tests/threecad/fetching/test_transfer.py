"""Transfers against a loopback server that misbehaves on request."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import FileServer, Server, _Handler

from threecad.errors import DownloadError, TransferInterrupted
from threecad.fetching.transfer import Fetched, fetch
from threecad.fetching.web import _NoDowngrade, open_url
from threecad.images.hashing import hash_file
from threecad.system.disk import format_bytes

PAYLOAD = b"PK\x03\x04" + random.Random(0).randbytes(900_000)
DIGEST = hashlib.sha256(PAYLOAD).hexdigest()


def get(server: FileServer, folder: Path, **options: Any) -> Fetched:
    defaults: dict[str, Any] = {"retries": 2, "backoff": 0.0, "progress": False, "magic": b"PK"}
    return fetch(
        lambda headers: open_url(f"{server.url}/3CAD.zip", headers, timeout=5),
        folder / "3CAD.zip",
        key="test",
        what="3CAD.zip",
        **(defaults | options),
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_arrives_with_its_hash_and_leaves_nothing_else(tmp_path: Path) -> None:
    with FileServer(PAYLOAD) as server:
        fetched = get(server, tmp_path, sha256=DIGEST.upper(), length=len(PAYLOAD))
    assert fetched == Fetched(tmp_path / "3CAD.zip", len(PAYLOAD), DIGEST)
    assert fetched.path.read_bytes() == PAYLOAD
    assert names(tmp_path) == {"3CAD.zip"}


@settings(max_examples=25)
@given(
    cuts=st.lists(st.integers(0, len(PAYLOAD)), max_size=8),
    etag=st.booleans(),
    last_modified=st.booleans(),
    ranges=st.booleans(),
)
def test_cut_anywhere_any_number_of_times_it_ends_identical(
    tmp_path_factory: pytest.TempPathFactory,
    cuts: list[int],
    etag: bool,
    last_modified: bool,
    ranges: bool,
) -> None:
    folder = tmp_path_factory.mktemp("cuts")
    with FileServer(
        PAYLOAD, cuts=list(cuts), etag=etag, last_modified=last_modified, ranges=ranges
    ) as server:
        fetched = get(server, folder, retries=len(cuts) + 1)
    assert fetched.path.read_bytes() == PAYLOAD
    assert fetched.sha256 == DIGEST
    assert names(folder) == {"3CAD.zip"}


@pytest.mark.slow
def test_more_than_four_gigabytes_cut_behind_the_fourth(tmp_path: Path) -> None:
    size = (4 << 30) + 12_345
    source = tmp_path / "source"
    with source.open("w+b") as file:
        file.write(PAYLOAD)
        file.truncate(size)  # sparse: takes no room
        file.flush()
        with (
            contextlib.closing(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)) as content,
            FileServer(content, cuts=[(4 << 30) + 5]) as server,
        ):
            fetched = get(server, tmp_path)
            assert server.requests[1][1] == f"bytes={(4 << 30) + 5 - 65_536}-"
            server.payload = b""  # lets go of the mapping
    assert fetched.length == size
    assert fetched.sha256 == hash_file(source) == hash_file(fetched.path)


def test_the_next_run_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    with FileServer(PAYLOAD, cuts=[600_000]) as server:
        with pytest.raises(DownloadError, match=r"cut after 600\.0 kB of 900\.0 kB.*is kept"):
            get(server, tmp_path, retries=0)
        assert names(tmp_path) == {"3CAD.zip.part", "3CAD.zip.part.json"}
        assert (tmp_path / "3CAD.zip.part").stat().st_size == 600_000
        server.sent = 0
        assert get(server, tmp_path, retries=0).sha256 == DIGEST
        assert server.sent < 400_000
        assert server.requests[-1][1:] == (f"bytes={600_000 - 65_536}-", server.etag)


def test_killed_between_the_last_byte_and_the_rename(tmp_path: Path) -> None:
    with FileServer(PAYLOAD) as server:
        (tmp_path / "3CAD.zip.part").write_bytes(PAYLOAD)
        state = {"key": "test", "etag": server.etag, "last_modified": None, "total": len(PAYLOAD)}
        (tmp_path / "3CAD.zip.part.json").write_text(json.dumps(state))
        assert get(server, tmp_path, retries=0).sha256 == DIGEST
        assert server.sent <= 65_536


@pytest.mark.parametrize("honest", [True, False], ids=["if-range", "if-range-ignored"])
@pytest.mark.parametrize("etag", [True, False], ids=["etag", "no-etag"])
def test_a_remote_that_changed_is_fetched_from_the_beginning(
    tmp_path: Path, honest: bool, etag: bool
) -> None:
    changed = b"PK\x03\x04" + random.Random(1).randbytes(900_000)
    with FileServer(PAYLOAD, cuts=[600_000], etag=etag, honest_if_range=honest) as server:
        with pytest.raises(DownloadError):
            get(server, tmp_path, retries=0)
        server.payload = changed
        assert get(server, tmp_path).path.read_bytes() == changed


def test_a_remote_that_shrank_is_fetched_from_the_beginning(tmp_path: Path) -> None:
    with FileServer(PAYLOAD, cuts=[600_000], etag=False, honest_if_range=False) as server:
        with pytest.raises(DownloadError):
            get(server, tmp_path, retries=0)
        server.payload = PAYLOAD[:1000]
        assert get(server, tmp_path).path.read_bytes() == PAYLOAD[:1000]


def test_a_part_whose_tail_was_lost_in_a_power_cut_is_not_built_upon(tmp_path: Path) -> None:
    with FileServer(PAYLOAD, cuts=[600_000]) as server:
        with pytest.raises(DownloadError):
            get(server, tmp_path, retries=0)
        part = tmp_path / "3CAD.zip.part"
        part.write_bytes(part.read_bytes()[:-4096] + bytes(4096))
        assert get(server, tmp_path).sha256 == DIGEST


def test_a_part_of_something_else_is_not_built_upon(tmp_path: Path) -> None:
    (tmp_path / "3CAD.zip.part").write_bytes(b"PK something else")
    with FileServer(PAYLOAD) as server:
        assert get(server, tmp_path).sha256 == DIGEST
        assert server.requests[0][1] is None


@pytest.mark.parametrize("state", ["", "[]", '{"key": 3, "surprise": 1}', "\x00"])
def test_a_damaged_state_file_is_started_over(tmp_path: Path, state: str) -> None:
    (tmp_path / "3CAD.zip.part").write_bytes(PAYLOAD[:5000])
    (tmp_path / "3CAD.zip.part.json").write_text(state)
    with FileServer(PAYLOAD) as server:
        assert get(server, tmp_path).sha256 == DIGEST


def test_a_server_without_ranges_starts_over(tmp_path: Path) -> None:
    with FileServer(PAYLOAD, ranges=False, cuts=[600_000, 800_000]) as server:
        assert get(server, tmp_path, retries=2).sha256 == DIGEST
        assert len(server.requests) == 3


def test_a_server_that_gives_no_length_is_believed_only_if_the_check_is(tmp_path: Path) -> None:
    def too_short(path: Path) -> None:
        if path.stat().st_size < len(PAYLOAD):
            raise DownloadError("It ends too early.")

    with FileServer(PAYLOAD, length=False, cuts=[600_000]) as server:
        with pytest.raises(DownloadError, match=r"ends too early.*kept as .*rejected"):
            get(server, tmp_path, check=too_short)
        assert names(tmp_path) == {"3CAD.zip.rejected"}
        assert get(server, tmp_path, check=too_short).sha256 == DIGEST


def test_a_body_shorter_than_announced_is_never_put_in_place(tmp_path: Path) -> None:
    with (
        FileServer(PAYLOAD, announce=len(PAYLOAD) + 10, ranges=False) as server,
        pytest.raises(DownloadError, match=r"Gave up after \d failed attempts"),
    ):
        get(server, tmp_path, retries=1)
    assert "3CAD.zip" not in names(tmp_path)


def test_a_body_longer_than_announced_is_never_put_in_place(tmp_path: Path) -> None:
    with (
        FileServer(PAYLOAD + b"surplus", length=False) as server,
        pytest.raises(DownloadError, match="is longer than 900004 bytes"),
    ):
        get(server, tmp_path, length=len(PAYLOAD))
    assert names(tmp_path) == set()


def test_a_size_other_than_the_known_one_is_refused_before_the_body(tmp_path: Path) -> None:
    with (
        FileServer(PAYLOAD) as server,
        pytest.raises(DownloadError, match="has 900004 bytes; expected 5"),
    ):
        get(server, tmp_path, length=5)
    assert "3CAD.zip" not in names(tmp_path)


def test_a_wrong_hash_is_set_aside_and_the_next_run_starts_over(tmp_path: Path) -> None:
    with FileServer(PAYLOAD) as server:
        with pytest.raises(DownloadError, match=f"SHA-256 {DIGEST}; expected 000.*rejected"):
            get(server, tmp_path, sha256="0" * 64)
        assert names(tmp_path) == {"3CAD.zip.rejected"}
        assert get(server, tmp_path, sha256=DIGEST).path.is_file()


@pytest.mark.parametrize("kind", ["text/html", "application/zip"])
def test_a_web_page_instead_of_data_is_told_apart(tmp_path: Path, kind: str) -> None:
    page = b"<!doctype html><html><title>Hotel login</title>" + b" " * 100
    with (
        FileServer(page, content_type=kind) as server,
        pytest.raises(DownloadError, match=r'sent a web page|web page, "Hotel login"'),
    ):
        get(server, tmp_path)
    assert "3CAD.zip" not in names(tmp_path)


def test_something_else_than_an_archive_is_told_apart(tmp_path: Path) -> None:
    with (
        FileServer(b"\x7fELF and so on") as server,
        pytest.raises(DownloadError, match=r"begins with b'\\x7fELF"),
    ):
        get(server, tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with FileServer(b"") as server, pytest.raises(DownloadError, match="is empty"):
        get(server, tmp_path)
    assert names(tmp_path) == set()


def test_a_compressed_transfer_is_refused(tmp_path: Path) -> None:
    with (
        FileServer(PAYLOAD, encoding="gzip") as server,
        pytest.raises(DownloadError, match="compres"),
    ):
        get(server, tmp_path)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_again(tmp_path: Path, status: int) -> None:
    with FileServer(PAYLOAD, statuses=[status, status]) as server:
        assert get(server, tmp_path, retries=2).sha256 == DIGEST
        assert len(server.requests) == 3


def test_retries_are_bounded(tmp_path: Path) -> None:
    with FileServer(PAYLOAD, statuses=[503] * 10) as server:
        with pytest.raises(
            DownloadError, match=r"3 failed attempts in a row.*503 Service Unavailable"
        ):
            get(server, tmp_path, retries=2)
        assert len(server.requests) == 3


def test_waiting_doubles_and_honours_what_the_server_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("threecad.fetching.transfer.time.sleep", waits.append)

    def refuse(headers: dict[str, str]) -> Any:
        raise TransferInterrupted("Busy.", wait=0 if len(waits) < 3 else 7000)

    with pytest.raises(DownloadError, match="Busy"):
        fetch(refuse, tmp_path / "x", key="x", what="x", retries=4, backoff=1, progress=False)
    assert waits == [1, 2, 4, 60]


@pytest.mark.parametrize(
    ("status", "said"),
    [(404, "is not there"), (410, "is not there"), (403, "not public"), (418, "418")],
)
def test_a_final_refusal_is_not_tried_again(tmp_path: Path, status: int, said: str) -> None:
    with FileServer(PAYLOAD, statuses=[status, status]) as server:
        with pytest.raises(DownloadError, match=said):
            get(server, tmp_path)
        assert len(server.requests) == 1


def test_no_server_and_no_such_host_are_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(TransferInterrupted, match=r"No connection to 127.0.0.1"):
        open_url(f"http://127.0.0.1:{port}/")
    with pytest.raises(TransferInterrupted, match="cannot be found"):
        open_url("http://no-such-host.invalid/")
    with pytest.raises(DownloadError, match="no web address"):
        open_url("ftp://example.org/3CAD.zip")


def test_a_server_that_falls_silent_is_interrupted(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(TransferInterrupted, match="did not answer in time"),
    ):
        open_url(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.2)


@pytest.mark.skipif(
    not shutil.which("openssl"), reason="openssl is not there to make a certificate"
)
def test_a_certificate_nobody_vouches_for_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
         "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with FileServer(PAYLOAD) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        with pytest.raises(DownloadError, match=r"certificate of 127\.0\.0\.1.*SSL_CERT_FILE") as e:
            open_url(url, timeout=5)
        assert not isinstance(e.value, TransferInterrupted)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        with contextlib.closing(open_url(url, timeout=5)) as response:
            assert response.read() == PAYLOAD


def test_plain_http_where_tls_was_expected_is_refused() -> None:
    with FileServer(PAYLOAD) as server, pytest.raises(DownloadError, match="No secure connection"):
        open_url(server.url.replace("http:", "https:"), timeout=5)


def test_a_redirect_away_from_tls_is_not_followed() -> None:
    with pytest.raises(DownloadError, match="unencrypted"):
        _NoDowngrade().redirect_request(
            Request("https://example.org/a"), None, 302, "", {}, "http://example.org/b"
        )


class _Proxy(_Handler):
    """A proxy that wants a password for CONNECT and passes plain requests to nobody."""

    def do_CONNECT(self) -> None:  # noqa: N802
        self.reply(407, b"", "text/plain")

    def do_GET(self) -> None:  # noqa: N802
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        self.reply(407, b"", "text/plain")


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server(_Proxy) as server:
        server.seen = []  # type: ignore[attr-defined]
        address = server.url.replace("http://", "http://me:secret@")
        monkeypatch.setenv("https_proxy", address)
        monkeypatch.setenv("http_proxy", address)
        yield server


def test_a_proxy_is_used_and_its_refusal_is_explained(proxy: Any, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"proxy refused to connect.*407.*HTTPS_PROXY"):
        open_url("https://example.org/3CAD.zip", timeout=5)
    with pytest.raises(DownloadError, match="proxy asks for a password"):
        fetch(partial(open_url, "http://example.org/3CAD.zip"), tmp_path / "x", key="x", what="x")
    assert proxy.seen == ["http://example.org/3CAD.zip"]


def test_a_dead_proxy_is_named_without_its_password(
    proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{port}")
    with pytest.raises(TransferInterrupted, match=rf"through the proxy 127\.0\.0\.1:{port}") as e:
        open_url("http://example.org/", timeout=5)
    assert "secret" not in str(e.value)


def test_a_disk_that_is_too_small_is_noticed_before_the_body(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    folder = small_disk(512 << 10)
    said = r"free, but 3CAD\.zip needs 900\.0 kB"
    with FileServer(PAYLOAD) as server, pytest.raises(DownloadError, match=said):
        get(server, folder)
    assert names(folder) == set()


def test_a_disk_that_fills_up_loses_nothing(small_disk: Callable[[int], Path]) -> None:
    folder = small_disk(2 << 20)
    part, ballast = folder / "3CAD.zip.part", folder / "ballast"
    with FileServer(PAYLOAD, hold_at=300_000) as server:

        def fill() -> None:
            """Take the room once the check before the transfer has passed."""
            while not part.is_file() or part.stat().st_size < 300_000:
                time.sleep(0.001)
            with contextlib.suppress(OSError), ballast.open("wb", 0) as file:
                while True:
                    file.write(bytes(1 << 14))
            server.behaviour.go_on.set()

        filler = threading.Thread(target=fill)
        filler.start()
        with pytest.raises(DownloadError, match=r"is full\. Nothing is lost"):
            get(server, folder)
        filler.join()
        held = part.read_bytes()
        assert 300_000 <= len(held) < len(PAYLOAD)
        assert PAYLOAD.startswith(held)
        ballast.unlink()
        assert get(server, folder).sha256 == DIGEST
        assert server.requests[-1][1] is not None


def test_a_folder_that_cannot_be_written_is_said(read_only_disk: Path) -> None:
    with FileServer(PAYLOAD) as server, pytest.raises(DownloadError, match="cannot be written"):
        get(server, read_only_disk)


def test_a_file_where_a_folder_is_needed_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("I was here first.")
    with FileServer(PAYLOAD) as server, pytest.raises(DownloadError, match="in the way"):
        get(server, tmp_path / "data")


@given(st.integers(0, 10**15))
def test_sizes_are_readable(count: int) -> None:
    number, unit = format_bytes(count).split()
    assert unit in ("B", "kB", "MB", "GB")
    assert len(number) <= 5 or unit == "GB"

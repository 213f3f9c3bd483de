"""``cfrg serve`` as a process of its own, and callers who speak HTTP and may say anything."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from cfrg import CFRG, CFRGConfig
from cfrg.inference.thresholds import digest_weights
from cfrg.network.config import TILED

EXTRA = ("fastapi", "prometheus_client", "python_multipart", "uvicorn")


def write_run(folder: Path, *, calibrated: bool = True, **config: Any) -> Path:
    """Write a small detector with drawn weights as a run, and return its folder."""
    torch.manual_seed(0)
    model = CFRG(CFRGConfig.preset("lite", image_size=64, **{**TILED, **config})).eval()
    model.save_pretrained(folder)
    (folder / "run.json").write_text(json.dumps({"schema": "cfrg.run/1", "category": "Part"}))
    if calibrated:
        thresholds = {
            "schema": "cfrg.calibration/1",
            "image_threshold": -0.109,
            "pixel_threshold": -0.112,
            "false_alarm_rate": 0.1,
            "interval": [0.0, 0.2],
            "images": 30,
            "source": "held-out",
            "data_fingerprint": "0" * 64,
            "weights_digest": digest_weights(model),
            "tile": model.config.tile,
            "tile_overlap": model.config.tile_overlap,
            "version": "0",
        }
        (folder / "calibration.json").write_text(json.dumps(thresholds))
    return folder


@dataclass(frozen=True)
class DetectorServer:
    """A server that runs.

    Attributes:
        address: ``host:port``.
        process: Its process.
        errors: What it prints on stderr.
    """

    address: str
    process: subprocess.Popen[str]
    errors: Path

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        *,
        method: str | None = None,
        **headers: str | None,
    ) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers; the path is sent as it is given."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            given = {"Host": self.address}
            given |= {name.replace("_", "-"): value for name, value in headers.items()}
            if body is not None:
                given.setdefault("Content-Length", str(len(body)))
            kind = method or ("GET" if body is None else "POST")
            connection.putrequest(kind, path, skip_host=True, skip_accept_encoding=True)
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, answer.read(), fields
        finally:
            connection.close()

    def post(self, path: str, body: bytes, **headers: str | None) -> tuple[int, Any]:
        """Send an image, unless the headers say otherwise; return status and parsed answer."""
        status, answer, _ = self.ask(path, body, **{"Content_Type": "image/png", **headers})
        return status, json.loads(answer)

    def get(self, path: str, **headers: str | None) -> tuple[int, Any]:
        status, answer, _ = self.ask(path, **headers)
        return status, json.loads(answer)

    @contextmanager
    def half_a_request(
        self, path: str, body: bytes, **headers: str
    ) -> Iterator[http.client.HTTPConnection]:
        """Send half of an image; ``finish`` sends the other."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.putrequest("POST", path)
            connection.putheader("Content-Type", "image/png")
            connection.putheader("Content-Length", str(len(body)))
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body[: len(body) // 2])
            yield connection
        finally:
            connection.close()


def finish(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, Any]:
    """Send the second half of an image; return status and parsed answer."""
    connection.send(body[len(body) // 2 :])
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


@contextmanager
def serving(*arguments: object, place: Path, **environment: str) -> Iterator[DetectorServer]:
    """Yield a server that computes on one thread, so that its answers are those of one thread."""
    if not all(importlib.util.find_spec(name) for name in EXTRA):
        pytest.skip("needs fastapi and others: pip install 'threecad[serve]'")
    place.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cfrg.cli", "serve", "--port", "0", "--device", "cpu"]
    with (
        (place / "errors.txt").open("w") as errors,
        subprocess.Popen(
            [*command, *map(str, arguments)],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            address, *_ = process.stdout.readline().split() or [""]
            assert address, (place / "errors.txt").read_text()
            yield DetectorServer(
                urllib.parse.urlsplit(address).netloc, process, place / "errors.txt"
            )
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def form(*files: tuple[str, bytes], field: str = "image") -> tuple[bytes, str]:
    """Return the body of a form with files, and its type."""
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + b"--x--\r\n", "multipart/form-data; boundary=x"


def say(address: str, text: bytes) -> bytes:
    """Send bytes as they are, and return what comes back until the other side hangs up."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        try:
            while part := connection.recv(65536):
                parts.append(part)
        except OSError:
            pass
    return b"".join(parts)

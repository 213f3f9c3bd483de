"""The page of ``cfrg app`` as a process of its own, and visitors who speak HTTP and no browser."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FILE = {"_type": "gradio.FileData"}


@contextmanager
def served(*arguments: object, place: Path) -> Iterator[str]:
    """Yield the address of ``cfrg app``; it runs in ``place`` and keeps files in its ``tmp``."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("needs gradio: pip install 'threecad[app]'")
    (place / "tmp").mkdir(parents=True)
    (place / "home").mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(place / "tmp"),
        "HOME": str(place / "home"),
        "MPLCONFIGDIR": str(place / "matplotlib"),  # which keeps a list of fonts
    }
    command = [sys.executable, "-m", "cfrg.cli", "app", "--port", "0", "--device", "cpu"]
    with (
        (place / "errors.txt").open("w") as errors,
        subprocess.Popen(
            [*command, *map(str, arguments)],
            cwd=place / "home",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            address, *_ = process.stdout.readline().split() or [""]
            assert address, (place / "errors.txt").read_text()
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


class Visitor:
    """Someone who reaches the page over HTTP and may say anything.

    Attributes:
        session: The name it gives itself, as the page's script does.
    """

    def __init__(self, address: str) -> None:
        self.host = urllib.parse.urlsplit(address).netloc
        self.session = secrets.token_hex(6)
        self._config: Any = None

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        *,
        method: str | None = None,
        **headers: str | None,
    ) -> tuple[int, bytes]:
        """Return status and body; ``Host`` and the path are sent as they are given."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            connection.putrequest(
                method or ("GET" if body is None else "POST"),
                path,
                skip_host=True,
                skip_accept_encoding=True,
            )
            given = {
                "host": self.host,
                **{k.replace("_", "-").lower(): v for k, v in headers.items()},
            }
            if body is not None:
                given.setdefault("content-length", str(len(body)))
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def config(self) -> Any:
        """Return what the page says of itself."""
        return json.loads(self.ask("/config")[1])

    def upload(self, content: bytes, name: str = "a.png", count: int = 1) -> tuple[int, bytes]:
        part = (
            f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
            "Content-Type: image/png\r\n\r\n"
        ).encode()
        body = (part + content + b"\r\n") * count + b"--x--\r\n"
        kind = "multipart/form-data; boundary=x"
        return self.ask("/gradio_api/upload", body, content_type=kind)

    def put(self, content: bytes, name: str = "a.png") -> str:
        """Upload a file and return the path that names it from now on."""
        status, answer = self.upload(content, name)
        assert status == 200, answer
        (path,) = json.loads(answer)
        return str(path)

    def join(self, image: Any, **changes: Any) -> tuple[int, bytes]:
        """Ask for the inspection of an image, as the page's script does after an upload."""
        body = {**self.event("upload", image), **changes}
        return self.ask(
            "/gradio_api/queue/join", json.dumps(body).encode(), content_type="application/json"
        )

    def event(self, trigger: str, image: Any = None) -> dict[str, Any]:
        """Return the body of an event, with every input as it is at first."""
        config = self._config = self._config or self.config()
        components = {each["id"]: each for each in config["components"]}
        event = next(
            each
            for each in config["dependencies"]
            if any(target[1] == trigger for target in each["targets"])
        )
        values = [
            image if components[k]["type"] == "image" else components[k]["props"].get("value")
            for k in event["inputs"]
        ]
        return {
            "data": values,
            "event_data": None,
            "fn_index": event["id"],
            "trigger_id": event["targets"][0][0],
            "session_hash": self.session,
        }

    def answers(self) -> Iterator[Any]:
        """Yield what the queue says to this session."""
        _, text = self.ask(f"/gradio_api/queue/data?session_hash={self.session}")
        for line in text.decode().splitlines():
            if line.startswith("data: "):
                yield json.loads(line[6:])

    def inspect(self, image: Any) -> str:
        """Return what the page says of an image, with its refusal in place of an answer."""
        status, answer = self.join(image)
        if status != 200:
            return f"{status} {answer.decode()}"
        return json.dumps(list(self.answers()))


def named(path: object, **more: Any) -> dict[str, Any]:
    """Return a file as the page's script names it."""
    return {"path": str(path), "meta": FILE, **more}


def gradios_addresses() -> list[tuple[str, str]]:
    """Return method and path of everything that the installed gradio can answer."""
    import gradio
    from gradio.routes import App

    with gradio.Blocks(analytics_enabled=False) as blocks:
        gradio.Image()
    found = []
    pending = list(App.create_app(blocks).routes)
    while pending:
        route = pending.pop()
        inner = getattr(route, "original_router", None) or getattr(route, "router", None)
        pending += list(getattr(inner, "routes", []))
        if hasattr(route, "path"):
            methods = sorted(getattr(route, "methods", None) or ["GET"])
            found += [(method, route.path) for method in methods]
    return found

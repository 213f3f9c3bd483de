"""The server as a process: it listens, answers, and ends when it is told to.

Told to end, it takes no more requests (503), answers those that it has, and goes.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cfrg.server.desk import Desk
from cfrg.server.listening import Names, address_of, is_local, listen
from cfrg.server.runs import load_runs
from threecad.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

__all__ = ["read_token", "serve"]

CONNECTIONS = 1024
"""Open at the same time."""

LEAST = 16
"""Characters of a token, at least."""


def serve(
    runs: Sequence[str | os.PathLike[str]],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    allow_hosts: Sequence[str] = (),
    token: str | None = None,
    root_path: str = "",
    workers: int = 1,
    queue: int = 64,
    timeout: float = 30.0,
    max_bytes: int = 32 << 20,
    max_pixels: int = 1 << 25,
    max_images: int = 64,
    **options: Any,
) -> None:
    """Answer for detectors over HTTP until SIGTERM or Ctrl-C; the address is printed.

    Args:
        runs: As ``load_runs`` takes them.
        host: Address to listen on; only this machine reaches the default.
        port: Port to listen on; 0 for any that is free.
        allow_hosts: Names by which the server is called, beside this machine's own.
        token: That callers must have; anyone may ask when ``None``.
        root_path: Where a proxy in front has put the server, such as ``/inspection``.
        workers: Threads that decode and compute; on a CPU they share torch's threads.
        queue: Requests that may wait beside those being computed; more are refused (429).
        timeout: Seconds from a request's header to its answer.
        max_bytes: Of a request's body.
        max_pixels: Of an image, by its header.
        max_images: In a request.
        **options: Given to ``Predictor``.

    Raises:
        UsageError: If the extra ``serve`` is not installed, the address cannot be listened on, or
            the arguments make no sense.
        ModelError: If a run cannot be loaded.
    """
    _check(root_path, token)
    uvicorn = _import_extra()
    from cfrg.server.application import Limits, Service, make_application
    from cfrg.server.gate import Gate
    from cfrg.server.meters import Meters

    with listen(host, port) as listener:
        served = load_runs(runs, **options)
        # Before the first thread begins: each takes over what is set then.
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))
        desk = Desk(workers=workers, queue=queue, max_pixels=max_pixels)
        meters = Meters(desk)
        limits = Limits(max_bytes, max_pixels, max_images, timeout)
        application = make_application(Service(served, desk, meters, limits))
        gate = Gate(application, Names(host, allow_hosts), meters, root_path, token)
        settings = uvicorn.Config(
            gate,
            log_level="warning",
            access_log=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=max(1, round(timeout)),
            proxy_headers=False,
            server_header=False,
            ws="none",
        )
        server = uvicorn.Server(settings)
        server.handle_exit = _Ending(server, desk)
        if not is_local(host) and token is None:
            print(f"Whoever reaches {host} can ask: there is no token (`token`).", file=sys.stderr)
        print(f"{address_of(host, listener)}/ (Ctrl-C ends it)", flush=True)
        server.run(sockets=[listener])


def read_token(path: str | os.PathLike[str]) -> str:
    """Return the token in a file, without the end of its line.

    Raises:
        UsageError: If there is none.
    """
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"No token can be read from {path}: {reason}.") from None


class _Ending:
    """What to do on SIGTERM or Ctrl-C: the first time, let those who wait have their answers."""

    def __init__(self, server: Any, desk: Desk) -> None:
        self._server, self._desk = server, desk
        self._task: asyncio.Task[None] | None = None

    def __call__(self, _signal: int, _frame: Any) -> None:
        if self._desk.closed:
            self._server.should_exit = self._server.force_exit = True
            return
        self._desk.close()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # it has not begun, or has ended
            self._server.should_exit = True
        else:
            loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        while self._desk.accepted:
            await asyncio.sleep(0.05)
        self._server.should_exit = True


def _check(root_path: str, token: str | None) -> None:
    if root_path and (not root_path.startswith("/") or root_path.endswith("/")):
        raise UsageError(f"{root_path!r}: expected a `root_path` such as /inspection.")
    if token is not None and (
        len(token) < LEAST or not (token.isascii() and token.isprintable() and " " not in token)
    ):
        raise UsageError(
            f"A token has {LEAST} or more ASCII characters without spaces, so that nobody guesses "
            "it: `openssl rand -hex 32` makes one."
        )


def _import_extra() -> Any:
    try:
        for name in ("fastapi", "prometheus_client", "python_multipart"):
            import_module(name)
        return import_module("uvicorn")
    except ImportError as error:
        raise UsageError(f"The server needs {error.name}: pip install 'threecad[serve]'") from None

"""A server for the page of ``cfrg.app``.

It listens on this machine alone unless told otherwise, asks nothing of the network, and writes
nothing outside a temporary folder that goes when the process ends. Uploads are limited in size.
"""

from __future__ import annotations

import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cfrg.app import STYLE, import_gradio, make_app
from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cfrg.inspection import Inspector

__all__ = ["MAX_UPLOAD", "serve"]

MAX_UPLOAD = 64 << 20
"""Bytes of the largest file that can be dropped on the page."""

_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'self'"
)
"""Lets the page load nothing from other servers, whatever gradio's version asks for."""


def serve(
    inspectors: Sequence[Inspector],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
) -> None:
    """Serve the page until Ctrl-C; its address is printed.

    Args:
        inspectors: At least one.
        host: Address to listen on; only this machine reaches the default.
        port: Port to listen on; 0 for any that is free.

    Raises:
        UsageError: If gradio is not installed, or the address cannot be listened on.
    """
    with _listen(host, port) as listener:
        gradio = import_gradio()
        import uvicorn
        from fastapi import FastAPI

        server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        server.add_middleware(_ContentPolicy)
        gradio.mount_gradio_app(
            server,
            make_app(inspectors),
            path="/",
            max_file_size=MAX_UPLOAD,
            theme=gradio.themes.Base(
                primary_hue="blue",
                font=["system-ui", "sans-serif"],
                font_mono=["ui-monospace", "monospace"],
            ),
            css=STYLE,
            footer_links=[],
            show_error=True,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            run_history=False,
        )
        print(f"http://{host}:{listener.getsockname()[1]}/ (Ctrl-C ends it)", flush=True)
        # Ended by the system, the command cleans up as it does after Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        # Gradio's own launch would ask itself over HTTP, which a proxy or a busy machine breaks.
        settings = uvicorn.Config(server, log_level="warning", timeout_graceful_shutdown=2)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, on a free port for 0."""
    try:
        return socket.create_server((host, port), family=_family(host))
    except OSError as error:
        raise UsageError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port."
        ) from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class _ContentPolicy:
    """Adds the content security policy to every answer (ASGI middleware)."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"content-security-policy", _POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        await self.app(scope, receive, send_with_policy)

"""A server for the page of ``cfrg.app.page``.

It listens on this machine alone unless told otherwise, asks nothing of the network, and writes
nothing outside a temporary folder that goes when the process ends. ``cfrg.app.guard`` says who may
ask for what.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfrg.app.guard import SESSIONS, Guard
from cfrg.app.page import STYLE, import_gradio, make_app
from cfrg.app.uploads import MAX_UPLOAD, Uploads
from cfrg.server.listening import address_of, listen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfrg.app.inspector import Inspector

__all__ = ["MAX_UPLOAD", "serve"]

CONNECTIONS = 128
"""Open at the same time; a browser takes up to six."""

WAITING = 16
"""Events that wait for the detector; more are told to try again."""


def serve(
    inspectors: Sequence[Inspector],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    allow_hosts: Sequence[str] = (),
) -> None:
    """Serve the page until Ctrl-C; its address is printed.

    Args:
        inspectors: At least one.
        host: Address to listen on; only this machine reaches the default.
        port: Port to listen on; 0 for any that is free.
        allow_hosts: Names by which the page is reached, beside this machine's own.

    Raises:
        UsageError: If gradio is not installed, or the address cannot be listened on.
    """
    with listen(host, port) as listener:
        gradio = import_gradio()
        import uvicorn

        # Some versions of gradio print notes to themselves; ours is the only line of this command.
        with redirect_stdout(sys.stderr):
            page, server = _mount(gradio, inspectors)
        uploads = Uploads(Path(os.environ["GRADIO_TEMP_DIR"]))
        guard = Guard(server, page, uploads, host=host, allow_hosts=allow_hosts)
        print(f"{address_of(host, listener)}/ (Ctrl-C ends it)", flush=True)
        # Ended by the system, the command cleans up as it does after Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        # Gradio's own launch would ask itself over HTTP, which a proxy or a busy machine breaks.
        settings = uvicorn.Config(
            guard,
            log_level="warning",
            timeout_graceful_shutdown=2,
            limit_concurrency=CONNECTIONS,
            proxy_headers=False,
            ws="none",
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run(sockets=[listener])


def _mount(gradio: Any, inspectors: Sequence[Inspector]) -> tuple[Any, Any]:
    """Return the page and the ASGI application that answers for it."""
    from fastapi import FastAPI

    page = make_app(inspectors)
    page.queue(max_size=WAITING)
    page.state_session_capacity = SESSIONS
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gradio.mount_gradio_app(
        server,
        page,
        path="/",
        max_file_size=MAX_UPLOAD,
        theme=gradio.themes.Base(
            primary_hue="blue",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
        css=STYLE,
        footer_links=[],
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
    )
    # Gradio looks at where files come from only in pages that it launched itself.
    page.has_launched = True
    return page, server

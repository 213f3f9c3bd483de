"""Who may ask the page for what: everything an outsider can send passes here before gradio.

Gradio serves some eighty addresses and trusts what it is told; the page needs fifteen. Here they
are named, and everything else is refused: other addresses, other parameters, other host names (by
which a web site could reach a server on this machine: DNS rebinding), requests that scripts of
other sites make, and bodies without end.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

from cfrg.app.events import SESSION, EventError, rewrite_event
from cfrg.app.uploads import MAX_UPLOAD
from cfrg.server.bodies import BoundedBody
from cfrg.server.listening import Names, header
from cfrg.server.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from cfrg.app.uploads import Uploads

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

__all__ = ["Guard"]

PATIENCE = 60
"""Seconds a visitor has to send a request's body."""

MAX_EVENT = 64 << 10
"""Bytes of an event; it names files and does not hold them."""

AT_ONCE = 4
"""Uploads received at the same time."""

SESSIONS = 256
"""Sessions whose events are remembered."""

_PAGE = re.compile(
    r"/config|/theme\.css|/gradio_api/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json"
    r"|/gradio_api/info|/gradio_api/heartbeat/[A-Za-z0-9_-]{1,64}|/(?:assets|static)/[\w@./-]+"
)
"""What a browser needs to show the page: the same for everybody, without parameters."""

_FILE = "/gradio_api/file="

_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'self'"
)
"""Lets the page load nothing from other servers, whatever gradio's version asks for."""

_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Guard:
    """The page behind a list of what it answers (ASGI middleware).

    Args:
        app: Gradio's application, mounted.
        page: Its ``gradio.Blocks``.
        uploads: The page's files.
        host: The address it listens on.
        allow_hosts: Names by which the page is reached, beside this machine's own.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        page: Any,
        uploads: Uploads,
        *,
        host: str = "127.0.0.1",
        allow_hosts: Iterable[str] = (),
    ) -> None:
        self.app = app
        self.page = page
        self.uploads = uploads
        self._names = Names(host, allow_hosts)
        self._sessions: OrderedDict[str, None] = OrderedDict()
        self._receiving = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, or have gradio answer it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page speaks no WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = [
                    (name, value)
                    for name, value in message.get("headers", [])
                    if not name.lower().startswith(b"access-control-")
                ]
                message = {**message, "headers": [*own, *_HEADERS]}
            await send(message)

        try:
            self._names.check(scope, _UNKNOWN)
            await self._answer(scope, receive, send_with_headers)
        except RefusedError as refusal:
            await _reply(send_with_headers, refusal.status, str(refusal))

    async def _answer(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if method == "POST" and path == "/gradio_api/upload":
            await self._take_upload(scope, receive, send)
        elif method == "POST" and path == "/gradio_api/queue/join":
            session, event = await self._take_event(receive)
            self._remember(session)
            await self._pass(scope, _once(event, receive), send, length=len(event))
        elif method not in ("GET", "HEAD"):
            raise RefusedError(405, "The page does not do this.")
        elif path == "/gradio_api/queue/data":
            await self._pass(scope, receive, send, query={"session_hash": self._session(scope)})
        elif path == "/gradio_api/upload_progress":
            await _reply(send, 200, 'data: {"msg": "done"}\n\n', b"text/event-stream")
        elif path.startswith(_FILE):
            if not self.uploads.serves(path[len(_FILE) :]):
                raise RefusedError(403, "This is no file of the page.")
            await self._pass(scope, receive, send)
        elif path == "/":
            await self._pass(scope, receive, _Homely(send))
        elif _PAGE.fullmatch(path) and ".." not in path:
            await self._pass(scope, receive, send)
        else:
            raise RefusedError(404, "There is nothing here.")

    async def _pass(
        self,
        scope: dict[str, Any],
        receive: Receive,
        send: Send,
        *,
        query: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        """Have gradio answer, with the parameters given and no header it might believe."""
        dropped = {
            b"x-gradio-server", b"cookie", b"authorization", b"range", b"content-length",
            b"accept-encoding",
        }  # fmt: skip
        headers = [(k, v) for k, v in scope["headers"] if k not in dropped]
        if length is not None:
            headers = [
                (k, v) for k, v in headers if k not in (b"content-type", b"transfer-encoding")
            ]
            headers += [
                (b"content-type", b"application/json"),
                (b"content-length", str(length).encode()),
            ]
        query_string = urlencode(query or {}).encode()
        await self.app({**scope, "headers": headers, "query_string": query_string}, receive, send)

    async def _take_event(self, receive: Receive) -> tuple[str, bytes]:
        body = b""
        source = _bounded(receive, MAX_EVENT)
        while (message := await source())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await asyncio.to_thread(self.uploads.sweep)  # of what gradio drew meanwhile
        try:
            return rewrite_event(body, self.page, self.uploads)
        except EventError as error:
            raise RefusedError(error.status, str(error)) from None

    async def _take_upload(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Keep the file of a form as gradio's own upload does, and answer with its path."""
        from starlette.datastructures import UploadFile
        from starlette.formparsers import MultiPartException
        from starlette.requests import ClientDisconnect, Request

        if not any(
            kind.startswith("multipart/form-data") for kind in header(scope, b"content-type")
        ):
            raise RefusedError(400, "A form with one file is expected.")
        if self._receiving >= AT_ONCE:
            raise RefusedError(503, "The page is busy with other uploads. Try again.")
        self._receiving += 1
        source = _bounded(receive, MAX_UPLOAD + (16 << 10))
        try:
            async with Request(scope, source).form(max_files=1, max_fields=1) as form:
                file = form.get("files")
                if not isinstance(file, UploadFile):
                    raise RefusedError(400, "A form with one file is expected.")
                if (file.size or 0) > MAX_UPLOAD:
                    raise RefusedError(413, _TOO_LARGE)
                path = await asyncio.to_thread(self.uploads.add, file.filename or "", file.file)
        except ClientDisconnect:
            return
        except (MultiPartException, ValueError, LookupError):  # by the version of starlette
            await source.drop()
            raise RefusedError(400, "A form with one file is expected.") from None
        except OSError:
            raise RefusedError(507, "There is no room for the file.") from None
        finally:
            self._receiving -= 1
        self.page.upload_file_set.add(path)  # so gradio removes it once it is old
        await _reply(send, 200, json.dumps([path]), b"application/json")

    def _session(self, scope: dict[str, Any]) -> str:
        query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20)
        session: str = query.get("session_hash", [""])[0]
        if not SESSION.fullmatch(session) or session not in self._sessions:
            raise RefusedError(404, "This session has asked for nothing.")
        return session

    def _remember(self, session: str) -> None:
        self._sessions[session] = None
        self._sessions.move_to_end(session)
        while len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)


_TOO_LARGE = f"The page takes files up to {MAX_UPLOAD >> 20} MB."

_UNKNOWN = "The page is not known by this name; `cfrg app --allow-host` adds it."


class _Homely:
    """Sends a page without the scripts and fonts that gradio's template has from elsewhere.

    The content security policy blocks them, but a browser looks up their servers all the same.
    """

    foreign = re.compile(rb"<(?:link|script)\s[^>]*(?:href|src)=.https?://[^>]*>(?:\s*</script>)?")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: dict[str, Any] = {}
        self._text = b""

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._text += message.get("body", b"")
        if message.get("more_body"):
            return
        own = self.foreign.sub(b"", self._text)
        headers = [(k, v) for k, v in self._start["headers"] if k.lower() != b"content-length"]
        headers.append((b"content-length", str(len(own)).encode()))
        await self._send({**self._start, "headers": headers})
        await self._send({**message, "body": own})


def _bounded(receive: Receive, limit: int) -> BoundedBody:
    return BoundedBody(receive, limit, PATIENCE, _TOO_LARGE)


def _once(body: bytes, receive: Receive) -> Receive:
    """Return a source of one body, then of what comes after it."""
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_once() -> dict[str, Any]:
        return parts.pop() if parts else await receive()

    return receive_once


async def _reply(send: Send, status: int, text: str, kind: bytes = b"text/plain") -> None:
    body = text.encode()
    headers = [
        (b"content-type", kind + b"; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

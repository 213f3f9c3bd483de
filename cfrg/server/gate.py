"""The gate of the server: who may ask, and what is counted; it stands before all addresses."""

from __future__ import annotations

import hmac
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cfrg.server.bodies import BoundedBody
from cfrg.server.listening import Names, header
from cfrg.server.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cfrg.server.meters import Meters

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

__all__ = ["Gate"]

OPEN = {"/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"}
"""What is answered without a token: the same for everybody."""

PATIENCE = 5
"""Seconds to hear out who is refused."""

_UNKNOWN = "The server is not known by this name; `cfrg serve --allow-host` adds it."

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


@dataclass(frozen=True)
class Gate:
    """An application behind its checks (ASGI middleware).

    Attributes:
        app: The application.
        names: By which the server may be called.
        meters: Count what is asked.
        root_path: Where a proxy in front has put the application.
        token: That callers must have; none is asked for when ``None``.
    """

    app: Callable[..., Awaitable[None]]
    names: Names
    meters: Meters
    root_path: str = ""
    token: str | None = field(default=None, repr=False)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request, or have the application answer it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        scope = self._place(scope)
        begun = time.perf_counter()
        status = 0
        heard = False

        async def hear() -> dict[str, Any]:
            nonlocal heard
            message = await receive()
            heard = heard or not message.get("more_body")
            return message

        async def say(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
                # Who is still sending may hear no answer. Who expects one first is not sending, and
                # who takes too long (408) has been heard long enough.
                if not heard and status != 408 and not header(scope, b"expect"):
                    await _hear_out(receive)
            await send(message)

        try:
            try:
                self.names.check(scope, _UNKNOWN)
                self._check_token(scope)
            except RefusedError as refusal:
                await _refuse(say, refusal)
            else:
                await self.app(scope, hear, say)
        finally:
            address = getattr(scope.get("route"), "path", "other")
            self.meters.count_request(address, status, time.perf_counter() - begun)

    def _place(self, scope: dict[str, Any]) -> dict[str, Any]:
        """Return the scope below ``root_path``, whether the proxy has cut that off or not."""
        path = scope["path"]
        if not path.startswith(f"{self.root_path}/"):
            path = self.root_path + path
        return {**scope, "path": path, "root_path": self.root_path}

    def _check_token(self, scope: dict[str, Any]) -> None:
        path = scope["path"].removeprefix(self.root_path)
        if self.token is None or path in OPEN:
            return
        given = header(scope, b"authorization")
        kind, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        # Compared in constant time, so that no answer's time tells how much of it is right.
        same = hmac.compare_digest(token.strip().encode("latin-1"), self.token.encode())
        if kind.lower() != "bearer" or not same:
            raise RefusedError(401, "A token is expected: Authorization: Bearer …")


async def _hear_out(receive: Receive) -> None:
    """Read what is left of a body, for a while, and keep nothing."""
    try:
        await BoundedBody(receive, 0, PATIENCE, "").drop()
    except RefusedError:
        return


async def _refuse(send: Send, refusal: RefusedError) -> None:
    body = json.dumps({"error": str(refusal)}, ensure_ascii=False).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **refusal.headers,
    }
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})

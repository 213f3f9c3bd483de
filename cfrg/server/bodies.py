"""What requests carry, read within bounds: so many bytes, and until some moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cfrg.server.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

__all__ = ["BoundedBody", "ClientGoneError"]


class ClientGoneError(Exception):
    """Whoever asked has hung up."""


class BoundedBody:
    """The body of a request, which ends in time and within a number of bytes.

    Calling it is ASGI's ``receive``. What comes beyond is read and thrown away before the refusal:
    who is still sending hears no answer.

    Args:
        receive: Of ASGI.
        limit: Bytes.
        seconds: From now on.
        too_large: The sentence of a 413.
    """

    def __init__(self, receive: Receive, limit: int, seconds: float, too_large: str) -> None:
        self._receive = receive
        self._left = limit
        self._too_large = too_large
        self._ended = False
        self._until = asyncio.get_running_loop().time() + seconds

    async def __call__(self) -> MutableMapping[str, Any]:
        """Receive the next part.

        Raises:
            RefusedError: 408 or 413.
        """
        message = await self._next()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            await self.drop()
            raise RefusedError(413, self._too_large)
        return message

    async def read(self) -> bytes:
        """Return the whole body.

        Raises:
            RefusedError: 408 or 413.
            ClientGoneError: If it ends before its end.
        """
        parts = bytearray()
        while True:
            message = await self()
            if message["type"] != "http.request":
                raise ClientGoneError
            parts += message.get("body", b"")
            if not message.get("more_body"):
                return bytes(parts)

    async def drop(self) -> None:
        """Read what else comes and keep nothing."""
        while not self._ended:
            await self._next()

    async def _next(self) -> MutableMapping[str, Any]:
        try:
            left = self._until - asyncio.get_running_loop().time()
            message = await asyncio.wait_for(self._receive(), max(left, 0))
        except TimeoutError:
            raise RefusedError(408, "The request took too long.") from None
        self._ended = not message.get("more_body")
        return message

"""Where a server listens, and by which names it may be called.

A web site can have a name of its own lead to this machine (DNS rebinding), and a script of it send
requests from a browser within the network. So a server answers to its own names alone, and to no
script of another site.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

from cfrg.server.refusals import RefusedError
from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Names", "address_of", "header", "is_local", "is_own_host", "listen"]

LOCAL = ("localhost", "127.0.0.1", "::1")
"""Names of this machine for itself."""

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::\d{1,5})?", re.ASCII | re.IGNORECASE)


class Names:
    """The names by which a server is called.

    Args:
        host: The address it listens on.
        allow_hosts: Others that lead to it, beside this machine's own.
    """

    def __init__(self, host: str, allow_hosts: Iterable[str] = ()) -> None:
        self._allowed = {name.strip("[]").lower() for name in allow_hosts}
        self._hosts = {*LOCAL, host.lower(), *self._allowed}

    def check(self, scope: dict[str, Any], advice: str) -> None:
        """Refuse who calls by another's name, or speaks for another site.

        Args:
            scope: Of ASGI.
            advice: What to do about an unknown name.

        Raises:
            RefusedError: If it is to be refused.
        """
        # The address that the caller reached is nobody else's.
        hosts = {*self._hosts, (scope.get("server") or ("",))[0]}
        names = header(scope, b"host")
        forwarded = header(scope, b"x-forwarded-host")
        if len(names) != 1:
            raise RefusedError(400, "One Host is expected.")
        if not all(is_own_host(name, hosts) for name in (*names, *forwarded)):
            raise RefusedError(403, advice)
        # Another port is another site. Behind a server in front, a name without one is known.
        own = {name.lower() for name in (*names, *forwarded, *self._allowed)}
        for origin in header(scope, b"origin"):
            if origin.partition("://")[2].lower() not in own:
                raise RefusedError(403, "Scripts of other sites have no access.")


def is_own_host(name: str, hosts: Iterable[str]) -> bool:
    """Return whether the value of a ``Host`` header names one of the hosts, on any port."""
    parts = _HOST.fullmatch(name)
    return parts is not None and (parts[1] or parts[2]).lower() in hosts


def is_local(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    return host in LOCAL or host.startswith("127.")


def header(scope: dict[str, Any], name: bytes) -> list[str]:
    """Return the values of a header, none where it is not there; ``name`` is in small letters."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, on a free port for 0.

    Raises:
        UsageError: If the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UsageError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another `port`."
        ) from None


def address_of(host: str, listener: socket.socket) -> str:
    """Return the address of a listening socket, as a browser takes it."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"

"""One HTTP request, with every failure turned into a sentence.

Built on ``urllib``, which honours ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY``; certificates
come from the system, or from the bundle named by ``SSL_CERT_FILE``.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Protocol

from threecad.errors import DownloadError, TransferInterrupted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message

__all__ = ["Response", "is_page", "open_url", "page_title", "reject_failure"]

_PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)
"""Statuses after which the same request may succeed."""


class Response(Protocol):
    """What an HTTP server answered; failures (status 400 and above) are responses, too."""

    status: int
    headers: Message

    def read(self, amount: int | None = None, /) -> bytes:
        """Return the next ``amount`` bytes of the body, fewer only at its end."""

    def read1(self, amount: int = -1, /) -> bytes:
        """Return at most ``amount`` bytes as soon as some have arrived."""

    def geturl(self) -> str:
        """Return the address that answered, after redirects."""

    def close(self) -> None:
        """End the connection."""


def open_url(
    url: str, headers: Mapping[str, str] | None = None, *, timeout: float = 60
) -> Response:
    """Send one GET request and return the response, whatever its status.

    Args:
        url: An ``http://`` or ``https://`` address.
        headers: Further request headers.
        timeout: Seconds without a single byte after which the connection counts as dead.

    Raises:
        DownloadError: If no server can be reached in a way that trying again would not change.
        TransferInterrupted: If the connection failed in a way that may pass.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url!r} is no web address. Expected http://… or https://…")
    request = urllib.request.Request(
        url, headers={"User-Agent": "threecad", "Accept-Encoding": "identity", **(headers or {})}
    )
    opener = urllib.request.build_opener(_NoDowngrade)
    try:
        response: Any = opener.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        response = error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _explain(error, url) from error
    return response  # type: ignore[no-any-return]


def reject_failure(response: Response, what: str) -> None:
    """Raise if ``response`` is a failure.

    Args:
        response: What the server answered.
        what: Names the file in the message.

    Raises:
        DownloadError: If the status is a final refusal.
        TransferInterrupted: If the status is one that passes.
    """
    status = response.status
    if status < 400:
        return
    host = urllib.parse.urlsplit(response.geturl()).netloc
    said = f"{host} answered {status} {http.client.responses.get(status, '')}".rstrip()
    if status in _PASSING_STATUS:
        raise TransferInterrupted(f"{said} for {what}.", wait=_retry_after(response))
    if status in (404, 410):
        raise DownloadError(f"{what} is not there ({said}). Check the address; it may have moved.")
    if status in (401, 403):
        raise DownloadError(f"{what} is not public, or you have no access to it ({said}).")
    if status == 407:
        raise DownloadError(f"The proxy asks for a password ({said}). {_PROXY_ADVICE}")
    raise DownloadError(f"{what} cannot be had: {said}.")


def is_page(response: Response) -> bool:
    """Whether the server answered with a web page rather than with a file."""
    attachment = "attachment" in response.headers.get("Content-Disposition", "")
    return response.headers.get_content_type() == "text/html" and not attachment


def page_title(page: str) -> str:
    """Return the title of a web page in double quotes, or a phrase when it has none."""
    title = re.search(r"<title[^>]*>(.*?)</title", page, re.IGNORECASE | re.DOTALL)
    words = " ".join(title[1].split())[:120] if title else ""
    return f'"{words}"' if words else "(no title)"


_PROXY_ADVICE = (
    "Set HTTPS_PROXY to http://USER:PASSWORD@HOST:PORT, or list the host in NO_PROXY to go "
    "directly."
)


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follow redirects, except from https to anything weaker."""

    def redirect_request(
        self,
        request: urllib.request.Request,
        file: Any,
        code: int,
        message: str,
        headers: Any,
        new_url: str,
    ) -> urllib.request.Request | None:
        if request.type == "https" and urllib.parse.urlsplit(new_url).scheme != "https":
            raise DownloadError(
                f"{request.host} redirects to an unencrypted address ({new_url}); not followed."
            )
        return super().redirect_request(request, file, code, message, headers, new_url)


def _retry_after(response: Response) -> float:
    """Return the seconds the server asks to wait, 0 when it does not say."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def _explain(error: Exception, url: str) -> DownloadError:
    """Return the exception that tells the user what ``error`` means for ``url``."""
    host = urllib.parse.urlsplit(url).hostname or url
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadError(
            f"The certificate of {host} was not accepted: {reason.verify_message}. Behind a proxy "
            "that inspects traffic, set SSL_CERT_FILE to the proxy's CA bundle (PEM)."
        )
    if isinstance(reason, ssl.SSLError):
        return DownloadError(
            f"No secure connection to {host}: {reason.reason or reason}. Check the address "
            "(https or http?) and any proxy in between."
        )
    if isinstance(reason, OSError) and str(reason).startswith("Tunnel connection failed"):
        return DownloadError(f"The proxy refused to connect to {host}: {reason}. {_PROXY_ADVICE}")
    if isinstance(reason, socket.gaierror):
        said = f"{host} cannot be found: {reason.strerror}"
    elif isinstance(reason, TimeoutError):
        said = f"{host} did not answer in time"
    elif isinstance(reason, http.client.InvalidURL | ValueError):
        return DownloadError(f"{url!r} is no usable web address: {reason}.")
    else:
        said = f"No connection to {host}: {reason}"
    if proxy := _proxy_for(url):
        said += f" (through the proxy {proxy}; {_PROXY_ADVICE.rstrip('.')})"
    return TransferInterrupted(f"{said}.")


def _proxy_for(url: str) -> str | None:
    """Return host and port of the proxy used for ``url``, without any password."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return proxy.rpartition("@")[2].removeprefix("http://").rstrip("/")

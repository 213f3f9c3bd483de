"""Google Drive: its confirmation page, its quota page, and the file behind them."""

from __future__ import annotations

import html
import os
import re
import urllib.parse
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from threecad.errors import DownloadError
from threecad.fetching.web import is_page, open_url, page_title, reject_failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from threecad.fetching.web import Response

__all__ = ["DRIVE_URL", "find_file_id", "open_drive_file"]

DRIVE_URL = "https://drive.usercontent.google.com"
"""Where Drive serves files; ``THREECAD_DRIVE_URL`` replaces it (a mirror with the same paths)."""

_PAGE_LIMIT = 1 << 20
"""Bytes of a page that are read at most."""

_OTHER_WAYS = (
    "Open https://drive.google.com/file/d/{id}/view in a browser that is signed in, download it "
    "there and run `threecad download --source /path/to/3CAD.zip`; or name another source."
)


def find_file_id(url: str) -> str | None:
    """Return the Drive file id in a share link, or None if ``url`` is none.

    >>> find_file_id("https://drive.google.com/file/d/1BIX0H8TZp0wmrAnXPw8_aCAIX1j1Fzwz/view")
    '1BIX0H8TZp0wmrAnXPw8_aCAIX1j1Fzwz'
    """
    parts = urllib.parse.urlsplit(url)
    if parts.hostname not in ("drive.google.com", "drive.usercontent.google.com"):
        return None
    if in_path := re.search(r"/file/d/([\w-]{10,})", parts.path):
        return in_path[1]
    return next(iter(urllib.parse.parse_qs(parts.query).get("id", [])), None)


def open_drive_file(
    file_id: str, headers: Mapping[str, str] | None = None, *, timeout: float = 60
) -> Response:
    """Request a public Drive file, past the page that asks to confirm large files.

    Args:
        file_id: The id in the file's share link.
        headers: Further request headers, such as ``Range``.
        timeout: Seconds without a single byte after which the connection counts as dead.

    Returns:
        The response whose body is the file (status 200, 206 or 416).

    Raises:
        DownloadError: If the file is not public, does not exist, or its quota is used up.
        TransferInterrupted: If the connection failed in a way that may pass.
    """
    base = os.environ.get("THREECAD_DRIVE_URL", DRIVE_URL).rstrip("/")
    query = {"id": file_id, "export": "download", "confirm": "t"}
    for _ in range(2):
        url = f"{base}/download?{urllib.parse.urlencode(query)}"
        response = open_url(url, headers, timeout=timeout)
        if response.status < 400 and not is_page(response):
            return response
        if response.status == 416:
            return response
        query = _read_form(response, file_id)
    raise DownloadError(
        f"Google Drive keeps asking to confirm the download of file {file_id}. "
        + _OTHER_WAYS.format(id=file_id)
    )


def _read_form(response: Response, file_id: str) -> dict[str, str]:
    """Return the fields of the confirmation form, or raise what the page says instead."""
    page = response.read(_PAGE_LIMIT).decode("utf-8", "replace")
    response.close()
    other_ways = _OTHER_WAYS.format(id=file_id)
    if re.search("too many users|quota exceeded|quotaExceeded|quota for this file", page, re.I):
        raise DownloadError(
            "Google Drive has reached its quota for this file: too many users have downloaded it "
            f"recently. Try again later (up to 24 hours). {other_ways}"
        )
    signing_in = urllib.parse.urlsplit(response.geturl()).hostname == "accounts.google.com"
    if signing_in or response.status in (401, 403):
        raise DownloadError(
            f"Google Drive does not show file {file_id} to the public. {other_ways}"
        )
    if response.status == 404:
        raise DownloadError(
            f"Google Drive has no file {file_id}. Its authors may have moved it: look for the "
            "current link in https://github.com/EnquanYang2022/3CAD and pass it as `source`."
        )
    reject_failure(response, f"Google Drive file {file_id}")
    form = _DownloadForm()
    form.feed(page)
    if not form.fields:
        said = re.search(r'class="uc-error-subcaption"[^>]*>(.*?)</p>', page, re.DOTALL)
        words = html.unescape(re.sub("<[^>]+>", "", said[1])).strip() if said else page_title(page)
        raise DownloadError(
            f"Google Drive answered with a web page where data was expected: {words} {other_ways}"
        )
    return form.fields


class _DownloadForm(HTMLParser):
    """Collects the hidden fields of Drive's "Download anyway" form."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "form":
            self._inside = values.get("id") == "download-form"
        elif tag == "input" and self._inside and (name := values.get("name")):
            self.fields[name] = values.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False

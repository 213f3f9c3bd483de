"""Loopback servers that behave, and misbehave, like the ones the dataset comes from."""

from __future__ import annotations

import hashlib
import http.server
import json
import mmap
import re
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from typing import Any

from threecad.dataset.catalog import DRIVE_ARCHIVES

FILE_ID = DRIVE_ARCHIVES["english"]

QUOTA_PAGE = (
    "<html><head><title>Google Drive - Quota exceeded</title></head><body>"
    '<p class="uc-error-caption">Sorry, you can&#39;t view or download this file at this time.</p>'
    '<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently. '
    "Please try accessing the file again later.</p></body></html>"
)
CONFIRM_PAGE = (
    "<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>"
    '<p class="uc-warning-caption">Google Drive can\'t scan this file for viruses.</p>'
    '<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">'
    '<input type="submit" id="uc-download-link" value="Download anyway"/>'
    '<input type="hidden" name="id" value="{id}"><input type="hidden" name="export" '
    'value="download"><input type="hidden" name="confirm" value="t">'
    '<input type="hidden" name="uuid" value="abc-123"></form></body></html>'
)


class Server(http.server.ThreadingHTTPServer):
    """A loopback HTTP server; a context manager."""

    daemon_threads = True
    # A server thread must outlive a client that was killed, not the test.
    block_on_close = False

    def __init__(self, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that goes away is what many tests are about


@dataclass
class Behaviour:
    """How a `FileServer` treats its clients."""

    ranges: bool = True
    etag: bool = True
    last_modified: bool = True
    length: bool = True
    honest_if_range: bool = True
    confirm_page: bool = False
    page: str | None = None
    page_status: int = 200
    content_type: str = "application/octet-stream"
    encoding: str | None = None
    announce: int | None = None
    """Content-Length, if not the truth."""
    cuts: list[int] = field(default_factory=list)
    """Bytes of the body after which the next connections are cut."""
    statuses: list[int] = field(default_factory=list)
    """Statuses of the next answers."""
    delay: float = 0.0
    """Seconds before each 64 KiB of the body."""
    hold_at: int | None = None
    """Offset in the file at which the body stops until ``go_on`` is set."""
    go_on: threading.Event = field(default_factory=threading.Event)
    redirect: str | None = None


class FileServer(Server):
    """Serves one file at every path, as Google Drive at ``/download?id=FILE_ID``."""

    def __init__(self, payload: bytes | mmap.mmap, **behaviour: Any) -> None:
        super().__init__(_FileHandler)
        self.payload = payload
        self.behaviour = Behaviour(**behaviour)
        self.requests: list[tuple[str, str | None, str | None]] = []
        self.sent = 0

    @property
    def etag(self) -> str:
        ends = bytes(self.payload[: 1 << 16]) + bytes(self.payload[-1 << 16 :])
        return f'"{hashlib.md5(ends).hexdigest()}-{len(self.payload)}"'


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def reply(
        self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _FileHandler(_Handler):
    server: FileServer

    def do_GET(self) -> None:
        server, how = self.server, self.server.behaviour
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        asked = self.headers.get("Range"), self.headers.get("If-Range")
        server.requests.append((self.path, *asked))
        if how.redirect:
            return self.reply(302, b"", "text/plain", {"Location": how.redirect})
        if how.statuses:
            return self.reply(how.statuses.pop(0), b"no", "text/plain")
        if how.page is not None:
            return self.reply(how.page_status, how.page.encode(), "text/html; charset=utf-8")
        if url.path == "/download" and query.get("id") != FILE_ID:
            page = b"<html><title>Not Found</title></html>"
            return self.reply(404, page, "text/html; charset=utf-8")
        if how.confirm_page and "uuid" not in query:
            page = CONFIRM_PAGE.format(id=FILE_ID).encode()
            return self.reply(200, page, "text/html; charset=utf-8")
        return self.send_file(*asked)

    def send_file(self, span: str | None, if_range: str | None) -> None:
        server, how = self.server, self.server.behaviour
        size, start = len(server.payload), 0
        match = re.match(r"bytes=(\d+)-", span or "")
        current = if_range in (None, server.etag) or not how.honest_if_range
        if match and how.ranges and current:
            start = int(match[1])
            if start >= size:
                return self.reply(416, b"", "text/plain", {"Content-Range": f"bytes */{size}"})
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", how.content_type)
        if how.etag:
            self.send_header("ETag", server.etag)
        if how.last_modified:
            self.send_header("Last-Modified", "Tue, 22 Apr 2025 08:00:00 GMT")
        if how.encoding:
            self.send_header("Content-Encoding", how.encoding)
        if how.length:
            length = size if how.announce is None else how.announce
            self.send_header("Content-Length", str(length - start))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        self.send_body(memoryview(server.payload)[start:], start)
        return None

    def send_body(self, body: memoryview, start: int) -> None:
        how = self.server.behaviour
        end = how.cuts.pop(0) if how.cuts else len(body)
        if how.hold_at is not None and how.hold_at > start:
            self.send_blocks(body[: how.hold_at - start])
            body, end = body[how.hold_at - start :], end - (how.hold_at - start)
            how.go_on.wait()
        self.send_blocks(body[: max(end, 0)])
        if end < len(body):
            self.wfile.flush()
            self.connection.shutdown(2)
            self.close_connection = True

    def send_blocks(self, body: memoryview) -> None:
        for offset in range(0, len(body), 1 << 16):
            time.sleep(self.server.behaviour.delay)
            block = body[offset : offset + (1 << 16)]
            self.wfile.write(block)
            self.server.sent += len(block)


class HubServer(Server):
    """A read-only Hugging Face Hub with dataset repositories from memory: name, path, content."""

    def __init__(self, repositories: dict[str, dict[str, bytes]]) -> None:
        super().__init__(_HubHandler)
        self.repositories = repositories
        self.commit = "a" * 40
        self.gated: set[str] = set()
        self.token: str | None = None
        self.large = ".zip"
        """Files with this suffix are in LFS, with a SHA-256."""
        self.damage: dict[str, int] = {}
        """How often a path is served with a wrong byte."""
        self.statuses: list[int] = []
        self.requests: list[tuple[str, str, str | None]] = []
        self.delay = 0.0


class _HubHandler(_Handler):
    server: HubServer

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        server = self.server
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        server.requests.append((self.command, path, self.headers.get("Authorization")))
        if server.statuses:
            return self.refuse(server.statuses.pop(0), "")
        match = re.fullmatch(
            r"/(?:api/)?datasets/([^/]+/[^/]+)(?:/(revision|tree|resolve)/([^/]+)(?:/(.*))?)?", path
        )
        if not match or match[1] not in server.repositories:
            return self.refuse(401, "RepoNotFound")
        name, what, revision, file = match.groups()
        if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
            return self.refuse(401, "RepoNotFound")
        if revision not in (None, "main", server.commit):
            return self.refuse(404, "RevisionNotFound")
        files = server.repositories[name]
        if what == "tree":
            return self.json([self.entry(path, files[path]) for path in sorted(files)])
        if what != "resolve":
            return self.json({"id": name, "sha": server.commit, "siblings": []})
        if name in server.gated:
            return self.refuse(403, "GatedRepo")
        if file not in files:
            return self.refuse(404, "EntryNotFound")
        return self.file(file, files[file])

    def refuse(self, status: int, code: str) -> None:
        headers = {"X-Error-Code": code, "X-Repo-Commit": self.server.commit}
        self.reply(status, b'{"error": "refused"}', "application/json", headers)

    def json(self, value: object) -> None:
        self.reply(200, json.dumps(value).encode(), "application/json")

    def entry(self, path: str, content: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content)}
        entry["oid"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if path.endswith(self.server.large):
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
        return entry

    def file(self, path: str, content: bytes) -> None:
        server = self.server
        time.sleep(server.delay)
        etag = hashlib.sha1(content).hexdigest()
        if self.command == "GET" and server.damage.get(path, 0) > 0:
            server.damage[path] -= 1
            content = content[:-1] + bytes([content[-1] ^ 1])
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": server.commit, "Accept-Ranges": "bytes"}
        span = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if span and int(span[1]):
            start = int(span[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return self.reply(206, content[start:], "application/octet-stream", headers)
        return self.reply(200, content, "application/octet-stream", headers)

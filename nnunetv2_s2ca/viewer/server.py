"""A server on this machine's loopback that serves a page and named files, and nothing else."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

LOOPBACK = "127.0.0.1"
PIECE = 2**18  # bytes
_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")

# the page may load from this server alone, and no other page may load from it
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Named:
    """A file that may be served.

    Attributes:
        path: where it is.
        identity: device and inode when it was named; another file in its place is not served.
    """

    path: Path
    identity: tuple[int, int]


class Shelf:
    """What the server hands out: addresses that nobody can guess → content.

    Attributes:
        token: start of every address, so that other users of the machine cannot read along.
    """

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(24)
        self._content: dict[str, tuple[str, Named | Callable[[], bytes]]] = {}

    def add_file(self, path: Path) -> str:
        """The address of a file, relative to the page's."""
        place = path.resolve()
        status = place.stat()
        return self._add(Named(place, (status.st_dev, status.st_ino)), "application/octet-stream")

    def add(self, content: Callable[[], bytes], kind: str = "application/octet-stream") -> str:
        """The address of content that is made when it is asked for."""
        return self._add(content, kind)

    def set_page(self, html: str) -> None:
        """The page, at the token's own address."""
        text = html.encode("utf-8", errors="replace")
        self._content[f"/{self.token}/"] = ("text/html; charset=utf-8", lambda: text)

    def get(self, address: str) -> tuple[str, Named | Callable[[], bytes]] | None:
        """Type and content of an address, which must be written exactly as it was given out."""
        return self._content.get(address)

    def _add(self, content: Named | Callable[[], bytes], kind: str) -> str:
        name = secrets.token_urlsafe(18)
        self._content[f"/{self.token}/{name}"] = (kind, content)
        return name


def make_server(shelf: Shelf, *, port: int = 0) -> ThreadingHTTPServer:
    """A server for a shelf, not running yet.

    Args:
        shelf: what it serves.
        port: a free one if 0.

    Raises:
        OSError: The port is taken.
    """
    server = ThreadingHTTPServer((LOOPBACK, port), type("Handler", (_Handler,), {"shelf": shelf}))
    server.daemon_threads = True
    return server


def address_of(server: ThreadingHTTPServer, shelf: Shelf) -> str:
    """Where the page is."""
    return f"http://{LOOPBACK}:{server.server_port}/{shelf.token}/"


class _Handler(BaseHTTPRequestHandler):
    shelf: Shelf
    timeout = 60
    server_version = "s2ca"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def send_error(self, code: int, *_: object, **__: object) -> None:
        """An empty answer in place of http.server's page, which repeats the request."""
        self.close_connection = True
        self.send_response(code)
        if code in (HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.METHOD_NOT_ALLOWED):
            self.send_header("Allow", "GET, HEAD")
        self._end_headers(0)

    def _answer(self, *, body: bool) -> None:
        # a page elsewhere can have its own name resolve to this machine, but not fake this header
        port = self.connection.getsockname()[1]
        hosts = self.headers.get_all("Host") or []
        if hosts not in ([f"{LOOPBACK}:{port}"], [f"localhost:{port}"]):
            return self.send_error(HTTPStatus.FORBIDDEN)
        found = self.shelf.get(self.path)
        if found is None:
            return self.send_error(HTTPStatus.NOT_FOUND)
        kind, content = found
        try:
            if isinstance(content, Named):
                with content.path.open("rb") as file:
                    status = os.fstat(file.fileno())
                    if (status.st_dev, status.st_ino) != content.identity:
                        return self.send_error(HTTPStatus.NOT_FOUND)
                    return self._send_file(file, status.st_size, kind, body=body)
            made = content()
        except (OSError, ValueError):
            return self.send_error(HTTPStatus.NOT_FOUND)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self._end_headers(len(made))
        if body:
            self._write(made)
        return None

    def _send_file(self, file: BinaryIO, size: int, kind: str, *, body: bool) -> None:
        asked = self.headers.get("Range")
        first, last = 0, size - 1
        if asked is not None:
            part = requested_part(asked, size)
            if part is None:
                self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                self.send_header("Content-Range", f"bytes */{size}")
                return self._end_headers(0)
            first, last = part
            self.send_response(HTTPStatus.PARTIAL_CONTENT)
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        else:
            self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Accept-Ranges", "bytes")
        self._end_headers(last - first + 1)
        if body:
            file.seek(first)
            left = last - first + 1
            while left and (piece := file.read(min(PIECE, left))):
                self._write(piece)
                left -= len(piece)
        return None

    def _end_headers(self, length: int) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _write(self, content: bytes) -> None:
        try:
            self.wfile.write(content)
        except OSError:  # the browser has left the page
            self.close_connection = True


def requested_part(asked: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a `Range` header (RFC 9110); None if it cannot be satisfied.

    Several ranges at once are not offered.
    """
    match = _RANGE.match(asked.strip())
    if match is None or not size or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:  # the last bytes
        count = min(int(last), size)
        return (size - count, size - 1) if count else None
    begin, end = int(first), min(int(last), size - 1) if last else size - 1
    return (begin, end) if begin <= end else None

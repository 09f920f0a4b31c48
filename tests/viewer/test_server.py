"""The viewer's server: what it gives, and fifty attempts to get more."""

from __future__ import annotations

import os
import socket
import threading
from http.client import HTTPConnection

import numpy as np
import pytest

from nnunetv2_s2ca.viewer.server import Shelf, make_server, requested_part
from tests.reporting.synthetic_runs import save

SECRET = b"the secret of the machine"


@pytest.fixture
def served(tmp_path):
    """A server with one file, and a secret beside it."""
    (tmp_path / "secret.txt").write_bytes(SECRET)
    save(np.arange(1000, dtype=np.uint8).reshape(10, 10, 10), np.eye(4), tmp_path, "case")
    shelf = Shelf()
    shelf.name = shelf.add_file(tmp_path / "case.nii.gz")
    shelf.set_page("<p>page</p>")
    shelf.content = (tmp_path / "case.nii.gz").read_bytes()
    with make_server(shelf) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield shelf, server.server_port, tmp_path
        server.shutdown()
        thread.join()


def ask(port: int, path: str, *, method: str = "GET", headers=None) -> tuple[int, bytes, dict]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": f"127.0.0.1:{port}", **(headers or {})}.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, dict(answer.getheaders())


def test_page_and_file_are_served(served):
    shelf, port, _ = served
    assert ask(port, f"/{shelf.token}/")[:2] == (200, b"<p>page</p>")
    status, body, headers = ask(port, f"/{shelf.token}/{shelf.name}")
    assert (status, body) == (200, shelf.content)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers
    assert "Python" not in headers["Server"]


def test_head_gives_the_length_and_no_content(served):
    shelf, port, _ = served
    status, body, headers = ask(port, f"/{shelf.token}/{shelf.name}", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) == len(shelf.content)


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", (0, 0)),
        ("bytes=5-", (5, None)),
        ("bytes=-7", (-7, None)),
        ("bytes=3-99999999", (3, None)),
    ],
)
def test_a_range_is_answered_with_that_part(served, asked, part):
    shelf, port, _ = served
    status, body, headers = ask(port, f"/{shelf.token}/{shelf.name}", headers={"Range": asked})
    first, last = part
    expected = shelf.content[first : None if last is None else last + 1]
    assert (status, body) == (206, expected)
    begin = len(shelf.content) + first if first < 0 else first
    end = begin + len(expected) - 1
    assert headers["Content-Range"] == f"bytes {begin}-{end}/{len(shelf.content)}"


PATHS = [
    "/", "//", "/index.html", "/secret.txt", "/case.nii.gz", "/favicon.ico", "/TOKEN", "/TOKEN/.",
    "/TOKEN/..", "/TOKEN/../secret.txt", "/TOKEN/../../../../../../../../etc/passwd",
    "/TOKEN/%2e%2e/secret.txt", "/TOKEN/%2e%2e%2fsecret.txt", "/TOKEN/..%2fsecret.txt",
    "/TOKEN/..%5csecret.txt", "/TOKEN/..\\secret.txt", "/TOKEN/%252e%252e%252fsecret.txt",
    "/TOKEN/..%c0%afsecret.txt", "/TOKEN/%c0%ae%c0%ae/secret.txt", "/TOKEN/..;/secret.txt",
    "/TOKEN/....//secret.txt", "/TOKEN/secret.txt", "/TOKEN/case.nii.gz", "/TOKEN/NAME/",
    "/TOKEN/NAME/../NAME", "/TOKEN/NAME%00", "/TOKEN/NAME?x=1", "/TOKEN/NAME.nii.gz",
    "/TOKEN//NAME", "/token/NAME", "/TOKEN/%4e", "/NAME", "/etc/passwd", "//etc/passwd",
    "/TOKEN//etc/passwd", "/TOKEN/file:///etc/passwd", "http://127.0.0.1/etc/passwd",
    "file:///etc/passwd", "FOLDER/secret.txt", "/TOKEN/FOLDER/secret.txt",
]  # fmt: skip
HOSTS = ["evil.example", "evil.example:PORT", "127.0.0.1", "127.0.0.1:1", "0.0.0.0:PORT", "", None]
METHODS = ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PROPFIND"]
RANGES = [
    "bytes=99999999-", "bytes=5-2", "bytes=-0", "bytes=-", "bytes=0-1,5-6", "bytes=a-b",
    "lines=0-5", "bytes=--5", "bytes=0--1",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_other_path_gives_anything(served, path):
    shelf, port, folder = served
    path = path.replace("TOKEN", shelf.token).replace("NAME", shelf.name)
    status, body, _ = ask(port, path.replace("FOLDER", str(folder)))
    assert (status, body) == (404, b"")


@pytest.mark.parametrize("host", HOSTS)
def test_no_other_host_name_gives_anything(served, host):
    shelf, port, _ = served
    host = host and host.replace("PORT", str(port))
    status, body, _ = ask(port, f"/{shelf.token}/{shelf.name}", headers={"Host": host})
    assert (status, body) == (403, b"")


@pytest.mark.parametrize("method", METHODS)
def test_no_other_method_gives_anything(served, method):
    shelf, port, _ = served
    status, body, headers = ask(port, f"/{shelf.token}/{shelf.name}", method=method)
    assert (status, body) == (501, b"")
    assert headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("asked", RANGES)
def test_no_range_beyond_the_file_gives_anything(served, asked):
    shelf, port, _ = served
    status, body, headers = ask(port, f"/{shelf.token}/{shelf.name}", headers={"Range": asked})
    assert (status, body) == (416, b"")
    assert headers["Content-Range"] == f"bytes */{len(shelf.content)}"


@pytest.mark.parametrize("what", ["link", "folder", "another file", "nothing"])
def test_what_takes_the_place_of_a_file_is_not_served(served, what):
    shelf, port, folder = served
    path = folder / "case.nii.gz"
    path.rename(folder / "kept")
    if what == "link":
        path.symlink_to(folder / "secret.txt")
    elif what == "folder":
        path.mkdir()
    elif what == "another file":
        path.write_bytes(SECRET)
    status, body, _ = ask(port, f"/{shelf.token}/{shelf.name}")
    assert (status, body) == (404, b"")


@pytest.mark.parametrize(
    "content",
    [
        b"GET\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /%s HTTP/1.1\r\n" % (b"a" * 70000),
    ],
)
def test_broken_requests_are_refused_and_the_server_goes_on(served, content):
    shelf, port, _ = served
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        assert SECRET not in connection.recv(10000)
    assert ask(port, f"/{shelf.token}/")[0] == 200


def test_two_host_headers_are_refused(served):
    shelf, port, _ = served
    request = (
        f"GET /{shelf.token}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil.example\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request.encode())
        assert b"403" in connection.recv(1000)


def test_only_loopback_listens(served):
    _, port, _ = served
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in others - {"127.0.0.1"}:
        with pytest.raises(OSError):
            socket.create_connection((address, port), timeout=2).close()


def test_addresses_differ_and_are_long():
    shelves = [Shelf() for _ in range(3)]
    assert len({shelf.token for shelf in shelves}) == 3
    assert all(len(shelf.token) >= 32 for shelf in shelves)
    assert len({shelves[0].add(lambda: b"") for _ in range(3)}) == 3


@pytest.mark.parametrize("size", [0, 1, 10])
def test_parts_lie_within_the_file(size):
    for text in ("0-", "-1", "0-0", "9-9", "0-100", "10-", "-100", "5-4"):
        part = requested_part(f"bytes={text}", size)
        assert part is None or 0 <= part[0] <= part[1] < size


def test_a_broken_link_is_no_file(tmp_path):
    (tmp_path / "x").symlink_to(tmp_path / "gone")
    with pytest.raises(OSError):
        Shelf().add_file(tmp_path / "x")
    assert os.path.lexists(tmp_path / "x")

"""A caller who sends without end, or hardly at all, holds nothing for long.

Neither memory nor a connection.
"""

import json
import socket
import time
from collections.abc import Iterator

import pytest

from tests.api.client import Api, done

HEAD = (
    b"POST /v1/groups HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 20\r\n"
)


@pytest.fixture
def line(api: Api) -> Iterator[socket.socket]:
    with socket.create_connection(
        (api.base_url.host, api.base_url.port or 80), timeout=60
    ) as opened:
        yield opened


ARRIVAL_SECONDS = 2
"""Seconds that a request may take to arrive here.

They are many more than a busy machine takes to look at a request that has arrived.
"""


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rosterlog.api.http.protocol.ARRIVAL_SECONDS", ARRIVAL_SECONDS)


def answer(line: socket.socket) -> bytes:
    """Return all that comes until the other side closes."""
    parts = []
    try:
        while part := line.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def refused(received: bytes, status: int, rule: str) -> None:
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert (json.loads(body)["status"], json.loads(body)["type"]) == (status, f"/problems/{rule}")


def send_without_end(line: socket.socket, beginning: bytes) -> bytes:
    try:
        line.sendall(beginning)
        for _ in range(1000):
            line.sendall(b"x" * 16384)
    except OSError:
        return answer(line)
    raise AssertionError("16 MiB were taken")


@pytest.mark.parametrize(
    "beginning",
    [b"GET /?q=", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000],
)
def test_a_head_without_end_is_refused(api: Api, line: socket.socket, beginning: bytes) -> None:
    received = send_without_end(line, beginning)
    if received:  # what was sent and not read may have swept the answer away
        refused(received, 431, "headers-too-large")
    done(api.get("/healthz"), 200)


CHUNKED = (
    HEAD.replace(b"Content-Length: 20", b"Transfer-Encoding: chunked") + b"\r\n2\r\n{}\r\n0\r\n"
)


@pytest.mark.parametrize(
    "beginning", [CHUNKED + b"X: ", CHUNKED + b"X: y\r\n" * 20_000], ids=["one", "many"]
)
def test_headers_without_end_behind_a_body_are_refused(
    api: Api, line: socket.socket, beginning: bytes
) -> None:
    received = send_without_end(line, beginning)
    if received:
        refused(received, 431, "headers-too-large")
    assert api.items("/v1/groups") == []


@pytest.mark.parametrize(
    "part",
    [b"", b"GET / HT", HEAD, HEAD + b'\r\n{"name":'],
    ids=["nothing", "line", "headers", "body"],
)
def test_a_request_that_does_not_arrive_ends(
    hasty: None, api: Api, line: socket.socket, part: bytes
) -> None:
    line.sendall(part)
    refused(answer(line), 408, "request-too-slow")
    assert api.items("/v1/groups") == []


def test_a_request_that_arrives_in_pieces_is_answered(api: Api, line: socket.socket) -> None:
    whole = HEAD + b"Connection: close\r\n\r\n" + b'{"name": "Lincoln" }'
    for byte in whole:
        line.sendall(bytes([byte]))
    assert answer(line).startswith(b"HTTP/1.1 201 ")


def test_an_answered_connection_stays_open_for_the_next_request(
    hasty: None, api: Api, line: socket.socket
) -> None:
    for pause in (0, ARRIVAL_SECONDS * 1.5):
        time.sleep(pause)
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while not received.endswith(b"}"):
            received += line.recv(4096)
        assert received.startswith(b"HTTP/1.1 200 ")

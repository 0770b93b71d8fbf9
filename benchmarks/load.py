"""A load generator: a process of its own that sends prepared requests.

It sends them over keep-alive connections, one at a time on each.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import uvloop


@dataclass(frozen=True)
class Measured:
    """What a load came to: answers a second by status, and how long they took."""

    per_s: float
    p50_ms: float
    p99_ms: float


def load(port: int, requests: list[list[bytes]], seconds: float, expected: int) -> Measured:
    """Send each connection's requests, over and over, from another process.

    It does so for `seconds`. Every answer has the status `expected`.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / "requests.json"
        file.write_text(
            json.dumps(
                [[request.decode("latin-1") for request in connection] for connection in requests]
            )
        )
        command = [
            sys.executable,
            "-m",
            "benchmarks.load",
            str(port),
            str(file),
            str(seconds),
            str(expected),
        ]
        printed = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=seconds + 30
        ).stdout
    return Measured(**json.loads(printed))


def request(method: str, path: str, body: Any = None, headers: tuple[str, ...] = ()) -> bytes:
    """Return the bytes of one request."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    lines += (
        ["Content-Type: application/json", f"Content-Length: {len(content)}"] if content else []
    )
    return "\r\n".join([*lines, "", ""]).encode() + content


class _Connection(asyncio.Protocol):
    def __init__(
        self, requests: Iterator[bytes], expected: int, until: float, took: list[float]
    ) -> None:
        self._requests = requests
        self._expected = b"HTTP/1.1 %d " % expected
        self._until = until
        self._took = took
        self._received = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: those of uvloop do not descend from it.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        following = next(self._requests, None)
        if following is None or time.perf_counter() >= self._until:
            self._transport.close()
            self.done.set_result(None)
        else:
            self._began = time.perf_counter()
            self._transport.write(following)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if found and len(body) >= _length(head):
            if not head.startswith(self._expected):
                self.done.set_exception(RuntimeError(self._received.decode()))
                return
            self._received = b""
            self._took.append(time.perf_counter() - self._began)
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.done.done():
            self.done.set_exception(RuntimeError("the server closed the connection"))


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"content-length: ")
    return int(rest.partition(b"\r\n")[0]) if found else 0


async def _run(port: int, requests: list[list[bytes]], seconds: float, expected: int) -> Measured:
    loop = asyncio.get_running_loop()
    took: list[float] = []
    until = time.perf_counter() + seconds
    # A command is sent once; what reads is sent over and over.
    sources = [cycle(each) if each[0].startswith(b"GET") else iter(each) for each in requests]
    began = time.perf_counter()
    connections = [
        (
            await loop.create_connection(
                partial(_Connection, source, expected, until, took), "127.0.0.1", port
            )
        )[1]
        for source in sources
    ]
    await asyncio.gather(*(connection.done for connection in connections))
    spent = time.perf_counter() - began
    percentiles = statistics.quantiles(took, n=100)
    return Measured(len(took) / spent, percentiles[49] * 1000, percentiles[98] * 1000)


if __name__ == "__main__":
    port, file, seconds, expected = sys.argv[1:]
    prepared = [
        [one.encode("latin-1") for one in connection]
        for connection in json.loads(Path(file).read_text())
    ]
    print(json.dumps(vars(uvloop.run(_run(int(port), prepared, float(seconds), int(expected))))))

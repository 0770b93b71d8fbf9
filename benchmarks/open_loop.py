"""An HTTP client for open-loop load: requests are due at fixed times.

They are sent then, whether or not earlier ones were answered.

A request that is due while every connection is busy waits for one, and its latency counts from when
it was due. So an overloaded service shows as latency, and as requests that were not answered in the
end, never as a load that politely waits for it (coordinated omission).
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import httptools

CONNECTIONS = 64
"""Connections of each client.

They are enough that the service decides how many requests it works on at once, not the client.
"""


@dataclass(frozen=True)
class Request:
    """One request, when it is due by `time.perf_counter`, and whom to tell its status."""

    kind: str
    content: bytes
    due: float
    answered: Callable[[int], None] = lambda _: None


@dataclass
class Answers:
    """Seconds from due to answered, by kind of request.

    And the answers of other statuses, and how many requests wait for an answer.
    """

    latencies: dict[str, list[float]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    waiting: int = 0

    def note(self, request: Request, status: int, seconds: float) -> None:
        """Note one answer."""
        self.waiting -= 1
        if status < 400:
            self.latencies.setdefault(request.kind, []).append(seconds)
        else:
            self.errors[f"{request.kind}: {status}"] += 1
        request.answered(status)


def encoded(method: str, path: str, body: bytes = b"") -> bytes:
    """Return the bytes of a request."""
    length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}\r\n".encode() + body


class Client:
    """Sends requests over connections to one port, one request at a time on each."""

    def __init__(self, port: int, answers: Answers) -> None:
        """Call the service on `port`, and note what it answers."""
        self._port = port
        self.answers = answers
        self.closing = False
        self._idle: deque[_Connection] = deque()
        self._queue: deque[Request] = deque()
        self._open: list[_Connection] = []

    async def connect(self) -> None:
        """Open every connection."""
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            _, connection = await loop.create_connection(
                lambda: _Connection(self), "127.0.0.1", self._port
            )
            self._open.append(connection)
            self._idle.append(connection)

    def close(self) -> None:
        """Close every connection, answered or not."""
        self.closing = True
        for connection in self._open:
            connection.close()

    def send(self, request: Request) -> None:
        """Send a request as soon as a connection is free."""
        self.answers.waiting += 1
        if self._idle:
            self._idle.popleft().send(request)
        else:
            self._queue.append(request)

    def freed(self, connection: "_Connection") -> None:
        """Give a connection its next request."""
        if self._queue:
            connection.send(self._queue.popleft())
        else:
            self._idle.append(connection)


class _Connection(asyncio.Protocol):
    """One connection, and the parser's callbacks."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._request: Request | None = None
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: Request) -> None:
        self._request = request
        self._transport.write(request.content)

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        request, self._request = self._request, None
        assert request is not None, "an answer that nobody asked for"
        self._client.answers.note(
            request, self._parser.get_status_code(), time.perf_counter() - request.due
        )
        self._parser = httptools.HttpResponseParser(self)
        self._loop.call_soon(self._client.freed, self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._request is not None and not self._client.closing:
            self._client.answers.errors[f"{self._request.kind}: connection lost"] += 1


async def offer(
    make: Callable[[float], Request], client: Client, per_s: float, seconds: float
) -> None:
    """Offer requests at a rate, at even distances, for so many seconds."""
    began = time.perf_counter()
    for number in range(int(per_s * seconds)):
        due = began + number / per_s
        while (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        client.send(make(due))
        if number % CONNECTIONS == 0:
            # Late: let answers in before the rest of what is due.
            await asyncio.sleep(0)

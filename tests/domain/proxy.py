"""A proxy between a program and PostgreSQL that can cut the connection at the worst moment."""

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from psycopg.conninfo import conninfo_to_dict, make_conninfo

COMMIT = b"COMMIT; NOTIFY"


class CuttingProxy:
    """Forwards everything, until `cut_after_commit` is set: then the next commit reaches the server, and its answer never comes back."""

    def __init__(self, conninfo: str) -> None:
        parts = conninfo_to_dict(conninfo)
        self._server = f"{parts['host']}/.s.PGSQL.{parts.get('port', 5432)}"
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.conninfo = make_conninfo(
            conninfo, host="127.0.0.1", port=self._listening.getsockname()[1]
        )
        self.cut_after_commit = False
        self.wait_for_answer = True
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        _end(self._listening)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                threading.Thread(
                    target=self._from_client, args=[client, server], daemon=True
                ).start()

    def _from_client(self, client: socket.socket, server: socket.socket) -> None:
        threading.Thread(target=_pump, args=[server, client], daemon=True).start()
        with suppress(OSError):
            while data := client.recv(65536):
                if self.cut_after_commit and COMMIT in data:
                    self.cut_after_commit = False
                    self._cut(data, client, server)
                    return
                server.sendall(data)
        _end(server)

    def _cut(self, commit: bytes, client: socket.socket, server: socket.socket) -> None:
        self.cuts += 1
        _end(client)
        server.sendall(commit)
        if self.wait_for_answer:
            # The server commits, answers into the void, and sees only then that nobody is there any
            # more.
            server.shutdown(socket.SHUT_WR)
        else:
            _end(server)


@dataclass(frozen=True)
class Cut:
    """Where a connection is cut: at the n-th message from now on that holds `text`, unanswered; the server has it, or not."""

    at: int
    reaches_server: bool
    text: bytes = b""


class MessageProxy:
    """Forwards message by message, and cuts all connections where it is told to; each cut is counted from the one before."""

    # What makes the server answer, and the data of a COPY; what comes before a Sync counts with it.
    _COUNTED = b"QScd"

    def __init__(self, conninfo: str) -> None:
        parts = conninfo_to_dict(conninfo)
        self._server = f"{parts['host']}/.s.PGSQL.{parts.get('port', 5432)}"
        self._listening = socket.create_server(("127.0.0.1", 0))
        port = self._listening.getsockname()[1]
        self.conninfo = make_conninfo(
            conninfo, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable"
        )
        self.done: list[bytes] = []
        """What was cut: the messages."""
        self.refuses = False
        """Whether new connections are cut at once."""
        self.gone_after = 0
        """After so many cuts it refuses; 0 for never."""
        self._coming: list[Cut] = []
        self._count = 0
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        _end(self._listening)

    def expect(self, cuts: Sequence[Cut], *, gone_after: int = 0) -> None:
        """Cut so from now on, and accept connections."""
        with self._lock:
            self._coming, self._count, self.done = list(cuts), 0, []
            self.refuses, self.gone_after = False, gone_after

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self.refuses:
                    _end(client)
                    continue
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                self._pairs.append((client, server))
                threading.Thread(target=_pump, args=[server, client], daemon=True).start()
                threading.Thread(target=self._forward, args=[client, server], daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        waiting = b""
        with suppress(OSError):
            for message in _messages(client):
                waiting += message
                if message[:1] in self._COUNTED or message[:1] == b"\0":
                    cut = self._cut_now(message)
                    if cut:
                        self._cut(waiting if cut.reaches_server else b"", client, server)
                        return
                    server.sendall(waiting)
                    waiting = b""
        _end(server)

    def _cut_now(self, message: bytes) -> Cut | None:
        with self._lock:
            if not self._coming or self._coming[0].text not in message:
                return None
            self._count += 1
            if self._coming[0].at != self._count:
                return None
            self._count = 0
            self.done.append(message)
            self.refuses = len(self.done) == self.gone_after
            return self._coming.pop(0)

    def _cut(self, last: bytes, client: socket.socket, server: socket.socket) -> None:
        for other, others in self._pairs:
            _end(other)
            if other is not client:
                _end(others)
        self._pairs.clear()
        server.sendall(last)
        # The server does what it was told, and sees only then that nobody is there any more.
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)


def _messages(client: socket.socket) -> Iterator[bytes]:
    """Yield what a program sends, one message after the other; the first has no type before its length."""
    stream, head_size = client.makefile("rb"), 4
    while len(head := stream.read(head_size)) == head_size:
        (length,) = struct.unpack("!I", head[-4:])
        yield head + stream.read(length - 4)
        head_size = 5


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            with suppress(OSError):
                target.sendall(data)
    _end(target)
    _end(source)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def cutting_at(conninfo: str) -> Iterator[MessageProxy]:
    proxy = MessageProxy(conninfo)
    try:
        yield proxy
    finally:
        proxy.close()


@contextmanager
def cutting(conninfo: str) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(conninfo)
    try:
        yield proxy
    finally:
        proxy.close()

"""A proxy between a program and PostgreSQL that can cut the connection at the worst moment."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from psycopg.conninfo import conninfo_to_dict, make_conninfo

COMMIT = b"COMMIT; NOTIFY"


class CuttingProxy:
    """Forwards everything, until `cut_after_commit` is set: then the next commit reaches the server, and its answer never comes back."""

    def __init__(self, conninfo: str) -> None:
        parts = conninfo_to_dict(conninfo)
        self._server = f"{parts['host']}/.s.PGSQL.{parts.get('port', 5432)}"
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.conninfo = make_conninfo(conninfo, host="127.0.0.1", port=self._listening.getsockname()[1])
        self.cut_after_commit = False
        self.wait_for_answer = True
        self.gone_after_cut = False
        self.cuts = 0
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        _end(self._listening)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._clients.append(client)
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                threading.Thread(target=self._from_client, args=[client, server], daemon=True).start()

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
        if self.gone_after_cut:
            self.close()
            for one in self._clients:
                _end(one)
        _end(client)
        server.sendall(commit)
        if self.wait_for_answer:
            # The server commits, answers into the void, and sees only then that nobody is there any more.
            server.shutdown(socket.SHUT_WR)
        else:
            _end(server)


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
def cutting(conninfo: str) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(conninfo)
    try:
        yield proxy
    finally:
        proxy.close()

"""A network between the service and PostgreSQL that can be cut, refuse, freeze and be slow: a TCP proxy on the loopback interface."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

CHUNK = 65_536


class Proxy:
    """Forwards each connection to the server's Unix socket for as long as nothing is done to it."""

    def __init__(self, conninfo: str) -> None:
        """Stand in front of the server of `conninfo`."""
        self._conninfo = conninfo
        self._target = str(Path(str(conninfo_to_dict(conninfo)["host"])) / ".s.PGSQL.5432")
        self._port = 0
        self._delay = 0.0
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    @property
    def conninfo(self) -> str:
        """The connection string of the same database, through the proxy."""
        return make_conninfo(self._conninfo, host="127.0.0.1", port=self._port)

    def cut(self) -> None:
        """Break every connection, as a router that forgot them does."""
        self._do(self._abort())

    def refuse(self) -> None:
        """Break every connection and take no new ones."""
        self._do(self._close())

    def accept(self) -> None:
        """Take connections (again)."""
        self._do(self._listen())

    def freeze(self) -> None:
        """Keep the connections, and forward nothing."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self) -> None:
        """Forward again, what was sent meanwhile first."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def slow_down(self, seconds: float) -> None:
        """Let each packet take so long, in either direction."""
        self._delay = seconds

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        """Forward until the context ends."""
        self._thread.start()
        try:
            self.accept()
            yield self
        finally:
            self._do(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._abort()

    async def _abort(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _end(self) -> None:
        await self._close()
        self._flowing.set()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, server_writer}
        self._open |= pair
        try:
            await asyncio.gather(
                self._pump(reader, server_writer), self._pump(server_reader, writer)
            )
        finally:
            self._open -= pair

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                await asyncio.sleep(self._delay)
                await self._flowing.wait()
                writer.write(chunk)
                await writer.drain()
        writer.close()

"""Reading the read tables of a streaming replica, for as long as it is there.

A standby cancels statements that are in the way of what it replays, such as the switch at the end
of a rebuild. A read changes nothing, so it runs again. Where the replica is gone, nobody waits for
it: one connection watches it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg_pool import PoolTimeout
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from rosterlog.api.reading.connections import Connections, Row
from rosterlog.api.reading.source import WAIT_SECONDS, Source
from rosterlog.domain.errors import StoreUnavailable
from rosterlog.domain.log import sessions, silence
from rosterlog.domain.log.silence import DatabaseSilent, cut, heard
from rosterlog.projections.reading.queries import Parameters

LOOK_SECONDS = 1.0
"""How long to wait between two looks at the replica, whether it is there or gone."""

Value = TypeVar("Value")

logger = logging.getLogger(__name__)


class ReplicaConnections(Connections):
    """Sessions with a replica, for reads of the read tables as they are."""

    def give_up(self) -> None:
        """Cut the connections that are in use: their reads would wait for a server that is gone."""
        for connection in self.lent:
            if not connection.closed:
                cut(connection.fileno())

    async def rows(
        self, statement: str, parameters: Parameters | Sequence[Any], *, prepare: bool | None = None
    ) -> list[Row]:
        """Return the rows of one statement, again where the replica cancelled it.

        Raises `StoreUnavailable`.
        """
        try:
            return await super().rows(statement, parameters, prepare=prepare)
        except StoreUnavailable as lost:
            if not _passes(lost):
                raise
        again = AsyncRetrying(
            retry=retry_if_exception(_passes),
            stop=stop_after_delay(WAIT_SECONDS),
            wait=wait_random_exponential(0.01, max=0.5),
            reraise=True,
        )
        return await again(super().rows, statement, parameters, prepare=prepare)


class ReplicaWatch:
    """Knows whether the replica answers, over a connection of its own that notices at once when it ends."""

    def __init__(self, conninfo: str, on_gone: Callable[[], None] = lambda: None) -> None:
        """Watch the server at `conninfo`; call `on_gone` each time that it goes."""
        self._conninfo = conninfo
        self._on_gone = on_gone
        self._gone: asyncio.Future[None] | None = None
        self._looked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def gone(self) -> asyncio.Future[None] | None:
        """What ends when the replica goes; None where it is gone."""
        return self._gone

    async def start(self) -> None:
        """Begin to watch, and wait for the first look."""
        self._task = asyncio.create_task(self._watch())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._looked.wait(), silence.REPLICA_SECONDS)

    async def stop(self) -> None:
        """End the watch."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        while True:
            try:
                async with await sessions.connect_async(self._conninfo) as connection:
                    while True:
                        with heard(connection, silence.REPLICA_SECONDS):
                            await connection.execute("SELECT 1")
                        self._is_there()
                        async for _ in connection.notifies(timeout=LOOK_SECONDS):
                            pass
            except psycopg.Error as lost:
                self._is_gone(lost)
                await asyncio.sleep(LOOK_SECONDS)

    def _is_there(self) -> None:
        if self._gone is None:
            logger.info("the replica answers")
            self._gone = asyncio.get_running_loop().create_future()
        self._looked.set()

    def _is_gone(self, lost: Exception) -> None:
        if self._gone is not None or not self._looked.is_set():
            logger.warning("the replica does not answer (%s)", str(lost).partition("\n")[0])
        if self._gone is not None:
            self._gone.set_result(None)
            self._gone = None
            self._on_gone()
        self._looked.set()


class Replica:
    """A source that may go; the primary has to answer then, if it may."""

    def __init__(self, source: Source, watch: ReplicaWatch, *, fallback: bool) -> None:
        """Read from `source` while `watch` says that it is there.

        `fallback` says whether the primary may answer in its place.
        """
        self._source = source
        self._watch = watch
        self._fallback = fallback

    @property
    def is_gone(self) -> bool:
        """Tell whether the replica does not answer."""
        return self._watch.gone is None

    async def answer(self, read: Callable[[Source], Awaitable[Value]]) -> tuple[bool, Value | None]:
        """Return whether the replica answers, and its answer; if not, the primary has to.

        Raises what `read` raises.
        """
        try:
            return True, await self._while_there(read(self._source))
        except StoreUnavailable as lost:
            if not self._fallback:
                raise
            logger.debug("the primary answers in the replica's place: %s", lost.__cause__)
            return False, None

    async def position(self) -> int:
        """Return the position that the replica's tables reflect. Raises `StoreUnavailable`."""
        return await self._while_there(self._source.position())

    async def _while_there(self, asking: Awaitable[Value]) -> Value:
        """Return what comes of `asking`.

        Raises `StoreUnavailable` at once where the replica is or goes away.
        """
        gone = self._watch.gone
        task: asyncio.Future[Any] = asyncio.ensure_future(asking)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        try:
            if gone is not None:
                await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                result: Value = task.result()
                return result
            raise StoreUnavailable
        finally:
            # What still waits for a server that is gone ends by itself, or with its connection;
            # nobody is told.
            task.cancel()


def _passes(error: BaseException) -> bool:
    """Tell whether a read may succeed at once: it, or its connection, was cancelled; the server still answers."""
    return isinstance(error, StoreUnavailable) and not isinstance(
        error.__cause__, PoolTimeout | DatabaseSilent
    )

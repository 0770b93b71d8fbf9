"""Reading the read tables of a streaming replica, for as long as it is there.

A standby cancels statements that are in the way of what it replays, such as the switch at the end
of a rebuild. A read changes nothing, so it runs again. Where the replica is gone, nobody waits for
it: one connection watches it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout
from starlette.responses import Response
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from rosterlog.api.reading.reads import WAIT_SECONDS, Reads
from rosterlog.domain.errors import StoreUnavailable
from rosterlog.domain.log import sessions, silence
from rosterlog.domain.log.silence import DatabaseSilent, cut, heard
from rosterlog.projections.reading.queries import Parameters
from rosterlog.projections.shared_sql import CHECKPOINT

LOOK_SECONDS = 1.0
"""How long to wait between two looks at the replica, whether it is there or gone."""

logger = logging.getLogger(__name__)


class ReplicaReads(Reads):
    """Reads of the read tables as they are, on a replica; what is asked of the log stays with the primary."""

    def give_up(self) -> None:
        """Cut the connections that are in use: what reads over them would wait for a server that is gone."""
        for connection in self.lent:
            if not connection.closed:
                cut(connection.fileno())

    async def wait_for(self, position: int | None) -> None:
        """Wait until the replica reflects a position.

        Raises `ReadTablesBehind`, `StoreUnavailable`.
        """
        try:
            await super().wait_for(position)
        except psycopg.Error as lost:
            raise StoreUnavailable from lost

    async def rows(
        self, statement: str, parameters: Parameters | Sequence[Any], *, prepare: bool | None = None
    ) -> list[tuple[Any, ...]]:
        """Run a read, again where the replica cancelled it. Raises `StoreUnavailable`."""
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
    """The replica's reads, for as long as it is there; else the primary has to answer, if it may."""

    def __init__(self, reads: ReplicaReads, watch: ReplicaWatch, *, fallback: bool) -> None:
        """Read with `reads`; `fallback` says whether the primary may answer where the replica is gone."""
        self._reads = reads
        self._watch = watch
        self._fallback = fallback

    @property
    def is_gone(self) -> bool:
        """Tell whether the replica does not answer."""
        return self._watch.gone is None

    async def answer(self, ask: Callable[[Reads], Awaitable[Response]]) -> Response | None:
        """Return what the replica answers, None where the primary has to.

        Raises what `ask` raises.
        """
        try:
            answer: Response = await self._while_there(ask(self._reads))
        except StoreUnavailable as lost:
            if not self._fallback:
                raise
            logger.debug("the primary answers in the replica's place: %s", lost.__cause__)
            return None
        return answer

    async def position(self) -> int:
        """Return the position that the replica's tables reflect. Raises `StoreUnavailable`."""
        ((position,),) = await self._while_there(self._reads.rows(CHECKPOINT, {}))
        return int(position)

    async def _while_there(self, asking: Awaitable[Any]) -> Any:
        """Return what comes of `asking`.

        Raises `StoreUnavailable` at once where the replica is or goes away.
        """
        gone, task = self._watch.gone, asyncio.ensure_future(asking)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        try:
            if gone is not None:
                await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
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

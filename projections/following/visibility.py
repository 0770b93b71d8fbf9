"""Waiting until the read tables reflect a position, whichever process projects it."""

import asyncio
import heapq
import logging
from contextlib import suppress
from itertools import count

import psycopg
from psycopg import AsyncConnection

from rosterlog.domain.log import sessions
from rosterlog.domain.log.silence import heard
from rosterlog.projections.projector.runner import PROJECTED_CHANNEL, backoff
from rosterlog.projections.shared_sql import CHECKPOINT

POLL_SECONDS = 0.25
"""How long to wait for a notification, which can get lost, before looking at the checkpoint itself."""

SILENT_SECONDS = 10.0
"""How long to wait for the database's answer before the connection is made anew; a switch of the tables takes a fraction of it."""

logger = logging.getLogger(__name__)


class Visibility:
    """Knows how far the read tables are, and wakes whoever waits for a position at once."""

    def __init__(self, conninfo: str) -> None:
        """Watch the checkpoint of the database at `conninfo`."""
        self._conninfo = conninfo
        self._position = 0
        self._order = count()
        self._waiting: list[tuple[int, int, asyncio.Future[bool]]] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch, in the running event loop."""
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End the watch."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def reached(self, position: int, seconds: float) -> bool:
        """Wait until the read tables reflect `position`, at most so many seconds; tell whether they do."""
        if position <= self._position:
            return True
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiter = (position, next(self._order), future)
        heapq.heappush(self._waiting, waiter)
        expiry = asyncio.get_running_loop().call_later(seconds, self._give_up, future)
        try:
            return await future
        finally:
            expiry.cancel()
            if position > self._position:
                self._waiting.remove(waiter)
                heapq.heapify(self._waiting)

    def _give_up(self, future: asyncio.Future[bool]) -> None:
        if not future.done():
            future.set_result(False)

    async def _watch(self) -> None:
        failures = 0
        while True:
            try:
                async with await sessions.connect_async(
                    self._conninfo, sessions.READING
                ) as connection:
                    await connection.execute(f"LISTEN {PROJECTED_CHANNEL}")
                    failures = 0
                    while True:
                        with heard(connection, SILENT_SECONDS):
                            await self._look(connection)
                        async for notification in connection.notifies(timeout=POLL_SECONDS):
                            # Anybody may notify: what is no position is a hint to look.
                            if not notification.payload.isdecimal():
                                break
                            self._advance(int(notification.payload))
            except psycopg.Error as lost:
                failures += 1
                logger.warning(
                    "lost the connection that watches the checkpoint (%s); reconnecting",
                    str(lost).partition("\n")[0],
                )
                await asyncio.sleep(backoff(failures))

    async def _look(self, connection: AsyncConnection) -> None:
        row = await (await connection.execute(CHECKPOINT)).fetchone()
        if row is not None:
            self._advance(row[0])

    def _advance(self, position: int) -> None:
        self._position = max(self._position, position)
        while self._waiting and self._waiting[0][0] <= self._position:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(True)

"""Waiting for a position: of the log, or of the read tables, whichever process records or projects.

One connection of the process follows it for every waiter. A notification is a hint, and can get
lost: the follower also looks by itself.
"""

import asyncio
import heapq
import logging
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Self

import psycopg
from psycopg import AsyncConnection

from rosterlog.domain.log import sessions, silence
from rosterlog.domain.log.append import RECORDED_CHANNEL
from rosterlog.domain.log.log_sql import HEAD
from rosterlog.domain.log.silence import heard
from rosterlog.projections.connections import backoff, first_line
from rosterlog.projections.shared_sql import CHECKPOINT, PROJECTED_CHANNEL

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Source:
    """What a follower follows."""

    name: str
    channel: str
    select: str
    poll_seconds: float
    """Seconds between two looks where no notification comes."""


_LOG = _Source("the log", RECORDED_CHANNEL, HEAD, 0.5)
_TABLES = _Source("the checkpoint", PROJECTED_CHANNEL, CHECKPOINT, 0.25)


class Follower:
    """Knows the newest `position` of a source, and wakes each waiter as soon as its position is there."""

    def __init__(self, conninfo: str, source: _Source) -> None:
        """Follow a `source` in the database at `conninfo`."""
        self._conninfo = conninfo
        self._source = source
        self.position = 0
        self._order = count()
        self._waiting: list[tuple[int, int, asyncio.Future[bool]]] = []
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def of_log(cls, conninfo: str) -> Self:
        """Return a follower of the log's head."""
        return cls(conninfo, _LOG)

    @classmethod
    def of_tables(cls, conninfo: str) -> Self:
        """Return a follower of the position that the read tables reflect."""
        return cls(conninfo, _TABLES)

    def start(self) -> None:
        """Begin to follow, in the running event loop."""
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End following."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def reached(self, position: int, seconds: float) -> bool:
        """Wait at most so many seconds until `position` is there; tell whether it is."""
        if position <= self.position:
            return True
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiter = (position, next(self._order), future)
        heapq.heappush(self._waiting, waiter)
        expiry = asyncio.get_running_loop().call_later(seconds, _give_up, future)
        try:
            return await future
        finally:
            expiry.cancel()
            if future.cancelled() or not future.result():
                self._waiting.remove(waiter)
                heapq.heapify(self._waiting)

    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                async with await sessions.connect_async(
                    self._conninfo, sessions.READING
                ) as connection:
                    await connection.execute(f"LISTEN {self._source.channel}")
                    failures = 0
                    while True:
                        await self._look(connection)
                        await self._take_hints(connection)
            except psycopg.Error as lost:
                failures += 1
                logger.warning(
                    "lost the connection that follows %s (%s); reconnecting",
                    self._source.name,
                    first_line(lost),
                )
                await asyncio.sleep(backoff(failures))

    async def _look(self, connection: AsyncConnection) -> None:
        with heard(connection, silence.LOOK_SECONDS):
            row = await (await connection.execute(self._source.select)).fetchone()
        if row is not None:
            self._move(row[0])

    async def _take_hints(self, connection: AsyncConnection) -> None:
        """Take positions from notifications, until one says none, or none comes in time."""
        async for notification in connection.notifies(timeout=self._source.poll_seconds):
            # Anybody may notify: a payload that is no position is a hint to look.
            if not notification.payload.isdecimal():
                return
            self._move(max(self.position, int(notification.payload)))

    def _move(self, position: int) -> None:
        self.position = position
        while self._waiting and self._waiting[0][0] <= position:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(True)


def _give_up(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)

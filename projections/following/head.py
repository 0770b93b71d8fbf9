"""The head of the log, followed by one connection of the process for everybody who waits for what comes next."""

import asyncio
import logging
from contextlib import suppress

import psycopg
from psycopg import AsyncConnection

from rosterlog.domain.log import sessions
from rosterlog.domain.log.event_store import RECORDED_CHANNEL
from rosterlog.domain.log.log_sql import HEAD
from rosterlog.domain.log.silence import heard
from rosterlog.projections.projector.runner import backoff

POLL_SECONDS = 0.5
"""How long to wait for a notification, which can get lost, before looking at the log itself."""

SILENT_SECONDS = 10.0
"""How long to wait for the database's answer before the connection is made anew."""

logger = logging.getLogger(__name__)


class Head:
    """Knows up to which `position` the log is committed, and wakes all who wait for more."""

    def __init__(self, conninfo: str) -> None:
        """Follow the log of the database at `conninfo`."""
        self._conninfo = conninfo
        self.position = 0
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow, in the running event loop."""
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End following."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def is_past(self, position: int, seconds: float) -> bool:
        """Wait until there is something after `position`, at most so many seconds; tell whether there is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.position <= position:
                    await self._moved.wait()
        return self.position > position

    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                async with await sessions.connect_async(
                    self._conninfo, sessions.READING
                ) as connection:
                    await connection.execute(f"LISTEN {RECORDED_CHANNEL}")
                    failures = 0
                    while True:
                        with heard(connection, SILENT_SECONDS):
                            await self._look(connection)
                        async for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                            pass
            except psycopg.Error as lost:
                failures += 1
                logger.warning(
                    "lost the connection that follows the log (%s); reconnecting",
                    str(lost).partition("\n")[0],
                )
                await asyncio.sleep(backoff(failures))

    async def _look(self, connection: AsyncConnection) -> None:
        row = await (await connection.execute(HEAD)).fetchone()
        position = (row[0] if row else None) or 0
        if position != self.position:
            self.position = position
            self._moved.set()
            self._moved = asyncio.Event()

"""Questions to the database that are answered however busy the service is.

The work may have used up all other connections and threads.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg import Connection

from rosterlog.domain.errors import StoreUnavailable
from rosterlog.domain.log import sessions
from rosterlog.domain.log.silence import heard_by_thread

Answer = TypeVar("Answer")
Question = Callable[[Connection[Any]], Answer]


class Probing:
    """Puts questions one after the other, over one connection that it keeps.

    It does so in a thread of its own.

    A connection that was open before the work began is there when the database takes no new one. A
    lost connection is made anew with the next question.
    """

    def __init__(self, conninfo: str, name: str) -> None:
        """Ask the database at `conninfo`; `name` is the thread's."""
        self._conninfo = conninfo
        self._thread = ThreadPoolExecutor(1, name)
        self._connection: Connection[Any] | None = None

    async def open(self, seconds: float) -> None:
        """Open the connection if the database answers in so many seconds.

        Else the first question opens it.
        """
        with suppress(StoreUnavailable):
            await self.answer(lambda connection: connection, seconds)

    async def answer(self, question: Question[Answer], seconds: float) -> Answer:
        """Return the answer to a question.

        Raises `StoreUnavailable` where it takes longer than `seconds`.
        """
        waiting = asyncio.wrap_future(self._thread.submit(self._ask, question, seconds))
        try:
            async with asyncio.timeout(seconds):
                return await waiting
        except (TimeoutError, psycopg.OperationalError, psycopg.InterfaceError) as lost:
            raise StoreUnavailable from lost

    def close(self) -> None:
        """Close the connection after the question that is under way."""
        self._thread.submit(self._hang_up)
        self._thread.shutdown(wait=False)

    def _ask(self, question: Question[Answer], seconds: float) -> Answer:
        kept = self._connection
        if kept is not None and not kept.closed:
            try:
                return _put(kept, question, seconds)
            except psycopg.OperationalError:
                if not kept.broken:
                    raise
        self._connection = sessions.connect(self._conninfo)
        return _put(self._connection, question, seconds)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _put(connection: Connection[Any], question: Question[Answer], seconds: float) -> Answer:
    with heard_by_thread(connection, seconds):
        return question(connection)

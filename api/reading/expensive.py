"""Reads that may take long, with a budget of their own, so that commands and cheap reads go on beside them.

Whole histories and rosters, differences, lists of the past and the feed's arrears use few
connections that nothing else uses, and wait for one in line. So does each page of a stream: many of
them take turns.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from copy import copy
from typing import Any, Self

from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout

from rosterlog.api.reading.connections import Connections, Row
from rosterlog.api.reading.reads import Reads
from rosterlog.api.reading.source import Source, Visibility
from rosterlog.domain.errors import ExpensiveReadsBusy, StoreUnavailable
from rosterlog.domain.log import silence
from rosterlog.domain.log.sessions import AsyncPool
from rosterlog.domain.log.silence import heard
from rosterlog.projections.reading.queries import Parameters

CONNECTIONS = 2
"""How many expensive reads work at the same moment in a process: see docs/decisions/0032-expensive-reads.md."""
TURN_SECONDS = 5.0
"""How long an expensive read waits for its first turn; then it is 503 `expensive-reads-busy`."""
NEXT_SECONDS = 60.0
"""How long a stream under way waits for its next turn before it is cut off."""
CHEAP = 100
"""Up to how many entries a page of the log is cheap, and needs no turn; it is the default of `limit`."""
ROWS = 500
"""How many rows are taken from the database at once.

Making them into objects takes a few milliseconds.
"""


class ExpensiveConnections(Connections):
    """The sessions that only expensive reads use."""

    def __init__(self, pool: AsyncPool) -> None:
        """Lend those of `pool`, `CONNECTIONS` at most."""
        super().__init__(pool)
        self.patience = TURN_SECONDS

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Lend a connection.

        Raises `ExpensiveReadsBusy` where no turn comes in time, `StoreUnavailable`.
        """
        try:
            async with super().connection() as connection:
                yield connection
        except StoreUnavailable as lost:
            if isinstance(lost.__cause__, PoolTimeout) and len(self.lent) >= CONNECTIONS:
                raise ExpensiveReadsBusy from None
            raise

    def later(self) -> Self:
        """Return the same sessions for an answer that has begun, which is worth more patience."""
        patient = copy(self)
        patient.patience = NEXT_SECONDS
        return patient

    async def pages(self, statement: str, parameters: Parameters) -> AsyncIterator[Sequence[Row]]:
        """Yield the rows of a statement, `ROWS` at a time, and hold a connection until the last.

        The caller must not wait for its own caller meanwhile. Raises `StoreUnavailable`.
        """
        async with (
            self.connection() as connection,
            connection.transaction(),
            connection.cursor(name="pages") as cursor,
        ):
            with heard(connection, silence.READ_SECONDS):
                await cursor.execute(statement, parameters)
            while True:
                with heard(connection, silence.READ_SECONDS):
                    rows = await cursor.fetchmany(ROWS)
                if not rows:
                    return
                yield rows


class ExpensiveReads(Reads):
    """Reads over the connections that only expensive reads use."""

    def __init__(self, pool: AsyncPool, visibility: Visibility) -> None:
        """Read over those of `pool`, and wait with `visibility` for positions."""
        self.connections = ExpensiveConnections(pool)
        super().__init__(Source(self.connections, visibility))

"""Where reads get their sessions with the database from."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout

from rosterlog.domain.errors import StoreUnavailable
from rosterlog.domain.log import silence
from rosterlog.domain.log.sessions import AsyncPool
from rosterlog.domain.log.silence import DatabaseSilent, heard
from rosterlog.projections.reading.queries import Parameters

Row = tuple[Any, ...]


class Connections:
    """Sessions with one server, to read over."""

    patience: float | None = None
    """Seconds that a read waits for a connection; None: as long as the pool says."""

    def __init__(self, pool: AsyncPool) -> None:
        """Lend the connections of `pool`."""
        self._pool = pool
        self.lent: set[AsyncConnection[Any]] = set()
        """The connections that are in use."""

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Lend a connection. Raises `StoreUnavailable`."""
        try:
            async with self._pool.connection(self.patience) as connection:
                self.lent.add(connection)
                try:
                    yield connection
                finally:
                    self.lent.discard(connection)
        except (
            psycopg.OperationalError,
            psycopg.InterfaceError,
            psycopg.InternalError,
            PoolTimeout,
        ) as lost:
            raise StoreUnavailable from lost

    async def rows(
        self, statement: str, parameters: Parameters | Sequence[Any], *, prepare: bool | None = None
    ) -> list[Row]:
        """Return the rows of one statement. Raises `StoreUnavailable`.

        It runs once more where the connection turns out to be lost, such as to a database that was
        restarted.
        """
        async with self.connection() as connection:
            try:
                return await _fetched(connection, statement, parameters, prepare=prepare)
            except DatabaseSilent:
                raise
            except psycopg.OperationalError:
                if not connection.broken:
                    raise
        # The other connections of the pool are probably lost, too; asking each of them could take
        # for ever.
        await self._pool.drain()
        async with self.connection() as connection:
            return await _fetched(connection, statement, parameters, prepare=prepare)


async def _fetched(
    connection: AsyncConnection[Any],
    statement: str,
    parameters: Parameters | Sequence[Any],
    *,
    prepare: bool | None,
) -> list[Row]:
    with heard(connection, silence.READ_SECONDS):
        return await (await connection.execute(statement, parameters, prepare=prepare)).fetchall()

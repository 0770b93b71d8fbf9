"""Waiting until the read tables of a replica reflect a position.

A standby takes no LISTEN, so this looks, and only for as long as somebody waits.
"""

import asyncio

from rosterlog.domain.log.sessions import AsyncPool
from rosterlog.projections.shared_sql import CHECKPOINT

POLL_SECONDS = 0.02
"""How long to wait between two looks at the replica's checkpoint."""


class ReplicaVisibility:
    """Knows how far the read tables of one replica are."""

    def __init__(self, pool: AsyncPool) -> None:
        """Look over connections of `pool`, which all lead to the same server."""
        self._pool = pool
        self._position = 0
        self._looking = asyncio.Lock()

    async def reached(self, position: int, seconds: float) -> bool:
        """Wait until the replica reflects `position`, at most so many seconds; tell whether it does.

        Raises `psycopg.Error` where the replica does not answer.
        """
        try:
            async with asyncio.timeout(seconds):
                while position > self._position:
                    await self._look(position)
        except TimeoutError:
            return position <= self._position
        return True

    async def _look(self, position: int) -> None:
        # One looks for all who wait.
        async with self._looking:
            if position <= self._position:
                return
            async with self._pool.connection() as connection:
                row = await (await connection.execute(CHECKPOINT)).fetchone()
            self._position = max(self._position, row[0] if row else 0)
        if position > self._position:
            await asyncio.sleep(POLL_SECONDS)

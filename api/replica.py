"""Reading the read tables of a streaming replica.

A standby cancels statements that are in the way of what it replays, such as the switch at the end of a rebuild. A read changes nothing, so
it runs again.
"""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from api.reads import WAIT_SECONDS, Reads
from domain.errors import StoreUnavailable
from domain.silence import DatabaseSilent
from projections.queries import Parameters


class ReplicaReads(Reads):
    """Reads of the read tables as they are, on a replica; what is asked of the log stays with the primary."""

    async def wait_for(self, position: int | None) -> None:
        """Wait until the replica reflects a position. Raises `ReadTablesBehind`, `StoreUnavailable`."""
        try:
            await super().wait_for(position)
        except psycopg.Error as lost:
            raise StoreUnavailable from lost

    async def rows(self, statement: str, parameters: Parameters | Sequence[Any], *, prepare: bool | None = None) -> list[tuple[Any, ...]]:
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


def _passes(error: BaseException) -> bool:
    """Tell whether a read may succeed at once: it, or its connection, was cancelled; the server still answers."""
    return isinstance(error, StoreUnavailable) and not isinstance(error.__cause__, PoolTimeout | DatabaseSilent)

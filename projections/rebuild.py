"""Rebuilding the read tables from position 0, while readers read and commands go on.

The shadow tables are projected by the same projector until they have caught up with the live ones, and then take their place in one short
transaction. A rebuild that dies leaves the live tables as they were; the next one starts clean.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import Connection
from psycopg.rows import class_row
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from projections import shadow
from projections.projector import project
from projections.runner import PROJECTED_CHANNEL
from projections.tables import SHADOW

BATCH = 50_000
"""Most events in one transaction of a rebuild."""
SWITCH_SECONDS = 120
"""How long to try for a moment in which no reader holds the tables."""


@dataclass(frozen=True)
class RebuildState:
    """Where a rebuild stands, in events: `done` of `total`."""

    id: UUID | None
    state: str
    done: int
    total: int
    started_at: datetime | None
    updated_at: datetime | None
    error: str | None

    @property
    def per_second(self) -> float | None:
        """Return how many events a second it projects, None before the first."""
        if not self.done or self.started_at is None or self.updated_at is None:
            return None
        return self.done / max((self.updated_at - self.started_at).total_seconds(), 0.001)

    @property
    def seconds_left(self) -> float | None:
        """Return how long it still takes at this rate, None where it does not run or there is no rate yet."""
        rate = self.per_second
        return (self.total - self.done) / rate if rate and self.state == "running" else None


IDLE = RebuildState(None, "idle", 0, 0, None, None, None)

_ORPHANS = "UPDATE projections.rebuilds SET state = 'failed', error = 'its process ended' WHERE state = 'running'"
_BEGIN = (
    "INSERT INTO projections.rebuilds (id, state, done, total) SELECT %s, 'running', 0, coalesce(max(notification_id), 0) FROM log.events"
)
_PROGRESS = """
    UPDATE projections.rebuilds SET done = %(done)s, total = greatest(total, %(done)s), updated_at = clock_timestamp()
    WHERE id = %(id)s RETURNING cancel_requested
"""
_END = "UPDATE projections.rebuilds SET state = %(state)s, error = %(error)s, updated_at = clock_timestamp() WHERE id = %(id)s"
_CANCEL = "UPDATE projections.rebuilds SET cancel_requested = true WHERE state = 'running'"
# A rebuild whose process died still says that it runs; the lock, which died with it, says that it does not.
_STATE = f"""
    SELECT id, CASE WHEN state = 'running' AND NOT EXISTS (
                   SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = {shadow.REBUILD_LOCK} AND granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
               ) THEN 'failed' ELSE state END AS state,
           done, total, started_at, updated_at, error
    FROM projections.rebuilds ORDER BY started_at DESC LIMIT 1
"""


class _Cancelled(Exception):
    """Somebody asked for the rebuild to end."""


def state(connection: Connection[Any]) -> RebuildState:
    """Return where the newest rebuild stands; `IDLE` where there never was one."""
    with connection.cursor(row_factory=class_row(RebuildState)) as cursor:
        return cursor.execute(_STATE).fetchone() or IDLE


def cancel(connection: Connection[Any]) -> bool:
    """Ask the running rebuild to end; tell whether there is one."""
    return state(connection).state == "running" and connection.execute(_CANCEL).rowcount > 0


class Rebuild:
    """One rebuild: claimed when made, done when `run` returns."""

    def __init__(self, conninfo: str) -> None:
        """Claim the shadow tables. Raises `ShadowInUse`."""
        self.id = uuid4()
        self._connection = psycopg.connect(conninfo, autocommit=True, application_name="rosterlog rebuild")
        try:
            shadow.claim(self._connection)
            self._connection.execute(_ORPHANS)
            self._connection.execute(_BEGIN, [self.id])
        except BaseException:
            self._connection.close()
            raise

    def run(self, on_progress: Callable[[RebuildState], None] = lambda _: None) -> RebuildState:
        """Rebuild, telling `on_progress` after each batch, and return how it ended: done, failed (with its error) or cancelled."""
        with self._connection as connection:
            try:
                shadow.create(connection)
                self._catch_up(on_progress)
                self._switch()
            except _Cancelled:
                self._end("cancelled")
            except Exception as wrong:
                if not connection.broken:
                    self._end("failed", str(wrong))
                raise
            return state(connection)

    def _catch_up(self, on_progress: Callable[[RebuildState], None]) -> None:
        while True:
            step = project(self._connection, SHADOW, limit=BATCH)
            row = self._connection.execute(_PROGRESS, {"id": self.id, "done": step.position}).fetchone()
            if row and row[0]:
                raise _Cancelled
            on_progress(state(self._connection))
            if step.events < BATCH:
                break
        for table in shadow.TABLES:
            self._connection.execute(f"ANALYZE {SHADOW}.{table}")

    def _switch(self) -> None:
        patience = Retrying(
            retry=retry_if_exception_type(psycopg.errors.LockNotAvailable),
            wait=wait_random_exponential(multiplier=0.05, max=1),
            stop=stop_after_delay(SWITCH_SECONDS),
            reraise=True,
        )
        position = patience(self._try_switch)
        self._connection.execute("SELECT pg_notify(%s, %s)", [PROJECTED_CHANNEL, str(position)])

    def _try_switch(self) -> int:
        # Almost all of what came meanwhile, so that the locked transaction below stays short.
        while project(self._connection, SHADOW, limit=BATCH).events:
            pass
        with self._connection.transaction():
            shadow.lock_live(self._connection)
            # Now the live tables stand still, and the shadow tables go at least as far: a reader never goes back.
            while (step := project(self._connection, SHADOW, limit=BATCH)).events:
                pass
            shadow.switch(self._connection)
            self._connection.execute(_PROGRESS, {"id": self.id, "done": step.position})
            self._end("done")
        return step.position

    def _end(self, state: str, error: str | None = None) -> None:
        if state != "done":
            shadow.drop(self._connection)
        self._connection.execute(_END, {"id": self.id, "state": state, "error": error})

"""The record of rebuilds: where the newest stands, for whoever asks, and who may end it."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.rows import class_row

from rosterlog.domain.log.log_sql import HEAD
from rosterlog.projections.rebuild import shadow

FINISHING = 1.0
"""How long a rebuild takes once all events are taken in, as a share of the time until then: memberships, indexes, keys; measured."""


@dataclass(frozen=True)
class RebuildState:
    """Where a rebuild stands, in events: `done` of `total`; `differing`: rows in which the old tables differed, once compared."""

    id: UUID | None
    state: str
    done: int
    total: int
    started_at: datetime | None
    updated_at: datetime | None
    error: str | None
    differing: int | None = None
    compare_seconds: float | None = None

    @property
    def per_second(self) -> float | None:
        """Return how many events a second it projects, None before the first."""
        if not self.done or self.started_at is None or self.updated_at is None:
            return None
        return self.done / max((self.updated_at - self.started_at).total_seconds(), 0.001)

    @property
    def seconds_left(self) -> float | None:
        """Return how long it still takes at this rate, None where it does not run, or there is no rate yet or any more."""
        rate = self.per_second
        if not rate or self.state != "running" or self.done >= self.total:
            return None
        return (self.total - self.done + FINISHING * self.total) / rate


IDLE = RebuildState(None, "idle", 0, 0, None, None, None)

_ORPHANS = "UPDATE projections.rebuilds SET state = 'failed', error = 'its process ended' WHERE state = 'running'"
_BEGIN = f"""
    INSERT INTO projections.rebuilds (id, state, done, total, pid)
    SELECT %s, 'running', 0, ({HEAD}), pg_backend_pid()
"""
_PROGRESS = """
    UPDATE projections.rebuilds SET done = %(done)s, total = greatest(total, %(done)s), updated_at = clock_timestamp()
    WHERE id = %(id)s RETURNING cancel_requested
"""
_COMPARED = "UPDATE projections.rebuilds SET differing = %(differing)s, compare_seconds = %(seconds)s WHERE id = %(id)s"
_END = """
    UPDATE projections.rebuilds SET state = %(state)s, error = %(error)s, updated_at = clock_timestamp()
    WHERE id = %(id)s AND state = 'running'
"""
# A rebuild runs for as long as it holds the lock. One whose process died still says that it runs;
# one that says how it ended still holds the lock for a moment, in which the next one is refused.
_STATE = f"""
    SELECT id, CASE WHEN lock.is_held THEN 'running' WHEN state = 'running' THEN 'failed' ELSE state END AS state,
           done, total, started_at, updated_at, error, differing, compare_seconds
    FROM projections.rebuilds CROSS JOIN LATERAL (
        SELECT EXISTS (
            SELECT FROM pg_locks AS held WHERE locktype = 'advisory' AND objid = {shadow.REBUILD_LOCK} AND granted
            AND held.pid = rebuilds.pid AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ) AS is_held
    ) AS lock
    ORDER BY started_at DESC LIMIT 1
"""
_REQUEST_CANCEL = (
    "UPDATE projections.rebuilds SET cancel_requested = true WHERE state = 'running' RETURNING pid"
)
_CANCEL_REQUESTED = "SELECT cancel_requested FROM projections.rebuilds WHERE id = %s"


def state(connection: Connection[Any]) -> RebuildState:
    """Return where the newest rebuild stands; `IDLE` where there never was one."""
    with connection.cursor(row_factory=class_row(RebuildState)) as cursor:
        return cursor.execute(_STATE).fetchone() or IDLE


def cancel(connection: Connection[Any]) -> bool:
    """Ask the running rebuild to end, and interrupt the statement it is in; tell whether there is one."""
    if state(connection).state != "running":
        return False
    row = connection.execute(_REQUEST_CANCEL).fetchone()
    if row is not None:
        # Another role's statement is not ours to interrupt; that rebuild sees the request after it.
        with suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT pg_cancel_backend(%s)", row)
    return row is not None


def begin(connection: Connection[Any], id_: UUID) -> None:
    """Record that the rebuild runs, over this connection, and that those before it do not any more."""
    connection.execute(_ORPHANS)
    connection.execute(_BEGIN, [id_])


def progress(connection: Connection[Any], id_: UUID, done: int) -> bool:
    """Record how far the rebuild is; tell whether somebody asked for it to end."""
    row = connection.execute(_PROGRESS, {"id": id_, "done": done}).fetchone()
    return row is not None and bool(row[0])


def is_cancelled(connection: Connection[Any], id_: UUID) -> bool:
    """Tell whether somebody asked for the rebuild to end."""
    row = connection.execute(_CANCEL_REQUESTED, [id_]).fetchone()
    return row is not None and bool(row[0])


def compared(connection: Connection[Any], id_: UUID, differing: int, seconds: float) -> None:
    """Record in how many rows the old tables differed, and how long it took to compare them."""
    connection.execute(_COMPARED, {"id": id_, "differing": differing, "seconds": seconds})


def end(connection: Connection[Any], id_: UUID, state: str, error: str | None = None) -> None:
    """Record how the rebuild ended, unless it has already."""
    connection.execute(_END, {"id": id_, "state": state, "error": error})

"""What the database alone knows about the projection, as numbers for the metrics."""

from dataclasses import dataclass
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

from rosterlog.projections.rebuild import rebuilding as rebuild
from rosterlog.projections.rebuild.rebuilding import RebuildState
from rosterlog.projections.status import ProjectionStatus, projection_status
from rosterlog.projections.tables import SCHEMA


@dataclass(frozen=True)
class Delays:
    """In seconds by the database's clock: how long the oldest event not yet projected waits, and since when nothing was projected."""

    lag: float
    since_progress: float


@dataclass(frozen=True)
class Measures:
    """Status and delays of the projection, and the newest rebuild."""

    projection: ProjectionStatus
    delays: Delays
    rebuild: RebuildState


_DELAYS = f"""
    SELECT coalesce(extract(epoch FROM clock_timestamp() - next.recorded_at), 0)::float8 AS lag,
           extract(epoch FROM clock_timestamp() - progressed_at)::float8 AS since_progress
    FROM {SCHEMA}.checkpoint LEFT JOIN log.events AS next ON next.notification_id = position + 1
"""


_WAITING = """
    SELECT coalesce((SELECT extract(epoch FROM clock_timestamp() - recorded_at) FROM log.events WHERE notification_id = %s + 1), 0)::float8
"""


def waiting(connection: Connection[Any], position: int) -> float:
    """Return for how many seconds, by the database's clock, the first event after a position has been recorded; 0 where there is none."""
    row = connection.execute(_WAITING, [position]).fetchone()
    return row[0] if row else 0.0


def measure(connection: Connection[Any]) -> Measures:
    """Read all measures."""
    with connection.cursor(row_factory=class_row(Delays)) as cursor:
        delays = cursor.execute(_DELAYS).fetchone()
    assert delays is not None, "the checkpoint has exactly one row"
    return Measures(projection_status(connection), delays, rebuild.state(connection))

"""Where the projection stands: for operators, on every door."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

from rosterlog.domain.log.log_sql import HEAD
from rosterlog.projections.projector import skips
from rosterlog.projections.projector.runner import PROJECT_LOCK
from rosterlog.projections.projector.skips import Skip
from rosterlog.projections.tables import SCHEMA

STALLED_SECONDS = 10
"""How long there may be something to project without any progress before the projection counts as stalled."""


@dataclass(frozen=True)
class ProjectionStatus:
    """Head of the log, checkpoint of the tables, and who projects.

    `state` is following, catching-up, leaderless or stalled.

    `seconds_without_progress` counts while there is something to project, and is 0 otherwise;
    `skips` are the positions left out.
    """

    head: int
    checkpoint: int
    lag: int
    leader: str | None
    state: str
    progressed_at: datetime
    failing_position: int | None
    failing_since: datetime | None
    failure: str | None
    seconds_without_progress: float
    skips: list[Skip] = field(default_factory=list)


# Since when there was work without progress: since the later of the last progress and the recording
# of the next event.
_STATUS = f"""
    SELECT head, position AS checkpoint, head - position AS lag, leader,
           CASE WHEN failing_position IS NOT NULL OR position > head OR seconds_without_progress > {STALLED_SECONDS} THEN 'stalled'
                WHEN leader IS NULL THEN 'leaderless'
                WHEN head > position THEN 'catching-up'
                ELSE 'following' END AS state,
           progressed_at, failing_position, failing_since, failure, seconds_without_progress
    FROM {SCHEMA}.checkpoint CROSS JOIN ({HEAD}) AS log (head)
    LEFT JOIN LATERAL (SELECT recorded_at AS next_recorded_at FROM log.events WHERE notification_id = position + 1) AS next ON true
    CROSS JOIN LATERAL (
        SELECT CASE WHEN head > position THEN extract(epoch FROM clock_timestamp() - greatest(progressed_at, next_recorded_at)) ELSE 0 END
               ::float8 AS seconds_without_progress
    ) AS waiting
    LEFT JOIN LATERAL (
        SELECT activity.application_name AS leader
        FROM pg_locks JOIN pg_stat_activity AS activity USING (pid)
        WHERE locktype = 'advisory' AND objid = {PROJECT_LOCK} AND granted AND activity.datname = current_database()
        LIMIT 1
    ) AS lead ON true
"""


def projection_status(connection: Connection[Any]) -> ProjectionStatus:
    """Read where the projection stands, and what it skips."""
    with connection.cursor(row_factory=class_row(ProjectionStatus)) as cursor:
        status = cursor.execute(_STATUS).fetchone()
    assert status is not None, "the checkpoint has exactly one row"
    return replace(status, skips=skips.active(connection))

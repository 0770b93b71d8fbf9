"""Skipped events: positions that an operator, with a reason, told every projection to leave out.

The record is kept in the schema of the log, because a rebuild needs it and can not derive it.

Only the event at which the projection stands still can be skipped. The record stays: live
projecting, every rebuild and every verification honour it, until it is taken back. A later event
about a thing whose creation was skipped has no effect either.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

from rosterlog.domain import values
from rosterlog.domain.classes import Class
from rosterlog.domain.errors import DomainError
from rosterlog.domain.log.log_sql import topics
from rosterlog.projections.tables import SCHEMA

SKIPPED_CHANNEL = "rosterlog_skipped"
"""Notification channel: a position was skipped, so a projector that stands still can go on at once."""

POSITIONS = "ARRAY(SELECT position FROM log.skips WHERE taken_back_at IS NULL)"
"""SQL of the skipped positions, as an array."""

MARK = """(
    SELECT json_build_object('reason', reason, 'actor', actor, 'at', skipped_at)
    FROM log.skips WHERE position = notification_id AND taken_back_at IS NULL
)"""
"""SQL of what an event's history says where the event is skipped: reason, actor, at; null where it is not."""

# A class created in such a group has no row either.
_VOID = f"""
    WITH created AS (SELECT stream FROM log.skips WHERE taken_back_at IS NULL AND version = 1)
    SELECT stream FROM created
    UNION SELECT originator_id FROM log.events WHERE topic IN ({topics(Class.Created)}) AND group_id IN (SELECT stream FROM created)
"""

_COLUMNS = "position, topic, reason, actor, skipped_at, error"
_ACTIVE = f"SELECT {_COLUMNS} FROM log.skips WHERE taken_back_at IS NULL ORDER BY position"

_FAILING = f"SELECT position, failing_position, failure FROM {SCHEMA}.checkpoint FOR UPDATE"
_SKIP = f"""
    INSERT INTO log.skips (position, stream, version, topic, reason, actor, error)
    SELECT notification_id, originator_id, originator_version, topic, %(reason)s, %(actor)s, %(error)s
    FROM log.events WHERE notification_id = %(position)s RETURNING {_COLUMNS}
"""
_TAKE_BACK = """
    UPDATE log.skips SET taken_back_at = clock_timestamp(), taken_back_by = %(actor)s
    WHERE position = %(position)s AND taken_back_at IS NULL
"""


class NotFailing(DomainError):
    """Position {position} can't be skipped: {instead}."""


class NotSkipped(DomainError):
    """Position {position} is not skipped."""


@dataclass(frozen=True)
class Skip:
    """One skipped event: who skipped it, when and why, and what it failed with."""

    position: int
    topic: str
    reason: str
    actor: str
    skipped_at: datetime
    error: str

    def __str__(self) -> str:
        return f"skipped: position {self.position} ({self.topic}), by {self.actor} at {self.skipped_at:%Y-%m-%d %H:%M:%S%z}: {self.reason}"


def skip(connection: Connection[Any], position: int, *, reason: str, actor: str) -> Skip:
    """Tell every projection to leave out the event at which the live one stands still.

    Raises `NotFailing`, `InvalidValue`.
    """
    given = {"position": position, "reason": values.reason(reason), "actor": values.actor(actor)}
    with connection.transaction(), connection.cursor(row_factory=class_row(Skip)) as cursor:
        checkpoint, failing, failure = connection.execute(_FAILING).fetchone() or (0, None, None)
        if failing != position or checkpoint != position - 1:
            instead = (
                "no event fails"
                if failing is None
                else f"the event that fails is at position {failing}"
            )
            raise NotFailing(position=position, instead=instead)
        skipped = cursor.execute(_SKIP, {**given, "error": failure}).fetchone()
        connection.execute(f"NOTIFY {SKIPPED_CHANNEL}")
    assert skipped is not None, "the event that fails is in the log"
    return skipped


def take_back(connection: Connection[Any], position: int, *, actor: str) -> None:
    """Project the event again from the next rebuild on. Raises `NotSkipped`, `InvalidValue`."""
    given = {"position": position, "actor": values.actor(actor)}
    if not connection.execute(_TAKE_BACK, given).rowcount:
        raise NotSkipped(position=position)


def active(connection: Connection[Any]) -> list[Skip]:
    """Return the skips that are honoured, by position."""
    with connection.cursor(row_factory=class_row(Skip)) as cursor:
        return cursor.execute(_ACTIVE).fetchall()


def positions(connection: Connection[Any]) -> list[int]:
    """Return the skipped positions."""
    row = connection.execute(f"SELECT {POSITIONS}").fetchone()
    return row[0] if row else []


def void(connection: Connection[Any]) -> list[Any]:
    """Return the ids of the things that have no row because their creation was skipped."""
    return [row[0] for row in connection.execute(_VOID)]

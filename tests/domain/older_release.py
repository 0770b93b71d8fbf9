"""An append as the release before the fence made it: its statements, word for word."""

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from rosterlog.domain.log import digest

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(7316001)"
HEAD = """
    SELECT clock_timestamp(), last.notification_id, last.digest, last.recorded_at
    FROM (SELECT) AS always
    LEFT JOIN (SELECT notification_id, digest, recorded_at FROM log.events ORDER BY notification_id DESC LIMIT 1) AS last ON true
"""
COPY = """
    COPY log.events (notification_id, originator_id, originator_version, topic, state, recorded_at, digest,
                     class_id, user_id, group_id, previous_group_id, actor, source) FROM STDIN (FORMAT BINARY)
"""
TYPES = (
    "int8",
    "uuid",
    "int8",
    "text",
    "bytea",
    "timestamptz",
    "bytea",
    "uuid",
    "uuid",
    "uuid",
    "uuid",
    "text",
    "text",
)
COMMIT = "COMMIT; NOTIFY rosterlog_recorded"
STATE = b'{"actor":"registrar","reason":null,"source":"api","request_id":"request-1"}'

Head = tuple[datetime, int, bytes, datetime]


def begin(connection: Connection[Any]) -> Head:
    """Take the append's lock and read the head of the log."""
    connection.execute(BEGIN)
    row = connection.execute(HEAD, prepare=True).fetchone()
    assert row is not None
    now, position, last, recorded_at = row
    return now, position or 0, last or digest.BEFORE_FIRST, max(now, recorded_at or now)


def register(connection: Connection[Any], head: Head, user: UUID) -> None:
    """Insert that a user is registered, and commit."""
    _, position, last, recorded_at = head
    stored = (position + 1, user, 1, "UserRegistered", recorded_at, STATE)
    with connection.cursor().copy(COPY) as copy:
        copy.set_types(TYPES)
        copy.write_row(
            (
                *stored[:4],
                STATE,
                recorded_at,
                digest.link(last, *stored),
                None,
                user,
                None,
                None,
                "registrar",
                "api",
            )
        )
    connection.execute(COMMIT)

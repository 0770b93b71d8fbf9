"""One append under way: the lock is held, the head of the log is known, and nothing is committed yet."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from eventsourcing.persistence import IntegrityError, StoredEvent
from psycopg import Connection

from rosterlog.domain.errors import NotMigrated
from rosterlog.domain.log import digest, endings, fence
from rosterlog.domain.log.event_codec import IndexedEvent, RecordedEvent, topics_of
from rosterlog.domain.log.log_sql import ENDINGS

APPEND_LOCK = 7_316_001
"""Key of the advisory lock that appends take, one after the other."""
_ENDING = frozenset(topic for event in ENDINGS for topic in topics_of(event))
RECORDED_CHANNEL = "rosterlog_recorded"
"""Notification channel: something was appended.

A hint only; whoever follows the log looks by himself as well.
"""

_BEGIN = f"BEGIN ISOLATION LEVEL READ COMMITTED; {fence.DECLARATION}; SELECT pg_advisory_xact_lock({APPEND_LOCK})"

# A statement of its own, to see all that the lock's holder before committed; prepared, because to
# plan it takes longer than to run it.
_HEAD = """
    SELECT log.append_format(), pg_is_in_recovery(), clock_timestamp(), last.notification_id, last.digest, last.recorded_at
    FROM (SELECT) AS always
    LEFT JOIN (SELECT notification_id, digest, recorded_at FROM log.events ORDER BY notification_id DESC LIMIT 1) AS last ON true
"""

# NOTIFY in a transaction of its own: it holds a lock of the whole server until its transaction has
# ended, the disk included. No time-out for the commit: one that waits for a synchronous standby
# would answer as if the standby had it.
_COMMIT = f"SET LOCAL statement_timeout = 0; COMMIT; NOTIFY {RECORDED_CHANNEL}"

_STREAMS = """
    SELECT stream.id, last.originator_version, last.group_id
    FROM unnest(%s::uuid[]) AS stream (id)
    CROSS JOIN LATERAL (
        SELECT originator_version, group_id FROM log.events
        WHERE originator_id = stream.id ORDER BY originator_version DESC LIMIT 1
    ) AS last
"""

SELECT_STREAMS = """
    SELECT originator_id, originator_version, topic, state, recorded_at FROM log.events
    WHERE originator_id = ANY(%s) ORDER BY originator_id, originator_version
"""

_SINCE = """
    SELECT originator_id, originator_version, topic, state, recorded_at FROM log.events
    WHERE notification_id > %s ORDER BY notification_id
"""

_COPY = """
    COPY log.events (notification_id, originator_id, originator_version, topic, state, recorded_at, digest,
                     class_id, user_id, group_id, previous_group_id, actor, source) FROM STDIN (FORMAT BINARY)
"""
_TYPES = (
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

_DIGEST_AT = "SELECT digest FROM log.events WHERE notification_id = %s"


class Stage(Enum):
    """How far an append is: what an error means depends on it."""

    OPEN = auto()
    """Nothing can be recorded yet."""
    COMMITTING = auto()
    """The commit is on its way: it may be recorded, and it may not."""
    COMMITTED = auto()
    """It is recorded."""


@dataclass
class Stream:
    """Where a stream stands: its last version, and the group its last event was of."""

    version: int = 0
    group_id: UUID | None = None


class Append:
    """The writing end of the log.

    `position` and `digest` are those of the last event, written by this append or before it;
    `events` says how many this one has written.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        """Wait for the lock over `connection`, which commits by itself, and read where the log stands.

        Raises `ReleaseOutdated`, `NotMigrated`.
        """
        self.connection = connection
        self.stage = Stage.OPEN
        connection.execute(_BEGIN)
        now, position, last, recorded_at = _head(connection)
        self.position: int = position or 0
        self.digest: bytes = last or digest.BEFORE_FIRST
        self.recorded_at: datetime = max(now, recorded_at or now)
        self.has_written = False
        self.events = 0

    def commit(self) -> None:
        """Make durable what was written, and tell those who follow the log."""
        self.stage = Stage.COMMITTING
        done = self.connection.execute(_COMMIT)
        if not done.nextset() or done.statusmessage != "COMMIT":
            self.stage = Stage.OPEN
            raise psycopg.errors.InFailedSqlTransaction(f"the append came to {done.statusmessage}")
        self.stage = Stage.COMMITTED

    def give_up(self) -> None:
        """End the append where nothing was written."""
        # Not by ROLLBACK, after which the driver prepares all its statements anew.
        self.connection.execute("COMMIT")

    def since(self, position: int) -> list[RecordedEvent]:
        """Return all events after a position."""
        return [
            RecordedEvent(*row) for row in self.connection.execute(_SINCE, [position], binary=True)
        ]

    def select_streams(self, ids: Sequence[UUID]) -> list[RecordedEvent]:
        """Return all events of some streams, each stream's by version."""
        return [
            RecordedEvent(*row)
            for row in self.connection.execute(SELECT_STREAMS, [list(ids)], binary=True)
        ]

    def streams(self, ids: Iterable[UUID]) -> dict[UUID, Stream]:
        """Return where streams stand; one without events is left out."""
        return {row[0]: Stream(*row[1:]) for row in self.connection.execute(_STREAMS, [list(ids)])}

    def digest_at(self, position: int) -> bytes | None:
        """Return the digest of the event at a position, None where there is no event."""
        row = self.connection.execute(_DIGEST_AT, [position]).fetchone()
        return row[0] if row else None

    def write(self, events: Sequence[IndexedEvent], streams: dict[UUID, Stream]) -> None:
        """Insert events, numbered and chained.

        `streams` says where those that they are of stand, and is brought up to date.

        Raises `IntegrityError` for an event whose version is not next in its stream.
        """
        self.has_written = True
        before = self.position
        with self.connection.cursor().copy(_COPY) as copy:
            copy.set_types(_TYPES)
            for row in self._chained(events, streams):
                copy.write_row(row)
        self.events += len(events)
        if any(event.topic in _ENDING for event in events):
            endings.index(self.connection, before + 1, self.position)

    def execute(self, statement: LiteralString, parameters: Sequence[Any]) -> None:
        """Write as a part of the append."""
        self.has_written = True
        self.connection.execute(statement, parameters)

    def _chained(
        self, events: Sequence[IndexedEvent], streams: dict[UUID, Stream]
    ) -> Iterator[tuple[Any, ...]]:
        for event in events:
            stream_id, version = stream_of(event), event.originator_version
            stream = streams.setdefault(stream_id, Stream())
            if version != stream.version + 1:
                raise IntegrityError(
                    f"{stream_id} is at version {stream.version}, so {version} is not next"
                )
            stream.version = version
            stream.group_id = event.group_id or stream.group_id
            self.position += 1
            stored = (self.position, stream_id, version, event.topic, self.recorded_at, event.state)
            self.digest = digest.link(self.digest, *stored)
            yield (
                *(
                    self.position,
                    stream_id,
                    version,
                    event.topic,
                    event.state,
                    self.recorded_at,
                    self.digest,
                ),
                *(
                    event.class_id,
                    event.user_id,
                    stream.group_id,
                    event.previous_group_id,
                    event.actor,
                    event.source,
                ),
            )


def _head(connection: Connection[Any]) -> tuple[Any, ...]:
    try:
        row = connection.execute(_HEAD, prepare=True).fetchone()
    except (
        psycopg.errors.UndefinedFunction,
        psycopg.errors.UndefinedTable,
        psycopg.errors.InvalidSchemaName,
    ) as missing:
        raise NotMigrated from missing
    assert row is not None
    needed, is_standby, *head = row
    fence.check(needed)
    if is_standby:
        # What it shows may be behind the log: nothing can be decided on it, and no lost commit be
        # looked for.
        raise psycopg.errors.ReadOnlySqlTransaction("the server is a standby")
    return tuple(head)


def stream_of(event: StoredEvent) -> UUID:
    """Return the id of the stream that an event is of; the library allows other ids than ours."""
    assert isinstance(event.originator_id, UUID)
    return event.originator_id

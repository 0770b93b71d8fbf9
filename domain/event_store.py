"""The log on PostgreSQL: one table, one writer at a time, positions without gaps in the order of commit.

An append takes an advisory lock in a statement of its own before it reads or numbers anything, at READ COMMITTED: each later statement
then sees all that was committed by the lock's previous holder. Nothing but another append waits for that lock or is waited for
(not ANALYZE, VACUUM or an index build).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID

import psycopg
from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    Notification,
    OperationalError,
    StoredEvent,
)
from psycopg import Connection, IsolationLevel
from psycopg_pool import ConnectionPool, PoolTimeout

from domain import digest
from domain.event_codec import IndexedEvent, RecordedEvent

APPEND_LOCK = 7_316_001
"""Key of the advisory lock that appends take, one after the other."""
RECORDED_CHANNEL = "rosterlog_recorded"
"""Notification channel: something was appended. A hint only; whoever follows the log looks by himself as well."""

_SESSION = "SET lock_timeout = '5s'; SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '10s'; SET timezone = 'UTC'"

_LOCK = f"SELECT pg_advisory_xact_lock({APPEND_LOCK})"

_HEAD = """
    SELECT clock_timestamp(), last.notification_id, last.digest, last.recorded_at
    FROM (SELECT) AS always
    LEFT JOIN (SELECT * FROM log.events ORDER BY notification_id DESC LIMIT 1) AS last ON true
"""

_STREAMS = """
    SELECT stream.id, last.originator_version, last.group_id
    FROM unnest(%s::uuid[]) AS stream (id)
    CROSS JOIN LATERAL (
        SELECT originator_version, group_id FROM log.events
        WHERE originator_id = stream.id ORDER BY originator_version DESC LIMIT 1
    ) AS last
"""

_INSERT = """
    INSERT INTO log.events (notification_id, originator_id, originator_version, topic, state, recorded_at, digest,
                            class_id, user_id, group_id, previous_group_id, actor, source)
    SELECT * FROM unnest(%s::bigint[], %s::uuid[], %s::bigint[], %s::text[], %s::bytea[], %s::timestamptz[], %s::bytea[],
                         %s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[], %s::text[], %s::text[])
"""

_SELECT_STREAM = """
    SELECT originator_id, originator_version, topic, state, recorded_at FROM log.events
    WHERE originator_id = %(stream)s
      AND originator_version > coalesce(%(gt)s, 0) AND originator_version <= coalesce(%(lte)s, 9223372036854775807)
    ORDER BY originator_version {order} LIMIT %(limit)s
"""

_SELECT_LOG = """
    SELECT originator_id, originator_version, topic, state, notification_id FROM log.events
    WHERE notification_id >= %(first)s AND notification_id <= coalesce(%(stop)s, 9223372036854775807)
      AND (%(topics)s::text[] IS NULL OR topic = ANY(%(topics)s::text[]))
    ORDER BY notification_id LIMIT %(limit)s
"""


@dataclass
class _Stream:
    """Where a stream stands under the append's lock: its last version, and the group its last event was of."""

    version: int = 0
    group_id: UUID | None = None


@dataclass(frozen=True)
class _Head:
    """Where the log stands under the append's lock."""

    now: datetime
    position: int | None
    digest: bytes | None
    recorded_at: datetime | None


class PostgresLog(ApplicationRecorder):
    """Records and reads events; every error of the database comes out as one of the library's persistence errors."""

    def __init__(self, conninfo: str, *, pool_size: int = 8, on_append: Callable[[int], None] = lambda _: None) -> None:
        """Connect to the database at `conninfo` with at most `pool_size` connections, opened as needed.

        `on_append` is told of each append, after its commit, how many events it recorded.
        """
        self._on_append = on_append
        self._pool: ConnectionPool[Connection[Any]] = ConnectionPool(
            conninfo, min_size=1, max_size=pool_size, timeout=5, open=True, configure=_configure, name="log"
        )

    def close(self) -> None:
        """Give the connections back to the database."""
        self._pool.close()

    def pool_stats(self) -> dict[str, int]:
        """Return what the pool of connections says about itself."""
        return self._pool.get_stats()

    def insert_events(self, stored_events: Sequence[StoredEvent], *, relied_on: Mapping[UUID, int] | None = None, **_: Any) -> list[int]:
        """Append events, all or none, and return their positions.

        `relied_on` names further streams and the versions at which the decision read them. Raises `IntegrityError` where one of
        them, or a stream appended to, has moved on meanwhile; nothing is recorded then.
        """
        events = [_indexed(event) for event in stored_events]
        if not events:
            return []
        with self._connection() as connection:
            with connection.transaction():
                connection.execute(_LOCK)
                head = _Head(*connection.execute(_HEAD).fetchone() or ())
                read = list({event.originator_id for event in events} | set(relied_on or ()))
                streams = {row[0]: _Stream(*row[1:]) for row in connection.execute(_STREAMS, [read])}
                _check(streams, relied_on or {})
                rows = list(_chained(events, head, streams))
                connection.execute(_INSERT, [list(column) for column in zip(*rows, strict=True)])
            # After the commit, in a transaction of its own: NOTIFY holds a lock of the whole server until its transaction has ended.
            # What is committed stays so, whether or not the hint gets through.
            with suppress(psycopg.Error):
                connection.execute(f"NOTIFY {RECORDED_CHANNEL}")
        self._on_append(len(rows))
        return [row[0] for row in rows]

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> list[StoredEvent]:
        """Return the events of one stream by version, with the time each was recorded."""
        statement = _SELECT_STREAM.format(order="DESC" if desc else "ASC")
        with self._connection() as connection:
            rows = connection.execute(statement, {"stream": originator_id, "gt": gt, "lte": lte, "limit": limit}, binary=True)
            return [RecordedEvent(*row) for row in rows]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> list[Notification]:
        """Return events by position, at most `limit`, from `start` to `stop`."""
        first = (start or 0) + (not inclusive_of_start)
        parameters = {"first": first, "stop": stop, "topics": list(topics) or None, "limit": limit}
        with self._connection() as connection:
            return [Notification(*row) for row in connection.execute(_SELECT_LOG, parameters, binary=True)]

    def max_notification_id(self) -> int | None:
        """Return the position of the last event, None where there is no event."""
        with self._connection() as connection:
            row = connection.execute("SELECT max(notification_id) FROM log.events").fetchone()
            return row[0] if row else None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> NoReturn:
        """Refuse: the library's subscription waits for notifications alone, which can be lost; see `projections.runner`."""
        raise NotImplementedError("follow the log with projections.runner")

    @contextmanager
    def _connection(self) -> Iterator[Connection[Any]]:
        try:
            with self._pool.connection() as connection:
                yield connection
        except psycopg.errors.UniqueViolation as taken:
            raise IntegrityError(str(taken)) from taken
        except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError, PoolTimeout) as lost:
            raise OperationalError(str(lost)) from lost


def _indexed(event: StoredEvent) -> IndexedEvent:
    assert isinstance(event, IndexedEvent), "events for the log come from EventCodec"
    return event


def _configure(connection: Connection[Any]) -> None:
    connection.autocommit = True
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    connection.execute(_SESSION)


def _check(streams: Mapping[UUID, _Stream], relied_on: Mapping[UUID, int]) -> None:
    for stream, version in relied_on.items():
        found = streams.get(stream, _Stream()).version
        if found != version:
            raise IntegrityError(f"{stream} is at version {found}; the decision relied on {version}")


def _chained(events: Sequence[IndexedEvent], head: _Head, streams: dict[UUID, _Stream]) -> Iterator[tuple[Any, ...]]:
    """Yield the row of each event, numbered and chained on from the head. Raises `IntegrityError` for a version not next."""
    position, previous = head.position or 0, head.digest or digest.BEFORE_FIRST
    recorded_at = max(head.now, head.recorded_at or head.now)
    for event in events:
        stream_id = event.originator_id
        assert isinstance(stream_id, UUID)
        stream = streams.setdefault(stream_id, _Stream())
        if event.originator_version != stream.version + 1:
            raise IntegrityError(f"{stream_id} is at version {stream.version}, so {event.originator_version} is not next")
        stream.version = event.originator_version
        stream.group_id = event.group_id or stream.group_id
        position += 1
        stored = (position, stream_id, event.originator_version, event.topic, recorded_at, event.state)
        previous = digest.link(previous, *stored)
        yield (
            *(position, stream_id, event.originator_version, event.topic, event.state, recorded_at, previous),
            *(event.class_id, event.user_id, stream.group_id, event.previous_group_id, event.actor, event.source),
        )

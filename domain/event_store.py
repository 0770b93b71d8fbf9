"""The log on PostgreSQL: one table, one writer at a time, positions without gaps in the order of commit.

An append takes an advisory lock in a statement of its own before it reads or numbers anything (see `domain.append`). Nothing but another
append waits for that lock or is waited for (not ANALYZE, VACUUM or an index build).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString, NoReturn
from uuid import UUID

import psycopg
from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    Notification,
    OperationalError,
    StoredEvent,
)
from psycopg import Connection
from psycopg.abc import Params
from psycopg_pool import PoolTimeout

from domain import sessions
from domain.append import APPEND_LOCK, RECORDED_CHANNEL, Append, stream_of
from domain.event_codec import IndexedEvent, RecordedEvent

__all__ = ["APPEND_LOCK", "RECORDED_CHANNEL", "NothingRecorded", "PostgresLog"]

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


_SELECT_STREAMS = """
    SELECT originator_id, originator_version, topic, state, recorded_at FROM log.events
    WHERE originator_id = ANY(%s) ORDER BY originator_id, originator_version
"""


class NothingRecorded(OperationalError):
    """The connection was lost in mid-append, and nothing of the append was recorded: it can be tried again."""


class PostgresLog(ApplicationRecorder):
    """Records and reads events; every error of the database comes out as one of the library's persistence errors."""

    def __init__(self, conninfo: str, *, pool_size: int = 8, on_append: Callable[[int], None] = lambda _: None) -> None:
        """Connect to the database at `conninfo` with at most `pool_size` connections, opened as needed.

        `on_append` is told of each append, after its commit, how many events it recorded.
        """
        self._on_append = on_append
        self._pool = sessions.pool(conninfo, sessions.APPENDING, "log", most=pool_size, seconds=5)

    def close(self) -> None:
        """Give the connections back to the database."""
        self._pool.close()

    def pool_stats(self) -> dict[str, int]:
        """Return what the pool of connections says about itself."""
        return self._pool.get_stats()

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> list[int]:
        """Append events, all or none, and return their positions.

        Raises `IntegrityError` where a stream has moved on meanwhile; nothing is recorded then.
        """
        events = [_indexed(event) for event in stored_events]
        if not events:
            return []
        with self.appending() as append:
            append.write(events, append.streams({stream_of(event) for event in events}))
        return list(range(append.position - len(events) + 1, append.position + 1))

    @contextmanager
    def appending(self) -> Iterator[Append]:
        """Hold the append's lock, and commit what was written once the block has ended well.

        Raises `NothingRecorded` where the connection was lost and nothing was recorded, `OperationalError` where it is not known
        whether it was. An append that was recorded though the connection was lost is no error.
        """
        with self._connection() as connection:
            try:
                append = Append(connection)
                yield append
                if not append.has_written:
                    append.give_up()
            except Exception as error:
                if connection.broken:
                    raise NothingRecorded(str(error)) from error
                connection.execute("ROLLBACK")
                raise
            if append.has_written:
                self._commit(append)

    def _commit(self, append: Append) -> None:
        try:
            append.commit()
        except psycopg.OperationalError as lost:
            # The digest tells our event from one that another process recorded at that position.
            if not self._is_recorded(append.position, append.digest):
                raise NothingRecorded(str(lost)) from lost
        if append.events:
            self._on_append(append.events)

    def _is_recorded(self, position: int, digest: bytes) -> bool:
        """Tell whether an event was recorded; the lock makes sure that the session which may have done so has ended."""
        self.reconnect()
        with self.appending() as look:
            return look.digest_at(position) == digest

    def reconnect(self) -> None:
        """Replace all connections: to look which are lost would wait for a database that says nothing."""
        self._pool.drain()

    def select_streams(self, ids: Sequence[UUID]) -> list[RecordedEvent]:
        """Return all events of some streams, each stream's by version."""
        return [RecordedEvent(*row) for row in self._rows(_SELECT_STREAMS, [list(ids)])]

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
        rows = self._rows(statement, {"stream": originator_id, "gt": gt, "lte": lte, "limit": limit})
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
        return [Notification(*row) for row in self._rows(_SELECT_LOG, parameters)]

    def max_notification_id(self) -> int | None:
        """Return the position of the last event, None where there is no event."""
        ((position,),) = self._rows("SELECT max(notification_id) FROM log.events")
        return None if position is None else int(position)

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> NoReturn:
        """Refuse: the library's subscription waits for notifications alone, which can be lost; see `projections.runner`."""
        raise NotImplementedError("follow the log with projections.runner")

    def _rows(self, statement: LiteralString, parameters: Params | None = None) -> list[tuple[Any, ...]]:
        """Read; once more, where the connection turns out to be lost, such as to a database that was restarted."""
        with self._connection() as connection:
            try:
                return connection.execute(statement, parameters, binary=True).fetchall()
            except psycopg.OperationalError:
                if not connection.broken:
                    raise
        self.reconnect()
        with self._connection() as connection:
            return connection.execute(statement, parameters, binary=True).fetchall()

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

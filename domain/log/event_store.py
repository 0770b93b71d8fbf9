"""The log on PostgreSQL: one table, one writer at a time, positions without gaps in the order of commit.

An append takes an advisory lock in a statement of its own before it reads or numbers anything (see
`rosterlog.domain.log.append`). Nothing but another append waits for that lock or is waited for (not
ANALYZE, VACUUM or an index build).
"""

import logging
import threading
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
from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_when_event_set,
    wait_random_exponential,
)

from rosterlog.domain.log import sessions
from rosterlog.domain.log.append import (
    APPEND_LOCK,
    RECORDED_CHANNEL,
    SELECT_STREAMS,
    Append,
    Stage,
    stream_of,
)
from rosterlog.domain.log.event_codec import IndexedEvent, RecordedEvent

__all__ = ["APPEND_LOCK", "RECORDED_CHANNEL", "NothingRecorded", "PostgresLog", "RecordingUnknown"]

LOOK_SECONDS = 30.0
"""How long to look for an append whose commit was not answered; less than a command waits (`rosterlog.api.rest.commands.GIVE_SECONDS`)."""
LOOK_PAUSE_SECONDS = 0.05
"""Before the second look; twice as long before each further one."""

logger = logging.getLogger(__name__)

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


class NothingRecorded(OperationalError):
    """The connection was lost in mid-append, and nothing of the append was recorded: it can be tried again."""


class RecordingUnknown(OperationalError):
    """The connection was lost during the commit, and no look at the log has told whether it was recorded."""


class PostgresLog(ApplicationRecorder):
    """Records and reads events; every error of the database comes out as one of the library's persistence errors."""

    def __init__(
        self,
        conninfo: str,
        *,
        pool_size: int = 8,
        on_append: Callable[[int], None] = lambda _: None,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """Connect to the database at `conninfo` with at most `pool_size` connections, opened as needed.

        `on_append` is told of each append, after its commit, how many events it recorded. For
        `look_seconds` the log is looked at again and again where a commit was not answered and no
        look succeeds.
        """
        self._on_append = on_append
        self._look_seconds = look_seconds
        self._closing = threading.Event()
        self._pool = sessions.pool(conninfo, sessions.APPENDING, "log", most=pool_size, seconds=5)

    def hurry(self) -> None:
        """Wait no more between looks at what a commit came to: the process is about to end."""
        self._closing.set()

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

        An append that was recorded though the connection was lost is no error. Raises
        `NothingRecorded` where the connection was lost and nothing was recorded, `RecordingUnknown`
        where it is not known whether it was; after every other error nothing was recorded.
        """
        append = None
        try:
            with self._connection() as connection:
                with _undone(connection):
                    append = Append(connection)
                    yield append
                    if not append.has_written:
                        append.give_up()
                if append.has_written:
                    append.commit()
        except Exception as error:
            if append is None or append.stage is Stage.OPEN:
                raise
            # Whatever goes wrong from the commit on says nothing about what became of it.
            if append.stage is Stage.COMMITTING and not self._is_recorded(append, error):
                raise NothingRecorded(str(error)) from error
            logger.warning("recorded, though afterwards: %s", error)
        if append is not None and append.events:
            self._tell(append.events)

    def _is_recorded(self, append: Append, doubt: Exception) -> bool:
        """Look whether an append was recorded, again until a look succeeds.

        Raises `RecordingUnknown` where none does.
        """
        # An append without events only keeps what commands came to: it can be made again, and
        # nobody is told of it.
        if not append.events:
            return False
        patience = Retrying(
            retry=retry_if_exception_type(OperationalError),
            wait=wait_random_exponential(multiplier=LOOK_PAUSE_SECONDS, max=1),
            stop=stop_after_delay(self._look_seconds) | stop_when_event_set(self._closing),
            sleep=sleep_using_event(self._closing),
        )
        try:
            return patience(self._look, append)
        except RetryError as unseen:
            logger.warning(
                "it is not known whether events up to position %d were recorded: %s",
                append.position,
                doubt,
            )
            raise RecordingUnknown(str(doubt)) from unseen

    def _look(self, append: Append) -> bool:
        """Tell whether an append was recorded.

        The lock makes sure that the session which may have done so has ended.
        """
        self.reconnect()
        with self.appending() as look:
            # The digest tells our event from one that another process recorded at that position.
            return look.digest_at(append.position) == append.digest

    def _tell(self, events: int) -> None:
        """Tell of an append.

        It is recorded, so nothing that goes wrong from here on may make it look otherwise.
        """
        try:
            self._on_append(events)
        except Exception:
            logger.exception("recorded, but not counted")

    def reconnect(self) -> None:
        """Replace all connections: to look which are lost would wait for a database that says nothing."""
        self._pool.drain()

    def select_streams(self, ids: Sequence[UUID]) -> list[RecordedEvent]:
        """Return all events of some streams, each stream's by version."""
        return [RecordedEvent(*row) for row in self._rows(SELECT_STREAMS, [list(ids)])]

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
        rows = self._rows(
            statement, {"stream": originator_id, "gt": gt, "lte": lte, "limit": limit}
        )
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
        """Refuse: the library's subscription waits for notifications alone, and these can be lost."""
        raise NotImplementedError("follow the log with projections.runner")

    def _rows(
        self, statement: LiteralString, parameters: Params | None = None
    ) -> list[tuple[Any, ...]]:
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
        except (
            psycopg.OperationalError,
            psycopg.InterfaceError,
            psycopg.InternalError,
            PoolTimeout,
        ) as lost:
            raise OperationalError(str(lost)) from lost


@contextmanager
def _undone(connection: Connection[Any]) -> Iterator[None]:
    """Undo what the block began where it fails.

    Raises `NothingRecorded` where its connection was lost.
    """
    try:
        yield
    except Exception as error:
        if connection.broken:
            raise NothingRecorded(str(error)) from error
        connection.execute("ROLLBACK")
        raise


def _indexed(event: StoredEvent) -> IndexedEvent:
    assert isinstance(event, IndexedEvent), "events for the log come from EventCodec"
    return event

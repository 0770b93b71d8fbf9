"""Proof that the log is as it was written.

PostgreSQL follows the hash chain of the next stretches of the log while Python looks into the events of the one before: two connections,
and memory for three stretches, however long the log is.
"""

import gc
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain import digest, endings, sessions
from domain.event_codec import INDEX, EventCodec, UndecodableEvent
from projections.tables import SCHEMA

Progress = Callable[[int, int], None]
"""Told how many events are done, of how many."""

STRETCH = 10_000
"""How many events are read at once: some megabytes."""


class LogAltered(Exception):
    """Position {position}: {what}."""

    def __init__(self, position: int, what: str) -> None:
        """Name the first position that is not as it was written, and in which way."""
        super().__init__((self.__doc__ or "").format(position=position, what=what))
        self.position = position


@dataclass(frozen=True)
class LogHead:
    """The end of a log that was verified from its first event on, or was then."""

    position: int
    digest: bytes

    def __str__(self) -> str:
        return digest.written(self.position, self.digest)

    @classmethod
    def read(cls, written: str) -> "LogHead":
        """Read a head as it is printed, `position:hex`. Raises `ValueError` for anything else."""
        position, _, hexadecimal = written.strip().partition(":")
        head = cls(int(position), bytes.fromhex(hexadecimal))
        if head.position < 0 or len(head.digest) != len(digest.BEFORE_FIRST):
            raise ValueError(f"{written} is no head of a log")
        return head


_HEAD = """
    SELECT notification_id, digest FROM log.events WHERE notification_id <= coalesce(%(at)s, 9223372036854775807)
    ORDER BY notification_id DESC LIMIT 1
"""

# With the event before the stretch, whose digest the first one goes on from.
_STRETCH = f"""
    SELECT * FROM (
        SELECT notification_id, digest = {digest.SQL} AS chained, originator_id, topic, state, {", ".join(INDEX)}
        FROM log.events WHERE notification_id BETWEEN %(first)s - 1 AND %(last)s
    ) AS event WHERE notification_id >= %(first)s ORDER BY notification_id
"""

_COLUMNS = "notification_id, topic, class_id, user_id, group_id, role"
_FOUND = f"SELECT {_COLUMNS} FROM log.endings WHERE notification_id BETWEEN %(first)s AND %(last)s"
_ENDINGS = f"""
    WITH derived AS MATERIALIZED ({endings.DERIVE}), found AS MATERIALIZED ({_FOUND})
    SELECT min(notification_id) FROM (
        (SELECT * FROM derived EXCEPT ALL SELECT * FROM found) UNION ALL (SELECT * FROM found EXCEPT ALL SELECT * FROM derived)
    ) AS differing
"""
_STRAY = """
    SELECT min(notification_id) FROM log.endings
    WHERE NOT EXISTS (SELECT FROM log.events WHERE events.notification_id = endings.notification_id)
"""


def verify_log(connection: Connection[Any], on_progress: Progress = lambda *_: None, against: LogHead | None = None) -> LogHead:
    """Follow the hash chain over the whole log and return its head.

    Raises `LogAltered` at the first position that is missing, out of place, changed, unreadable, or indexed under something that its
    state does not say; and where the log does not continue the one whose head is `against`.
    """
    # Before the head: a projector that goes on meanwhile is not ahead of the log.
    row = connection.execute(f"SELECT position FROM {SCHEMA}.checkpoint").fetchone()
    projected = row[0] if row else 0
    head = _head(connection)
    checker = _Checker()
    with _without_garbage_collection():
        for stretch in _stretches(connection, head.position):
            checker.check(stretch)
            on_progress(checker.position, head.position)
    on_progress(head.position, head.position)
    refuse_ahead(projected, head.position)
    _refuse_stray_endings(connection)
    if against is not None:
        _refuse_other(connection, head, against)
    return head


def refuse_ahead(projected: int, head: int) -> None:
    """Refuse a log that ends before what was projected from it. Raises `LogAltered`."""
    if projected > head:
        raise LogAltered(head + 1, f"the event is missing; the read tables were projected up to {projected}")


def _refuse_stray_endings(connection: Connection[Any]) -> None:
    row = connection.execute(_STRAY).fetchone()
    if row and row[0] is not None:
        raise LogAltered(row[0], "the index of endings has an entry, and the log no event")


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Switch the search for reference cycles off, of which there are none here: it costs as much as all the rest (measured)."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _head(connection: Connection[Any], at: int | None = None) -> LogHead:
    row = connection.execute(_HEAD, {"at": at}).fetchone()
    return LogHead(*row) if row else LogHead(0, digest.BEFORE_FIRST)


def _refuse_other(connection: Connection[Any], head: LogHead, against: LogHead) -> None:
    if against.position > head.position:
        raise LogAltered(head.position + 1, f"the event is missing; the log went up to {against.position} when its head was kept")
    if _head(connection, against.position) != against:
        raise LogAltered(against.position, "the log up to here is another one than the one whose head was kept")


@dataclass(frozen=True)
class Stretch:
    """Rows of the log that follow each other, and the first position whose endings differ from what follows from the log."""

    rows: list[tuple[Any, ...]]
    differing: int | None


def _stretches(connection: Connection[Any], head: int) -> Iterator[Stretch]:
    """Yield the log stretch by stretch, reading two ahead: one over the connection, one over another like it."""
    firsts = iter(range(1, head + 1, STRETCH))
    with sessions.connect_like(connection) as other, ThreadPoolExecutor(2) as readers:

        def read_next(reader: Connection[Any]) -> Iterator[tuple[Connection[Any], Future[Stretch]]]:
            for first in islice(firsts, 1):
                yield reader, readers.submit(_read, reader, first, min(first + STRETCH - 1, head))

        coming = deque([*read_next(connection), *read_next(other)])
        while coming:
            reader, stretch = coming.popleft()
            found = stretch.result()
            coming.extend(read_next(reader))
            yield found


def _read(connection: Connection[Any], first: int, last: int) -> Stretch:
    span = {"first": first, "last": last}
    rows = connection.execute(_STRETCH, span, binary=True).fetchall()
    differing = connection.execute(_ENDINGS, span).fetchone()
    return Stretch(rows, differing[0] if differing else None)


class _Checker:
    """Looks at each event in turn: whether it is the next one, chained to the one before, and indexed under what it says."""

    def __init__(self) -> None:
        self.position = 0
        self._codec = EventCodec()
        self._group_of: dict[UUID, UUID | None] = {}

    def check(self, stretch: Stretch) -> None:
        for position, chained, stream, topic, state, *index in stretch.rows:
            if position != self.position + 1:
                raise LogAltered(self.position + 1, "the event is missing")
            if not chained:
                raise LogAltered(position, "the event is not the one that was recorded here")
            self._check_index(position, stream, topic, state, index)
            if position == stretch.differing:
                raise LogAltered(position, "the index of what the event ended does not say what follows from the log")
            self.position = position

    def _check_index(self, position: int, stream: UUID, topic: str, state: bytes, found: list[Any]) -> None:
        """Derive the indexed columns from the event once more; the digest does not cover them."""
        try:
            class_id, user_id, group_id, *rest = self._codec.index_of(topic, stream, state)
        except UndecodableEvent as wrong:
            raise LogAltered(position, str(wrong)) from wrong
        if class_id is not None:
            group_id = self._group_of[class_id] = group_id or self._group_of.get(class_id)
        if found != [class_id, user_id, group_id, *rest]:
            raise LogAltered(position, "an indexed column does not say what the event says")

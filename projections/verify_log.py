"""Proof that the log is as it was written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain import digest
from domain.event_codec import EventCodec, IndexedEvent, RecordedEvent, UndecodableEvent
from projections.tables import SCHEMA

Progress = Callable[[int, int], None]
"""Told how many events are done, of how many."""


class LogAltered(Exception):
    """Position {position}: {what}."""

    def __init__(self, position: int, what: str) -> None:
        """Name the first position that is not as it was written, and in which way."""
        super().__init__((self.__doc__ or "").format(position=position, what=what))
        self.position = position


@dataclass(frozen=True)
class LogHead:
    """The end of a log that was verified from its first event on."""

    position: int
    digest: bytes

    def __str__(self) -> str:
        return digest.written(self.position, self.digest)


_ROWS = """
    SELECT notification_id, originator_id, originator_version, topic, recorded_at, state, digest,
           class_id, user_id, group_id, previous_group_id, actor, source
    FROM log.events ORDER BY notification_id
"""


def verify_log(connection: Connection[Any], on_progress: Progress = lambda *_: None) -> LogHead:
    """Follow the hash chain over the whole log and return its head.

    Raises `LogAltered` at the first position that is missing, out of place, changed, unreadable, or indexed under something that its
    state does not say.
    """
    checker = _IndexChecker()
    head = LogHead(0, digest.BEFORE_FIRST)
    row = connection.execute("SELECT count(*) FROM log.events").fetchone()
    total = row[0] if row else 0
    with connection.transaction(), connection.cursor("verify_log", binary=True) as cursor:
        cursor.itersize = 10_000
        for position, stream, version, topic, recorded_at, state, found, *index in cursor.execute(_ROWS):
            if position != head.position + 1:
                raise LogAltered(head.position + 1, "the event is missing")
            expected = digest.link(head.digest, position, stream, version, topic, recorded_at, state)
            if found != expected:
                raise LogAltered(position, "the event is not the one that was recorded here")
            checker.check(position, RecordedEvent(stream, version, topic, state, recorded_at), tuple(index))
            head = LogHead(position, found)
            if position % cursor.itersize == 0:
                on_progress(position, total)
    on_progress(head.position, total)
    refuse_ahead(connection, head.position)
    return head


def refuse_ahead(connection: Connection[Any], head: int) -> None:
    """Refuse a log that ends before what was projected from it."""
    row = connection.execute(f"SELECT position FROM {SCHEMA}.checkpoint").fetchone()
    if row and row[0] > head:
        raise LogAltered(head + 1, f"the event is missing; the read tables were projected up to {row[0]}")


class _IndexChecker:
    """Derives the indexed columns from the events once more; the digest does not cover them."""

    def __init__(self) -> None:
        self._codec = EventCodec()
        self._group_of: dict[UUID, UUID | None] = {}

    def check(self, position: int, stored: RecordedEvent, found: tuple[Any, ...]) -> None:
        try:
            index: IndexedEvent = self._codec.to_stored_event(self._codec.to_domain_event(stored))
        except UndecodableEvent as wrong:
            raise LogAltered(position, str(wrong)) from wrong
        group = index.group_id
        if index.class_id is not None:
            group = self._group_of[index.class_id] = group or self._group_of.get(index.class_id)
        if found != (index.class_id, index.user_id, group, index.previous_group_id, index.actor, index.source):
            raise LogAltered(position, "an indexed column does not say what the event says")

"""Mending what follows from the log's events: its derived columns, its index of endings, and its indexes.

What the digest covers is never touched. The log refuses changes by triggers, which only its owner
can switch off: that happens in a transaction of its own for each stretch that has something to
mend, under the append's lock, and they are on again when it commits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection

from rosterlog.domain.log import endings
from rosterlog.domain.log.append import APPEND_LOCK
from rosterlog.domain.log.derived import Derivation
from rosterlog.domain.log.event_codec import INDEX, UndecodableEvent
from rosterlog.domain.log.log_sql import HEAD
from rosterlog.projections.shared_sql import position_of
from rosterlog.projections.verify import log_indexes, stretch
from rosterlog.projections.verify.log_check import LogAltered, Progress

_ROWS = f"""
    SELECT notification_id, originator_id, topic, state, {", ".join(INDEX)} FROM log.events
    WHERE notification_id BETWEEN %s AND %s ORDER BY notification_id
"""
_TYPES = ("uuid", "uuid", "uuid", "uuid", "text", "text")
_UPDATE = f"""
    UPDATE log.events SET {", ".join(f"{name} = mended.{name}" for name in INDEX)}
    FROM unnest(%s::bigint[], {", ".join(f"%s::{kind}[]" for kind in _TYPES)}) AS mended (notification_id, {", ".join(INDEX)})
    WHERE events.notification_id = mended.notification_id
"""
_LAST = 2**63 - 1


@dataclass
class Mended:
    """What was mended, or would be: indexes by name, and the positions whose columns or whose endings did not follow."""

    indexes: list[str] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    endings: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.indexes or self.columns or self.endings)


def mend(
    connection: Connection[Any],
    on_progress: Progress = lambda *_: None,
    *,
    dry_run: bool = False,
    reindex: bool = False,
) -> Mended:
    """Mend over a connection of the log's owner that commits by itself; with `dry_run` only find what there is to mend.

    With `reindex` all indexes are written anew, such as after a change of the operating system's
    order of characters. Raises `LogAltered` at an event that can't be read, which nothing mends.
    """
    # The indexes first: the rest is found by them. The columns next: the endings follow from them.
    mended = Mended(indexes=list(log_indexes.broken(connection)))
    if not dry_run:
        _mend_indexes(connection, mended.indexes, reindex=reindex)
    head = max(position_of(connection, HEAD), 1)
    derivation = Derivation()
    for first, last in _stretches(head):
        mended.columns += _mend_columns(connection, derivation, first, last, dry_run=dry_run)
        on_progress(last, 2 * head)
    for first, last in _stretches(head):
        mended.endings += _mend_endings(
            connection, 0 if first == 1 else first, _LAST if last == head else last, dry_run=dry_run
        )
        on_progress(head + last, 2 * head)
    return mended


def _stretches(head: int) -> Iterator[tuple[int, int]]:
    for first in range(1, head + 1, stretch.LENGTH):
        yield first, min(first + stretch.LENGTH - 1, head)


def _mend_indexes(connection: Connection[Any], broken: list[str], *, reindex: bool) -> None:
    for name in broken:
        log_indexes.make_anew(connection, name)
    if reindex:
        for name in log_indexes.INDEXES.keys() - broken:
            log_indexes.rebuild(connection, name)


def _mend_columns(
    connection: Connection[Any], derivation: Derivation, first: int, last: int, *, dry_run: bool
) -> list[int]:
    wrong: list[tuple[Any, ...]] = []
    for position, stream, topic, state, *found in connection.execute(
        _ROWS, [first, last], binary=True
    ):
        try:
            derived = derivation.columns(stream, topic, state)
        except UndecodableEvent as unreadable:
            raise LogAltered(position, str(unreadable)) from unreadable
        if found != derived:
            wrong.append((position, *derived))
    if wrong and not dry_run:
        with _owning(connection, "events"):
            connection.execute(_UPDATE, [list(column) for column in zip(*wrong, strict=True)])
    return [row[0] for row in wrong]


def _mend_endings(
    connection: Connection[Any], first: int, last: int, *, dry_run: bool
) -> list[int]:
    span = {"first": first, "last": last}
    differing = sorted(row[0] for row in connection.execute(endings.DIFFERING, span))
    if differing and not dry_run:
        with _owning(connection, "endings"):
            for position in differing:
                at = {"first": position, "last": position}
                connection.execute(endings.REMOVE, at)
                connection.execute(endings.INSERT, at)
    return differing


@contextmanager
def _owning(connection: Connection[Any], table: str) -> Iterator[None]:
    """Let a transaction change a table that refuses changes; appends wait for it, and readers do not."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [APPEND_LOCK])
        connection.execute(f"ALTER TABLE log.{table} DISABLE TRIGGER {table}_append_only".encode())
        yield
        connection.execute(
            f"ALTER TABLE log.{table} ENABLE ALWAYS TRIGGER {table}_append_only".encode()
        )

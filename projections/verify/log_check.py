"""Proof that the log is as it was written.

The chain is computed here, from the raw columns, and in several processes where the log is long:
nothing that the database could have been taught to compute otherwise is asked of it. Stretches are
looked at in order, so the position that is named is the first wrong one.
"""

import gc
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from psycopg import Connection

from rosterlog.domain.log import digest, sessions
from rosterlog.projections.shared_sql import CHECKPOINT, position_of
from rosterlog.projections.verify import catalog, stretch
from rosterlog.projections.verify.stretch import NOT_INDEXED, Examined, Wrong, examine

Progress = Callable[[int, int], None]
"""Told how many events are done, of how many."""

ALONE = 300_000
"""Up to so many events one process examines the log: in the time that others take to start, it is done."""
MOST_PROCESSES = 4
"""PostgreSQL reads the log for four of them with one or two cores of its own."""


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

_STRAY = """
    SELECT min(notification_id) FROM log.endings
    WHERE NOT EXISTS (SELECT FROM log.events WHERE events.notification_id = endings.notification_id)
"""


def verify_log(
    connection: Connection[Any],
    on_progress: Progress = lambda *_: None,
    against: LogHead | None = None,
) -> LogHead:
    """Follow the hash chain over the whole log of the database that `connection` leads to, and return its head.

    Raises `CatalogAltered` where the database is not as the migrations make it, and `LogAltered` at
    the first position that is missing, out of place, changed, unreadable, or indexed under
    something that its state does not say; and where the log does not continue the one whose head is
    `against`.
    """
    with sessions.connect(sessions.conninfo_of(connection), name="rosterlog verify") as own:
        catalog.refuse_altered(own)
        # Before the head: a projector that goes on meanwhile is not ahead of the log.
        projected = position_of(own, CHECKPOINT)
        head = _head(own)
        groups = dict[bytes, bytes | None]()
        with _stretches(own, head.position) as stretches:
            for last, examined in stretches:
                _refuse_wrong(examined, groups)
                on_progress(last, head.position)
        refuse_ahead(projected, head.position)
        _refuse_stray_endings(own)
        if against is not None:
            _refuse_other(own, head, against)
        return head


def _refuse_wrong(examined: Examined, groups: dict[bytes, bytes | None]) -> None:
    """Refuse a stretch that is wrong in itself, or after those before it, which left the classes in `groups`."""
    wrong = [
        Wrong(position, NOT_INDEXED)
        for class_id, (position, group) in examined.assumed.items()
        if groups.get(class_id) != group
    ]
    if examined.wrong is not None:
        wrong.append(examined.wrong)
    if wrong:
        first = min(wrong, key=lambda one: one.position)
        raise LogAltered(first.position, first.what)
    groups |= examined.groups


def refuse_ahead(projected: int, head: int) -> None:
    """Refuse a log that ends before what was projected from it. Raises `LogAltered`."""
    if projected > head:
        raise LogAltered(
            head + 1, f"the event is missing; the read tables were projected up to {projected}"
        )


def _refuse_stray_endings(connection: Connection[Any]) -> None:
    row = connection.execute(_STRAY).fetchone()
    if row and row[0] is not None:
        raise LogAltered(row[0], "the index of endings has an entry, and the log no event")


@contextmanager
def _stretches(own: Connection[Any], head: int) -> Iterator[Iterator[tuple[int, Examined]]]:
    """Have the log examined up to its head; yield the last position of each stretch with what was found, in the order of positions."""
    # The first stretch is looked at in an empty log, too: nothing stands at a position that there
    # is not.
    firsts = range(1, max(head, 1) + 1, stretch.LENGTH)
    lasts = [min(first + stretch.LENGTH - 1, head) for first in firsts]
    if head <= ALONE:
        with _without_garbage_collection():
            yield zip(
                lasts,
                (examine(own, first, last) for first, last in zip(firsts, lasts, strict=True)),
                strict=True,
            )
        return
    count = min(os.cpu_count() or 1, MOST_PROCESSES)
    # Started anew, not forked: a fork of a process with threads can hang.
    with ProcessPoolExecutor(
        count,
        get_context("spawn"),
        initializer=_Worker.start,
        initargs=(sessions.conninfo_of(own),),
    ) as workers:
        try:
            yield zip(lasts, workers.map(_Worker.examine, firsts, lasts), strict=True)
        finally:
            workers.shutdown(cancel_futures=True)


class _Worker:
    """A process that examines stretches over a connection of its own, which it keeps until it ends."""

    connection: Connection[Any]

    @classmethod
    def start(cls, conninfo: str) -> None:
        gc.disable()
        cls.connection = sessions.connect(conninfo, name="rosterlog verify")

    @classmethod
    def examine(cls, first: int, last: int) -> Examined:
        return examine(cls.connection, first, last)


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
        raise LogAltered(
            head.position + 1,
            f"the event is missing; the log went up to {against.position} when its head was kept",
        )
    if _head(connection, against.position) != against:
        raise LogAltered(
            against.position, "the log up to here is another one than the one whose head was kept"
        )

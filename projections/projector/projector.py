"""The projector: turns a range of positions into rows, with the checkpoint in the same transaction.

Set-based: a handful of statements (`rosterlog.projections.projector.folds`) fold all events of the
range at once, so one code path serves the live tables (ranges of a few events) and a rebuild
(ranges of hundreds of thousands).

Nothing here reads a clock, draws a random number or checks a rule: the same events give the same
rows, byte for byte.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import psycopg
from psycopg import Connection

from rosterlog.domain.classes import Class
from rosterlog.domain.log.event_codec import topics_of
from rosterlog.projections.projector import skips
from rosterlog.projections.projector.folds import (
    COUNT_SKIPPED,
    FOLDS,
    MAKE_WAY_FOR_ENROLMENTS,
    WITHOUT_ROWS,
    Fold,
)
from rosterlog.projections.shared_sql import CHECKPOINT_OF, position_of

KNOWN_TOPICS = frozenset(
    topic
    for event in (*WITHOUT_ROWS, *chain(*(fold.events for fold in FOLDS)))
    for topic in topics_of(event)
)
"""The topics that have a fold, or are said to need none. The projector stops at any other."""


class UnknownEvent(Exception):
    """Position {position} holds a {topic}, which this release does not know: it needs a newer release."""

    def __init__(self, position: int, topic: str) -> None:
        """Name the first event that can't be projected."""
        super().__init__((self.__doc__ or "").format(position=position, topic=topic))
        self.position = position


class EventFails(Exception):
    """Position {position} can't be projected: {cause}."""

    def __init__(self, position: int, cause: Exception) -> None:
        """Name the first event that fails, and why it does."""
        named = isinstance(cause, UnknownEvent)
        super().__init__(
            str(cause)
            if named
            else (self.__doc__ or "")
            .format(position=position, cause=str(cause).strip())
            .rstrip(".")
        )
        self.position = position


@dataclass(frozen=True)
class Projected:
    """What one step did: the tables now reflect the log up to `position`, by `events` more than before."""

    position: int
    events: int


@dataclass(frozen=True)
class _Range:
    """The events of one step: the first position of each topic, and the positions that an operator skipped, which don't count there."""

    after: int
    upto: int
    topics: dict[str, int]
    skipped: list[int]


# Without a lock, so that looking for work writes nothing while there is none.
_IDLE = """
    SELECT position, NOT EXISTS (
        SELECT FROM log.events WHERE notification_id > position AND notification_id <= coalesce(%(stop)s, 9223372036854775807)
    ) FROM {schema}.checkpoint
"""

# The checkpoint's row lock makes projectors take turns, and each goes on from where the one before
# it committed.
_RANGE = f"""
    SELECT checkpoint.position, checkpoint.skipped, range.topic, range.first, range.last
    FROM (SELECT position, {skips.POSITIONS} AS skipped FROM {{schema}}.checkpoint FOR UPDATE) AS checkpoint
    LEFT JOIN LATERAL (
        SELECT topic, min(notification_id) FILTER (WHERE notification_id <> ALL(checkpoint.skipped)) AS first, max(notification_id) AS last
        FROM (
            SELECT notification_id, topic FROM log.events
            WHERE notification_id > checkpoint.position AND notification_id <= coalesce(%(stop)s, 9223372036854775807)
            ORDER BY notification_id LIMIT %(limit)s
        ) AS next GROUP BY topic
    ) AS range ON true
"""

_ADVANCE = """
    UPDATE {schema}.checkpoint
    SET position = %(upto)s, progressed_at = clock_timestamp(), failing_position = NULL, failing_since = NULL, failure = NULL
"""


def project(
    connection: Connection[Any],
    schema: str,
    *,
    limit: int,
    stop: int | None = None,
    folds: Sequence[Fold] = FOLDS,
) -> Projected:
    """Project the next events, at most `limit` and none after position `stop`, into the tables of `schema`, in one transaction.

    Where it raises (`UnknownEvent`, `psycopg.Error`), the tables and their checkpoint are as they
    were.
    """
    row = connection.execute(_IDLE.format(schema=schema), {"stop": stop}).fetchone()
    reached, is_idle = row or (0, True)
    if is_idle:
        return Projected(reached, 0)
    with connection.transaction():
        rows = connection.execute(
            _RANGE.format(schema=schema), {"stop": stop, "limit": limit}
        ).fetchall()
        after, skipped = rows[0][:2]
        if rows[0][2] is None:
            return Projected(after, 0)
        upto = max(last for *_, last in rows)
        topics = {topic: first for _, _, topic, first, _ in rows if first is not None}
        step = _Range(
            after, upto, topics, [position for position in skipped if after < position <= upto]
        )
        _refuse_unknown(step)
        parameters = {
            "after": after,
            "upto": upto,
            "skipped": step.skipped,
            "void": skips.void(connection) if skipped else [],
        }
        for statement in _statements(step, folds, any_skipped=bool(skipped)):
            connection.execute(statement.format(schema=schema, upto=upto), parameters)
        return Projected(upto, upto - after)


def project_up_to_failure(
    connection: Connection[Any],
    schema: str,
    *,
    limit: int,
    stop: int | None = None,
    folds: Sequence[Fold] = FOLDS,
) -> EventFails | None:
    """Project the events of a step that failed, in smaller and smaller steps, and return the one that fails.

    None where none does any more. Raises `psycopg.Error` where the connection is lost.
    """
    left = limit
    while left > 0:
        try:
            step = project(connection, schema, limit=limit, stop=stop, folds=folds)
        except (psycopg.Error, UnknownEvent) as failure:
            if connection.broken or isinstance(failure, psycopg.errors.QueryCanceled):
                raise
            if limit == 1:
                return EventFails(
                    position_of(connection, CHECKPOINT_OF.format(schema=schema)) + 1, failure
                )
            limit = max(1, limit // 2)
        else:
            left -= step.events or left
    return None


def _refuse_unknown(step: _Range) -> None:
    unknown = [(first, topic) for topic, first in step.topics.items() if topic not in KNOWN_TOPICS]
    if unknown:
        raise UnknownEvent(*min(unknown))


def _statements(step: _Range, folds: Sequence[Fold], *, any_skipped: bool) -> Iterator[str]:
    if any_skipped and not step.topics.keys().isdisjoint(topics_of(Class.MemberEnrolled)):
        yield MAKE_WAY_FOR_ENROLMENTS
    for fold in folds:
        if not fold.topics.isdisjoint(step.topics):
            yield fold.statement
    if step.skipped:
        yield from COUNT_SKIPPED
    yield _ADVANCE

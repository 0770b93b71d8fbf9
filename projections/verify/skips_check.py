"""Proof that what is skipped had to be: a record of `log.skips` that nobody made for a reason would hide an event from every roster.

A skip is right where its record agrees with the event at its position, and the projector can't
project that event. To see that, the log is projected up to each skipped event into shadow tables,
and there the event is tried; nothing of it stays.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection

from rosterlog.domain import values
from rosterlog.domain.errors import InvalidValue
from rosterlog.domain.log import sessions
from rosterlog.projections.projector.projector import UnknownEvent, project
from rosterlog.projections.rebuild import loading, shadow
from rosterlog.projections.rebuild.shadow import BATCH
from rosterlog.projections.tables import SHADOW
from rosterlog.projections.verify import catalog

_RECORDS = """
    SELECT skip.position, skip.topic, skip.reason, skip.actor, event.notification_id IS NOT NULL AS is_there,
           (event.originator_id, event.originator_version, event.topic) = (skip.stream, skip.version, skip.topic) AS agrees
    FROM log.skips AS skip LEFT JOIN log.events AS event ON event.notification_id = skip.position
    WHERE skip.taken_back_at IS NULL ORDER BY skip.position
"""
_WITHOUT = "UPDATE log.skips SET taken_back_at = clock_timestamp() WHERE position = %s AND taken_back_at IS NULL"


@dataclass(frozen=True)
class WrongSkip:
    """A record of a skipped event that does not stand for an event that can't be projected."""

    position: int
    topic: str
    what: str

    def __str__(self) -> str:
        return f"the skip of position {self.position} ({self.topic}): {self.what}"


def verify_skips(conninfo: str) -> Iterator[WrongSkip]:
    """Yield every skip that is not right, by position.

    Raises `CatalogAltered`, and `ShadowInUse` while a rebuild runs. Nothing waits for it but who
    takes a skip back at the same moment.
    """
    with sessions.connect(conninfo, shadow.LOADING, name="rosterlog verify") as connection:
        catalog.refuse_altered(connection)
        records = connection.execute(_RECORDS).fetchall()
        if not records:
            return
        shadow.claim(connection)
        with connection.transaction(force_rollback=True):
            _create_complete(connection)
            for position, topic, reason, actor, is_there, agrees in records:
                what = _disagreement(is_there, agrees, reason, actor) or _needlessness(
                    connection, position
                )
                if what:
                    yield WrongSkip(position, topic, what)
        shadow.release(connection)


def _create_complete(connection: Connection[Any]) -> None:
    """Make empty shadow tables with all keys, as the live ones have: what contradicts them fails."""
    shadow.create(connection)
    loading.drop(connection, SHADOW)
    shadow.complete(connection)


def _disagreement(is_there: bool, agrees: bool | None, reason: str, actor: str) -> str | None:  # noqa: FBT001
    if not is_there:
        return "there is no such event"
    if not agrees:
        return "the event at that position is another one"
    try:
        values.reason(reason)
        values.actor(actor)
    except InvalidValue as wrong:
        return f"nobody recorded it in this way: {wrong}"
    return None


def _needlessness(connection: Connection[Any], position: int) -> str | None:
    """Say that an event can be projected after those before it, None where it can't."""
    while project(connection, SHADOW, limit=BATCH, stop=position - 1).events:
        pass
    with connection.transaction(force_rollback=True):
        connection.execute(_WITHOUT, [position])
        try:
            project(connection, SHADOW, limit=1, stop=position)
        except (UnknownEvent, psycopg.DataError, psycopg.IntegrityError):
            return None
    return (
        f"the event can be projected: rosterlog project --unskip {position}, then rosterlog rebuild"
    )

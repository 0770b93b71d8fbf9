"""A stretch of the log, read as raw bytes and checked on its own: several processes check different stretches at the same time.

The first event of a stretch is chained to the digest that is stored before it. The stretch before
proves that digest, so where all stretches are right, the whole chain is.
"""

import struct
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg import Connection, Cursor
from psycopg.types.string import ByteaBinaryLoader

from rosterlog.domain.log import digest, endings
from rosterlog.domain.log.event_codec import INDEX, EventCodec, UndecodableEvent

LENGTH = 10_000
"""How many events are read at once: some megabytes."""
BEFORE_ALL = -(2**63)
"""Where the first stretch begins, so that nothing can hide before position 1."""

_EVENTS = f"""
    SELECT notification_id, originator_id, originator_version, topic, recorded_at, state, digest, {", ".join(INDEX)}
    FROM log.events WHERE notification_id BETWEEN %(first)s AND %(last)s ORDER BY notification_id
"""
_DIGEST = "SELECT digest FROM log.events WHERE notification_id = %(before)s"

_ENDINGS = f"SELECT min(notification_id) FROM ({endings.DIFFERING}) AS differing"

MISSING = "the event is missing"
NOT_RECORDED = "the event is not the one that was recorded here"
NOT_INDEXED = "an indexed column does not say what the event says"
_NO_POSITION = "there is no such position in a log, and an event stands at it"
_NOT_ENDED = "the index of what the event ended does not say what follows from the log"

_CLASS, _GROUP = INDEX.index("class_id"), INDEX.index("group_id")
_POSITION = struct.Struct(">q")
_CODEC = EventCodec()
_RAW_TYPES = ("int8", "uuid", "text", "timestamptz", "bytea")


@dataclass(frozen=True)
class Wrong:
    """What is not as it was written, and at which position."""

    position: int
    what: str


@dataclass
class Examined:
    """What was found in a stretch, up to the first event that is wrong.

    A class's event that names no group is of the group of the class's event before it. `assumed`
    says for each class whose group is not named earlier in the stretch under which group its first
    event is indexed, and at which position; `groups` says in which group the classes of the stretch
    are at its end.
    """

    wrong: Wrong | None = None
    assumed: dict[bytes, tuple[int, bytes | None]] = field(default_factory=dict)
    groups: dict[bytes, bytes | None] = field(default_factory=dict)


def examine(connection: Connection[Any], first: int, last: int) -> Examined:
    """Check the events from position `first` to `last`, which must all be there, and the endings among them."""
    begin = BEFORE_ALL if first == 1 else first
    with _raw(connection) as cursor:
        rows = cursor.execute(_EVENTS, {"first": begin, "last": last}).fetchall()
        before = cursor.execute(_DIGEST, {"before": first - 1}).fetchone()
    if first == 1:
        before = (digest.BEFORE_FIRST,)
    if before is None:
        return Examined(Wrong(first - 1, MISSING))
    examined = Examined()
    examined.wrong = _first_wrong(rows, first, last, before[0], examined)
    row = connection.execute(_ENDINGS, {"first": begin, "last": last}).fetchone()
    # Without a right event, its endings are wrong as well; the event is what to name.
    if row and row[0] is not None and (examined.wrong is None or row[0] < examined.wrong.position):
        examined.wrong = Wrong(row[0], _NOT_ENDED)
    return examined


def _raw(connection: Connection[Any]) -> Cursor[Any]:
    """Return a cursor that gives the values of the log's types as the bytes that PostgreSQL sends: no value is interpreted twice."""
    cursor = connection.cursor(binary=True)
    for name in _RAW_TYPES:
        cursor.adapters.register_loader(name, ByteaBinaryLoader)
    return cursor


def _first_wrong(
    rows: list[tuple[bytes, ...]], first: int, last: int, previous: bytes, examined: Examined
) -> Wrong | None:
    expected = first
    for sent, stream, version, topic, recorded_at, state, chained, *found in rows:
        (position,) = _POSITION.unpack(sent)
        if position != expected:
            return (
                Wrong(expected, MISSING) if position > expected else Wrong(position, _NO_POSITION)
            )
        previous = digest.link_sent(previous, sent, stream, version, topic, recorded_at, state)
        if previous != chained:
            return Wrong(position, NOT_RECORDED)
        try:
            index = _indexed(topic, stream, state)
        except UndecodableEvent as wrong:
            return Wrong(position, str(wrong))
        class_id = index[_CLASS]
        if class_id is not None:
            index[_GROUP] = _group(class_id, index[_GROUP], position, found[_GROUP], examined)
        if index != found:
            return Wrong(position, NOT_INDEXED)
        expected += 1
    return Wrong(expected, MISSING) if expected <= last else None


def _indexed(topic: bytes, stream: bytes, state: bytes) -> list[bytes | None]:
    """Derive the indexed columns from the event once more, as PostgreSQL sends them; the digest does not cover them."""
    index = _CODEC.index_of(topic.decode(), stream, state)
    return [
        value
        if value is None or value is stream
        else value.bytes
        if type(value) is UUID
        else value.encode()
        for value in index
    ]


def _group(
    class_id: bytes, named: bytes | None, position: int, found: bytes | None, examined: Examined
) -> bytes | None:
    """Return the group that an event of a class is of, and note it."""
    groups = examined.groups
    if named is None and class_id not in groups:
        examined.assumed[class_id] = (position, found)
        named = found
    if named is not None or class_id not in groups:
        groups[class_id] = named
    return groups[class_id]

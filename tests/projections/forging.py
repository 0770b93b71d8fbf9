"""Events that no command records, chained on to the log as an append would."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg import Connection

from rosterlog.domain.log import digest, fence
from rosterlog.domain.log.event_codec import EventCodec
from tests.domain.samples import samples

INSERT = """
    INSERT INTO log.events (notification_id, originator_id, originator_version, topic, recorded_at, state, digest,
                            class_id, user_id, group_id, previous_group_id, actor, source)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
DECLARED = f"SET rosterlog.append_format = '{fence.FORMAT}'"
"""Lets a session insert events by hand."""
INDEX = ("class_id", "user_id", "group_id", "previous_group_id", "actor", "source")


def insert_event(
    connection: Connection[Any],
    topic: str,
    codec: EventCodec,
    state: bytes | None = None,
    stream: UUID | None = None,
    **index: UUID | None,
) -> int:
    """Chain an event on, with a sample's state and a new stream where none is given, whether or not a command could have recorded it."""
    row = connection.execute(
        "SELECT notification_id, digest FROM log.events ORDER BY 1 DESC LIMIT 1"
    ).fetchone()
    last, previous = row or (0, digest.BEFORE_FIRST)
    sample = codec.to_stored_event(samples().get(topic, samples()["ClassArchived"]))
    stored = (
        last + 1,
        stream or uuid4(),
        last + 1 if stream else 1,
        topic,
        datetime.now(UTC),
        sample.state if state is None else state,
    )
    columns = [index.get(name, getattr(sample, name)) for name in INDEX]
    connection.execute(DECLARED)
    connection.execute(INSERT, [*stored, digest.link(previous, *stored), *columns])
    return int(last) + 1


def append_unknown(connection: Connection[Any]) -> int:
    """Chain on an event that a newer release may have recorded."""
    return insert_event(connection, "ClassPainted", EventCodec(), b'{"colour":"red"}')

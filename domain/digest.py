"""The hash chain that makes the log tamper-evident.

The digest of an event is SHA-256 over, in this order:

    digest of the event before   32 bytes; zeros before the first event
    position                      8 bytes, big-endian
    stream id                    16 bytes
    version                       8 bytes, big-endian
    topic                         4 bytes length, big-endian, then UTF-8
    recorded_at                   8 bytes, big-endian: microseconds since 1970-01-01 00:00 UTC
    state                         4 bytes length, big-endian, then the bytes as stored
"""

import struct
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

BEFORE_FIRST = bytes(32)
"""What stands in for the digest before position 1."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HEAD = struct.Struct(">32sq16sqi")
_TIME_AND_LENGTH = struct.Struct(">qi")


def link(previous: bytes, position: int, stream: UUID, version: int, topic: str, recorded_at: datetime, state: bytes) -> bytes:
    """Return the 32 bytes that chain an event to the digest of the one before it."""
    name = topic.encode()
    microseconds = (recorded_at - _EPOCH) // _MICROSECOND
    head = _HEAD.pack(previous, position, stream.bytes, version, len(name))
    return sha256(head + name + _TIME_AND_LENGTH.pack(microseconds, len(state)) + state).digest()


SQL = """
    sha256(
        lag(digest, 1, decode(repeat('00', 32), 'hex')) OVER (ORDER BY notification_id)
        || int8send(notification_id) || uuid_send(originator_id) || int8send(originator_version)
        || int4send(octet_length(topic)) || convert_to(topic, 'UTF8')
        || int8send((extract(epoch FROM recorded_at) * 1000000)::bigint)
        || int4send(octet_length(state)) || state
    )
"""
"""The same in SQL, among rows of the log that follow each other: PostgreSQL checks a chain while Python looks into the events."""


def written(position: int, digest: bytes) -> str:
    """Return the head of a log as it is printed and kept elsewhere: `position:hex`."""
    return f"{position}:{digest.hex()}"

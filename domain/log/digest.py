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
_LENGTH = struct.Struct(">i")
_MICROSECONDS = struct.Struct(">Q")
_YEAR_2000 = (datetime(2000, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND


def link(
    previous: bytes,
    position: int,
    stream: UUID,
    version: int,
    topic: str,
    recorded_at: datetime,
    state: bytes,
) -> bytes:
    """Return the 32 bytes that chain an event to the digest of the one before it."""
    name = topic.encode()
    microseconds = (recorded_at - _EPOCH) // _MICROSECOND
    head = _HEAD.pack(previous, position, stream.bytes, version, len(name))
    return sha256(head + name + _TIME_AND_LENGTH.pack(microseconds, len(state)) + state).digest()


def link_sent(
    previous: bytes,
    position: bytes,
    stream: bytes,
    version: bytes,
    topic: bytes,
    recorded_at: bytes,
    state: bytes,
) -> bytes:
    """Return the same, of the values as PostgreSQL sends them in binary: numbers big-endian, a time in microseconds since 2000."""
    (sent,) = _MICROSECONDS.unpack(recorded_at)
    # PostgreSQL's largest number stands for infinity, which nobody records: the sum begins again at
    # the other end.
    microseconds = _MICROSECONDS.pack((sent + _YEAR_2000) % 2**64)
    parts = (
        previous,
        position,
        stream,
        version,
        _LENGTH.pack(len(topic)),
        topic,
        microseconds,
        _LENGTH.pack(len(state)),
        state,
    )
    return sha256(b"".join(parts)).digest()


def written(position: int, digest: bytes) -> str:
    """Return the head of a log as it is printed and kept elsewhere: `position:hex`."""
    return f"{position}:{digest.hex()}"

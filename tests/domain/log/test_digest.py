"""The hash chain, computed in other ways than the code does."""

from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection

from rosterlog.domain.log import digest

STREAM = UUID("00112233-4455-6677-8899-aabbccddeeff")
RECORDED_AT = datetime(2025, 9, 1, 8, 30, 0, 123456, tzinfo=UTC)
PARTS: dict[str, Any] = {
    "previous": bytes(range(32)),
    "position": 258,
    "stream": STREAM,
    "version": 3,
    "topic": "ClassRenamed",
    "recorded_at": RECORDED_AT,
    "state": '{"name":"Süd"}'.encode(),
}

SQL = """
    SELECT sha256(
        %(previous)s::bytea || int8send(%(position)s) || uuid_send(%(stream)s) || int8send(%(version)s)
        || int4send(octet_length(%(topic)s::text)) || convert_to(%(topic)s, 'UTF8')
        || int8send((extract(epoch FROM %(recorded_at)s::timestamptz) * 1000000)::bigint)
        || int4send(octet_length(%(state)s::bytea)) || %(state)s::bytea
    )
"""


def test_the_digest_is_the_documented_bytes_hashed() -> None:
    microseconds = 1756715400123456
    written = (
        bytes(range(32))
        + bytes.fromhex("0000000000000102")
        + bytes.fromhex("00112233445566778899aabbccddeeff")
        + bytes.fromhex("0000000000000003")
        + bytes.fromhex("0000000c")
        + b"ClassRenamed"
        + microseconds.to_bytes(8, "big")
        + bytes.fromhex("0000000f")
        + b'{"name":"S\xc3\xbcd"}'
    )
    assert digest.link(**PARTS) == sha256(written).digest()


@pytest.mark.parametrize(
    "other",
    [
        {"previous": bytes(32)},
        {"position": 259},
        {"stream": UUID(int=1)},
        {"version": 4},
        {"topic": "ClassRenamee"},
        {"recorded_at": RECORDED_AT + timedelta(microseconds=1)},
        {"state": b"{}"},
        {"topic": "ClassRename", "state": b"d" + PARTS["state"]},
    ],
    ids="+".join,
)
def test_every_part_changes_the_digest(other: dict[str, Any]) -> None:
    assert digest.link(**{**PARTS, **other}) != digest.link(**PARTS)


def test_the_same_moment_in_another_zone_is_the_same_digest() -> None:
    elsewhere = RECORDED_AT.astimezone(timezone(timedelta(hours=-7)))
    assert digest.link(**{**PARTS, "recorded_at": elsewhere}) == digest.link(**PARTS)


@pytest.mark.parametrize(
    "recorded_at",
    [
        RECORDED_AT,
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
)
def test_postgresql_computes_the_same_digest(
    connection: Connection[Any], recorded_at: datetime
) -> None:
    parts = {**PARTS, "recorded_at": recorded_at, "topic": "Größer"}
    row = connection.execute(SQL, parts).fetchone()
    assert row == (digest.link(**parts),)


def test_the_chain_begins_with_zeros_and_its_head_prints_as_position_and_hex() -> None:
    assert digest.BEFORE_FIRST == b"\0" * 32
    assert digest.written(7, b"\xab" * 32) == "7:" + "ab" * 32

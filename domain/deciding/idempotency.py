"""Idempotency keys: what a command came to is kept with the events it recorded, in one transaction, and given again to who repeats it.

Keys are looked up and kept under the append's lock. So a repetition that arrives while the first
still runs, in whatever process, waits for it and finds what it came to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import msgspec

from rosterlog.domain.deciding.decision import Outcome
from rosterlog.domain.errors import KeyReused
from rosterlog.domain.log.append import Append

LIFETIME = timedelta(hours=24)
"""How long a key is kept (design: 24 hours)."""
CLEAN_UP = 100
"""Most expired keys that one append cleans up: more than it can add in the long run, and little work."""

_RECALL = """
    SELECT kept.subject, kept.route, kept.key, kept.request, kept.outcome
    FROM unnest(%s::text[], %s::text[], %s::text[]) AS asked (subject, route, key)
    JOIN log.idempotency_keys AS kept USING (subject, route, key)
    WHERE kept.created_at > %s
"""
_KEEP = """
    INSERT INTO log.idempotency_keys (subject, route, key, request, outcome, created_at)
    SELECT *, %s::timestamptz FROM unnest(%s::text[], %s::text[], %s::text[], %b::bytea[], %b::bytea[])
    ON CONFLICT (subject, route, key) DO UPDATE
    SET request = excluded.request, outcome = excluded.outcome, created_at = excluded.created_at
"""
_CLEAN_UP = """
    DELETE FROM log.idempotency_keys WHERE (subject, route, key) IN (
        SELECT subject, route, key FROM log.idempotency_keys WHERE created_at <= %s ORDER BY created_at LIMIT %s
    )
"""

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Outcome).decode


@dataclass(frozen=True)
class Key:
    """Who gave which key on which route."""

    subject: str
    route: str
    key: str


@dataclass(frozen=True)
class Repeatable:
    """A request that carries a key; `request` is the digest of all that must be the same when it is repeated."""

    key: Key
    request: bytes


class Kept:
    """What earlier requests with these keys came to."""

    def __init__(self, append: Append, asked: list[Repeatable]) -> None:
        """Look the keys up under the lock of `append`."""
        keys = [repeatable.key for repeatable in asked]
        columns = [
            [key.subject for key in keys],
            [key.route for key in keys],
            [key.key for key in keys],
        ]
        rows = append.connection.execute(_RECALL, [*columns, append.recorded_at - LIFETIME])
        self._found: dict[Key, tuple[bytes, bytes]] = {Key(*row[:3]): row[3:] for row in rows}

    def __bool__(self) -> bool:
        return bool(self._found)

    def outcome(self, repeatable: Repeatable) -> Outcome | None:
        """Return what the first request came to, None where this is the first.

        Raises `KeyReused` where that was another request.
        """
        if repeatable.key not in self._found:
            return None
        request, outcome = self._found[repeatable.key]
        if request != repeatable.request:
            raise KeyReused(key=repeatable.key.key)
        return replace(_decode(outcome), replayed=True)


def keep(append: Append, outcomes: Mapping[Repeatable, Outcome]) -> None:
    """Keep what requests came to, as part of the append, and clean up what has expired."""
    rows: list[tuple[Any, ...]] = [
        (one.key.subject, one.key.route, one.key.key, one.request, _encode(outcome))
        for one, outcome in outcomes.items()
    ]
    append.execute(
        _KEEP, [append.recorded_at, *(list(column) for column in zip(*rows, strict=True))]
    )
    append.execute(_CLEAN_UP, [append.recorded_at - LIFETIME, CLEAN_UP])

"""What requests with an idempotency key came to, kept in the transaction of what they recorded."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from rosterlog.domain.log.append import Append

LIFETIME = timedelta(hours=24)
"""How long a key is kept (design: 24 hours)."""
CLEAN_UP = 100
"""Most expired keys that one append cleans up: more than it can add in the long run, and little work."""

Row = tuple[str, str, str, bytes, bytes]
"""Subject, route and key; the digest of the request; the outcome."""

_RECALL = """
    SELECT kept.subject, kept.route, kept.key, kept.request, kept.outcome
    FROM unnest(%s::text[], %s::text[], %s::text[]) AS asked (subject, route, key)
    JOIN log.idempotency_keys AS kept USING (subject, route, key)
    WHERE kept.created_at > %s
"""
_KEEP = """
    INSERT INTO log.idempotency_keys (subject, route, key, request, outcome, created_at)
    SELECT *, %s::timestamptz
    FROM unnest(%s::text[], %s::text[], %s::text[], %b::bytea[], %b::bytea[])
    ON CONFLICT (subject, route, key) DO UPDATE
    SET request = excluded.request, outcome = excluded.outcome, created_at = excluded.created_at
"""
_CLEAN_UP = """
    DELETE FROM log.idempotency_keys WHERE (subject, route, key) IN (
        SELECT subject, route, key FROM log.idempotency_keys
        WHERE created_at <= %s ORDER BY created_at LIMIT %s
    )
"""


def recall(append: Append, keys: Sequence[tuple[str, str, str]]) -> list[Row]:
    """Return what is kept under these keys, each with its subject and route."""
    columns = [list(column) for column in zip(*keys, strict=True)]
    return append.connection.execute(_RECALL, [*columns, append.recorded_at - LIFETIME]).fetchall()


def keep(append: Append, rows: Iterable[Row]) -> None:
    """Keep what requests came to, as a part of the append, and clean up what has expired."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    append.execute(_KEEP, [append.recorded_at, *columns])
    append.execute(_CLEAN_UP, [append.recorded_at - LIFETIME, CLEAN_UP])

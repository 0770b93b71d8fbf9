"""Cursors: where a page ended, opaque to the caller, good for the same list only."""

import base64
import binascii
import json
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from rosterlog.domain.errors import InvalidValue
from rosterlog.domain.values import Role, text


def scope(name: str, /, **filters: object) -> str:
    """Return what a cursor of this list is good for: the list's name and what it is filtered by."""
    given = {key: str(value) for key, value in sorted(filters.items()) if value is not None}
    return sha256(json.dumps([name, given]).encode()).hexdigest()[:16]


def write(scope: str, key: tuple[str, ...]) -> str:
    """Return the cursor for what comes after the row with this key."""
    return base64.urlsafe_b64encode(json.dumps([scope, *key]).encode()).decode().rstrip("=")


def read(cursor: str, scope: str, types: tuple[str, ...]) -> tuple[str, ...]:
    """Return the key of a cursor, whose parts are of these types.

    Raises `InvalidValue` for one that this list did not give.
    """
    try:
        found, *key = json.loads(
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        )
        for part, kind in zip(key, types, strict=True):
            _READABLE[kind](part)
    except (binascii.Error, ValueError, TypeError, AttributeError, RecursionError):
        found, key = None, []
    if found != scope:
        raise InvalidValue(
            "parameter:cursor",
            "cursor",
            "cursor is not one that this list gave with these filters: start without one",
        )
    return tuple(key)


def _position(part: str) -> int:
    if not (part.isascii() and part.isdigit() and int(part) < 2**63):
        raise ValueError
    return int(part)


# What proves that PostgreSQL can read a part of a key as its type.
_READABLE: dict[str, Callable[[str], object]] = {
    "bigint": _position,
    "public.class_role": Role,
    "text": lambda part: text(part, "cursor"),
    "timestamptz": datetime.fromisoformat,
    "uuid": UUID,
}

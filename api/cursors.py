"""Cursors: where a page ended, opaque to the caller, good for the same list only."""

import base64
import binascii
import json
from hashlib import sha256

from domain.errors import InvalidValue


def scope(name: str, **filters: object) -> str:
    """Return what a cursor of this list is good for: the list's name and what it is filtered by."""
    given = {key: str(value) for key, value in sorted(filters.items()) if value is not None}
    return sha256(json.dumps([name, given]).encode()).hexdigest()[:16]


def write(scope: str, key: tuple[str, ...]) -> str:
    """Return the cursor for what comes after the row with this key."""
    return base64.urlsafe_b64encode(json.dumps([scope, *key]).encode()).decode().rstrip("=")


def read(cursor: str, scope: str, length: int) -> tuple[str, ...]:
    """Return the key of a cursor. Raises `InvalidValue` for one that this list did not give."""
    try:
        found, *key = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        found, key = None, []
    if found != scope or len(key) != length or not all(isinstance(part, str) and "\0" not in part for part in key):
        raise InvalidValue("parameter:cursor", "cursor", "cursor is not one that this list gave with these filters: start without one")
    return tuple(key)

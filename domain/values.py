"""The rules for single values: what may stand in an event at all.

Each function takes a value as it came in, returns it as it is recorded, and raises `InvalidValue` with the field and rule.
"""

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any
from uuid import UUID

from domain.errors import InvalidValue

NAME_LENGTH = 100
"""Most characters of a name, after trimming (design: names are 1 to 100 characters)."""
REASON_LENGTH = 500
"""Most characters of a reason."""
ACTOR_LENGTH = 200
"""Most characters of an actor."""
SETTINGS_BYTES = 64 * 1024
"""Most bytes of a settings object, as compact UTF-8 JSON."""
SETTINGS_DEPTH = 32
"""Most levels of a settings object; the object itself is the first."""
NUMBER_LIMIT = 2**53
"""Largest absolute integer in settings: every JSON reader keeps integers exactly up to here (RFC 8259, section 6)."""

Settings = dict[str, Any]

Groups = frozenset[UUID] | None
"""The groups that a caller is confined to, None where they may see and change all. What is of others is to them as if it did not exist."""


class Role(StrEnum):
    """What a member is in a class."""

    TEACHER = "teacher"
    STUDENT = "student"


def membership_id(class_id: UUID, user_id: UUID) -> UUID:
    """Return the id of a user's membership in a class, the same for ever (design: a UUIDv8 of their SHA-256; RFC 9562, section 5.8)."""
    digest = bytearray(sha256(class_id.bytes + user_id.bytes).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return UUID(bytes=bytes(digest))


def text(value: str, field: str) -> str:
    """Return `value` unchanged if PostgreSQL and every JSON reader can keep it: no NUL, no lone surrogate."""
    if "\0" in value:
        raise InvalidValue(field, "no-nul", f"{field} contains a NUL character, which can't be stored")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidValue(field, "unicode", f"{field} contains half of a surrogate pair, which is no character")
    return value


def _bounded(value: str, field: str, most: int) -> str:
    trimmed = text(value, field).strip()
    if not 1 <= len(trimmed) <= most:
        raise InvalidValue(field, "length", f"{field} needs 1 to {most} characters after trimming, not {len(trimmed)}")
    return trimmed


def name(value: str) -> str:
    """Return the trimmed name of a class or group."""
    return _bounded(value, "name", NAME_LENGTH)


def actor(value: str) -> str:
    """Return the trimmed actor: an opaque id, so nothing that looks like an e-mail address gets into the log."""
    trimmed = _bounded(value, "actor", ACTOR_LENGTH)
    if "@" in trimmed:
        raise InvalidValue("actor", "opaque", "actor must be an opaque id, not an e-mail address: it stays in the log for ever")
    return trimmed


def reason(value: str) -> str:
    """Return the trimmed reason."""
    return _bounded(value, "reason", REASON_LENGTH)


def settings(value: Settings) -> Settings:
    """Return the settings unchanged if they are within depth, size and number limits."""
    _check_json(value, "settings", 1)
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > SETTINGS_BYTES:
        raise InvalidValue("settings", "size", f"settings are {size} bytes of JSON; {SETTINGS_BYTES} are allowed")
    return value


def escaped(key: str) -> str:
    """Return a key as one part of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def same_settings(one: Settings, other: Settings) -> bool:
    """Tell whether two settings are the same JSON; to Python alone `1`, `1.0` and `true` are equal."""
    return one == other and json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _check_json(value: object, path: str, level: int) -> None:  # one case per JSON type
    """Walk a JSON value; `path` names the place in an error, `level` counts containers from the outside."""
    match value:
        case dict() | list() if level > SETTINGS_DEPTH:
            raise InvalidValue(path, "depth", f"settings are nested deeper than {SETTINGS_DEPTH} levels")
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise InvalidValue(path, "type", f"{path} has a key that is no text")
                _check_json(item, f"{path}/{escaped(text(key, path))}", level + 1)
        case list():
            for index, item in enumerate(value):
                _check_json(item, f"{path}/{index}", level + 1)
        case str():
            text(value, path)
        case bool() | None:
            pass
        case int() | float():
            _check_number(value, path)
        case _:
            raise InvalidValue(path, "type", f"{path} is no JSON value")


def _check_number(value: float, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidValue(path, "finite", f"{path} is not a finite number")
    if isinstance(value, int) and abs(value) > NUMBER_LIMIT:
        raise InvalidValue(path, "number", f"{path} is beyond ±2^53, where JSON readers lose digits")


@dataclass(frozen=True)
class Provenance:
    """Where a command comes from: who gave it, why, through which door and in which request.

    Raises `InvalidValue` for an actor or reason that breaks its rule.
    """

    actor: str
    source: str
    request_id: str | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "actor", actor(self.actor))
        if self.reason is not None:
            object.__setattr__(self, "reason", reason(self.reason))

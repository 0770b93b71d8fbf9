"""The rules for single values: what may stand in an event at all.

Each function takes a value as it came in, returns it as it is recorded, and raises `InvalidValue`
with the field and rule.
"""

import json
import math
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from typing import Any
from unicodedata import category
from uuid import UUID

from rosterlog.domain.errors import InvalidValue

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
"""Largest absolute number in settings: every JSON reader keeps integers exactly up to here (RFC 8259, section 6)."""
SOURCE_LENGTH = 100
"""Most characters of a source."""

Settings = dict[str, Any]

Expected = int | frozenset[int] | None
"""The version that a command relies on, or several, of which any will do; None for any at all."""

Confinement = frozenset[UUID] | None
"""The groups that a caller is confined to, None where they may see and change all.

What is of others is to them as if it did not exist.
"""


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
        raise InvalidValue(
            field, "no-nul", f"{field} contains a NUL character, which can't be stored"
        )
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidValue(
            field, "unicode", f"{field} contains half of a surrogate pair, which is no character"
        )
    return value


def _bounded(value: str, field: str, most: int) -> str:
    trimmed = text(value, field).strip()
    if not 1 <= len(trimmed) <= most:
        raise InvalidValue(
            field,
            "length",
            f"{field} needs 1 to {most} characters after trimming, not {len(trimmed)}",
        )
    if not any(map(_is_visible, trimmed)):
        raise InvalidValue(field, "visible", f"{field} has no character that can be seen")
    return trimmed


def _is_visible(character: str) -> bool:
    return category(character) not in {"Cc", "Cf", "Zs", "Zl", "Zp"}


def name(value: str) -> str:
    """Return the trimmed name of a class or group."""
    return _bounded(value, "name", NAME_LENGTH)


def actor(value: str) -> str:
    """Return the trimmed actor: an opaque id, so nothing that looks like an e-mail address gets into the log."""
    trimmed = _bounded(value, "actor", ACTOR_LENGTH)
    if "@" in trimmed:
        raise InvalidValue(
            "actor",
            "opaque",
            "actor must be an opaque id, not an e-mail address: it stays in the log for ever",
        )
    return trimmed


def reason(value: str) -> str:
    """Return the trimmed reason."""
    return _bounded(value, "reason", REASON_LENGTH)


def source(value: str) -> str:
    """Return the source unchanged: which door a command came through."""
    if not 1 <= len(text(value, "source")) <= SOURCE_LENGTH:
        raise InvalidValue(
            "source", "length", f"source needs 1 to {SOURCE_LENGTH} characters, not {len(value)}"
        )
    return value


def settings(value: Settings) -> Settings:
    """Return the settings unchanged if they are within depth, size and number limits.

    Their size is that of compact JSON in UTF-8 with all numbers written out, as the database gives
    them back: 1e-7 is 0.0000001 there.
    """
    walk = _Walk()
    walk.check(value, None, 1)
    size = (
        len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
        + walk.written_out
    )
    if size > SETTINGS_BYTES:
        raise InvalidValue(
            "settings", "size", f"settings are {size} bytes of JSON; {SETTINGS_BYTES} are allowed"
        )
    return value


def escaped(key: str) -> str:
    """Return a key as one part of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


Place = tuple["Place", str | int] | None
"""The place of a value in JSON: that of what it stands in, and its key or index there.

None is the whole.
"""


def pointer(place: Place) -> str:
    """Return a place as a JSON pointer. It is written out only where something is wrong."""
    parts: list[str] = []
    while place is not None:
        place, part = place
        parts.append(f"/{escaped(str(part))}")
    return "".join(reversed(parts))


def same_settings(one: Settings, other: Settings) -> bool:
    """Tell whether two settings are the same JSON: there 1 and 1.0 are one number, and true is none; to Python alone all are equal."""
    return one == other and json.dumps(_plain(one), sort_keys=True) == json.dumps(
        _plain(other), sort_keys=True
    )


def _plain(value: Any) -> Any:
    """Return a JSON value with whole numbers as integers, however they were written."""
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case float():
            return int(value) if value.is_integer() else value
    return value


class _Walk:
    """One walk through a JSON value, as far as it may go."""

    def __init__(self) -> None:
        self._values = 0
        self.written_out = 0
        """How many bytes the numbers take more where they are written without an exponent."""

    def check(self, value: object, place: Place, level: int) -> None:
        """Refuse what breaks a rule; `level` counts containers from the outside."""
        self._values += 1
        if (
            2 * self._values > SETTINGS_BYTES + 1
        ):  # each value takes two bytes or more, with what separates it from the next
            raise InvalidValue(
                "settings",
                "size",
                f"settings are larger than the {SETTINGS_BYTES} bytes of JSON that are allowed",
            )
        match value:
            case str():
                if not value.isascii() or "\0" in value:
                    text(value, _written(place))
            case bool() | None:
                pass
            case int() | float():
                self._check_number(value, place)
            case dict() | list():
                self._check_inner(value, place, level)
            case _:
                raise InvalidValue(_written(place), "type", f"{_written(place)} is no JSON value")

    def _check_inner(self, value: dict[Any, Any] | list[Any], place: Place, level: int) -> None:
        if level > SETTINGS_DEPTH:
            raise InvalidValue(
                _written(place), "depth", f"settings are nested deeper than {SETTINGS_DEPTH} levels"
            )
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict):
                self._check_key(key, place)
            self.check(item, (place, key), level + 1)

    def _check_key(self, key: object, place: Place) -> None:
        if not isinstance(key, str):
            raise InvalidValue(
                _written(place), "type", f"{_written(place)} has a key that is no text"
            )
        if not key.isascii() or "\0" in key:
            text(key, _written(place))

    def _check_number(self, value: float, place: Place) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidValue(
                _written(place), "finite", f"{_written(place)} is not a finite number"
            )
        if abs(value) > NUMBER_LIMIT:
            raise InvalidValue(
                _written(place),
                "number",
                f"{_written(place)} is beyond ±2^53, where JSON readers lose digits",
            )
        if isinstance(value, float) and "e" in (short := repr(value)):
            self.written_out += len(f"{Decimal(short):f}") - len(short)


def _written(place: Place) -> str:
    return f"settings{pointer(place)}"


@dataclass(frozen=True)
class Provenance:
    """Where a command comes from: who gave it, why, through which door and in which request.

    Raises `InvalidValue` for an actor, source or reason that breaks its rule.
    """

    actor: str
    source: str
    request_id: str | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "actor", actor(self.actor))
        source(self.source)
        if self.reason is not None:
            object.__setattr__(self, "reason", reason(self.reason))

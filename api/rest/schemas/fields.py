"""Kinds of values, as they come in and go out over HTTP: the rules are the domain's; here they get their places in the OpenAPI document."""

import re
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema
from typing_extensions import TypeAliasType

from rosterlog.api.rest.schemas import moments
from rosterlog.domain import values
from rosterlog.domain.errors import InvalidValue
from rosterlog.domain.log.event_codec import EventCodec

MATH, SCHOOL, ANNA = (
    "5b6a1f0e-7c2d-4e8f-9a3b-1c2d3e4f5a6b",
    "0f9e8d7c-6b5a-4938-a7b6-c5d4e3f2a1b0",
    "a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d",
)
TIME = "2026-09-01T08:00:00+00:00"

_ID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_INTEGER = re.compile(r"-?[0-9]+")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def _only_a_date(value: object) -> object:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise InvalidValue("effective_on", "date", "effective_on is a date such as 2026-09-01")
    return value


def _only_hyphenated(value: object) -> object:
    if isinstance(value, str) and not _ID.fullmatch(value):
        raise InvalidValue(
            "id", "uuid", f"an id is a UUID with its hyphens and nothing around it, such as {MATH}"
        )
    return value


def _only_digits(value: object) -> object:
    if isinstance(value, str) and not _INTEGER.fullmatch(value):
        raise InvalidValue("number", "integer", "a whole number is needed, in the digits 0 to 9")
    return value


_TOPICS = sorted(EventCodec().topics)


def _only_true_or_false(value: object) -> object:
    if isinstance(value, str) and value.lower() not in {"true", "false"}:
        raise InvalidValue("flag", "one-of", "it is true or false")
    return value


def known_topic(value: str) -> str:
    """Return the name of an event that this release records. Raises `InvalidValue`."""
    if value not in _TOPICS:
        raise InvalidValue("type", "one-of", f"type is one of {', '.join(_TOPICS)}")
    return value


def storable(value: str) -> str:
    """Return text that PostgreSQL can keep. Raises `InvalidValue`."""
    return values.text(value, "value")


def trimmed(value: str) -> str:
    """Return text as names are recorded, to be compared with them. Raises `InvalidValue`."""
    return storable(value).strip()


Name = Annotated[
    str,
    AfterValidator(values.name),
    WithJsonSchema(
        {"type": "string", "minLength": 1, "maxLength": values.NAME_LENGTH, "pattern": r"\S"}
    ),
]
SettingsObject = Annotated[dict[str, Any], AfterValidator(values.settings)]
EffectiveOn = Annotated[date, BeforeValidator(_only_a_date)]
Id = Annotated[UUID, BeforeValidator(_only_hyphenated)]
"""An id in the one form that counts (RFC 9562, section 4), in capitals or not; Python reads braces, URNs and bare digits, too."""
Integer = Annotated[int, BeforeValidator(_only_digits)]
"""A whole number in a query; the framework reads `+1`, ` 1 `, `1_000` and `1.0`, too."""
Flag = Annotated[bool, BeforeValidator(_only_true_or_false)]
"""True or false in a query; the framework reads `yes`, `on`, `1` and more, too."""
Moment = Annotated[datetime, BeforeValidator(moments.floor)]
"""A time up to which, inclusive, something is asked."""
Bound = Annotated[datetime, BeforeValidator(moments.ceiling)]
"""A time since which, inclusive, or until which, exclusive, something is asked."""
Position = Annotated[Integer, Field(ge=0, le=2**63 - 1)]
# Aliases are types by their names in the OpenAPI document: what one answer says can be asked for
# with another request.
EventType = TypeAliasType(
    "EventType",
    Annotated[
        str,
        AfterValidator(known_topic),
        WithJsonSchema(
            {
                "type": "string",
                "enum": _TOPICS,
                # What generators call the members (they know no words in a name such as
                # ClassCreated).
                "x-enum-varnames": [
                    re.sub(r"(?<!^)(?=[A-Z])", "_", topic).upper() for topic in _TOPICS
                ],
                "description": "What an event says happened.",
            }
        ),
    ],
)
Order = TypeAliasType("Order", Literal["asc", "desc"])


def example(**fields: Any) -> ConfigDict:
    """Return the configuration of a model that shows an example."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


ABSENT: Any = Field(default_factory=lambda: None)
"""The default of a field that is left out where there is nothing to say."""

"""Telling why a thing is not there: it never was, it is gone, or something that it belongs to is."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn
from uuid import UUID

from rosterlog.api.reading import confined
from rosterlog.api.reading.connections import Row
from rosterlog.domain.errors import (
    ClassDeleted,
    ClassUnknown,
    Gone,
    GroupDeleted,
    GroupUnknown,
    MemberUnknown,
    Unknown,
    UserRemoved,
    UserUnknown,
)
from rosterlog.domain.values import Confinement
from rosterlog.projections.reading import queries
from rosterlog.projections.reading.queries import CLASS_BY_ID, USER_BY_ID, Parameters, Thing

_UNKNOWN: Mapping[str, type[Unknown]] = {
    "group": GroupUnknown,
    "user": UserUnknown,
    "class": ClassUnknown,
}
_GONE: Mapping[str, type[Gone]] = {
    "group": GroupDeleted,
    "user": UserRemoved,
    "class": ClassDeleted,
}

Rows = Callable[[str, Parameters], Awaitable[list[Row]]]


def unknown(thing: Thing, ids: Mapping[str, UUID]) -> Unknown:
    """Return the error that there is no such thing."""
    return _UNKNOWN[thing.kind](_stream(thing, ids))


async def raise_missing(
    rows: Rows,
    thing: Thing,
    ids: Mapping[str, UUID],
    position: int,
    at: int | None,
    groups: Confinement,
) -> NoReturn:
    """Raise that a thing was unknown or gone at a position, to a caller confined to `groups`.

    One statement looks at the thing, of a membership at the class and the user.
    """
    looked_at = (CLASS_BY_ID, USER_BY_ID) if thing.kind == "member" else (thing,)
    parameters: dict[str, Any] = {**ids, "position": position, "at": at}
    found = await rows(
        queries.existence(looked_at, at=at, confined=groups is not None),
        parameters | confined.parameters(groups),
    )
    for one, (is_there, topic, group_id) in zip(looked_at, found, strict=True):
        was_created = topic in queries.CREATED_AS[one.kind] and (
            groups is None or group_id in groups
        )
        if was_created and not is_there:
            raise _GONE[one.kind](_stream(one, ids))
        if not is_there and one is not USER_BY_ID:
            raise unknown(one, ids)
    if thing.kind == "member":
        raise MemberUnknown(ids["user_id"], class_id=ids["class_id"])
    raise unknown(thing, ids)


def _stream(thing: Thing, ids: Mapping[str, UUID]) -> UUID:
    return ids[f"{thing.kind}_id"]

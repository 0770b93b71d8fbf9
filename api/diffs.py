"""Answering what differs between two moments."""

from typing import Any
from uuid import UUID

import msgspec
from fastapi import Request
from starlette.responses import Response

from api.moments import Moment
from api.reads import Reads, answer_whole
from api.schemas import DiffQuery
from domain.errors import InvalidValue
from projections import diff, queries
from projections.queries import Thing

_STATES = {queries.CLASS_BY_ID.kind: diff.CLASS, queries.GROUP_BY_ID.kind: diff.GROUP}


async def answer(request: Request, reads: Reads, thing: Thing, ids: dict[str, UUID], query: DiffQuery) -> Response:
    """Answer with what differs of a class or group between two moments. Raises that it is unknown at both, or gone at both."""
    await reads.wait_for(query.min_position)
    first, last = await _positions(reads, query)
    before = diff.fields(await reads.rows(_STATES[thing.kind], {**ids, "at": first}))
    after = diff.fields(await reads.rows(_STATES[thing.kind], {**ids, "at": last}))
    if not before and not after:
        await _raise_missing(reads, thing, ids, first, last)
    parameters = {"ids_from": list(before), "ids_to": list(after), "from": first, "to": last}
    members: Any = await reads.rows(diff.MEMBERS, parameters)
    found = diff.difference(
        diff.Classes(before, await _elsewhere(reads, after.keys() - before.keys(), first)),
        diff.Classes(after, await _elsewhere(reads, before.keys() - after.keys(), last)),
        members,
    )
    return answer_whole(request, msgspec.json.encode(found).decode(), last)


async def _positions(reads: Reads, query: DiffQuery) -> tuple[int, int]:
    since = Moment(query.from_, query.from_position, ("from", "from_position"))
    until = Moment(query.to, query.to_position, ("to", "to_position"))
    if not since.given:
        raise InvalidValue("parameter:from", "required", "from which moment? Give from or from_position")
    last = await reads.position(until)
    first = await reads.position(since)
    if first > last:
        name = f"parameter:{since.names[0] if since.time else since.names[1]}"
        raise InvalidValue(name, "order", f"the first moment, position {first}, is after the second, position {last}")
    return first, last


async def _raise_missing(reads: Reads, thing: Thing, ids: dict[str, UUID], first: int, last: int) -> None:
    """Raise that the thing is missing at both moments; a group that exists at one of them has no classes at either."""
    version = (await reads.rows(thing.statement(at=first), {**ids, "at": first}))[0][1]
    if version is None:
        await reads.found(thing, ids, last)


async def _elsewhere(reads: Reads, class_ids: set[UUID], at: int) -> dict[UUID, UUID]:
    rows = await reads.rows(diff.ELSEWHERE, {"ids": list(class_ids), "at": at}) if class_ids else []
    return dict(rows)

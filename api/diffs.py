"""Answering what differs between two moments."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from fastapi import Request
from starlette.responses import Response

from api import confinement
from api.confinement import groups_of
from api.moments import Moment
from api.reads import Reads, answer_whole
from api.schemas.queries import DiffQuery
from domain.errors import InvalidValue
from domain.values import Groups
from projections import diff, queries
from projections.queries import Source, Thing

_STATES = {queries.CLASS_BY_ID.kind: diff.CLASS, queries.GROUP_BY_ID.kind: diff.GROUP}


async def answer(request: Request, reads: Reads, thing: Thing, ids: Mapping[str, UUID], query: DiffQuery) -> Response:
    """Answer with what differs of a class or group between two moments. Raises that it is unknown at both, or gone at both."""
    await reads.wait_for(query.min_position)
    first, last = await _positions(reads, query)
    asking = _Asking(reads, groups_of(request))
    before = diff.fields(await asking.rows(_STATES[thing.kind], first, **ids))
    after = diff.fields(await asking.rows(_STATES[thing.kind], last, **ids))
    if not before and not after:
        await asking.raise_missing(thing, ids, first, last)
    parameters = {"ids_from": list(before), "ids_to": list(after), "from": first, "to": last}
    members: Any = await reads.rows(diff.MEMBERS, parameters)
    found = diff.difference(
        diff.Classes(before, await asking.elsewhere(after.keys() - before.keys(), first)),
        diff.Classes(after, await asking.elsewhere(before.keys() - after.keys(), last)),
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


@dataclass(frozen=True)
class _Asking:
    """Asks for states of the past, for a caller who may be confined to groups: where a class is not in these, it is not."""

    reads: Reads
    groups: Groups

    async def rows(self, source: Source, at: int, **parameters: Any) -> list[tuple[Any, ...]]:
        statement = source.select(confined=self.groups is not None)
        return await self.reads.rows(statement, {**parameters, "at": at, **confinement.parameters(self.groups)})

    async def raise_missing(self, thing: Thing, ids: Mapping[str, UUID], first: int, last: int) -> None:
        """Raise that the thing is missing at both moments; a group that exists at one of them has no classes at either."""
        if not await self.rows(thing.at, first, **ids):
            await self.reads.found(thing, ids, last, self.groups)

    async def elsewhere(self, class_ids: set[UUID], at: int) -> dict[UUID, UUID]:
        """Return where classes are that are not in the state that is compared."""
        return dict(await self.rows(diff.ELSEWHERE, at, ids=list(class_ids))) if class_ids else {}

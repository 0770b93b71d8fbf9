"""Answering what differs between two moments.

The classes are compared a few at a time. What is found goes into a spool, from which it is sent
once all is found: a difference of any size needs little memory, and an error in its middle is a
problem and no broken answer.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from rosterlog.api.access.confinement import groups_of
from rosterlog.api.reading import confined
from rosterlog.api.reading.expensive import ExpensiveConnections, ExpensiveReads
from rosterlog.api.reading.moments import Moment
from rosterlog.api.reading.spools import MEMORY_BYTES, Lists
from rosterlog.api.rest import answers, headers
from rosterlog.api.rest.schemas.queries import DiffQuery
from rosterlog.domain.errors import InvalidValue
from rosterlog.domain.values import Confinement
from rosterlog.projections.reading import diff
from rosterlog.projections.reading.queries import Source, Thing

CLASSES_AT_ONCE = 100
"""How many classes are compared by one statement: some thousand members, for classes of a usual size."""


async def answer(
    request: Request, reads: ExpensiveReads, thing: Thing, ids: Mapping[str, UUID], query: DiffQuery
) -> Response:
    """Answer with what differs of a class or group between two moments.

    Raises that it is unknown or gone at both.
    """
    await reads.wait_for(query.min_position)
    first, last = await _positions(reads, query)
    asking = _Asking(reads, reads.connections, groups_of(request), ids.get("group_id"), first, last)
    class_ids = await asking.class_ids(thing, ids)
    spool = Lists(diff.KINDS)
    later = reads.connections.later()
    try:
        for start in range(0, len(class_ids), CLASSES_AT_ONCE):
            await asking.compare(class_ids[start : start + CLASSES_AT_ONCE], spool)
            asking = replace(asking, connections=later)
    except BaseException:
        spool.close()
        raise
    if spool.size <= MEMORY_BYTES:
        with spool:
            return answers.whole(request, b"".join(spool.pieces()).decode(), last)
    return _streamed(request, spool, first, last)


def _streamed(request: Request, spool: Lists, first: int, last: int) -> Response:
    """Answer with a large difference.

    Its ETag is what it is made of: the log up to a position never changes.
    """
    made_of = f"{request.url.path} {first} {last} {sorted(map(str, groups_of(request) or ()))}"
    tag = headers.content_tag(made_of)
    answered = headers.answered(last, tag)
    if headers.is_known(request, tag):
        spool.close()
        return Response(status_code=304, headers=answered)

    async def pieces() -> AsyncIterator[bytes]:
        with spool:
            for piece in spool.pieces():
                yield piece
                await asyncio.sleep(0)

    return StreamingResponse(pieces(), headers=answered, media_type="application/json")


async def _positions(reads: ExpensiveReads, query: DiffQuery) -> tuple[int, int]:
    since = Moment(query.from_, query.from_position, ("from", "from_position"))
    until = Moment(query.to, query.to_position, ("to", "to_position"))
    if not since.given:
        raise InvalidValue(
            "parameter:from", "required", "from which moment? Give from or from_position"
        )
    last = await reads.position(until)
    first = await reads.position(since)
    if first > last:
        name = f"parameter:{since.names[0] if since.time else since.names[1]}"
        raise InvalidValue(
            name,
            "order",
            f"the first moment, position {first}, is after the second, position {last}",
        )
    return first, last


@dataclass(frozen=True)
class _Asking:
    """Asks for states of the past, for a caller who may be confined to groups: where a class is not in these, it is not."""

    reads: ExpensiveReads
    connections: ExpensiveConnections
    groups: Confinement
    group_id: UUID | None
    first: int
    last: int

    async def class_ids(self, thing: Thing, ids: Mapping[str, UUID]) -> list[UUID]:
        """Return the classes to compare, in order.

        Raises that the thing is missing at both moments.
        """
        if not await self._rows(thing.at, self.first, **ids):
            await self.reads.found(thing, ids, self.last, self.groups)
        if self.group_id is None:
            return [ids["class_id"]]
        entered = await self.connections.rows(
            diff.ENTERED, {"group_id": self.group_id, "at": self.last}
        )
        return [class_id for (class_id,) in entered]

    async def compare(self, ids: Sequence[UUID], spool: Lists) -> None:
        """Write what differs of some classes into a spool."""
        before = diff.fields(await self._of_classes(ids, self.first))
        after = diff.fields(await self._of_classes(ids, self.last))
        was = diff.Classes(before, await self._elsewhere(after.keys() - before.keys(), self.first))
        is_ = diff.Classes(after, await self._elsewhere(before.keys() - after.keys(), self.last))
        spool.add(diff.of_classes(was, is_))
        parameters = {
            "ids_from": list(before),
            "ids_to": list(after),
            "from": self.first,
            "to": self.last,
        }
        async for rows in self.connections.pages(diff.MEMBERS, parameters):
            spool.add(diff.of_members(rows))

    async def _of_classes(self, ids: Sequence[UUID], at: int) -> list[tuple[Any, ...]]:
        return await self._rows(diff.CLASSES, at, ids=list(ids), group_id=self.group_id)

    async def _elsewhere(self, class_ids: set[UUID], at: int) -> dict[UUID, UUID]:
        """Return where classes are that are not in the state that is compared."""
        return dict(await self._rows(diff.ELSEWHERE, at, ids=list(class_ids))) if class_ids else {}

    async def _rows(self, source: Source, at: int, **parameters: Any) -> list[tuple[Any, ...]]:
        statement = source.select(confined=self.groups is not None)
        return await self.connections.rows(
            statement, {**parameters, "at": at, **confined.parameters(self.groups)}
        )

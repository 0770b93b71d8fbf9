"""Answering reads: one statement, its rows as JSON made in the database, and the headers every read has."""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from fastapi import Request
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout
from starlette.responses import Response

from rosterlog.api.access import confinement
from rosterlog.api.access.confinement import groups_of
from rosterlog.api.http.problems import ReadTablesBehind
from rosterlog.api.reading.gathering import Gathering, Row
from rosterlog.api.reading.live_rosters import LiveRosters
from rosterlog.api.reading.moments import Moment
from rosterlog.api.rest import cursors
from rosterlog.api.rest.headers import known_tags
from rosterlog.api.rest.schemas.queries import MemberPage, Page, PageAsOf, Reading, ReadingAsOf
from rosterlog.domain.errors import (
    ClassDeleted,
    ClassUnknown,
    Gone,
    GroupDeleted,
    GroupUnknown,
    MemberUnknown,
    StoreUnavailable,
    Unknown,
    UserRemoved,
    UserUnknown,
)
from rosterlog.domain.log import silence
from rosterlog.domain.log.sessions import AsyncPool
from rosterlog.domain.log.silence import DatabaseSilent, heard
from rosterlog.domain.values import Confinement
from rosterlog.projections.following.follower import Follower
from rosterlog.projections.following.replayed import ReplicaVisibility
from rosterlog.projections.reading import many, queries
from rosterlog.projections.reading.queries import (
    CLASS_BY_ID,
    GROUP_BY_ID,
    MEMBER_BY_ID,
    USER_BY_ID,
    Listing,
    Parameters,
    Thing,
)
from rosterlog.projections.shared_sql import CHECKPOINT

if TYPE_CHECKING:
    from rosterlog.api.reading.replica import Replica

WAIT_SECONDS = 5.0
"""How long a read waits for `min_position`, and a command for its own change to be visible."""

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


class Reads:
    """The read side of the service, as the routes use it."""

    patience: float | None = None
    """How long a read waits for a connection, in seconds; None: as long as the pool says."""

    def __init__(
        self,
        pool: AsyncPool,
        visibility: Follower | ReplicaVisibility,
        replica: "Replica | None" = None,
    ) -> None:
        """Read over connections of `pool`, and wait with `visibility`; a `replica` reads what is not of the past."""
        self._pool = pool
        self._visibility = visibility
        self._replica = replica
        self.lent: set[AsyncConnection[Any]] = set()
        """The connections that are in use."""
        self._rosters = LiveRosters(self.rows)
        things = (GROUP_BY_ID, USER_BY_ID, CLASS_BY_ID, MEMBER_BY_ID)
        self._things = {
            (thing.kind, confined): self._gathered(thing, confined=confined)
            for thing in things
            for confined in (False, True)
        }

    async def thing(
        self, request: Request, thing: Thing, ids: Mapping[str, UUID], reading: Reading
    ) -> Response:
        """Answer with one thing. Raises that it is unknown or gone."""
        if answer := await self._at_replica(
            reading, lambda replica: replica.thing(request, thing, ids, reading)
        ):
            return answer
        at = await self._moment(reading)
        position, version, item = await self.found(thing, ids, at, groups_of(request))
        return _answer(request, item, position, f'"{version}"')

    async def found(
        self, thing: Thing, ids: Mapping[str, UUID], at: int | None, groups: Confinement
    ) -> tuple[int, int, str]:
        """Return position, version and JSON of one thing.

        Raises that it is unknown, to a caller confined to `groups`, or gone.
        """
        confined = groups is not None
        if at is None:
            question = (
                *(ids[name] for name in many.IDS[thing.kind]),
                *confinement.question(groups),
            )
            position, version, item = await self._things[thing.kind, confined].answer(*question)
        else:
            parameters = {**ids, "at": at, **confinement.parameters(groups)}
            position, version, item = (
                await self.rows(thing.statement(at=at, confined=confined), parameters)
            )[0]
        if item is None:
            await self._raise_missing(thing, ids, position, at, groups)
        return position, version, item

    async def roster(self, request: Request, class_id: UUID, page: MemberPage) -> Response:
        """Answer with a page of a roster. Raises that the class is unknown or gone."""
        if answer := await self._at_replica(
            page, lambda replica: replica.roster(request, class_id, page)
        ):
            return answer
        if page.model_fields_set <= {"limit", "min_position"}:
            await self.wait_for(page.min_position)
            groups = groups_of(request)
            position, version, etag, size, items = await self._rosters.read(
                class_id, _only_tag(request), groups
            )
            if version is None:
                await self._raise_missing(
                    CLASS_BY_ID, {"class_id": class_id}, position, None, groups
                )
            elif size <= page.limit:
                return _answer(request, f'{{"items":[{items}],"next_cursor":null}}', position, etag)
        return await self.listing(
            request, queries.MEMBERS, {"class_id": class_id}, page, {"role": page.role}
        )

    async def listing(
        self,
        request: Request,
        listing: Listing,
        ids: Mapping[str, UUID],
        page: Page | PageAsOf,
        filters: Mapping[str, Any] | None = None,
    ) -> Response:
        """Answer with one page of a list.

        Raises that the thing it belongs to is unknown or gone.
        """
        if answer := await self._at_replica(
            page, lambda replica: replica.listing(request, listing, ids, page, filters)
        ):
            return answer
        at, groups = await self._moment(page), groups_of(request)
        given = {name: value for name, value in (filters or {}).items() if value is not None}
        scope = cursors.scope(listing.name, **ids, **given)
        where = [queries.FILTERS[name] for name in given]
        parameters: Parameters = {
            **ids,
            **given,
            "at": at,
            "limit": page.limit,
            **confinement.parameters(groups),
        }
        if page.cursor is not None:
            condition, key = listing.order.after(
                cursors.read(page.cursor, scope, listing.order.types)
            )
            where.append(condition)
            parameters |= key
        rows = await self.rows(
            listing.statement(at=at, where=tuple(where), confined=groups is not None), parameters
        )
        position, version = rows[0][:2]
        if listing.parent is not None and version is None:
            await self._raise_missing(listing.parent, ids, position, at, groups)
        items = [row[2] for row in rows if row[2] is not None]
        more = len(items) > page.limit
        cursor = (
            cursors.write(scope, tuple(map(_written, rows[page.limit - 1][3:]))) if more else None
        )
        return answer_page(request, items[: page.limit], cursor, position, version)

    async def replica_position(self) -> int | None:
        """Return the position that the replica's tables reflect, None where there is no replica.

        Raises `StoreUnavailable`.
        """
        return None if self._replica is None else await self._replica.position()

    async def position_shown(self) -> int:
        """Return the position that the read tables reflect. Raises `StoreUnavailable`."""
        ((position,),) = await self.rows(CHECKPOINT, {})
        return int(position)

    async def wait_for(self, position: int | None) -> None:
        """Wait until the read tables reflect a position. Raises `ReadTablesBehind`."""
        if position is not None and not await self._visibility.reached(position, WAIT_SECONDS):
            raise ReadTablesBehind(position=position)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Lend a connection. Raises `StoreUnavailable`."""
        try:
            async with self._pool.connection(self.patience) as connection:
                self.lent.add(connection)
                try:
                    yield connection
                finally:
                    self.lent.discard(connection)
        except (
            psycopg.OperationalError,
            psycopg.InterfaceError,
            psycopg.InternalError,
            PoolTimeout,
        ) as lost:
            raise StoreUnavailable from lost

    async def rows(
        self, statement: str, parameters: Parameters | Sequence[Any], *, prepare: bool | None = None
    ) -> list[tuple[Any, ...]]:
        """Return the rows of one statement. Raises `StoreUnavailable`.

        It runs once more where the connection turns out to be lost, such as to a database that was
        restarted.
        """
        async with self.connection() as connection:
            try:
                return await _fetched(connection, statement, parameters, prepare=prepare)
            except DatabaseSilent:
                raise
            except psycopg.OperationalError:
                if not connection.broken:
                    raise
        # Those that wait in the pool are probably lost, too; asking each of them could take for
        # ever.
        await self._pool.drain()
        async with self.connection() as connection:
            return await _fetched(connection, statement, parameters, prepare=prepare)

    async def _at_replica(
        self, reading: Reading, ask: Callable[["Reads"], Awaitable[Response]]
    ) -> Response | None:
        """Return what the replica answers; None where there is none, it is gone, or the reading is of the past."""
        return (
            await self._replica.answer(ask)
            if self._replica is not None and is_live(reading)
            else None
        )

    def _gathered(self, thing: Thing, *, confined: bool) -> Gathering:
        statement = many.things(thing, confined=confined)

        async def ask(questions: Sequence[Row]) -> Sequence[Row]:
            return await self.rows(
                statement, [list(column) for column in zip(*questions, strict=True)]
            )

        return Gathering(ask)

    async def _moment(self, reading: Reading) -> int | None:
        """Return the position to read the log at, None for the read tables as they are."""
        await self.wait_for(reading.min_position)
        if not isinstance(reading, ReadingAsOf):
            return None
        moment = Moment(reading.as_of, reading.at_position)
        return await self.position(moment) if moment.given else None

    async def position(self, moment: Moment) -> int:
        """Return the position of the log that a moment means. Raises `MomentAhead`."""
        async with self.connection() as connection:
            with heard(connection, silence.READ_SECONDS):
                return await moment.resolve(connection)

    async def _raise_missing(
        self,
        thing: Thing,
        ids: Mapping[str, UUID],
        position: int,
        at: int | None,
        groups: Confinement,
    ) -> None:
        """Raise that a thing was unknown or gone at a position."""
        if thing.kind == "member":
            await self.found(CLASS_BY_ID, ids, at, groups)
            if await self._was_created("user", ids["user_id"], position, groups):
                await self.found(USER_BY_ID, ids, at, groups)
            raise MemberUnknown(ids["user_id"], class_id=ids["class_id"])
        stream = ids[f"{thing.kind}_id"]
        if await self._was_created(thing.kind, stream, position, groups):
            raise _GONE[thing.kind](stream)
        raise unknown(thing, ids)

    async def _was_created(
        self, kind: str, stream: UUID, position: int, groups: Confinement
    ) -> bool:
        """Tell whether there was such a thing by a position; to a caller confined to `groups`, in one of these at that position."""
        rows = await self.rows(queries.STREAM, {"stream": stream, "position": position})
        return any(
            topic in queries.CREATED_AS[kind] and (groups is None or group_id in groups)
            for topic, group_id in rows
        )


def unknown(thing: Thing, ids: Mapping[str, UUID]) -> Unknown:
    """Return the error that there is no such thing."""
    return _UNKNOWN[thing.kind](ids[f"{thing.kind}_id"])


async def _fetched(
    connection: AsyncConnection[Any],
    statement: str,
    parameters: Parameters | Sequence[Any],
    *,
    prepare: bool | None,
) -> list[tuple[Any, ...]]:
    with heard(connection, silence.READ_SECONDS):
        return await (await connection.execute(statement, parameters, prepare=prepare)).fetchall()


def is_live(reading: Reading) -> bool:
    """Tell whether a reading is of the read tables as they are, not of a moment of the past."""
    return not isinstance(reading, ReadingAsOf) or (
        reading.as_of is None and reading.at_position is None
    )


def answer_page(
    request: Request, items: list[str], cursor: str | None, position: int, version: int | None
) -> Response:
    """Answer with one page of items as JSON; `version` is that of the thing that they belong to, if any."""
    body = f'{{"items":[{",".join(items)}],"next_cursor":{json.dumps(cursor)}}}'
    content = _digest(body)
    return _answer(
        request, body, position, f'"{content}"' if version is None else f'"{version}-{content}"'
    )


def content_tag(text: str) -> str:
    """Return the ETag of what an answer is, or is made of."""
    return f'"{_digest(text)}"'


def headers_of(position: int, etag: str) -> dict[str, str]:
    """Return the headers of every read."""
    return {"Roster-Position": str(position), "ETag": etag, "Cache-Control": "private, no-cache"}


def answer_whole(request: Request, body: str, position: int) -> Response:
    """Answer with JSON that is all there is to say."""
    return _answer(request, body, position, content_tag(body))


def _digest(body: str) -> str:
    return hashlib.blake2b(body.encode(), digest_size=8).hexdigest()


def _answer(request: Request, body: str, position: int, etag: str) -> Response:
    headers = headers_of(position, etag)
    if is_known(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def is_known(request: Request, etag: str) -> bool:
    """Tell whether the caller says to have what this ETag stands for."""
    known = known_tags(request)
    return known is None or etag.strip('"') in known


def _only_tag(request: Request) -> str | None:
    """Return the one entity tag that the caller says to have, None where there are several or none."""
    known = known_tags(request)
    return f'"{next(iter(known))}"' if known is not None and len(known) == 1 else None


def _written(value: object) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)

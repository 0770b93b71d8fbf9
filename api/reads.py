"""Answering reads: one statement, its rows as JSON made in the database, and the headers every read has."""

import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
from fastapi import Request
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from starlette.responses import Response

from api import cursors, rosters
from api.gathering import Gathering, Row
from api.problems import MomentAhead, ReadTablesBehind
from api.rosters import Rosters
from api.schemas import HistoryPage, MemberPage, Page, PageAsOf, Reading, ReadingAsOf
from domain.errors import (
    ClassDeleted,
    ClassUnknown,
    GroupDeleted,
    GroupUnknown,
    InvalidValue,
    MemberUnknown,
    StoreUnavailable,
    UserRemoved,
    UserUnknown,
)
from domain.event_store import APPEND_LOCK
from projections import history, many, queries
from projections.queries import CLASS_BY_ID, GROUP_BY_ID, MEMBER_BY_ID, USER_BY_ID, Listing, Parameters, Thing
from projections.visibility import Visibility

WAIT_SECONDS = 5.0
"""How long a read waits for `min_position`, and a command for its own change to be visible."""

_UNKNOWN = {"group": GroupUnknown, "user": UserUnknown, "class": ClassUnknown}
_GONE = {"group": GroupDeleted, "user": UserRemoved, "class": ClassDeleted}
_ETAG = re.compile(r'(?:W/)?"([^"]*)"')


class Reads:
    """The read side of the service, as the routes use it."""

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[Any]], visibility: Visibility) -> None:
        """Read over connections of `pool`, and wait with `visibility`."""
        self._pool = pool
        self._visibility = visibility
        self._rosters = Rosters(self._rows)
        self._things = {thing.kind: self._gathered(thing) for thing in (GROUP_BY_ID, USER_BY_ID, CLASS_BY_ID, MEMBER_BY_ID)}

    async def thing(self, request: Request, thing: Thing, ids: Mapping[str, UUID], reading: Reading) -> Response:
        """Answer with one thing. Raises that it is unknown or gone."""
        at = await self._moment(reading)
        position, version, item = await self.found(thing, ids, at)
        return _answer(request, item, position, f'"{version}"')

    async def found(self, thing: Thing, ids: Mapping[str, UUID], at: int | None = None) -> tuple[int, int, str]:
        """Return position, version and JSON of one thing. Raises that it is unknown or gone."""
        if at is None:
            position, version, item = await self._things[thing.kind].answer(*(ids[name] for name in many.IDS[thing.kind]))
        else:
            position, version, item = (await self._rows(thing.statement(at=at), {**ids, "at": at}))[0]
        if item is None:
            await self._raise_missing(thing, ids, position, at)
        return position, version, item

    async def roster(self, request: Request, class_id: UUID, page: MemberPage) -> Response:
        """Answer with a page of a roster. Raises that the class is unknown or gone."""
        if page.model_fields_set <= {"limit", "min_position"}:
            await self.wait_for(page.min_position)
            position, version, size, items = await self._rosters.read(class_id, request.headers.get("if-none-match"))
            if version is None:
                await self._raise_missing(CLASS_BY_ID, {"class_id": class_id}, position, None)
            elif size <= page.limit:
                return _answer(request, f'{{"items":[{items}],"next_cursor":null}}', position, rosters.etag(version, size))
        return await self.listing(request, queries.MEMBERS, {"class_id": class_id}, page, {"role": page.role})

    async def listing(
        self, request: Request, listing: Listing, ids: Mapping[str, UUID], page: Page | PageAsOf, filters: Mapping[str, Any] | None = None
    ) -> Response:
        """Answer with one page of a list. Raises that the thing it belongs to is unknown or gone."""
        at = await self._moment(page)
        given = {name: value for name, value in (filters or {}).items() if value is not None}
        scope = cursors.scope(listing.name, **ids, **given)
        where = [queries.FILTERS[name] for name in given]
        parameters: Parameters = {**ids, **given, "at": at, "limit": page.limit}
        if page.cursor is not None:
            condition, key = listing.order.after(cursors.read(page.cursor, scope, listing.order.types))
            where.append(condition)
            parameters |= key
        rows = await self._rows(listing.statement(at=at, where=tuple(where)), parameters)
        position, version = rows[0][:2]
        if listing.parent is not None and version is None:
            await self._raise_missing(listing.parent, ids, position, at)
        items = [row[2] for row in rows if row[2] is not None]
        more = len(items) > page.limit
        cursor = cursors.write(scope, tuple(map(_written, rows[page.limit - 1][3:]))) if more else None
        is_whole_roster = listing is queries.MEMBERS and not (given or page.cursor or more)
        etag = rosters.etag(version, len(items)) if is_whole_roster else None
        return _answer_page(request, items[: page.limit], cursor, position, version, etag)

    async def history(self, request: Request, thing: Thing, events: str, ids: Mapping[str, UUID], page: HistoryPage) -> Response:
        """Answer with one page of a thing's history, which outlives the thing. Raises that it is unknown."""
        await self.wait_for(page.min_position)
        given = page.model_dump(include={"type", "actor", "source", "since", "until"}, exclude_none=True)
        scope = cursors.scope(f"{thing.kind}-history", **ids, **given, order=page.order)
        key = cursors.read(page.cursor, scope, history.KEY_TYPES) if page.cursor is not None else None
        statement, parameters = history.statement(events, given, page.order, key)
        rows = await self._rows(statement, {**ids, **given, **parameters, "limit": page.limit})
        head = rows[0][0]
        entries = [history.entry(row[1:]) for row in rows if row[1] is not None]
        if not entries:
            await self._raise_unknown(thing, ids, head)
        more = len(entries) > page.limit
        cursor = cursors.write(scope, entries[page.limit - 1].key) if more else None
        items = [json.dumps(entry.event, default=_written, separators=(",", ":")) for entry in entries[: page.limit]]
        return _answer_page(request, items, cursor, head, None)

    async def wait_for(self, position: int | None) -> None:
        """Wait until the read tables reflect a position. Raises `ReadTablesBehind`."""
        if position is not None and not await self._visibility.reached(position, WAIT_SECONDS):
            raise ReadTablesBehind(position=position)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Lend a connection. Raises `StoreUnavailable`."""
        try:
            async with self._pool.connection() as connection:
                yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError, PoolTimeout) as lost:
            raise StoreUnavailable from lost

    async def _rows(self, statement: str, parameters: Parameters | Sequence[Any]) -> list[tuple[Any, ...]]:
        """Read; once more, where the connection turns out to be lost, such as to a database that was restarted."""
        async with self.connection() as connection:
            try:
                return await (await connection.execute(statement, parameters)).fetchall()
            except psycopg.OperationalError:
                if not connection.broken:
                    raise
        await self._pool.check()
        async with self.connection() as connection:
            return await (await connection.execute(statement, parameters)).fetchall()

    def _gathered(self, thing: Thing) -> Gathering:
        statement = many.things(thing)

        async def ask(questions: Sequence[Row]) -> Sequence[Row]:
            return await self._rows(statement, [list(column) for column in zip(*questions, strict=True)])

        return Gathering(ask)

    async def _moment(self, reading: Reading) -> int | None:
        """Return the position to read the log at, None for the read tables as they are."""
        await self.wait_for(reading.min_position)
        if not isinstance(reading, ReadingAsOf):
            return None
        if reading.as_of is not None and reading.at_position is not None:
            raise InvalidValue("parameter:as_of", "one-moment", "as_of and at_position can't be given both")
        if reading.as_of is None and reading.at_position is None:
            return None
        async with self.connection() as connection, connection.transaction():
            if reading.as_of is not None:
                # An append under way may have a time before this moment: it must be in, so that the answer is the same for ever.
                await connection.execute(queries.WAIT_FOR_APPENDS, {"lock": APPEND_LOCK})
            head, now = await (await connection.execute(queries.HEAD)).fetchone() or (0, None)
            if reading.at_position is not None:
                if reading.at_position > head:
                    raise MomentAhead(
                        "parameter:at_position", "head", f"position {reading.at_position} is past the head of the log, {head}"
                    )
                return reading.at_position
            if now is None or (reading.as_of is not None and reading.as_of >= now):
                raise MomentAhead("parameter:as_of", "past", "as_of lies in the future")
            row = await (await connection.execute(queries.RECORDED_BY, {"moment": reading.as_of})).fetchone()
        return int(row[0]) if row else 0

    async def _raise_missing(self, thing: Thing, ids: Mapping[str, UUID], position: int, at: int | None) -> None:
        if thing.kind == "member":
            await self.found(queries.CLASS_BY_ID, ids, at)
            if await self._was_created("user", ids["user_id"], position):
                await self.found(queries.USER_BY_ID, ids, at)
            raise MemberUnknown(ids["user_id"], class_id=ids["class_id"])
        await self._raise_unknown(thing, ids, position)
        raise _GONE[thing.kind](ids[f"{thing.kind}_id"])

    async def _raise_unknown(self, thing: Thing, ids: Mapping[str, UUID], position: int) -> None:
        stream = ids[f"{thing.kind}_id"]
        if not await self._was_created(thing.kind, stream, position):
            raise _UNKNOWN[thing.kind](stream)

    async def _was_created(self, kind: str, stream: UUID, position: int) -> bool:
        rows = await self._rows(queries.FIRST_TOPIC, {"stream": stream, "position": position})
        return rows == [(queries.CREATED_AS[kind],)]


def _answer_page(
    request: Request, items: list[str], cursor: str | None, position: int, version: int | None, etag: str | None = None
) -> Response:
    body = f'{{"items":[{",".join(items)}],"next_cursor":{json.dumps(cursor)}}}'
    if etag is not None:
        return _answer(request, body, position, etag)
    content = hashlib.blake2b(body.encode(), digest_size=8).hexdigest()
    return _answer(request, body, position, f'"{content}"' if version is None else f'"{version}-{content}"')


def _answer(request: Request, body: str, position: int, etag: str) -> Response:
    headers = {"Roster-Position": str(position), "ETag": etag, "Cache-Control": "private, no-cache"}
    wanted = request.headers.get("if-none-match")
    if wanted is not None and (wanted.strip() == "*" or etag.strip('"') in _ETAG.findall(wanted)):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def _written(value: object) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)

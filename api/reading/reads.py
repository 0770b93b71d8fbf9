"""Reads that return values: what is there now, or was at a moment of the past."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from rosterlog.api.reading import confined, cursors
from rosterlog.api.reading.connections import Row
from rosterlog.api.reading.live_rosters import LiveRoster, RosterState
from rosterlog.api.reading.missing import raise_missing
from rosterlog.api.reading.moments import Moment
from rosterlog.api.reading.replica import Replica
from rosterlog.api.reading.source import Source
from rosterlog.domain.log import silence
from rosterlog.domain.log.silence import heard
from rosterlog.domain.values import Confinement
from rosterlog.projections.reading import queries
from rosterlog.projections.reading.queries import CLASS_BY_ID, Listing, Parameters, Thing

Value = TypeVar("Value")
NOW = Moment(None, None)


@dataclass(frozen=True)
class Asked:
    """How to read: as of which moment, by a caller confined to which groups.

    The answer reflects `min_position` at least.
    """

    groups: Confinement = None
    moment: Moment = NOW
    min_position: int | None = None


@dataclass(frozen=True)
class AskedPage(Asked):
    """Which page of a list, too: the next `limit` items after `cursor`, where each of `filters` holds."""

    limit: int = 100
    cursor: str | None = None
    filters: Mapping[str, Any] = field(default_factory=dict)


class Found(NamedTuple):
    """One thing: the position that it is of, its version, and its JSON."""

    position: int
    version: int
    item: str


class Listed(NamedTuple):
    """One page: the position that it is of, the version of the thing that it belongs to, if any."""

    position: int
    version: int | None
    items: list[str]
    next_cursor: str | None


class Reads:
    """The read side of the service."""

    def __init__(self, primary: Source, replica: Replica | None = None) -> None:
        """Read from `primary`; a `replica` is asked first for what is not of the past."""
        self.primary = primary
        self.replica = replica
        self.rows = primary.rows
        self.wait_for = primary.wait_for

    async def thing(self, thing: Thing, ids: Mapping[str, UUID], asked: Asked) -> Found:
        """Return one thing. Raises that it is unknown or gone."""

        async def read(source: Source) -> Found:
            at = await self._moment(source, asked)
            return await self._found(source, thing, ids, at, asked.groups)

        return await self._answer(asked, read)

    async def found(
        self, thing: Thing, ids: Mapping[str, UUID], at: int | None, groups: Confinement
    ) -> Found:
        """Return one thing from the primary, at a position where one is given."""
        return await self._found(self.primary, thing, ids, at, groups)

    async def roster(
        self, class_id: UUID, known: RosterState | None, asked: AskedPage
    ) -> LiveRoster | None:
        """Return the whole roster of a class as it is now, None where a page does not hold it.

        `known` is the state that the caller has. Raises that the class is unknown or gone.
        """

        async def read(source: Source) -> LiveRoster | None:
            await source.wait_for(asked.min_position)
            roster = await source.rosters.read(class_id, known, asked.groups)
            if roster.state is None:
                ids = {"class_id": class_id}
                await raise_missing(
                    source.rows, CLASS_BY_ID, ids, roster.position, None, asked.groups
                )
            elif roster.state.size <= asked.limit:
                return roster
            return None

        return await self._answer(asked, read)

    async def listing(self, listing: Listing, ids: Mapping[str, UUID], asked: AskedPage) -> Listed:
        """Return one page of a list.

        Raises that the thing that it belongs to is unknown or gone.
        """

        async def read(source: Source) -> Listed:
            at = await self._moment(source, asked)
            return await self._page(source, listing, ids, at, asked)

        return await self._answer(asked, read)

    async def position(self, moment: Moment) -> int:
        """Return the position of the log that a moment means. Raises `MomentAhead`."""
        return await self._resolved(self.primary, moment)

    async def _answer(self, asked: Asked, read: Callable[[Source], Awaitable[Value]]) -> Value:
        """Return what the replica answers, or the primary: alone it has the log, and so the past."""
        if self.replica is not None and not asked.moment.given:
            answers, value = await self.replica.answer(read)
            if answers:
                return value  # type: ignore[return-value]  # the value of `read`
        return await read(self.primary)

    async def _found(
        self,
        source: Source,
        thing: Thing,
        ids: Mapping[str, UUID],
        at: int | None,
        groups: Confinement,
    ) -> Found:
        if at is None:
            row = await source.thing(thing, ids, groups)
        else:
            statement = thing.statement(at=at, confined=groups is not None)
            (row,) = await source.rows(statement, {**ids, "at": at, **confined.parameters(groups)})
        position, version, item = row
        if item is None:
            await raise_missing(source.rows, thing, ids, position, at, groups)
        return Found(position, version, item)

    async def _page(
        self,
        source: Source,
        listing: Listing,
        ids: Mapping[str, UUID],
        at: int | None,
        asked: AskedPage,
    ) -> Listed:
        given = {name: value for name, value in asked.filters.items() if value is not None}
        scope = cursors.scope(listing.name, **ids, **given)
        where = [queries.FILTERS[name] for name in given]
        parameters: Parameters = {
            **ids,
            **given,
            "at": at,
            "limit": asked.limit,
            **confined.parameters(asked.groups),
        }
        if asked.cursor is not None:
            key = cursors.read(asked.cursor, scope, listing.order.types)
            condition, named = listing.order.after(key)
            where.append(condition)
            parameters |= named
        statement = listing.statement(at=at, where=tuple(where), confined=asked.groups is not None)
        rows = await source.rows(statement, parameters)
        position, version = rows[0][:2]
        if listing.parent is not None and version is None:
            await raise_missing(source.rows, listing.parent, ids, position, at, asked.groups)
        return _listed(rows, scope, asked.limit)

    async def _moment(self, source: Source, asked: Asked) -> int | None:
        """Return the position to read the log at, None for the read tables as they are."""
        await source.wait_for(asked.min_position)
        return await self._resolved(source, asked.moment) if asked.moment.given else None

    async def _resolved(self, source: Source, moment: Moment) -> int:
        async with source.connections.connection() as connection:
            with heard(connection, silence.READ_SECONDS):
                return await moment.resolve(connection)


def _listed(rows: list[Row], scope: str, limit: int) -> Listed:
    """Return the page of rows that are position, version, item and key, one more than the limit."""
    position, version = rows[0][:2]
    items = [row[2] for row in rows if row[2] is not None]
    cursor = None
    if len(items) > limit:
        cursor = cursors.write(scope, tuple(map(_written, rows[limit - 1][3:])))
    return Listed(position, version, items[:limit], cursor)


def _written(value: object) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)

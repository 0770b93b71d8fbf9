"""A server that answers reads: the primary, or a replica."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

import psycopg

from rosterlog.api.reading import confined
from rosterlog.api.reading.connections import Connections, Row
from rosterlog.api.reading.gathering import Gathering
from rosterlog.api.reading.live_rosters import LiveRosters
from rosterlog.domain.errors import ReadTablesBehind, StoreUnavailable
from rosterlog.domain.values import Confinement
from rosterlog.projections.reading import many
from rosterlog.projections.reading.queries import (
    CLASS_BY_ID,
    GROUP_BY_ID,
    MEMBER_BY_ID,
    USER_BY_ID,
    Thing,
)
from rosterlog.projections.shared_sql import CHECKPOINT

WAIT_SECONDS = 5.0
"""Seconds that a read waits for `min_position`, and a command for its own change to be visible."""


class Visibility(Protocol):
    """Knows which position the read tables of a server reflect."""

    async def reached(self, position: int, seconds: float) -> bool:
        """Wait at most so many seconds until the tables reflect `position`; tell whether they do."""


class Source:
    """The sessions of one server, the position of its read tables, and what is read there gathered."""

    def __init__(self, connections: Connections, visibility: Visibility) -> None:
        """Read over `connections`, and wait for positions with `visibility`."""
        self.connections = connections
        self.rows = connections.rows
        self.rosters = LiveRosters(connections.rows)
        self._visibility = visibility
        self._things = {
            (thing.kind, is_confined): self._gathered(thing, confined=is_confined)
            for thing in (GROUP_BY_ID, USER_BY_ID, CLASS_BY_ID, MEMBER_BY_ID)
            for is_confined in (False, True)
        }

    async def wait_for(self, position: int | None) -> None:
        """Wait until the read tables reflect a position.

        Raises `ReadTablesBehind`, `StoreUnavailable`.
        """
        if position is None:
            return
        try:
            reached = await self._visibility.reached(position, WAIT_SECONDS)
        except psycopg.Error as lost:
            raise StoreUnavailable from lost
        if not reached:
            raise ReadTablesBehind(position=position)

    async def position(self) -> int:
        """Return the position that the read tables reflect. Raises `StoreUnavailable`."""
        ((position,),) = await self.rows(CHECKPOINT, {})
        return int(position)

    async def thing(self, thing: Thing, ids: Mapping[str, UUID], groups: Confinement) -> Row:
        """Return position, version and JSON of one thing as it is now.

        Version and JSON are null where it is not there.
        """
        question = (*(ids[name] for name in many.IDS[thing.kind]), *confined.question(groups))
        return await self._things[thing.kind, groups is not None].answer(*question)

    def _gathered(self, thing: Thing, *, confined: bool) -> Gathering:
        statement = many.things(thing, confined=confined)

        async def ask(questions: Sequence[Row]) -> Sequence[Row]:
            columns: list[Any] = [list(column) for column in zip(*questions, strict=True)]
            return await self.rows(statement, columns)

        return Gathering(ask)

"""Rosters of classes as they are now: the most frequent read."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from eventsourcing.application import LRUCache

from rosterlog.api.reading import confined
from rosterlog.api.reading.connections import Row
from rosterlog.api.reading.gathering import Gathering
from rosterlog.domain.values import Confinement
from rosterlog.projections.reading import many

KEPT = 5_000
"""How many rosters to keep as they were written last: about 6 kB each for a class of 30."""
LARGEST = 1000
"""Most members of a roster that is answered from here: no page is longer."""

Rows = Callable[[str, Sequence[Any]], Awaitable[Sequence[Row]]]


class RosterState(NamedTuple):
    """What tells a roster from any other of the class: see `rosterlog.projections.reading.many`."""

    version: int
    size: int
    tables: int


class LiveRoster(NamedTuple):
    """A roster: the position that it is of, its state, and its items as JSON with commas between.

    There is no state where there is no such class, or it is of none of the groups that the caller
    is confined to. There are no items where the caller has them, or a page does not hold them.
    """

    position: int
    state: RosterState | None
    items: str | None


class LiveRosters:
    """Answers with rosters, and writes one out only where it has changed.

    Each answer was looked up in the database: none is stale.
    """

    def __init__(self, rows: Rows) -> None:
        """Read with `rows`, which returns the rows of a statement."""
        self._rows = rows
        self._gatherings = {
            is_confined: self._gathered(confined=is_confined) for is_confined in (False, True)
        }
        # A caller who is confined to groups counts the class's versions in another way.
        self._kept: LRUCache[tuple[UUID, Confinement], tuple[RosterState, str]] = LRUCache(KEPT)

    async def read(
        self, class_id: UUID, known: RosterState | None, groups: Confinement
    ) -> LiveRoster:
        """Return a roster; `known` is the state that the caller has."""
        place = class_id, groups
        kept = self._kept.get(place) if place in self._kept.cache else None
        state_known = known or (kept[0] if kept else (None, None, None))
        question = (class_id, *state_known, *confined.question(groups))
        gathering = self._gatherings[groups is not None]
        position, version, size, tables, items = await gathering.answer(*question)
        if version is None:
            return LiveRoster(position, None, None)
        state = RosterState(version, size, tables)
        if items is not None:
            self._kept.put(place, (state, items))
        elif kept is not None and kept[0] == state:
            items = kept[1]
        return LiveRoster(position, state, items)

    def _gathered(self, *, confined: bool) -> Gathering:
        statement = many.rosters(confined=confined)

        async def ask(questions: Sequence[Row]) -> Sequence[Row]:
            return await self._rows(statement, [LARGEST, *map(list, zip(*questions, strict=True))])

        return Gathering(ask)

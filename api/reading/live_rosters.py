"""Rosters of classes as they are now: the read that everybody does all day."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from eventsourcing.application import LRUCache

from rosterlog.api.access import confinement
from rosterlog.api.reading.gathering import Gathering, Row
from rosterlog.domain.values import Confinement
from rosterlog.projections.reading import many

KEPT = 5_000
"""How many rosters to keep as they were written last: about 6 kB each for a class of 30."""
LARGEST = 1000
"""Most members of a roster that is answered from here: no page is longer."""

_ETAG = re.compile(r'(?:W/)?"(\d{1,18})-([0-9a-f]{1,8})\.([0-9a-f]{1,8})"')

Rows = Callable[[str, Sequence[Any]], Awaitable[Sequence[Row]]]


class _State(NamedTuple):
    """What tells a roster from any other that the class had: see `rosterlog.projections.reading.many`."""

    version: int
    size: int
    tables: int

    @property
    def etag(self) -> str:
        return f'"{self.version}-{self.size:x}.{self.tables:x}"'


class LiveRosters:
    """Answers with rosters, and writes one out only where it has changed.

    Each answer was looked up in the database: none is stale.
    """

    def __init__(self, rows: Rows) -> None:
        """Read with `rows`, which returns the rows of a statement."""
        self._rows = rows
        self._gatherings = {
            confined: self._gathered(confined=confined) for confined in (False, True)
        }
        # Whoever is confined to other groups counts the class's versions in another way.
        self._kept: LRUCache[tuple[UUID, Confinement], tuple[_State, str]] = LRUCache(KEPT)

    async def read(
        self, class_id: UUID, wanted: str | None, groups: Confinement
    ) -> tuple[int, int | None, str, int, str | None]:
        """Return position, version, ETag, size and items of a roster; `wanted` is the ETag of what the caller says to have.

        The version is null where there is no such class, or it is of none of the `groups` that the
        caller is confined to; the items where they are what the caller has, or too many for one
        page.
        """
        place = class_id, groups
        kept = self._kept.get(place) if place in self._kept.cache else None
        known = _known(wanted) or (kept[0] if kept else (None, None, None))
        question = (class_id, *known, *confinement.question(groups))
        position, version, size, tables, items = await self._gatherings[groups is not None].answer(
            *question
        )
        if version is None:
            return position, None, "", 0, None
        state = _State(version, size, tables)
        if items is not None:
            self._kept.put(place, (state, items))
        elif kept is not None and kept[0] == state:
            items = kept[1]
        return position, version, state.etag, size, items

    def _gathered(self, *, confined: bool) -> Gathering:
        statement = many.rosters(confined=confined)

        async def ask(questions: Sequence[Row]) -> Sequence[Row]:
            return await self._rows(statement, [LARGEST, *map(list, zip(*questions, strict=True))])

        return Gathering(ask)


def _known(etag: str | None) -> _State | None:
    found = _ETAG.fullmatch(etag.strip()) if etag else None
    return _State(int(found[1]), int(found[2], 16), int(found[3], 16)) if found else None

"""Answering histories: a page as JSON, or the whole as CSV or NDJSON."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from uuid import UUID

import msgspec
from fastapi import Request
from starlette.responses import Response

from rosterlog.api.access.confinement import groups_of
from rosterlog.api.http.negotiation import JSON, media_type_of
from rosterlog.api.http.streams import PAGE, Items, streamed
from rosterlog.api.reading import cursors
from rosterlog.api.reading.connections import Connections
from rosterlog.api.reading.expensive import CHEAP, ExpensiveReads
from rosterlog.api.reading.missing import unknown
from rosterlog.api.reading.reads import Listed, Reads
from rosterlog.api.rest import answers, headers
from rosterlog.api.rest.schemas.answers import Event
from rosterlog.api.rest.schemas.queries import AnyHistoryPage
from rosterlog.domain.errors import InvalidValue
from rosterlog.domain.values import Confinement
from rosterlog.projections.reading import history
from rosterlog.projections.reading.history import Entry, History, Question
from rosterlog.projections.reading.queries import Thing

_FILTERS = {"type", "actor", "source", "class_id", "user_id", "group_id", "since", "until"}
COLUMNS = tuple(Event.model_fields)


class Histories:
    """The audit readings of the service, as the routes use them."""

    def __init__(self, reads: Reads, expensive: ExpensiveReads) -> None:
        """Read short pages over the connections of `reads`, all else over those of `expensive`."""
        self._reads = reads
        self._expensive = expensive

    async def answer(
        self,
        request: Request,
        asked: History,
        page: AnyHistoryPage,
        thing: Thing | None = None,
        ids: Mapping[str, UUID] | None = None,
    ) -> Response:
        """Answer with a history, of a `thing` that it outlives, or of everything.

        Raises that the thing is unknown.
        """
        await self._reads.wait_for(page.min_position)
        media_type = media_type_of(request)
        is_cheap = media_type == JSON and page.limit <= CHEAP
        reads = self._reads.primary if is_cheap else self._expensive.primary
        reading = _Reading(reads.connections, asked, page, ids or {}, groups_of(request))
        await reading.begin()
        if media_type == JSON:
            entries = await reading.after(reading.cursor(), page.limit + 1)
        else:
            _refuse_pages(page, media_type)
            entries = await reading.after(None, PAGE)
        if thing is not None and not entries and not await reading.is_any():
            raise unknown(thing, ids or {})
        if media_type == JSON:
            return reading.answer(request, entries)
        whole = reading.going_on(self._expensive.connections.later()).whole(entries)
        return streamed(
            media_type,
            COLUMNS,
            whole,
            headers.answered(reading.head),
            f"{asked.name}-{reading.head}",
        )


class _Reading:
    """One request's reading of a history, as of the head that it found."""

    def __init__(
        self,
        connections: Connections,
        asked: History,
        page: AnyHistoryPage,
        ids: Mapping[str, UUID],
        groups: Confinement,
    ) -> None:
        self._connections = connections
        self._page = page
        filters = page.model_dump(include=_FILTERS, exclude_none=True)
        self._scope = cursors.scope(
            asked.name,
            **filters,
            **{f"path_{name}": id_ for name, id_ in ids.items()},
            order=page.order,
        )
        self._subject = {"subject": next(iter(ids.values()), None)}
        self._question = Question(asked, page.order, filters, groups)
        self.head, self._first, self._last = 0, 1, 0

    async def begin(self) -> None:
        """Find the log's head and the positions of the time that is asked for."""
        ((self.head, self._first, self._last),) = await self._connections.rows(
            self._question.span(), dict(self._question.filters)
        )

    def going_on(self, connections: Connections) -> "_Reading":
        """Read over `connections` from now on."""
        self._connections = connections
        return self

    def cursor(self) -> tuple[str, ...] | None:
        return (
            None
            if self._page.cursor is None
            else cursors.read(self._page.cursor, self._scope, history.KEY_TYPES)
        )

    async def after(self, key: tuple[str, ...] | None, limit: int) -> list[Entry]:
        return await self._ask(self._question, self._first, self._last, limit, key)

    async def is_any(self) -> bool:
        """Tell whether there is any entry at all, whatever the filters."""
        return bool(await self._ask(replace(self._question, filters={}), 1, self.head, 1, None))

    async def _ask(
        self, question: Question, first: int, last: int, limit: int, key: tuple[str, ...] | None
    ) -> list[Entry]:
        statement, parameters = question.page(first, last, limit, key)
        # Planned anew each time: which index is best depends on which actor or type it is.
        return question.entries(
            await self._connections.rows(statement, {**parameters, **self._subject}, prepare=False)
        )

    async def whole(self, entries: list[Entry]) -> AsyncIterator[Items]:
        while entries:
            yield [entry.event for entry in entries]
            if len(entries) < PAGE:
                return
            entries = await self.after(entries[-1].key, PAGE)

    def answer(self, request: Request, entries: list[Entry]) -> Response:
        limit = self._page.limit
        cursor = (
            cursors.write(self._scope, entries[limit - 1].key) if len(entries) > limit else None
        )
        items = [msgspec.json.encode(entry.event).decode() for entry in entries[:limit]]
        answer = answers.of_page(request, Listed(self.head, None, items, cursor))
        answer.headers["Vary"] = "Accept"
        return answer


def _refuse_pages(page: AnyHistoryPage, media_type: str) -> None:
    for name in ("limit", "cursor"):
        if name in page.model_fields_set:
            raise InvalidValue(
                f"parameter:{name}",
                "whole",
                f"{media_type} is streamed whole and has no {name}; pages are {JSON}",
            )

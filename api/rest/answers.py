"""Answering reads: a value that was read becomes JSON with the headers of every read."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from rosterlog.api.access.confinement import groups_of
from rosterlog.api.http.negotiation import JSON
from rosterlog.api.reading.moments import Moment
from rosterlog.api.reading.reads import Asked, AskedPage, Listed, Reads
from rosterlog.api.rest import headers
from rosterlog.api.rest.schemas.queries import MemberPage, Page, PageAsOf, Reading, ReadingAsOf
from rosterlog.projections.reading import queries
from rosterlog.projections.reading.queries import Listing, Thing


async def thing(
    request: Request, reads: Reads, thing: Thing, ids: Mapping[str, UUID], reading: Reading
) -> Response:
    """Answer with one thing. Raises that it is unknown or gone."""
    asked = Asked(groups_of(request), moment_of(reading), reading.min_position)
    found = await reads.thing(thing, ids, asked)
    return _answer(request, found.item, found.position, str(found.version))


async def listing(
    request: Request,
    reads: Reads,
    listing: Listing,
    ids: Mapping[str, UUID],
    page: Page | PageAsOf,
    filters: Mapping[str, Any] | None = None,
) -> Response:
    """Answer with one page of a list.

    Raises that the thing that it belongs to is unknown or gone.
    """
    return of_page(request, await reads.listing(listing, ids, _asked(request, page, filters or {})))


async def roster(request: Request, reads: Reads, class_id: UUID, page: MemberPage) -> Response:
    """Answer with a page of a roster. Raises that the class is unknown or gone."""
    if page.model_fields_set <= {"limit", "min_position"}:
        asked = _asked(request, page, {})
        whole = await reads.roster(class_id, headers.known_roster(request), asked)
        if whole is not None and whole.state is not None:
            body = f'{{"items":[{whole.items}],"next_cursor":null}}'
            return _answer(request, body, whole.position, headers.roster_tag(whole.state))
    ids = {"class_id": class_id}
    return await listing(request, reads, queries.MEMBERS, ids, page, {"role": page.role})


def of_page(request: Request, page: Listed) -> Response:
    """Answer with one page of items as JSON."""
    cursor = json.dumps(page.next_cursor)
    body = f'{{"items":[{",".join(page.items)}],"next_cursor":{cursor}}}'
    return _answer(request, body, page.position, headers.page_tag(page.version, body))


def whole(request: Request, body: str, position: int) -> Response:
    """Answer with JSON that is all there is to say."""
    return _answer(request, body, position, headers.content_tag(body))


def moment_of(reading: Reading) -> Moment:
    """Return the moment of the past that is asked for, if any."""
    if isinstance(reading, ReadingAsOf):
        return Moment(reading.as_of, reading.at_position)
    return Moment(None, None)


def _asked(request: Request, page: Page | PageAsOf, filters: Mapping[str, Any]) -> AskedPage:
    return AskedPage(
        groups_of(request), moment_of(page), page.min_position, page.limit, page.cursor, filters
    )


def _answer(request: Request, body: str, position: int, tag: str) -> Response:
    answered = headers.answered(position, tag)
    if headers.is_known(request, tag):
        return Response(status_code=304, headers=answered)
    return Response(body, headers=answered, media_type=JSON)

"""Everything that happened: as a history, and as a feed for other systems."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from rosterlog.api.rest.commands import Serving
from rosterlog.api.rest.openapi import documented
from rosterlog.api.rest.schemas.answers import EventList, Feed
from rosterlog.api.rest.schemas.queries import FeedQuery, HistoryPage
from rosterlog.projections.reading import history

router = APIRouter(prefix="/v1", tags=["history"])


@router.get(
    "/history", operation_id="getHistory", response_model=EventList, responses=documented.history()
)
async def get_history(
    request: Request, page: Annotated[HistoryPage, Query()], service: Serving
) -> Response:
    """Read everything that happened, or what the filters leave of it, with actor and reason."""
    return await service.histories.answer(request, history.EVERYTHING, page)


@router.get(
    "/events", operation_id="followEvents", response_model=Feed, responses=documented.feed()
)
async def follow_events(
    request: Request,
    query: Annotated[FeedQuery, Query()],
    service: Serving,
    last_event_id: Annotated[
        str | None,
        Header(description="As a stream: the last `id` that was seen; goes before `after`."),
    ] = None,
) -> Response:
    """Follow all events by position: a page after `after`, or with `Accept: text/event-stream` a stream that stays open."""
    return await service.feed.answer(request, query, last_event_id)

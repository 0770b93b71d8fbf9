"""Everything that happened: the history of all."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api import documented
from api.commands import Serving
from api.schemas import EventList, HistoryPage
from projections import history

router = APIRouter(prefix="/v1", tags=["history"])


@router.get("/history", operation_id="getHistory", response_model=EventList, responses=documented.history())
async def get_history(request: Request, page: Annotated[HistoryPage, Query()], service: Serving) -> Response:
    """Read everything that happened, or what the filters leave of it, with actor and reason."""
    return await service.histories.answer(request, history.EVERYTHING, page)

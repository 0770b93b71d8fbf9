"""What Prometheus asks for."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import PlainTextResponse, Response

from api.commands import Serving
from domain.errors import StoreUnavailable
from projections.measures import measure

router = APIRouter(tags=["operations"])


@router.get("/metrics", operation_id="getMetrics", response_class=PlainTextResponse)
async def metrics(service: Serving) -> Response:
    """Answer with the service's metrics in Prometheus' text format, whether or not the database answers."""
    try:
        measures = await service.ask(measure)
    except StoreUnavailable:
        measures = None
    return Response(service.metrics.exposition(measures, service.pools()), media_type=CONTENT_TYPE_PLAIN_0_0_4)

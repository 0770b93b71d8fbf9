"""What Prometheus asks for."""

from functools import partial

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import PlainTextResponse, Response

from rosterlog.api.ops.metrics import Replica
from rosterlog.api.rest.commands import Serving
from rosterlog.api.service import Service
from rosterlog.domain.errors import StoreUnavailable
from rosterlog.projections.measures import measure, waiting

router = APIRouter(tags=["operations"])


@router.get("/metrics", operation_id="getMetrics", response_class=PlainTextResponse)
async def metrics(service: Serving) -> Response:
    """Answer with the service's metrics in Prometheus' text format, whether or not the database answers."""
    try:
        measures = await service.ask(measure)
    except StoreUnavailable:
        measures = None
    service.note()
    return Response(
        service.metrics.exposition(measures, await _replica(service)),
        media_type=CONTENT_TYPE_PLAIN_0_0_4,
    )


async def _replica(service: Service) -> Replica | None:
    position = None
    try:
        if service.reads.replica is None:
            return None
        position = await service.reads.replica.position()
        return Replica(position, await service.ask(partial(waiting, position=position)))
    except StoreUnavailable:
        return Replica(position, None)

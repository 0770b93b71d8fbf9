"""The projection and its rebuild, for operators."""

from dataclasses import asdict

from fastapi import APIRouter
from starlette.responses import Response

from rosterlog.api.http.endpoints import JsonRoute
from rosterlog.api.rest.commands import Serving
from rosterlog.api.rest.openapi import documented
from rosterlog.api.rest.schemas.answers import Projections, RebuildProgress, RebuildStarted
from rosterlog.api.rest.schemas.bodies import Nothing
from rosterlog.projections.rebuild import rebuilding as rebuild
from rosterlog.projections.status import projection_status

router = APIRouter(prefix="/v1/projections", tags=["operations"], route_class=JsonRoute)


@router.get("", operation_id="getProjections", responses=documented.problems(503))
async def get_projections(service: Serving) -> Projections:
    """Read how far the read tables are, and who projects."""
    return Projections.model_validate(asdict(await service.ask(projection_status)))


@router.post(
    "/rebuild",
    operation_id="startRebuild",
    status_code=202,
    responses=documented.problems(409, 415, 422, 503),
)
async def start_rebuild(_: Nothing, service: Serving) -> RebuildStarted:
    """Derive the read tables anew from the log, while reads and commands go on. One at a time."""
    started = await service.start_rebuild()
    return RebuildStarted(id=started.id)


@router.get("/rebuild", operation_id="getRebuild", responses=documented.problems(503))
async def get_rebuild(service: Serving) -> RebuildProgress:
    """Read where the newest rebuild stands."""
    return RebuildProgress.model_validate(await service.ask(rebuild.state), from_attributes=True)


@router.delete(
    "/rebuild", operation_id="cancelRebuild", status_code=204, responses=documented.problems(503)
)
async def cancel_rebuild(service: Serving) -> Response:
    """Ask the running rebuild to end; where none runs, nothing happens."""
    await service.cancel_rebuild()
    return Response(status_code=204)

"""The service itself: is it alive, is it ready, and where to go from here."""

from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from api import documented, problems
from api.commands import Serving
from api.schemas.answers import Alive, Ready, Start
from migrations import commands as migrations

router = APIRouter(tags=["operations"])

_UNREADY = {"stalled", "leaderless"}


@router.get("/healthz", operation_id="isAlive", response_model=Alive)
async def healthz() -> dict[str, str]:
    """Answer as long as the process is alive."""
    return {"status": "alive"}


@router.get("/readyz", operation_id="isReady", response_model=Ready, responses=documented.problems(503))
async def readyz(request: Request, service: Serving) -> Response:
    """Answer 200 if the database answers, is migrated, and the projection is not stalled."""
    revision, status = await service.standing()
    if status is None:
        detail = f"The database is at migration {revision}, this release needs {migrations.newest()}."
        return problems.respond(request, "not-migrated", HTTPStatus.SERVICE_UNAVAILABLE, detail)
    if status.state in _UNREADY:
        detail = f"The projection is {status.state} at position {status.checkpoint} of {status.head}: {status.failure or 'no progress'}"
        return problems.respond(request, f"projection-{status.state}", HTTPStatus.SERVICE_UNAVAILABLE, detail)
    await service.reads.replica_position()
    return JSONResponse({"status": "ready", "state": status.state, "lag": status.lag})


@router.get("/", operation_id="getStarted", response_model=Start)
async def root() -> dict[str, str]:
    """Say where to go."""
    return {
        "service": "rosterlog",
        "api": "/docs",
        "openapi": "/openapi.json",
        "health": "/healthz",
        "ready": "/readyz",
        "metrics": "/metrics",
        "classes": "/v1/classes",
    }


@router.get("/problems/{rule}", operation_id="explainProblem", response_class=PlainTextResponse, responses=documented.problems(404, 422))
async def explain(request: Request, rule: str) -> Response:
    """Explain a problem's `type`."""
    explanation = problems.explanations().get(rule)
    if explanation is None:
        return problems.respond(request, "not-found", HTTPStatus.NOT_FOUND, f"There is no problem called {rule}.")
    return PlainTextResponse(explanation)

"""The service itself: is it alive, is it ready, and where to go from here."""

from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from rosterlog.api.http import problems
from rosterlog.api.ops.readiness import DEGRADED
from rosterlog.api.rest.commands import Serving
from rosterlog.api.rest.openapi import documented
from rosterlog.api.rest.remedies import REMEDIES
from rosterlog.api.rest.schemas.answers import Alive, Ready, Start
from rosterlog.domain.errors import StoreUnavailable

router = APIRouter(tags=["operations"])


@router.get("/healthz", operation_id="isAlive", response_model=Alive)
async def healthz() -> dict[str, str]:
    """Answer as long as the process is alive."""
    return {"status": "alive"}


@router.get(
    "/readyz", operation_id="isReady", response_model=Ready, responses=documented.problems(503)
)
async def readyz(request: Request, service: Serving) -> Response:
    """Answer 200 as long as this process can answer reads or record commands, and say what is degraded."""
    migrated, able, state, degraded = await service.condition()
    if not migrated:
        detail = problems.explanations()["not-migrated"]
        return problems.respond(request, "not-migrated", HTTPStatus.SERVICE_UNAVAILABLE, detail)
    if not able or (degraded and request.app.state.ready_strict):
        return _unready(
            request, next(word for word in degraded if able or word != "keys-unreadable")
        )
    return JSONResponse({"status": "ready", "state": state, "degraded": degraded})


def _unready(request: Request, word: str) -> Response:
    rule = word if word in problems.explanations() else StoreUnavailable.rule
    return problems.respond(request, rule, HTTPStatus.SERVICE_UNAVAILABLE, DEGRADED[word])


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


@router.get(
    "/problems/{rule}",
    operation_id="explainProblem",
    response_class=PlainTextResponse,
    responses=documented.problems(404, 422),
)
async def explain(request: Request, rule: str) -> Response:
    """Explain a problem's `type`, and what to do about it."""
    explanation = problems.explanations().get(rule)
    if explanation is None:
        return problems.respond(
            request, "not-found", HTTPStatus.NOT_FOUND, f"There is no problem called {rule}."
        )
    return PlainTextResponse(
        f"{problems.title(rule)}\n\n{explanation}\n\nWhat to do: {REMEDIES[rule]}\n"
    )

"""The HTTP application: the composition root of the server."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import NamedTuple

from fastapi import APIRouter, FastAPI

from rosterlog.api.access.auth import Authentication
from rosterlog.api.access.local import local_only
from rosterlog.api.access.tokens import Tokens
from rosterlog.api.http.door import Door
from rosterlog.api.http.operations import Operations
from rosterlog.api.http.policy import Policy
from rosterlog.api.ops.database import Databases
from rosterlog.api.ops.logs import RequestLines
from rosterlog.api.ops.metrics import Metrics
from rosterlog.api.rest.openapi import documented
from rosterlog.api.rest.policy import OPEN_METRICS, POLICIES
from rosterlog.api.rest.routes import (
    bulk,
    classes,
    docs,
    events,
    groups,
    members,
    metrics,
    projections,
    service,
    users,
)
from rosterlog.api.service import Service
from rosterlog.api.settings import Settings

_DESCRIPTION = """
Who is in which class, in which role, since when, and who changed it. Every change is an event \
with its actor and reason, and nothing is
ever overwritten: read the roster as it is, as it was at any moment, or its history.

* A command answers once its change is visible to reads, \
with the `Roster-Position` of its own event.
* `as_of` and `at_position` read the past. `min_position` waits for a change of your own.
* Every refusal is a problem (RFC 9457) that names the rule and the place. \
Its `type` leads to an explanation.
"""


class Part(NamedTuple):
    """Routes of the application, and their policies by the operations' ids."""

    routers: Sequence[APIRouter]
    policies: Mapping[str, Policy]


def create_app(
    conninfo: Callable[[], str], settings: Settings | None = None, *more: Part
) -> FastAPI:
    """Return the application on the database that `conninfo` names when the application starts.

    Without `settings` it runs on the defaults. It answers the REST API and `more`.
    """
    settings = settings or Settings.defaults()
    counted = Metrics()
    tokens = None if settings.auth_keys is None else Tokens(settings)
    lines = RequestLines() if settings.access_log else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running = Service(
            Databases.of(conninfo(), settings), counted, settings, tokens.keys if tokens else None
        )
        app.state.service = running
        if tokens is not None:
            tokens.keys.prepare()
        async with running.running():
            yield

    app = FastAPI(
        title="Rosterlog",
        version=version("rosterlog"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.tokens, app.state.ready_strict = tokens, settings.ready_strict
    parts = [_rest(app, settings), *more]
    for router in (router for part in parts for router in part.routers):
        app.router.routes.extend(router.routes)
    documented.complete(app)
    policies = {id_: policy for part in parts for id_, policy in part.policies.items()}
    # The framework starts and ends the application, and describes it. Requests go past it.
    app.middleware_stack = Door(
        app.router,
        Operations(app.routes, policies),
        local_only if tokens is None else Authentication(tokens),
        counted,
        lines,
    )
    return app


def _rest(app: FastAPI, settings: Settings) -> Part:
    routers = [
        routes.router
        for routes in (members, classes, users, groups, bulk, events, projections, service, metrics)
    ]
    open_metrics = {"getMetrics": OPEN_METRICS} if settings.metrics_open else {}
    return Part([*routers, docs.router(app)], {**POLICIES, **open_metrics})

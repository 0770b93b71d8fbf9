"""The HTTP application: the composition root of the server."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from rosterlog.api.access.auth import Authentication
from rosterlog.api.access.local import LocalOnly
from rosterlog.api.access.tokens import Tokens
from rosterlog.api.http import problems
from rosterlog.api.http.asking import Asking
from rosterlog.api.http.bodies import HeadAsGet, JsonBodies
from rosterlog.api.http.once import Once
from rosterlog.api.http.operations import Dispatch, Matching, Operations
from rosterlog.api.http.requests import Requests
from rosterlog.api.ops.database import Databases
from rosterlog.api.ops.logs import access_logger
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
Who is in which class, in which role, since when, and who changed it. Every change is an event with its actor and reason, and nothing is
ever overwritten: read the roster as it is, as it was at any moment, or its history.

* A command answers once its change is visible to reads, with the `Roster-Position` of its own event.
* `as_of` and `at_position` read the past. `min_position` waits for a change of your own.
* Every refusal is a problem (RFC 9457) that names the rule and the place. Its `type` leads to an explanation.
"""


def create_app(conninfo: Callable[[], str], settings: Settings | None = None) -> FastAPI:
    """Return the application on the database that `conninfo` names when the application starts; without settings, on the defaults."""
    settings = settings or Settings.defaults()
    counted = Metrics()
    tokens = None if settings.auth_keys is None else Tokens(settings)

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
    routers = [
        routes.router
        for routes in (members, classes, users, groups, bulk, events, projections, service, metrics)
    ]
    for router in (*routers, docs.router(app)):
        app.router.routes.extend(router.routes)
    problems.install(app)
    documented.complete(app)
    policies = {**POLICIES, **({"getMetrics": OPEN_METRICS} if settings.metrics_open else {})}
    # The framework's own search for a route never runs: it would be a second reading of the path.
    app.router.middleware_stack = Dispatch(app.router.app)
    app.add_middleware(JsonBodies)
    app.add_middleware(Asking)
    app.state.tokens, app.state.ready_strict = tokens, settings.ready_strict
    if tokens is not None:
        app.add_middleware(Authentication, tokens=tokens)
    else:
        app.add_middleware(LocalOnly)
    app.add_middleware(Once)
    app.add_middleware(Matching, operations=Operations(app.routes, policies))
    app.add_middleware(
        Requests, metrics=counted, access=access_logger() if settings.access_log else None
    )
    app.add_middleware(HeadAsGet)
    return app

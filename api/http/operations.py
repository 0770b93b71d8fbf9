"""Finding the operation that a request asks for: once, at the edge, and for everything behind it.

The path is compared as it came, byte by byte and segment by segment; nothing is decoded, trimmed or
redirected. Every path of ours is made of unreserved characters (RFC 3986, section 2.3), so a path
that holds anything else is of no operation.
"""

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rosterlog.api.http import problems
from rosterlog.api.rest.policy import Policy

_UNRESERVED = string.ascii_letters + string.digits + "-._~"
_HELP = "The API is described at /docs."


@dataclass(frozen=True)
class Operation:
    """What a request can ask for: one method of one path."""

    id: str
    method: str
    template: str
    route: Route
    policy: Policy
    parameters: frozenset[str]
    """The names that its query may hold."""
    names: tuple[str, ...]
    """The names of the parameters in its path, in order."""


@dataclass
class _Node:
    """A place in the tree of all paths; `here` holds its operations by method."""

    literal: dict[str, "_Node"] = field(default_factory=dict)
    parameter: "_Node | None" = None
    here: dict[str, Operation] = field(default_factory=dict)


class Operations:
    """All operations, to be found by method and path."""

    def __init__(self, routes: Iterable[BaseRoute], policies: Mapping[str, Policy]) -> None:
        """Take the operations of `routes`.

        Raises `LookupError` where one has no policy, or a policy has none; `TypeError` for a mount.
        """
        self.all = {
            operation.id: operation
            for route in routes
            for operation in [_operation(route, policies)]
        }
        if idle := policies.keys() - self.all.keys():
            raise LookupError(
                f"api/rest/policy.py has rows of no operation: {', '.join(sorted(idle))}"
            )
        self._root = _Node()
        for operation in self.all.values():
            self._add(operation)

    def _add(self, operation: Operation) -> None:
        node = self._root
        for part in operation.template.split("/"):
            if part.startswith("{"):
                node.parameter = node = node.parameter or _Node()
            else:
                node = node.literal.setdefault(part, _Node())
        if operation.method in node.here:
            raise LookupError(
                f"{operation.id} and {node.here[operation.method].id} have one method and path"
            )
        node.here[operation.method] = operation

    def at(self, path: str) -> tuple[Mapping[str, Operation], list[str]]:
        """Return the operations of a path by method, none where it is no path of ours, and the values of its parameters."""
        node = self._root
        values: list[str] = []
        for part in path.split("/"):
            below = node.literal.get(part)
            if below is None:
                below = node.parameter
                if below is None or not _is_value(part):
                    return {}, values
                values.append(part)
            node = below
        return node.here, values


def _is_value(part: str) -> bool:
    return not part.strip(_UNRESERVED) and part.strip(".") != ""


def _operation(route: BaseRoute, policies: Mapping[str, Policy]) -> Operation:
    if not isinstance(route, Route):
        raise TypeError(f"{route} is no route of one path")
    id_ = getattr(route, "operation_id", None) or route.name
    methods = (route.methods or set()) - {"HEAD"}
    if id_ not in policies or len(methods) != 1:
        raise LookupError(
            f"{id_} ({' '.join(methods)} {route.path}) needs one method, and a row in api/rest/policy.py"
        )
    policy = policies[id_]
    if isinstance(route, APIRoute) and (route.body_field is None) != (policy.body == 0):
        raise LookupError(
            f"{id_} takes a body or takes none, and its row in api/rest/policy.py says otherwise"
        )
    names = tuple(part[1:-1] for part in route.path.split("/") if part.startswith("{"))
    return Operation(id_, min(methods), route.path, route, policy, _parameters(route), names)


def _parameters(route: Route) -> frozenset[str]:
    if not isinstance(route, APIRoute):
        return frozenset()
    names: set[str] = set()
    for field_ in route.dependant.query_params:
        model = getattr(field_.field_info.annotation, "model_fields", None)
        names |= (
            {field_.alias}
            if model is None
            else {inner.alias or name for name, inner in model.items()}
        )
    return frozenset(names)


def operation_of(scope: Scope) -> Operation:
    """Return the operation that a request was matched with."""
    operation: Operation = scope["operation"]
    return operation


def address_of(request: Request) -> str:
    """Return method and path in the one form that tells operations on different things apart: ids in lower case."""
    operation = operation_of(request.scope)
    return f"{operation.method} {operation.template.format_map({k: v.lower() for k, v in request.path_params.items()})}"


class Matching:
    """Finds the operation of each request; what has none is refused: 404, or 405 where the path has others."""

    def __init__(self, app: ASGIApp, *, operations: Operations) -> None:
        """Wrap an ASGI app."""
        self._app = app
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        assert scope["type"] == "http", "there are no web sockets"
        found, values = self._operations.at(scope["raw_path"].decode("latin-1"))
        operation = found.get(scope["method"])
        if operation is None:
            await _refused(Request(scope), found)(scope, receive, send)
            return
        scope["operation"] = operation
        scope["path_params"] = dict(zip(operation.names, values, strict=True)) if values else {}
        await self._app(scope, receive, send)


def _refused(request: Request, found: Mapping[str, Operation]) -> ASGIApp:
    asked = f"{request.method} {request.scope['path']}"
    if not found:
        return problems.respond(request, "not-found", 404, f"{asked}: Not Found. {_HELP}")
    methods = sorted({*found, *(["HEAD"] if "GET" in found else [])})
    allowed = {"Allow": ", ".join(methods)}
    return problems.respond(
        request, "method-not-allowed", 405, f"{asked}: Method Not Allowed. {_HELP}", headers=allowed
    )


class Dispatch:
    """Hands each request to the operation that it was matched with, in place of the framework's own search."""

    def __init__(self, lifespan: ASGIApp) -> None:
        """Leave the start and the end of the application to `lifespan`."""
        self._lifespan = lifespan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        route = operation_of(scope).route
        scope["route"], scope["endpoint"] = route, route.endpoint
        await route.app(scope, receive, send)

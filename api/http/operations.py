"""All operations, each found by method and path.

The path is compared as it came, byte by byte and segment by segment; nothing is decoded, trimmed or
redirected. Every path of ours is made of unreserved characters (RFC 3986, section 2.3), so a path
that holds any other character belongs to no operation.
"""

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from rosterlog.api.http.endpoints import Endpoint, endpoint_of
from rosterlog.api.http.policy import Policy

_UNRESERVED = string.ascii_letters + string.digits + "-._~"
_TABLE = "api/rest/policy.py"


@dataclass(frozen=True)
class Operation:
    """What a request can ask for: one method of one path."""

    id: str
    method: str
    template: str
    policy: Policy
    endpoint: Endpoint
    """Answers a request that keeps to the policy."""
    parameters: frozenset[str]
    """The names that the query may hold."""
    names: tuple[str, ...]
    """The names of the parameters in the path, in order."""


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

        Raises `LookupError` where a route has no policy, a policy has no route, or the two
        disagree; `TypeError` for a mount.
        """
        self.all = {
            operation.id: operation
            for route in routes
            for operation in [_operation(route, policies)]
        }
        if idle := policies.keys() - self.all.keys():
            raise LookupError(f"{_TABLE} has rows of no operation: {', '.join(sorted(idle))}")
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
        """Return the operations of a path by method, and the values of the path's parameters.

        A path that is none of ours has no operations.
        """
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
        named = f"{id_} ({' '.join(methods)} {route.path})"
        raise LookupError(f"{named} needs one method, and a row in {_TABLE}")
    policy = policies[id_]
    if isinstance(route, APIRoute):
        _refuse_another_policy(id_, route, policy)
    names = tuple(part[1:-1] for part in route.path.split("/") if part.startswith("{"))
    parameters = frozenset() if policy.query is None else _parameters(policy.query)
    return Operation(id_, min(methods), route.path, policy, endpoint_of(route), parameters, names)


def _refuse_another_policy(id_: str, route: APIRoute, policy: Policy) -> None:
    if (route.body_field is None) != (policy.body == 0):
        raise LookupError(
            f"{id_} takes a body or takes none, and its row in {_TABLE} says otherwise"
        )
    taken = [one.field_info.annotation for one in route.dependant.query_params]
    if taken != ([] if policy.query is None else [policy.query]):
        raise LookupError(f"{id_} takes another query than its row in {_TABLE} says")


def _parameters(form: type[BaseModel]) -> frozenset[str]:
    return frozenset(one.alias or name for name, one in form.model_fields.items())


def operation_of(scope: Scope) -> Operation:
    """Return the operation that a request was matched with."""
    operation: Operation = scope["operation"]
    return operation


def address_of(request: Request) -> str:
    """Return method and path in one form for each operation on each thing: ids in lower case."""
    operation = operation_of(request.scope)
    values = {name: value.lower() for name, value in request.path_params.items()}
    return f"{operation.method} {operation.template.format_map(values)}"

"""How an operation's function is called: with parameters that were read from the request.

FastAPI reads the signature of the function once and describes it in the OpenAPI document. Its own
way from a request to the parameters takes longer than all our checks (decision 36), so this module
reads them instead, with the same validators and the same errors.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.routing import Route

from rosterlog.api.http import strict_json
from rosterlog.api.http.bodies import INLINE_BYTES, apart
from rosterlog.api.http.negotiation import JSON
from rosterlog.api.http.problems import InvalidForm, errors_of
from rosterlog.api.http.strict_json import BadJson

MOST_FIELDS = 100
"""Most fields of an object that is not settings.

Many more than any has, so that an object of 30,000 fields is not 30,000 errors.
"""

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]
"""Answers a request; raises a refusal."""
_Read = Callable[[Request], tuple[Any, list[dict[str, Any]]]]
"""Reads one parameter; returns it, and what is wrong with it."""


class JsonRoute(APIRoute):
    """A route of the API; a kind of routes that answers in another way inherits from it."""

    def get_route_handler(self) -> Endpoint:
        """Return the endpoint of the route."""
        return _called(self)


def endpoint_of(route: Route) -> Endpoint:
    """Return what answers the requests of a route.

    Raises `TypeError` where the route's function wants a parameter that this module can't read.
    """
    if isinstance(route, JsonRoute):
        return route.get_route_handler()
    if isinstance(route, APIRoute):
        return _called(route)
    endpoint: Endpoint = route.endpoint
    return endpoint


def _called(route: APIRoute) -> Endpoint:
    function, taken = route.endpoint, route.dependant
    given = _given(route)
    reads = _reads(taken)
    form: Any = None if route.body_field is None else route.body_field.field_info.annotation
    body = taken.body_params[0].name if form else ""
    written = _writer(route)

    async def answer(request: Request) -> Response:
        values: dict[str, Any] = {}
        if form is not None:
            values[body] = await _body(form, request.scope["state"]["body"])
        for name, give in given:
            values[name] = await give(request)
        errors: list[dict[str, Any]] = []
        for name, read in reads:
            values[name], wrong = read(request)
            errors += wrong
        if errors:
            raise RequestValidationError(errors)
        if taken.request_param_name:
            values[taken.request_param_name] = request
        answered = await function(**values)
        return answered if isinstance(answered, Response) else written(answered)

    return answer


def _given(route: APIRoute) -> list[tuple[str, Callable[[Request], Awaitable[Any]]]]:
    """Return the dependencies by the names of their parameters; each takes the request alone."""
    given = []
    for one in route.dependant.dependencies:
        if one.name is None or one.call is None or _wants_more_than_the_request(one):
            raise TypeError(f"{route.operation_id}: a dependency takes the request and no more")
        given.append((one.name, one.call))
    return given


def _wants_more_than_the_request(one: Dependant) -> bool:
    return bool(
        one.path_params
        or one.query_params
        or one.header_params
        or one.cookie_params
        or one.body_params
        or one.dependencies
    )


def _reads(taken: Dependant) -> list[tuple[str, _Read]]:
    """Return how each parameter is read, in the order in which FastAPI reads them."""
    if taken.cookie_params:
        raise TypeError("a cookie is no parameter of ours")
    return [
        *((one.name, _path(one)) for one in taken.path_params),
        *((one.name, _query(one)) for one in taken.query_params),
        *((one.name, _header(one)) for one in taken.header_params),
    ]


def _path(field: Any) -> _Read:
    return lambda request: field.validate(
        request.scope["path_params"][field.alias], {}, loc=("path", field.alias)
    )


def _query(field: Any) -> _Read:
    return lambda request: field.validate(request.scope["state"]["query"], {}, loc=("query",))


def _header(field: Any) -> _Read:
    name = field.name.replace("_", "-")

    def read(request: Request) -> tuple[Any, list[dict[str, Any]]]:
        value = request.headers.get(name)
        if value is None:
            return field.get_default(), []
        result: tuple[Any, list[dict[str, Any]]] = field.validate(value, {}, loc=("header", name))
        return result

    return read


def _writer(route: APIRoute) -> Callable[[Any], Response]:
    """Return what writes a value of the route's model as JSON."""
    field: Any = route.response_field
    status = route.status_code or 200

    def write(value: Any) -> Response:
        made, wrong = field.validate(value, {}, loc=("response",))
        assert not wrong, wrong
        return Response(field.serialize_json(made), status, media_type=JSON)

    return write


async def _body(form: type[BaseModel], body: bytes) -> BaseModel:
    return _made(form, body) if len(body) <= INLINE_BYTES else await apart(_made, form, body)


def _made(form: type[BaseModel], body: bytes) -> BaseModel:
    try:
        value = strict_json.read(body)
        refuse_many_fields(value)
        return form.model_validate(value)
    except BadJson as wrong:
        raise InvalidForm(
            [{"pointer": wrong.pointer, "rule": wrong.rule, "detail": wrong.detail}]
        ) from None
    except ValidationError as wrong:
        raise InvalidForm(errors_of(wrong, "body")) from None


def refuse_many_fields(value: object) -> None:
    """Raise `BadJson` for an object with more fields than any of the API's has."""
    if isinstance(value, dict) and len(value) > MOST_FIELDS:
        raise BadJson(
            "", "fields", f"an object with {len(value)} fields; {MOST_FIELDS} are allowed"
        )

"""The door calls an operation's function as FastAPI would, and only functions that it can call."""

import asyncio
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Cookie, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import Response, StreamingResponse

from rosterlog.api.app import Part, create_app
from rosterlog.api.http.endpoints import JsonRoute, endpoint_of
from rosterlog.api.http.negotiation import JSON
from rosterlog.api.http.policy import Policy
from rosterlog.api.ops.logs import request_ids
from tests.api.client import unknown_id

OPEN_TO_ALL = Policy(None, confinable=True, offers=(JSON,), body=0)


@pytest.fixture(scope="module")
def reads() -> list[APIRoute]:
    """Return the routes that take a query and no body."""
    routes = [route for route in create_app(lambda: "").routes if isinstance(route, APIRoute)]
    return [route for route in routes if route.dependant.query_params and not route.body_field]


def request_of(route: APIRoute, values: dict[str, str], query: dict[str, str]) -> Request:
    app = FastAPI()
    app.state.service = SimpleNamespace()
    return Request(
        {
            "type": "http",
            "method": "GET",
            "path": route.path,
            "query_string": str(httpx.QueryParams(query)).encode(),
            "headers": [],
            "path_params": values,
            "app": app,
            "state": {"query": query, "request_id": unknown_id()},
            "operation": SimpleNamespace(policy=OPEN_TO_ALL),
        }
    )


async def refused(route: APIRoute, request: Request, *, by_framework: bool) -> Any:
    """Return what is wrong with the form of a request, None where nothing is."""
    handle = APIRoute.get_route_handler(route) if by_framework else endpoint_of(route)
    async with AsyncExitStack() as stack:
        kinds = ("middleware", "inner", "function")
        request.scope.update({f"fastapi_{kind}_astack": stack for kind in kinds})
        try:
            await handle(request)
        except RequestValidationError as wrong:
            return [{**one, "ctx": None} for one in wrong.errors()]
        except AttributeError:
            # The function was called, and there is no service.
            return None


@pytest.mark.parametrize("text", ["", "x", "7", "-1", " 1", "1.0", "true", "2026-13-01", "\ufffd"])
def test_a_parameter_is_refused_as_the_framework_refuses_it(
    reads: list[APIRoute], text: str
) -> None:
    found = []
    for route in reads:
        (query,) = route.dependant.query_params
        form: Any = query.field_info.annotation
        names = [field.alias or name for name, field in form.model_fields.items()]
        values = {field.alias: "no-id" for field in route.dependant.path_params}
        for named in (dict.fromkeys(names, text), *({name: text} for name in names)):
            ours, theirs = (
                asyncio.run(refused(route, request_of(route, values, named), by_framework=by))
                for by in (False, True)
            )
            assert ours == theirs, (route.operation_id, named)
            found.append(ours)
    assert any(found)
    assert None in found


def routed(function: Any, *, kind: type[APIRoute] = JsonRoute) -> APIRoute:
    router = APIRouter(route_class=kind)
    router.add_api_route("/tried", function, operation_id="try", include_in_schema=False)
    (route,) = router.routes
    assert isinstance(route, APIRoute)
    return route


@pytest.mark.parametrize("kind", [JsonRoute, APIRoute])
def test_a_function_that_wants_what_the_door_can_not_give_ends_the_start(
    kind: type[APIRoute],
) -> None:
    def limit(limit: int) -> int:
        return limit

    async def with_query_in_a_dependency(limit: Annotated[int, Depends(limit)]) -> Response:
        return Response(str(limit))

    async def with_cookie(session: Annotated[str, Cookie()]) -> Response:
        return Response(session)

    for function in (with_query_in_a_dependency, with_cookie):
        with pytest.raises(TypeError):
            endpoint_of(routed(function, kind=kind))


async def broken() -> Response:
    raise RuntimeError("by a fault")


async def broken_later() -> Response:
    async def pieces() -> Any:
        yield b"[1,"
        raise RuntimeError("by a fault")

    return StreamingResponse(pieces(), media_type=JSON)


def answered(*functions: Any, path: str) -> httpx.Response:
    router = APIRouter()
    for function in functions:
        name = function.__name__
        router.add_api_route(f"/{name}", function, operation_id=name, include_in_schema=False)
    policies = {function.__name__: OPEN_TO_ALL for function in functions}
    app = create_app(lambda: "", None, Part([router], policies))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path)

    return asyncio.run(ask())


def test_a_fault_is_answered_once_and_with_the_id_of_the_request() -> None:
    answer = answered(broken, path="/broken")
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal-error")
    assert answer.headers.get_list("x-request-id") == [answer.json()["request_id"]]


def test_a_fault_behind_the_head_of_an_answer_is_left_to_the_server() -> None:
    with pytest.raises(RuntimeError, match="by a fault"):
        answered(broken_later, path="/broken_later")


def test_a_value_is_written_as_the_model_of_its_route() -> None:
    async def named() -> dict[str, UUID]:
        return {"id": UUID(int=7)}

    assert answered(named, path="/named").json() == {"id": str(UUID(int=7))}


def test_request_ids_are_random_uuids_and_each_comes_once() -> None:
    ids = request_ids()
    drawn = [UUID(next(ids)) for _ in range(2000)]
    assert len(set(drawn)) == 2000
    assert {(one.version, one.variant) for one in drawn} == {(4, "specified in RFC 4122")}
    assert {str(one)[19] for one in drawn} == set("89ab")

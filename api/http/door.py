"""The door: all that happens to every request, in this order.

A request gets an id, is matched with its operation, and is checked by the operation's policy:
parameters and headers that are given twice, token or machine of the caller, query, `Accept`, body.
Then the operation's endpoint answers it. The request is counted and timed, and leaves one line in
the log. Every refusal is a problem.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import perf_counter
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rosterlog.api.http import bodies, problems
from rosterlog.api.http.negotiation import preferred
from rosterlog.api.http.operations import Operation, Operations
from rosterlog.api.http.policy import Policy
from rosterlog.api.ops.logs import REQUEST, RequestLines, request_ids
from rosterlog.api.ops.metrics import Metrics

CLIENT_GONE = 499
"""Stands for the status of a request whose caller did not wait for the answer."""
UNROUTED = "none"
"""Stands for the route of a request that belongs to no operation."""
MOST_PARAMETERS = 100
"""Most query parameters: many more than any operation has, so that reading them is little work."""
COUNT_ONCE = {
    name.lower().encode(): name
    for name in (
        "Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Origin",
        "Roster-Actor", "Roster-Reason", "Sec-Fetch-Site",
    )
}  # fmt: skip
"""Headers that we read and that have one value.

The others that we read are lists, and several lines are one list (RFC 9110, section 5.3): Accept,
If-Match, If-None-Match and Prefer. A second Host or Content-Length is no HTTP/1.1, and ends in
`protocol`.
"""

_HELP = "The API is described at /docs."

Admit = Callable[[Request, Policy], Awaitable[Response | None]]
"""Returns the refusal of a request whose caller may not use an operation of this policy."""


class Door:
    """An ASGI application that answers each request by its operation."""

    def __init__(
        self,
        lifespan: ASGIApp,
        operations: Operations,
        admit: Admit,
        metrics: Metrics,
        lines: RequestLines | None,
    ) -> None:
        """Answer with `operations`; `lines` is None for no log of requests.

        `lifespan` starts and ends the application.
        """
        self._lifespan = lifespan
        self._operations = operations
        self._admit = admit
        self._metrics = metrics
        self._lines = lines
        self._ids = request_ids()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or start and end the application."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        assert scope["type"] == "http", "there are no web sockets"
        if scope["method"] == "HEAD":
            scope, receive, send = _as_get(scope, send)
        began = perf_counter()
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = next(self._ids)
        REQUEST.set(state)
        status, seconds = CLIENT_GONE, 0.0

        async def send_with_id(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], perf_counter() - began
                message["headers"].append((b"x-request-id", request_id.encode()))
            await send(message)

        request = Request(scope, receive)
        try:
            try:
                response = await self._answer(request)
                await response(scope, receive, send_with_id)
            except ClientDisconnect:
                pass
            except Exception as error:
                if seconds:
                    status = 500
                    raise
                await problems.of(request, error)(scope, receive, send_with_id)
        finally:
            self._note(scope, status, seconds, perf_counter() - began)

    async def _answer(self, request: Request) -> Response:
        scope = request.scope
        found, values = self._operations.at(scope["raw_path"].decode("latin-1"))
        operation = found.get(scope["method"])
        if operation is None:
            return _of_no_operation(request, found)
        scope["operation"] = operation
        scope["path_params"] = dict(zip(operation.names, values, strict=True)) if values else {}
        # The headers by name; of a header that is given twice, the first line.
        scope["given"] = dict(reversed(scope["headers"]))
        refusal = (
            _given_twice(request)
            or await self._admit(request, operation.policy)
            or _unknown_parameters(request, operation)
            or _not_acceptable(request, operation.policy.offers)
            or await bodies.read(request, operation.policy.body)
        )
        return refusal or await operation.endpoint(request)

    def _note(self, scope: Scope, status: int, seconds: float, whole: float) -> None:
        method, operation = scope["method"], scope.get("operation")
        template = operation.template if operation else UNROUTED
        self._metrics.answered(method, template, status)
        if operation and seconds:
            self._metrics.took(operation.id, seconds, command=method != "GET")
        if self._lines is not None:
            self._lines.add(scope, template, status, whole)


def _as_get(scope: Scope, send: Send) -> tuple[Scope, Receive, Send]:
    """Return a HEAD as the GET that it is answered as (RFC 9110, section 9.3.2).

    The server leaves the body out, and an answer without end ends at its head.
    """
    begun = asyncio.Event()

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b""})
            begun.set()

    async def receive_until_begun() -> Message:
        """End what streams a body: nobody is there to read it."""
        await begun.wait()
        return {"type": "http.disconnect"}

    return {**scope, "method": "GET"}, receive_until_begun, send_head


def _of_no_operation(request: Request, found: Mapping[str, Operation]) -> Response:
    asked = f"{request.method} {request.scope['path']}"
    if not found:
        return problems.respond(request, "not-found", 404, f"{asked}: Not Found. {_HELP}")
    methods = sorted({*found, *(["HEAD"] if "GET" in found else [])})
    detail = f"{asked}: Method Not Allowed. {_HELP}"
    headers = {"Allow": ", ".join(methods)}
    return problems.respond(request, "method-not-allowed", 405, detail, headers=headers)


def _given_twice(request: Request) -> Response | None:
    """Keep the query in the request's state, or refuse a name that is given twice.

    A parameter counts once, and so do some headers: nobody knows which of the two should count.
    Names twice in an object of JSON are refused in `strict_json`, options of the command line in
    `cli`.
    """
    scope = request.scope
    text: bytes = scope["query_string"]
    scope["state"]["query"] = {}
    if not text and len(scope["given"]) == len(scope["headers"]):
        return None
    if text.count(b"&") >= MOST_PARAMETERS:
        count = text.count(b"&") + 1
        detail = f"the query has {count} parameters, and at most {MOST_PARAMETERS} are read"
        return problems.invalid(request, [{"parameter": "", "rule": "too-many", "detail": detail}])
    pairs = parse_qsl(text.decode("latin-1"), keep_blank_values=True)
    scope["state"]["query"] = dict(pairs)
    headers = [COUNT_ONCE[name] for name, _ in scope["headers"] if name in COUNT_ONCE]
    errors = [
        *(_twice("parameter", name, "give") for name in _repeated(name for name, _ in pairs)),
        *(_twice("header", name, "send") for name in _repeated(headers)),
    ]
    return problems.invalid(request, errors) if errors else None


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _twice(kind: str, name: str, do: str) -> dict[str, Any]:
    detail = f"{name} is given twice: {do} it once"
    return {kind: name, "rule": "given-twice", "detail": detail}


def _unknown_parameters(request: Request, operation: Operation) -> Response | None:
    query = request.scope["state"]["query"]
    errors = [_unknown(name, operation) for name in query if name not in operation.parameters]
    return problems.invalid(request, errors) if errors else None


def _unknown(name: str, operation: Operation) -> dict[str, str]:
    known = ", ".join(sorted(operation.parameters))
    there_are = f"it has {known}" if known else "it has none"
    detail = f"{name} is no parameter of {operation.id}: {there_are}"
    return {"parameter": name, "rule": "unknown-field", "detail": detail}


def _not_acceptable(request: Request, offers: tuple[str, ...]) -> Response | None:
    """Keep the media type of the answer in the request's state, or refuse the `Accept`."""
    if not offers:
        return None
    scope = request.scope
    if b"accept" not in scope["given"]:
        media_type: str | None = offers[0]
    else:
        lines = [value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"]
        media_type = preferred(lines, offers)
    if media_type is None:
        detail = f"Accept takes none of the media types that there are here: {', '.join(offers)}."
        more = {"offered": list(offers)}
        return problems.respond(request, "not-acceptable", 406, detail, more=more)
    scope["state"]["media_type"] = media_type
    return None

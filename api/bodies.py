"""What every request passes before its route: GET for HEAD, and a body declared as JSON, of bearable size, or nothing."""

import re
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.problems import BODY_BYTES, BULK_BODY_BYTES

_METHODS_WITH_BODY = {"POST", "PUT", "PATCH"}
_BULK = re.compile(r"POST /v1/(enrolments|users/batch)|PUT /v1/classes/[^/]+/members")
_HINT = "send JSON with the header Content-Type: application/json (curl --json does both)"


class HeadAsGet:
    """Answers HEAD as GET (RFC 9110, section 9.3.2); the server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an ASGI app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


class JsonBodies:
    """Refuses a body that is too large (413), of another media type (415); an empty one means `{}`."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an ASGI app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        scope.setdefault("state", {})["body"] = b""
        if scope["type"] != "http" or scope["method"] not in _METHODS_WITH_BODY:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            refusal, body = await _read(request)
        except ClientDisconnect:
            return
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        if not body:
            body = b"{}"
            scope["headers"] = [*(h for h in scope["headers"] if h[0] != b"content-type"), (b"content-type", b"application/json")]
        scope.setdefault("state", {})["body"] = body
        await self._app(scope, _replay(body, receive), send)


async def _read(request: Request) -> tuple[Response | None, bytes]:
    body = bytearray()
    limit = BULK_BODY_BYTES if _BULK.fullmatch(f"{request.method} {request.scope['path']}") else BODY_BYTES
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            detail = f"The body is larger than {limit} bytes."
            return problems.respond(request, "body-too-large", 413, detail, headers={"Connection": "close"}), b""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media_type != "application/json":
        detail = f"The body is declared as {media_type or 'nothing'}: {_HINT}."
        return problems.respond(request, "unsupported-media-type", 415, detail), b""
    return None, bytes(body)


def _replay(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay

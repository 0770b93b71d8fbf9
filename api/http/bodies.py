"""What every request passes before its route: GET for HEAD, and a body declared as JSON, of bearable size, or nothing."""

import asyncio
import email.message

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rosterlog.api.http import problems
from rosterlog.api.http.negotiation import JSON
from rosterlog.api.http.operations import operation_of

_HINT = "send JSON with the header Content-Type: application/json (curl --json does both)"


class HeadAsGet:
    """Answers HEAD as GET (RFC 9110, section 9.3.2); the server leaves the body out, and an answer without end ends at its head."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an ASGI app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
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

        await self._app({**scope, "method": "GET"}, receive_until_begun, send_head)


class JsonBodies:
    """Refuses a body that is too large (413), of another media type (415); an empty one means `{}`."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an ASGI app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        limit = operation_of(scope).policy.body
        if limit == 0:
            refusal, body = await _read_nothing(request), b""
        else:
            try:
                refusal, body = await _read(request, limit)
            except ClientDisconnect:
                return
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        scope["state"]["body"] = body
        if limit:
            # Behind this nobody reads the header again, and maybe in another way.
            scope["headers"] = [
                *(h for h in scope["headers"] if h[0] != b"content-type"),
                (b"content-type", JSON.encode()),
            ]
        await self._app(scope, receive, send)


async def _read_nothing(request: Request) -> Response | None:
    """Refuse a body where there is none to give: what it says would be lost."""
    if (
        request.headers.get("content-length", "0").strip("0") == ""
        and "transfer-encoding" not in request.headers
    ):
        return None
    detail = "this takes no body: leave it out"
    return problems.invalid(
        request,
        [{"pointer": "", "rule": "no-body", "detail": detail}],
        headers={"Connection": "close"},
    )


async def _read(request: Request, limit: int) -> tuple[Response | None, bytes]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            detail = f"The body is larger than {limit} bytes."
            return problems.respond(
                request, "body-too-large", 413, detail, headers={"Connection": "close"}
            ), b""
    if not body:
        return None, b"{}"
    misdeclared = _misdeclared(request)
    if misdeclared is not None:
        return problems.respond(
            request, "unsupported-media-type", 415, misdeclared, headers=_TAKEN
        ), b""
    return None, bytes(body)


_TAKEN = {"Accept-Encoding": "identity"}
"""What RFC 9110, section 15.5.16, says that the refusal of a content coding carries."""


def _misdeclared(request: Request) -> str | None:
    """Return what is wrong with how the body is declared: it is JSON in UTF-8 (RFC 8259, section 8.1), as it is."""
    coding = request.headers.get("content-encoding", "identity")
    if coding.strip().lower() not in {"", "identity"}:
        return f"The body is declared as {coding}: send it without a content coding."
    declared = email.message.Message()
    declared["content-type"] = request.headers.get("content-type", "")
    media_type, charset = declared.get_content_type(), declared.get_param("charset", "utf-8")
    if "content-type" not in request.headers or media_type != JSON:
        return (
            f"The body is declared as {request.headers.get('content-type') or 'nothing'}: {_HINT}."
        )
    if str(charset).lower() not in {"utf-8", "utf8"}:
        return f"The body is declared in {charset}: send JSON in UTF-8."
    return None

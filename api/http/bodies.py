"""The body of a request: JSON of a bearable size, or none; and large work beside the event loop."""

import asyncio
import email.message
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from rosterlog.api.http import problems
from rosterlog.api.http.negotiation import JSON

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")

INLINE_BYTES = 16 * 1024
"""Most bytes of a body that are worked through in the event loop.

That is about 2 ms of work, little more than what a thread costs.
"""

_HINT = "send JSON with the header Content-Type: application/json (curl --json does both)"
_TAKEN = {"Accept-Encoding": "identity"}
"""The header that the refusal of a content coding carries (RFC 9110, section 15.5.16)."""

# One thread: several would take turns with each other, and the event loop would wait for all of
# them.
_thread = ThreadPoolExecutor(1, "large-requests")


async def apart(
    work: Callable[Parameters, Answer], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Answer:
    """Return what `work` returns, or raise what it raises.

    It runs in the one thread for large requests, beside the event loop: the other requests go on.
    """
    return await asyncio.get_running_loop().run_in_executor(_thread, partial(work, *args, **kwargs))


async def read(request: Request, limit: int) -> Response | None:
    """Keep the body of at most `limit` bytes in the request's state, or return the refusal.

    An empty body means `{}`. Raises `ClientDisconnect` where the caller goes before its end.
    """
    given: dict[bytes, bytes] = request.scope["given"]
    if limit == 0:
        request.scope["state"]["body"] = b""
        return _refuse_any(request, given)
    body = await _arrived(request, limit)
    if body is None:
        detail = f"The body is larger than {limit} bytes."
        headers = {"Connection": "close"}
        return problems.respond(request, "body-too-large", 413, detail, headers=headers)
    if body and (misdeclared := _misdeclared(given)):
        rule = "unsupported-media-type"
        return problems.respond(request, rule, 415, misdeclared, headers=_TAKEN)
    request.scope["state"]["body"] = body or b"{}"
    return None


def _refuse_any(request: Request, given: dict[bytes, bytes]) -> Response | None:
    """Refuse a body where the operation takes none: its content would be lost."""
    if not given.get(b"content-length", b"0").strip(b"0") and b"transfer-encoding" not in given:
        return None
    error = {"pointer": "", "rule": "no-body", "detail": "this takes no body: leave it out"}
    return problems.invalid(request, [error], headers={"Connection": "close"})


async def _arrived(request: Request, limit: int) -> bytes | None:
    """Return the whole body, None as soon as it is larger than `limit`."""
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def _misdeclared(given: dict[bytes, bytes]) -> str | None:
    """Return what is wrong with how the body is declared.

    It is JSON in UTF-8 (RFC 8259, section 8.1), without a content coding.
    """
    coding = given.get(b"content-encoding", b"identity").decode("latin-1")
    if coding.strip().lower() not in {"", "identity"}:
        return f"The body is declared as {coding}: send it without a content coding."
    declared = given.get(b"content-type")
    if declared == JSON.encode():
        return None
    return _is_not_json(declared.decode("latin-1") if declared is not None else None)


def _is_not_json(content_type: str | None) -> str | None:
    declared = email.message.Message()
    declared["content-type"] = content_type or ""
    media_type, charset = declared.get_content_type(), declared.get_param("charset", "utf-8")
    if content_type is None or media_type != JSON:
        return f"The body is declared as {content_type or 'nothing'}: {_HINT}."
    if str(charset).lower() not in {"utf-8", "utf8"}:
        return f"The body is declared in {charset}: send JSON in UTF-8."
    return None

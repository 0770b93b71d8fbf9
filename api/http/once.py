"""Refusing what counts once and is given twice, because nobody knows which one should count.

Here are query parameters and headers; names twice in an object of JSON are in `strict_json`,
options of the command line in `cli`.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from rosterlog.api.http import problems

MOST_PARAMETERS = 100
"""Most query parameters: many more than any operation has, so that reading them is little work."""
COUNT_ONCE = {
    name.lower().encode(): name
    for name in (
        "Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Origin", "Roster-Actor", "Roster-Reason", "Sec-Fetch-Site",
    )
}  # fmt: skip
"""Headers that we read and that have one value.

The others that we read are lists, and several lines are one (RFC 9110, section 5.3):
Accept, If-Match, If-None-Match and Prefer. A second Host or Content-Length is no HTTP/1.1, and ends
in `protocol`.
"""


class Once:
    """Refuses a request (422) that gives a query parameter or a header twice which counts once."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an ASGI app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        errors = _errors(scope) if scope["type"] == "http" else []
        if errors:
            await problems.invalid(Request(scope), errors)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _errors(scope: Scope) -> list[dict[str, Any]]:
    query: bytes = scope["query_string"]
    if query.count(b"&") >= MOST_PARAMETERS:
        detail = f"the query has {query.count(b'&') + 1} parameters, and at most {MOST_PARAMETERS} are read"
        return [{"parameter": "", "rule": "too-many", "detail": detail}]
    # Compared as the routes read them: decoded, with an empty value too.
    parameters = (
        _twice(name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
        if b"&" in query
        else []
    )
    headers = _twice(COUNT_ONCE[name] for name, _ in scope["headers"] if name in COUNT_ONCE)
    return [
        *(
            {
                "parameter": name,
                "rule": "given-twice",
                "detail": f"{name} is given twice: give it once",
            }
            for name in parameters
        ),
        *(
            {
                "header": name,
                "rule": "given-twice",
                "detail": f"{name} is given twice: send it once",
            }
            for name in headers
        ),
    ]


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]

"""A service without authentication trusts this machine, and a browser on it visits any page: what a page of elsewhere causes is refused.

A page can send requests to loopback addresses, and with a name of its own that leads there (DNS
rebinding) it could read the answers, too. The first shows in `Origin` and, also where a browser
leaves that out, in `Sec-Fetch-Site`; the second in `Host`.
"""

import re

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from rosterlog.api.http import problems
from rosterlog.api.settings import is_loopback

_HELP = "Without authentication the service is for this machine only; see ROSTERLOG_AUTH_KEYS."


class LocalOnly:
    """Refuses requests for another host, or from a page of another site."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an ASGI app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            wrong = _foreign(scope)
            if wrong is not None:
                response = problems.respond(
                    Request(scope),
                    "not-local",
                    403,
                    f"{wrong} says that it comes from elsewhere. {_HELP}",
                )
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _foreign(scope: Scope) -> str | None:
    """Return the header that names another machine, None where there is none."""
    for name, value in scope["headers"]:
        if name == b"host" and not _is_local(value):
            return "Host"
        scheme, _, host = value.rpartition(b"://")
        if name == b"origin" and not (scheme in {b"http", b"https"} and _is_local(host)):
            return "Origin"
        # `same-site` is a page on another port of this machine, `none` is somebody who typed the
        # address.
        if name == b"sec-fetch-site" and value not in {b"same-origin", b"same-site", b"none"}:
            return "Sec-Fetch-Site"
    return None


_HOST = re.compile(rb"(?:([^\[\]:/?#@]+)|\[([0-9A-Fa-f:.]+)\])(?::[0-9]*)?")
"""A name or an address, in brackets where it has colons, and a port (RFC 9110, section 7.2); nothing else is read into it."""


def _is_local(value: bytes) -> bool:
    found = _HOST.fullmatch(value)
    return found is not None and is_loopback((found[1] or found[2]).decode("latin-1").lower())

"""A service without authentication trusts this machine, and a browser on it visits any page: what a page of elsewhere causes is refused.

A page can send requests to loopback addresses, and with a name of its own that leads there (DNS rebinding) it could read the answers, too.
The first shows in `Origin` and, also where a browser leaves that out, in `Sec-Fetch-Site`; the second in `Host`.
"""

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api import problems
from api.settings import is_loopback

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
                response = problems.respond(Request(scope), "not-local", 403, f"{wrong} says that it comes from elsewhere. {_HELP}")
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _foreign(scope: Scope) -> str | None:
    """Return the header that names another machine, None where there is none."""
    for name, value in scope["headers"]:
        if name == b"host" and not _is_local(b"//" + value):
            return "Host"
        if name == b"origin" and not _is_local(value):
            return "Origin"
        # `same-site` is a page on another port of this machine, `none` is somebody who typed the address.
        if name == b"sec-fetch-site" and value not in {b"same-origin", b"same-site", b"none"}:
            return "Sec-Fetch-Site"
    return None


def _is_local(url: bytes) -> bool:
    try:
        return is_loopback(urlsplit(url.decode("ascii")).hostname or "")
    except ValueError:
        return False

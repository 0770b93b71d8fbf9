"""Who may do what: every path that is not public needs a token with one scope, found by method and path alone.

Nothing here lists routes, so a new route can't be forgotten: one that reads needs `roster.read`, any other `roster.write`.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api import problems
from api.keys import KeysUnreadable
from api.tokens import Principal, Tokens, Unauthenticated

READ, WRITE, AUDIT, ADMIN = SCOPES = ("roster.read", "roster.write", "roster.audit", "roster.admin")

_PUBLIC = {"/", "/healthz", "/readyz", "/docs", "/openapi.json"}
_PUBLIC_BELOW = ("/docs/", "/problems/")
_ADMIN = ("/metrics", "/v1/projections")
_AUDIT = ("/history", "/diff", "/v1/events")
_READING = {"GET", "HEAD", "OPTIONS"}
_IN_GROUPS = ("/v1/classes", "/v1/groups/", "/v1/enrolments")
"""Where commands are about what is in a group. All others are closed to tokens that are confined to groups, a new one at first, too."""


def needed(method: str, path: str) -> str | None:
    """Return the scope that a request needs, None where it needs no token; `path` may be a template."""
    if path in _PUBLIC or path.startswith(_PUBLIC_BELOW):
        return None
    if path.startswith(_ADMIN):
        return ADMIN
    if method not in _READING:
        return WRITE
    return AUDIT if path.endswith(_AUDIT) else READ


def is_for_all_groups(method: str, path: str) -> bool:
    """Tell whether a request is about what is of no one group: users, new groups, the projection."""
    return path.startswith(_ADMIN) or (method not in _READING and not path.startswith(_IN_GROUPS))


class Authentication:
    """Refuses requests without a token (401), or whose token does not allow them (403), before their body is read."""

    def __init__(self, app: ASGIApp, *, tokens: Tokens, metrics_open: bool) -> None:
        """Wrap an ASGI app; with `metrics_open`, /metrics needs no token."""
        self._app = app
        self._tokens = tokens
        self._metrics_open = metrics_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        assert scope["type"] == "http", "there are no web sockets"
        wanted = needed(scope["method"], scope["path"])
        if wanted is None or (self._metrics_open and scope["path"] == "/metrics"):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            principal = await self._tokens.principal(request.headers.getlist("authorization"))
        except Unauthenticated as refused:
            await _unauthenticated(request, refused)(scope, receive, send)
            return
        except KeysUnreadable as wrong:
            problems.logger.error("tokens can't be checked: %s", wrong)
            detail = "Tokens can't be checked right now: the identity provider's keys can't be read."
            await problems.respond(request, "keys-unreadable", 503, detail)(scope, receive, send)
            return
        await self._admit(principal, wanted, scope, receive, send)

    async def _admit(self, principal: Principal, wanted: str, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] |= {"principal": principal, "actor": principal.actor}
        if wanted not in principal.scopes:
            request = Request(scope)
            challenge = {"WWW-Authenticate": f'Bearer realm="rosterlog", error="insufficient_scope", scope="{wanted}"'}
            detail = f"This needs a token with the scope {wanted}."
            await problems.respond(request, "scope-missing", 403, detail, headers=challenge)(scope, receive, send)
            return
        if principal.groups is not None and is_for_all_groups(scope["method"], scope["path"]):
            detail = "This needs a token that is not confined to groups: it is about what is of no one group."
            await problems.respond(Request(scope), "token-confined", 403, detail)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _unauthenticated(request: Request, refused: Unauthenticated) -> Response:
    said = f"The token does not count: {refused}" if refused.token else f"{refused}"
    challenge = 'Bearer realm="rosterlog"' + (', error="invalid_token"' if refused.token else "")
    return problems.respond(request, "unauthenticated", 401, said, headers={"WWW-Authenticate": challenge})

"""Who may do what: an operation that is not public needs a token with its scope (`rosterlog.api.rest.policy`)."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rosterlog.api.access.keys import KeysUnreadable
from rosterlog.api.access.tokens import Principal, Tokens, Unauthenticated
from rosterlog.api.http import problems
from rosterlog.api.http.operations import operation_of
from rosterlog.api.rest.policy import Policy


class Authentication:
    """Refuses requests without a token (401), or whose token does not allow them (403), before their body is read."""

    def __init__(self, app: ASGIApp, *, tokens: Tokens) -> None:
        """Wrap an ASGI app."""
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        policy = operation_of(scope).policy
        if policy.scope is None:
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
            detail = (
                "Tokens can't be checked right now: the identity provider's keys can't be read."
            )
            await problems.respond(request, "keys-unreadable", 503, detail)(scope, receive, send)
            return
        await self._admit(principal, policy, scope, receive, send)

    async def _admit(
        self, principal: Principal, policy: Policy, scope: Scope, receive: Receive, send: Send
    ) -> None:
        scope["state"] |= {"principal": principal, "actor": principal.actor}
        if policy.scope not in principal.scopes:
            request = Request(scope)
            challenge = {
                "WWW-Authenticate": f'Bearer realm="rosterlog", error="insufficient_scope", scope="{policy.scope}"'
            }
            detail = f"This needs a token with the scope {policy.scope}."
            await problems.respond(request, "scope-missing", 403, detail, headers=challenge)(
                scope, receive, send
            )
            return
        if principal.groups is not None and not policy.confinable:
            detail = "This needs a token that is not confined to groups: it is about what is of no one group."
            await problems.respond(Request(scope), "token-confined", 403, detail)(
                scope, receive, send
            )
            return
        await self._app(scope, receive, send)


def _unauthenticated(request: Request, refused: Unauthenticated) -> Response:
    said = f"The token does not count: {refused}" if refused.token else f"{refused}"
    challenge = 'Bearer realm="rosterlog"' + (', error="invalid_token"' if refused.token else "")
    return problems.respond(
        request, "unauthenticated", 401, said, headers={"WWW-Authenticate": challenge}
    )

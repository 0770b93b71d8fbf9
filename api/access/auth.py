"""Who may do what: an operation that is not public needs a token with its scope."""

from starlette.requests import Request
from starlette.responses import Response

from rosterlog.api.access.keys import KeysUnreadable
from rosterlog.api.access.tokens import Tokens, Unauthenticated
from rosterlog.api.http import problems
from rosterlog.api.http.policy import Policy


class Authentication:
    """Refuses requests without a token (401), or whose token does not allow them (403)."""

    def __init__(self, tokens: Tokens) -> None:
        """Check with `tokens`."""
        self._tokens = tokens

    async def __call__(self, request: Request, policy: Policy) -> Response | None:
        """Return the refusal; else keep principal and actor in the request's state."""
        if policy.scope is None:
            return None
        try:
            principal = await self._tokens.principal(request.headers.getlist("authorization"))
        except Unauthenticated as refused:
            return _unauthenticated(request, refused)
        except KeysUnreadable as wrong:
            problems.logger.error("tokens can't be checked: %s", wrong)
            detail = (
                "Tokens can't be checked right now: the identity provider's keys can't be read."
            )
            return problems.respond(request, "keys-unreadable", 503, detail)
        request.scope["state"] |= {"principal": principal, "actor": principal.actor}
        if policy.scope not in principal.scopes:
            challenge = (
                f'Bearer realm="rosterlog", error="insufficient_scope", scope="{policy.scope}"'
            )
            detail = f"This needs a token with the scope {policy.scope}."
            headers = {"WWW-Authenticate": challenge}
            return problems.respond(request, "scope-missing", 403, detail, headers=headers)
        if principal.groups is not None and not policy.confinable:
            detail = (
                "This needs a token that is not confined to groups: it is about things that belong "
                "to no single group."
            )
            return problems.respond(request, "token-confined", 403, detail)
        return None


def _unauthenticated(request: Request, refused: Unauthenticated) -> Response:
    said = f"The token is not accepted: {refused}" if refused.token else f"{refused}"
    challenge = 'Bearer realm="rosterlog"' + (', error="invalid_token"' if refused.token else "")
    return problems.respond(
        request, "unauthenticated", 401, said, headers={"WWW-Authenticate": challenge}
    )

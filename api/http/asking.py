"""What a request asks of its operation, besides the body: parameters that it has, and a media type that it offers."""

from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rosterlog.api.http import problems
from rosterlog.api.http.negotiation import preferred
from rosterlog.api.http.operations import Operation, operation_of


class Asking:
    """Refuses parameters that the operation does not have (422), and an `Accept` that takes nothing that it offers (406)."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an ASGI app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        operation = operation_of(scope)
        if scope["query_string"]:
            errors = [
                _unknown(name, operation)
                for name in _names(scope["query_string"])
                if name not in operation.parameters
            ]
            if errors:
                return problems.invalid(Request(scope), errors)
        offers = operation.policy.offers
        if offers:
            accepted = [
                value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"
            ]
            media_type = preferred(accepted, offers)
            if media_type is None:
                return _not_acceptable(Request(scope), offers)
            scope["state"]["media_type"] = media_type
        return None


def _names(query: bytes) -> dict[str, None]:
    """Return the names of the parameters in a query, each once, in order."""
    return dict.fromkeys(
        name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    )


def _unknown(name: str, operation: Operation) -> dict[str, str]:
    known = ", ".join(sorted(operation.parameters))
    there_are = f"it has {known}" if known else "it has none"
    return {
        "parameter": name,
        "rule": "unknown-field",
        "detail": f"{name} is no parameter of {operation.id}: {there_are}",
    }


def _not_acceptable(request: Request, offers: tuple[str, ...]) -> Response:
    detail = f"Accept takes none of the media types that there are here: {', '.join(offers)}."
    return problems.respond(request, "not-acceptable", 406, detail, more={"offered": list(offers)})

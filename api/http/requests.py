"""What every request passes first: it gets an id, is counted and timed, and leaves one line in the log."""

from time import perf_counter
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from rosterlog.api.ops.logs import REQUEST
from rosterlog.api.ops.metrics import Metrics

CLIENT_GONE = 499
"""Stands for the status of a request whose caller did not wait for the answer; no answer has it."""
UNROUTED = "none"
"""Stands for the route of a request that is of no operation."""
_PATH_LENGTH = 200


class Requests:
    """Gives each request an id: it stands in the answer, in the events that the request records, and in the log."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, access: FilteringBoundLogger | None
    ) -> None:
        """Wrap an ASGI app; `access` writes the line of each request, None for no line."""
        self._app = app
        self._metrics = metrics
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        request_id = str(uuid4())
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        REQUEST.set(state)
        status, seconds = CLIENT_GONE, 0.0

        async def send_with_id(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], perf_counter() - began
                message["headers"].append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            status = 500
            raise
        finally:
            self._note(scope, status, seconds, perf_counter() - began)

    def _note(self, scope: Scope, status: int, seconds: float, whole: float) -> None:
        method, operation = scope["method"], scope.get("operation")
        template = operation.template if operation else UNROUTED
        self._metrics.answered(method, template, status)
        if operation and seconds:
            self._metrics.took(operation.id, seconds, command=method != "GET")
        if self._access is not None:
            self._access.info(
                "request",
                method=method,
                route=template,
                path=scope["path"][:_PATH_LENGTH],
                status=status,
                duration_ms=round(whole * 1000, 2),
            )

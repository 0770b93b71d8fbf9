"""Whether the token that a long answer began with still counts."""

import math
import time

from starlette.requests import Request

from rosterlog.api.access.tokens import Principal, Tokens

SOONEST_SECONDS = 0.05
"""The shortest wait for a token's end, so that clocks which differ a little don't make a loop run hot."""


class Admission:
    """What let one request in: its token, until that expires or its key is withdrawn; for ever without authentication."""

    def __init__(self, request: Request) -> None:
        """Remember what the request was let in by."""
        self._tokens: Tokens | None = request.app.state.tokens
        self._principal: Principal | None = getattr(request.state, "principal", None)
        self._authorization = request.headers.getlist("authorization")

    @property
    def seconds(self) -> float:
        """For how many seconds the token has not expired; it may stop to count before, with its key."""
        if self._principal is None:
            return math.inf
        return max(SOONEST_SECONDS, self._principal.expires_at - time.time())

    async def counts(self) -> bool:
        """Tell whether the request would be let in now. Looked up again once a minute at most."""
        if self._tokens is None or self._principal is None:
            return True
        return await self._tokens.still_counts(self._authorization)

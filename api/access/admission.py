"""Whether the token that a long answer began with still counts."""

import math
import time

from starlette.requests import Request

from rosterlog.api.access.tokens import Principal, Tokens

SOONEST_SECONDS = 0.05
"""The shortest wait for the end of a token.

Clocks that differ a little would else make a loop run without a pause.
"""


class Admission:
    """What let one request in: its token, or for ever where there is no authentication.

    A token lets it in until the token expires or its key is withdrawn.
    """

    def __init__(self, request: Request) -> None:
        """Remember the token of the request."""
        self._tokens: Tokens | None = request.app.state.tokens
        self._principal: Principal | None = getattr(request.state, "principal", None)
        self._authorization = request.headers.getlist("authorization")

    @property
    def seconds(self) -> float:
        """For how many seconds the token has not expired.

        With its key, the token may stop to count before.
        """
        if self._principal is None:
            return math.inf
        return max(SOONEST_SECONDS, self._principal.expires_at - time.time())

    async def counts(self) -> bool:
        """Tell whether the request would be let in now.

        The token is looked up again once a minute at most.
        """
        if self._tokens is None or self._principal is None:
            return True
        return await self._tokens.still_counts(self._authorization)

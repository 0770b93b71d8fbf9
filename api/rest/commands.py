"""Answering commands: who gives it and why, the decision in a thread, and the answer once its change is visible."""

import logging
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import Depends, Request
from starlette.responses import Response

from rosterlog.api.access.confinement import groups_of
from rosterlog.api.http.endpoints import JsonRoute
from rosterlog.api.http.negotiation import JSON
from rosterlog.api.http.operations import address_of, operation_of
from rosterlog.api.reading.source import WAIT_SECONDS
from rosterlog.api.rest import headers as read
from rosterlog.api.service import Service
from rosterlog.domain.deciding.idempotency import Key, Repeatable
from rosterlog.domain.deciding.outcome import Outcome
from rosterlog.domain.deciding.writer import Prepared
from rosterlog.domain.errors import Gone, InvalidValue, OutcomeUnknown, StoreUnavailable, Unknown
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Expected, Provenance
from rosterlog.projections.reading.queries import Thing

logger = logging.getLogger(__name__)

GIVE_SECONDS = 45.0
"""How long a command waits for its outcome: longer than the database lets any of its statements run, and than the log is looked
at for one whose commit was not answered. So the database is silent then.
"""
_UNAUTHENTICATED = "local"
"""The actor where no authentication is configured and the request names none."""


async def service_of(request: Request) -> Service:
    """Return what the application offers its routes."""
    service: Service = request.app.state.service
    return service


class Commands:
    """One request's command, from its headers to its answer."""

    def __init__(
        self, request: Request, by: Provenance, expected: Expected, repeatable: Repeatable | None
    ) -> None:
        """Give `request` as a command; it relies on the version `expected`, and may come again where it is `repeatable`."""
        self._service: Service = request.app.state.service
        self.request = request
        self.roster: Roster = self._service.roster
        self.by = by
        self.expected = expected
        self._repeatable = repeatable
        self._groups = groups_of(request)

    @property
    def id(self) -> UUID:
        """What names the command itself, where it is about no one thing."""
        return UUID(self.request.state.request_id)

    def unkept(self) -> "Commands":
        """Return the same command without its idempotency key, for one that records nothing: asking again does no harm."""
        return Commands(self.request, self.by, self.expected, None)

    async def give(self, command: Prepared) -> Outcome:
        """Give a command of the roster.

        Raises its refusal, `StoreUnavailable` where nothing was recorded, `OutcomeUnknown`.
        """
        given = command.once(self._repeatable).within(self._groups).submit()
        outcome = await self._outcome(given)
        self.request.state.outcome = outcome
        return outcome

    async def _outcome(self, given: Future[Outcome]) -> Outcome:
        try:
            return await self._service.handover.result(given, GIVE_SECONDS)
        except TimeoutError as silent:
            # Nobody waits for it any more: a command that had not begun never does.
            if given.cancelled():
                raise StoreUnavailable from silent
            if given.done():
                return given.result()
            raise OutcomeUnknown from silent

    async def answer(
        self,
        outcome: Outcome,
        thing: Thing,
        ids: Mapping[str, UUID],
        *,
        location: str | None = None,
    ) -> Response:
        """Answer with the thing that the command was about; with a `location`, as created where it changed something."""
        if not await self._is_visible(outcome):
            return _accepted(outcome)
        # An answer that may be asked for again is that of its own moment, so that it can be given
        # again.
        at = outcome.position if self._repeatable else None
        try:
            _, version, item = await self._service.reads.found(thing, ids, at, self._groups)
        except (Unknown, Gone):
            # Another command ended it meanwhile; this one is answered with what it made.
            _, version, item = await self._service.reads.found(
                thing, ids, outcome.position, self._groups
            )
        created = location is not None and outcome.changed
        headers = _headers(outcome, version) | (
            {"Location": location} if created and location else {}
        )
        return Response(item, 201 if created else 200, headers, "application/json")

    async def answer_created(self, outcome: Outcome, item: str, location: str) -> Response:
        """Answer with what the command created, known without reading it."""
        if not await self._is_visible(outcome):
            return _accepted(outcome)
        return Response(
            item,
            201,
            {**_headers(outcome, outcome.version), "Location": location},
            "application/json",
        )

    async def answer_ended(self, outcome: Outcome) -> Response:
        """Answer that the thing has ended."""
        if not await self._is_visible(outcome):
            return _accepted(outcome)
        return Response(status_code=204, headers=_headers(outcome, outcome.version))

    async def answer_many(
        self, outcome: Outcome, body: Mapping[str, Any], *, version: int | None = None
    ) -> Response:
        """Answer with what became of many things; with the `version` of the one that they belong to, if any."""
        body = {"position": outcome.position, **body}
        headers = _headers(outcome, version)
        if not await self._is_visible(outcome):
            return _json({**body, "id": str(outcome.id)}, 202, headers)
        return _json(body, 200, headers)

    async def _is_visible(self, outcome: Outcome) -> bool:
        if outcome.changed and _prefers_not_to_wait(self.request):
            return False
        return await self._service.visibility.reached(outcome.position, WAIT_SECONDS)


# A coroutine, because the framework runs any other function in a thread of its pool; and it takes
# the headers from the request, because the framework needs as long to hand over four as for all
# else (see `documented.COMMAND_HEADERS`).
async def _command(request: Request) -> Commands:
    """Read what the headers say about the command. Raises `InvalidValue`."""
    headers = request.headers
    _refuse_conditions(request)
    by = _provenance(request, headers.get("roster-actor"), headers.get("roster-reason"))
    expected = read.expected_versions(headers.getlist("if-match"))
    return Commands(
        request, by, expected, _repeatable(request, by.actor, headers.get("idempotency-key"))
    )


class CommandRoute(JsonRoute):
    """A route that may give a command: once that is recorded, whatever fails on the way to its answer is no failure of it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers: as the route does, and 202 with the position where that fails after a command was recorded."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as failure:
                outcome: Outcome | None = getattr(request.state, "outcome", None)
                if outcome is None or not outcome.changed:
                    raise
                logger.warning(
                    "recorded at position %d, but not answered in full",
                    outcome.position,
                    exc_info=failure,
                )
                return _accepted(outcome)

        return answer


Command = Annotated[Commands, Depends(_command)]
"""A route's parameter for giving a command."""
Serving = Annotated[Service, Depends(service_of)]
"""A route's parameter for reading."""


def _refuse_conditions(request: Request) -> None:
    """Refuse conditions that are not looked at: a caller who states one relies on it."""
    if "if-match" in request.headers and not operation_of(request.scope).policy.versioned:
        raise InvalidValue(
            "header:If-Match",
            "no-version",
            "If-Match is for commands that change a thing; there is none here yet",
        )
    if "if-none-match" in request.headers:
        raise InvalidValue(
            "header:If-None-Match",
            "read-only",
            "If-None-Match is for reads; a creation with an id of yours is safe to repeat",
        )


def _provenance(
    request: Request, roster_actor: str | None, roster_reason: str | None
) -> Provenance:
    principal = getattr(request.state, "principal", None)
    if principal is not None and roster_actor is not None:
        raise InvalidValue(
            "actor",
            "authenticated",
            "Roster-Actor can't be given: the token says who gives the command",
        )
    given = _UNAUTHENTICATED if roster_actor is None else roster_actor
    actor = given if principal is None else principal.actor
    if not (actor.isascii() and actor.isprintable()):
        raise InvalidValue("actor", "ascii", "Roster-Actor is printable ASCII")
    reason = None if roster_reason is None else read.percent_decoded(roster_reason)
    by = Provenance(actor, source="api", request_id=request.state.request_id, reason=reason)
    request.state.actor = by.actor
    return by


def _prefers_not_to_wait(request: Request) -> bool:
    """Tell whether the caller would rather not wait until the change is visible."""
    return read.prefers(request.headers.getlist("prefer"), "respond-async")


def _repeatable(request: Request, subject: str, key: str | None) -> Repeatable | None:
    if key is None:
        return None
    named = read.idempotency_key(key)
    # With other groups it is another request: what came of it may be of groups that the caller is
    # confined to no more.
    groups = groups_of(request)
    confined = b"" if groups is None else b"\0" + b"".join(sorted(group.bytes for group in groups))
    digest = sha256(request.scope["query_string"] + b"\0" + request.state.body + confined).digest()
    return Repeatable(Key(subject, address_of(request), named), digest)


def _headers(outcome: Outcome, version: int | None) -> dict[str, str]:
    headers = read.answered(outcome.position, None if version is None else str(version))
    if outcome.replayed:
        headers["Idempotent-Replayed"] = "true"
    return headers


def _accepted(outcome: Outcome) -> Response:
    return _json(
        {"position": outcome.position, "id": str(outcome.id)},
        202,
        _headers(outcome, outcome.version),
    )


def _json(body: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> Response:
    return Response(msgspec.json.encode(body), status, headers, JSON)

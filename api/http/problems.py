"""Every refusal in one shape, from one table of domain errors.

The shape is `application/problem+json` (RFC 9457).
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from uuid import UUID

import msgspec
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from rosterlog.api.http.policy import BODY_BYTES, BULK_BODY_BYTES
from rosterlog.domain.errors import (
    ClassArchived,
    DomainError,
    EnrolledInOtherRole,
    ExpensiveReadsBusy,
    Gone,
    IdTaken,
    InvalidValue,
    ItemsRefused,
    KeyReused,
    MembersRefused,
    NotMigrated,
    OutcomeUnknown,
    ReadTablesBehind,
    ReleaseOutdated,
    StoreUnavailable,
    TooManyWithdrawals,
    Unknown,
    VersionStale,
)
from rosterlog.domain.values import escaped
from rosterlog.projections.projector.skips import NotFailing, NotSkipped
from rosterlog.projections.rebuild.shadow import ShadowInUse

MEDIA_TYPE = "application/problem+json"
MOST_ERRORS = 100
"""Most `errors` of one answer (design: at most 100, and their number)."""
RETRY_AFTER = "1"
"""Seconds after which a 503 may be tried again."""

_SHOWN_ERRORS = 5
"""Most errors that `detail` repeats."""
_DETAIL_LENGTH, _PART_LENGTH = 2000, 500
"""Most characters of `detail`, and of each part of an error.

A request may name things of any length.
"""

_ABSENT: Any = Field(default_factory=lambda: None)

logger = logging.getLogger(__name__)


class ProblemError(BaseModel):
    """One thing that is wrong, and where: in the body (a JSON pointer), a parameter or a header."""

    pointer: str = Field(default_factory=lambda: "", examples=["/name"])
    parameter: str = _ABSENT
    header: str = _ABSENT
    rule: str = Field(examples=["length"])
    detail: str = Field(examples=["name needs 1 to 100 characters after trimming, not 0"])


class Problem(BaseModel):
    """Why a request was refused (RFC 9457).

    `type` names the rule and stays the same for ever; `detail` is for people.
    """

    type: str = Field(examples=["/problems/invalid-request"])
    title: str = Field(examples=["Invalid request"])
    status: int = Field(examples=[422])
    detail: str = Field(
        examples=["The request breaks 1 rule: name needs 1 to 100 characters after trimming, not 0"]
    )
    request_id: str | None = None
    errors: list[ProblemError] = Field([], description="What is wrong, at most 100 of it.")
    errors_count: int = Field(
        0, description="How many things are wrong, those that `errors` leaves out included."
    )


class InvalidForm(Exception):
    """The request breaks rules of form or value.

    `errors` names the first of them, `count` says how many there are.
    """

    def __init__(self, errors: Sequence[Mapping[str, Any]], count: int | None = None) -> None:
        """Take the errors, all where there is no `count`."""
        super().__init__()
        self.errors, self.count = errors, len(errors) if count is None else count


class TooManyStreams(DomainError):
    """As many feeds are open in this process as it serves. Try again, or read pages."""


class RebuildNotPermitted(DomainError):
    """The service's account may not rebuild: run rosterlog rebuild with the projector's account."""


STATUS: Mapping[type[DomainError], int] = {
    InvalidValue: 422,
    Unknown: 404,
    Gone: 410,
    ClassArchived: 409,
    EnrolledInOtherRole: 409,
    IdTaken: 409,
    ItemsRefused: 409,
    KeyReused: 422,
    MembersRefused: 409,
    TooManyWithdrawals: 409,
    VersionStale: 412,
    StoreUnavailable: 503,
    OutcomeUnknown: 503,
    ReleaseOutdated: 503,
    NotMigrated: 503,
    ReadTablesBehind: 503,
    TooManyStreams: 503,
    ExpensiveReadsBusy: 503,
    ShadowInUse: 409,
    NotFailing: 409,
    NotSkipped: 409,
    RebuildNotPermitted: 409,
}
"""Domain error to status.

An `Unknown` or `Gone` thing that the path does not name is a conflict, 409.
"""

_NOT_OF_THE_DOMAIN = {
    "invalid-request": (
        "The request breaks a rule of form or value. Each entry of errors names the place, the "
        "rule and what is wrong."
    ),
    "malformed-request": "What arrived can't be read as HTTP/1.1 (RFC 9112), or names no host.",
    "headers-too-large": "The request line and the headers may have 64 KiB.",
    "request-too-slow": "A request must arrive, with its body, within a minute.",
    "body-too-large": (
        f"A body may have {BODY_BYTES} bytes; one of a command about many things {BULK_BODY_BYTES}."
    ),
    "unsupported-media-type": "Bodies are JSON, declared with Content-Type: application/json.",
    "not-acceptable": (
        "The request's Accept takes none of the media types that the operation answers with; "
        "`offered` lists them."
    ),
    "not-found": "No such path. The API is described at /docs.",
    "method-not-allowed": (
        "The path exists, but not with this method. The API is described at /docs."
    ),
    "projection-stalled": (
        "Events wait to be projected and none is: see failure in /v1/projections."
    ),
    "projection-leaderless": (
        "No process projects events into the read tables: start rosterlog serve or rosterlog "
        "project."
    ),
    "replica-unavailable": (
        "The replica for reads does not answer: see rosterlog_replica_up, and the server that "
        "ROSTERLOG_READ_DATABASE_URL names."
    ),
    "not-local": (
        "The service has no authentication, so it answers this machine only, and no page of "
        "another one."
    ),
    "unauthenticated": "The request needs a token that counts, as Authorization: Bearer <token>.",
    "scope-missing": (
        "The token counts, but does not allow this. WWW-Authenticate names the scope that does."
    ),
    "token-confined": (
        "The token is confined to groups, and this is about what is of no one group: users, new "
        "groups, the projection."
    ),
    "keys-unreadable": (
        "Tokens can't be checked, because the identity provider's keys can't be read right now."
    ),
    "internal-error": "A fault of the service. Its log has the cause under the request id.",
}


def explanations() -> dict[str, str]:
    """Return what each problem means, by the last part of its `type`."""
    errors = [DomainError]
    for error in errors:
        errors.extend(error.__subclasses__())
    kinds = {
        error: not error.__subclasses__() and not issubclass(error, InvalidValue)
        for error in errors
    }
    return {
        error.rule: _explained(error) for error, raised in kinds.items() if raised
    } | _NOT_OF_THE_DOMAIN


def _explained(error: type[DomainError]) -> str:
    sentence = re.sub(r"\{\w+\}", "…", " ".join((error.__doc__ or "").split()))
    if issubclass(error, Unknown | Gone):
        return (
            f"{sentence} The status is {404 if issubclass(error, Unknown) else 410} where the "
            "path names it, 409 where the body does."
        )
    return sentence


# Where a value that the domain refuses came in, if not in the body.
_HEADERS = {"actor": "Roster-Actor", "reason": "Roster-Reason"}


def respond(
    request: Request,
    rule: str,
    status: int,
    detail: str,
    errors: Sequence[Mapping[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
    count: int | None = None,
) -> Response:
    """Return the answer to a refused request.

    `more` holds members beside those that every problem has.

    `count` is the number of errors, where `errors` are not all of them.
    """
    problem = {
        **document(
            rule, status, detail, errors or (), getattr(request.state, "request_id", None), count
        ),
        **(more or {}),
    }
    retry = {"Retry-After": RETRY_AFTER} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Response(msgspec.json.encode(problem), status, {**retry, **(headers or {})}, MEDIA_TYPE)


def document(
    rule: str,
    status: int | None,
    detail: str,
    errors: Sequence[Mapping[str, Any]],
    request_id: str | None = None,
    count: int | None = None,
) -> dict[str, Any]:
    """Return a problem as JSON, with the first of its errors.

    `count` is the number of all errors; None means that `errors` are all.

    Without a status it is that of a rule about something that the body names.
    """
    return {
        "type": f"/problems/{rule}",
        "title": title(rule),
        "status": status
        or (HTTPStatus.UNPROCESSABLE_ENTITY if rule == "invalid-request" else HTTPStatus.CONFLICT),
        "detail": _shortened(detail, _DETAIL_LENGTH),
        "request_id": request_id,
        "errors": [
            {name: _shortened(part, _PART_LENGTH) for name, part in one.items()}
            for one in errors[:MOST_ERRORS]
        ],
        "errors_count": len(errors) if count is None else count,
    }


def title(rule: str) -> str:
    """Return the name of a rule for people."""
    return rule.replace("-", " ").capitalize()


def _shortened(text: str, most: int) -> str:
    """Return a text that JSON can hold and that is no longer than `most`.

    A text that a request names may break both.
    """
    text = text if len(text) <= most else f"{text[:most]}…"
    return text if text.isascii() else text.encode(errors="replace").decode()


def refuse(request: Request, error: DomainError, more: Mapping[str, Any]) -> Response:
    """Return the answer to a refused command that has more to say than its error."""
    return respond(request, error.rule, _status(request, error), str(error), more=more)


def of(request: Request, error: Exception) -> Response:
    """Return the answer to a request that was refused, or failed, with `error`."""
    for kind, answer in _ANSWERS.items():
        if isinstance(error, kind):
            return answer(request, error)
    return _unexpected(request, error)


def _status(request: Request, error: DomainError) -> int:
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    return 409 if isinstance(error, Unknown | Gone) and not _is_in_path(request, error) else status


def _is_in_path(request: Request, error: Unknown | Gone) -> bool:
    """Tell whether the path names the thing, as the kind of thing that the error is about."""
    kind = error.rule.partition("-")[0]
    named = request.path_params.get("user_id" if kind == "member" else f"{kind}_id")
    return named is not None and str(UUID(str(named))) == error.id


def _on_domain_error(request: Request, error: Any) -> Response:
    if isinstance(error, InvalidValue):
        return invalid(request, [_at(error.field, error.broken_rule, error.detail)])
    if isinstance(error.__cause__, Exception):
        logger.warning("%s: %s", error.rule, str(error.__cause__).partition("\n")[0])
    return respond(
        request, error.rule, _status(request, error), str(error), getattr(error, "errors", None)
    )


def invalid(
    request: Request,
    errors: Sequence[Mapping[str, Any]],
    count: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the answer to a request that breaks rules of form or value.

    `count` is the number of broken rules; None means that `errors` are all.
    """
    detail = f"The request breaks {summary(errors, count)}"
    return respond(request, "invalid-request", 422, detail, errors, headers, count=count)


def summary(errors: Sequence[Mapping[str, Any]], count: int | None = None) -> str:
    """Return how many rules are broken, and how the first of them are."""
    count = len(errors) if count is None else count
    shown = [_shortened(error["detail"], _PART_LENGTH) for error in errors[:_SHOWN_ERRORS]]
    more = [f"and {count - len(shown)} more"] if count > len(shown) else []
    return f"{'1 rule' if count == 1 else f'{count} rules'}: {'; '.join([*shown, *more])}"


def errors_of(wrong: ValidationError, *place: str | int) -> list[dict[str, Any]]:
    """Return what a validation found, with each place below `place`."""
    found = wrong.errors(include_url=False, include_input=False)
    return [_of_pydantic({**one, "loc": (*place, *one["loc"])}) for one in found]


def _at(field: str, rule: str, detail: str) -> dict[str, Any]:
    kind, _, name = field.partition(":")
    if name:
        return {kind: name, "rule": rule, "detail": detail}
    if field in _HEADERS:
        return {"header": _HEADERS[field], "rule": rule, "detail": detail}
    return {"pointer": f"/{field}", "rule": rule, "detail": detail}


def _on_invalid_request(request: Request, error: Any) -> Response:
    return invalid(request, [_of_pydantic(one) for one in error.errors()])


def _on_invalid_form(request: Request, error: Any) -> Response:
    return invalid(request, error.errors, error.count)


def _of_pydantic(error: Mapping[str, Any]) -> dict[str, Any]:
    place, *path = error["loc"]
    cause = error.get("ctx", {}).get("error")
    inner = cause.field.partition("/")[2] if isinstance(cause, InvalidValue) else ""
    rule = (
        cause.broken_rule
        if isinstance(cause, InvalidValue)
        else _RULES.get(error["type"], error["type"].replace("_", "-"))
    )
    detail = (
        cause.detail
        if isinstance(cause, InvalidValue)
        else f"{'/'.join(map(str, path)) or 'the body'}: {error['msg']}"
    )
    if place == "body":
        pointer = "".join(f"/{escaped(str(part))}" for part in path) + (
            f"/{inner}" if inner else ""
        )
        return {"pointer": pointer, "rule": rule, "detail": detail}
    return {
        "header" if place == "header" else "parameter": str(path[0]),
        "rule": rule,
        "detail": detail,
    }


_RULES = {
    "missing": "required",
    "extra_forbidden": "unknown-field",
    "enum": "one-of",
    "uuid_parsing": "uuid",
    "uuid_type": "uuid",
}


def _on_http_exception(request: Request, error: Any) -> Response:
    phrase = HTTPStatus(error.status_code).phrase
    rule = re.sub(r"[^a-z]+", "-", phrase.lower())
    detail = (
        error.detail
        if error.detail != phrase
        else f"{request.method} {request.scope['path']}: {phrase}."
    )
    return respond(request, rule, error.status_code, detail, headers=error.headers)


def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("request failed", exc_info=error)
    detail = "Something went wrong here. It is in the service's log under this request id."
    return respond(request, "internal-error", 500, detail)


_ANSWERS: Mapping[type[Exception], Callable[[Request, Any], Response]] = {
    DomainError: _on_domain_error,
    InvalidForm: _on_invalid_form,
    RequestValidationError: _on_invalid_request,
    HTTPException: _on_http_exception,
}

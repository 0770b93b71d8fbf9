"""What routes say about themselves in the OpenAPI document, written once."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from fastapi import FastAPI
from pydantic import BaseModel, create_model

from rosterlog.api.http.negotiation import CSV, EVENT_STREAM, JSON, NDJSON
from rosterlog.api.http.problems import MEDIA_TYPE, Problem
from rosterlog.api.rest.openapi.document import finish
from rosterlog.api.rest.policy import POLICIES
from rosterlog.api.rest.schemas.answers import Accepted
from rosterlog.api.rest.schemas.fields import ABSENT

_HEADERS: dict[str, dict[str, Any]] = {
    "ETag": {"description": "The version of what the answer shows.", "schema": {"type": "string"}},
    "Roster-Position": {
        "description": "The position of the log that the answer reflects.",
        "required": True,
        "schema": {"type": "integer"},
    },
}
_OF_COMMANDS = _HEADERS | {
    "Idempotent-Replayed": {
        "description": (
            "`true` where the answer is that of an earlier request with the same `Idempotency-Key`."
        ),
        "schema": {"type": "string", "enum": ["true"]},
    },
}
_LOCATION = {
    "Location": {
        "description": "The path of what was created.",
        "required": True,
        "schema": {"type": "string"},
    }
}
_CREATED = 201
_TEXT = {"schema": {"type": "string"}}
_BEARER = "bearer"
COMMAND_HEADERS = {
    "Roster-Actor": "Who gives the command: an opaque id, no e-mail address.",
    "Roster-Reason": (
        "Why, in percent-encoded UTF-8. It is kept in the log for ever and nothing takes it out: "
        "no name, no address, no diagnosis of a person."
    ),
    "If-Match": 'The version the command relies on, as `"7"`; a list of them where any will do.',
    "Prefer": "`respond-async`: answer 202 once recorded.",
    "Idempotency-Key": (
        "Makes the request safe to repeat within 24 hours: it is carried out once, and answered "
        "the same."
    ),
}
"""What every command reads from its headers."""
READ_HEADERS = {
    "If-None-Match": (
        "The `ETag` of an answer that the caller has: where it would come again, the answer is 304."
    )
}
"""What every read of the roster or the log reads from its headers."""

_REFUSED = (
    "Why nothing was recorded, with what would have become of each item where one of them is the "
    "reason."
)
_ACCEPTED = "Recorded, not yet visible."
_SAYS = {
    404: "The path's thing never existed.",
    409: "The command contradicts the roster as it is.",
    410: "The path's thing has ended for good.",
    401: "No token that counts, where authentication is configured.",
    403: "The token lacks the scope, or is confined to groups.",
    406: "`Accept` takes none of the media types that there are.",
    412: "The thing is at another version than If-Match says.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    422: "The request breaks a rule of form or value; `errors` names each place.",
    503: "Not possible right now; try again after `Retry-After` seconds.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document refusals."""
    return {
        status: {"model": Problem, "description": _SAYS[status], "content": {MEDIA_TYPE: {}}}
        for status in sorted(statuses)
    }


def read(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document a read: its headers, 304, and its refusals besides 422 and 503."""
    unchanged = {"description": "Unchanged since the given `If-None-Match`.", "headers": _HEADERS}
    return {200: {"headers": _HEADERS}, 304: unchanged, **problems(*statuses, 422, 503)}


def history(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document a read of pages as JSON that is streamed whole in other media types."""
    answers = read(*statuses)
    answers[200] = {"headers": _HEADERS, "content": {CSV: _TEXT, NDJSON: _TEXT}}
    return answers


def feed() -> dict[int | str, dict[str, Any]]:
    """Document the feed: pages as JSON, or server-sent events."""
    answers = read()
    answers[200] = {"headers": _HEADERS, "content": {EVENT_STREAM: _TEXT}}
    return answers


def command(
    *statuses: int, success: tuple[int, ...] = (200,), accepted: type[BaseModel] = Accepted
) -> dict[int | str, dict[str, Any]]:
    """Document a command: its headers, 202, and its refusals.

    `statuses` are the refusals besides those that every command has.
    """
    recorded = {"model": accepted, "description": _ACCEPTED, "headers": _OF_COMMANDS}
    answers: dict[int | str, dict[str, Any]] = {
        status: {"headers": _OF_COMMANDS | (_LOCATION if status == _CREATED else {})}
        for status in success
    }
    return {**answers, 202: recorded, **problems(*statuses, 409, 413, 415, 422, 503)}


def command_on_many(outcomes: type[BaseModel], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document a command on many things.

    Where it is not visible yet, it answers with its outcomes, too.
    """
    accepted = create_model(
        f"Accepted{outcomes.__name__}", __base__=outcomes, __doc__=Accepted.__doc__, id=(UUID, ...)
    )
    return command(*statuses, accepted=accepted)


def command_on_items(outcomes: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Document a command on many items.

    Where all are refused because of one, it answers with the outcome of each, too.
    """
    fields = {
        name: (field.annotation, ABSENT)
        for name, field in outcomes.model_fields.items()
        if name != "position"
    }
    refused = create_model(
        f"Refused{outcomes.__name__}", __base__=Problem, __doc__=_REFUSED, **fields
    )  # type: ignore[call-overload]
    answers = command_on_many(outcomes)
    return answers | {409: {**answers[409], "model": refused}}


def complete(app: FastAPI) -> None:
    """Complete the document where FastAPI does not know enough.

    It lacks who may do what, the media type of problems, headers of commands, and 200 for a
    repeated creation.
    """
    document = app.openapi()
    scheme = {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "Where authentication is configured.",
    }
    document["components"]["securitySchemes"] = {_BEARER: scheme}
    for operations in document["paths"].values():
        for operation in operations.values():
            policy = POLICIES[operation["operationId"]]
            if policy.scope is not None:
                operation["security"] = [{_BEARER: [policy.scope]}]
                _complete_refusals(operation, 401, 403)
            _complete_refusals(operation, 422, *([406] if policy.offers else []))
            _complete_headers(operation)
            _complete_answers(operation["responses"])
    finish(document)


def _complete_refusals(operation: dict[str, Any], *statuses: int) -> None:
    operation["responses"] |= {
        str(status): {"description": _SAYS[status], "content": {MEDIA_TYPE: {}}}
        for status in statuses
    }


def _complete_headers(operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    headers: Mapping[str, str] = {}
    if "304" in answers:
        headers = READ_HEADERS
    elif answers.get("202", {}).get("description") == _ACCEPTED:
        versioned = POLICIES[operation["operationId"]].versioned
        headers = {
            name: what for name, what in COMMAND_HEADERS.items() if name != "If-Match" or versioned
        }
    parameters = [
        {
            "name": name,
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": what,
        }
        for name, what in headers.items()
    ]
    if parameters:
        operation["parameters"] = [*operation.get("parameters", []), *parameters]


def _complete_answers(answers: dict[str, Any]) -> None:
    for answer in answers.values():
        if MEDIA_TYPE in answer.get("content", {}):
            schema = (
                answer["content"]
                .get(JSON, {})
                .get("schema", {"$ref": "#/components/schemas/Problem"})
            )
            answer["content"] = {MEDIA_TYPE: {"schema": schema}}
    if {"200", "201"} <= answers.keys():
        answers["200"] |= {
            "description": "It existed already, with the same content.",
            "content": answers["201"]["content"],
        }

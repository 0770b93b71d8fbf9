"""The table of all operations: what each one needs from its caller, offers and takes.

No other place knows.

A request is matched with an operation once (`rosterlog.api.http.operations`), and whatever depends
on the operation looks here. An operation without a row ends the start of the service, and so does a
row without an operation.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rosterlog.api.http.negotiation import CSV, EVENT_STREAM, HTML, JSON, NDJSON, TEXT

READ, WRITE, AUDIT, ADMIN = SCOPES = ("roster.read", "roster.write", "roster.audit", "roster.admin")
"""What a token may allow. No scope includes another."""

BODY_BYTES = 256 * 1024
"""Most bytes of a request's body."""
BULK_BODY_BYTES = 4 * 1024 * 1024
"""Most bytes of the body of a command about many things."""


@dataclass(frozen=True)
class Policy:
    """What one operation asks and gives."""

    scope: str | None
    """The scope that a token needs; None where no token is needed."""
    confinable: bool
    """Whether a token may use it that is confined to groups.

    What is about no one group is closed to these.
    """
    offers: tuple[str, ...]
    """The media types that it answers with, the usual one first; empty where its success has no content, or a file's own type."""
    body: int
    """Most bytes of the request's body; 0 where it takes none."""
    versioned: bool = False
    """Whether the caller may say, by If-Match, on which version of a thing the change relies."""


def _public(*offers: str) -> Policy:
    return Policy(None, confinable=True, offers=offers, body=0)


def _read(scope: str, *offers: str) -> Policy:
    return Policy(scope, confinable=True, offers=offers or (JSON,), body=0)


def _command(body: int = 0, *, versioned: bool = True) -> Policy:
    return Policy(WRITE, confinable=True, offers=(JSON,), body=body, versioned=versioned)


def _for_all_groups(scope: str, *offers: str, body: int = 0, versioned: bool = False) -> Policy:
    return Policy(scope, confinable=False, offers=offers, body=body, versioned=versioned)


_WHOLE = (JSON, CSV, NDJSON)
"""Answers that come as pages or an object, or streamed whole."""

POLICIES: Mapping[str, Policy] = {
    "getStarted": _public(JSON),
    "isAlive": _public(JSON),
    "isReady": _public(JSON),
    "explainProblem": _public(TEXT),
    "openapi": _public(JSON),
    "getDocs": _public(HTML),
    "getDocsFile": _public(),
    # Groups
    "createGroup": _for_all_groups(WRITE, JSON, body=BODY_BYTES),
    "renameGroup": _command(BODY_BYTES),
    "deleteGroup": _command(),
    "listGroups": _read(READ),
    "getGroup": _read(READ),
    "listGroupClasses": _read(READ),
    "getGroupHistory": _read(AUDIT, *_WHOLE),
    "getGroupRosters": _read(READ, *_WHOLE),
    "diffGroup": _read(AUDIT),
    # Users
    "registerUser": _for_all_groups(WRITE, JSON, body=BODY_BYTES),
    "registerMany": _for_all_groups(WRITE, JSON, body=BULK_BODY_BYTES),
    "removeUser": _for_all_groups(WRITE, JSON, versioned=True),
    "listUsers": _read(READ),
    "getUser": _read(READ),
    "listMemberships": _read(READ),
    "getUserHistory": _read(AUDIT, *_WHOLE),
    # Classes
    "createClass": _command(BODY_BYTES, versioned=False),
    "changeClass": _command(BODY_BYTES),
    "archiveClass": _command(BODY_BYTES),
    "restoreClass": _command(BODY_BYTES),
    "deleteClass": _command(),
    "listClasses": _read(READ),
    "getClass": _read(READ),
    "getClassHistory": _read(AUDIT, *_WHOLE),
    "diffClass": _read(AUDIT),
    # Members
    "enrolMember": _command(BODY_BYTES),
    "setMembers": _command(BULK_BODY_BYTES),
    "changeRole": _command(BODY_BYTES),
    "withdrawMember": _command(),
    "listMembers": _read(READ),
    "getMember": _read(READ),
    "enrolMany": _command(BULK_BODY_BYTES, versioned=False),
    # What happened
    "getHistory": _read(AUDIT, *_WHOLE),
    "followEvents": _read(AUDIT, JSON, EVENT_STREAM),
    # Operations
    "getProjections": _for_all_groups(ADMIN, JSON),
    "startRebuild": _for_all_groups(ADMIN, JSON, body=BODY_BYTES),
    "getRebuild": _for_all_groups(ADMIN, JSON),
    "cancelRebuild": _for_all_groups(ADMIN),
    "getMetrics": _for_all_groups(ADMIN, TEXT),
}
"""By operation id, as in the OpenAPI document; `openapi`, `getDocs` and `getDocsFile` are not in it."""

OPEN_METRICS = _public(TEXT)
"""The policy of `getMetrics` where the setting says that it needs no token."""

"""The table of all operations: scope, confinement, media types, body, query and version of each.

No other place says so. A request is matched with its operation once (`rosterlog.api.http.door`),
and all checks follow the operation's row here. The service does not start where an operation has no
row, a row has no operation, or a route's function takes another body or query than its row says.
"""

from collections.abc import Mapping

from pydantic import BaseModel

from rosterlog.api.http.negotiation import CSV, EVENT_STREAM, HTML, JSON, NDJSON, TEXT
from rosterlog.api.http.policy import BODY_BYTES, BULK_BODY_BYTES, Policy
from rosterlog.api.rest.bulk_items import Atomic, RosterOptions
from rosterlog.api.rest.schemas.queries import (
    ClassHistoryPage,
    ClassPage,
    DiffQuery,
    FeedQuery,
    GroupHistoryPage,
    HistoryPage,
    MemberPage,
    Page,
    PageAsOf,
    ReadingAsOf,
    UserHistoryPage,
    Withdrawal,
)

READ, WRITE, AUDIT, ADMIN = SCOPES = ("roster.read", "roster.write", "roster.audit", "roster.admin")
"""What a token may allow. No scope includes another."""


def _public(*offers: str) -> Policy:
    return Policy(None, confinable=True, offers=offers, body=0)


def _read(scope: str, query: type[BaseModel], *offers: str) -> Policy:
    return Policy(scope, confinable=True, offers=offers or (JSON,), body=0, query=query)


def _command(
    body: int = 0, query: type[BaseModel] | None = None, *, versioned: bool = True
) -> Policy:
    return Policy(
        WRITE, confinable=True, offers=(JSON,), body=body, query=query, versioned=versioned
    )


def _for_all_groups(
    scope: str,
    *offers: str,
    body: int = 0,
    query: type[BaseModel] | None = None,
    versioned: bool = False,
) -> Policy:
    return Policy(
        scope, confinable=False, offers=offers, body=body, query=query, versioned=versioned
    )


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
    "listGroups": _read(READ, Page),
    "getGroup": _read(READ, ReadingAsOf),
    "listGroupClasses": _read(READ, PageAsOf),
    "getGroupHistory": _read(AUDIT, GroupHistoryPage, *_WHOLE),
    "getGroupRosters": _read(READ, ReadingAsOf, *_WHOLE),
    "diffGroup": _read(AUDIT, DiffQuery),
    # Users
    "registerUser": _for_all_groups(WRITE, JSON, body=BODY_BYTES),
    "registerMany": _for_all_groups(WRITE, JSON, body=BULK_BODY_BYTES, query=Atomic),
    "removeUser": _for_all_groups(WRITE, JSON, versioned=True),
    "listUsers": _read(READ, Page),
    "getUser": _read(READ, ReadingAsOf),
    "listMemberships": _read(READ, PageAsOf),
    "getUserHistory": _read(AUDIT, UserHistoryPage, *_WHOLE),
    # Classes
    "createClass": _command(BODY_BYTES, versioned=False),
    "changeClass": _command(BODY_BYTES),
    "archiveClass": _command(BODY_BYTES),
    "restoreClass": _command(BODY_BYTES),
    "deleteClass": _command(),
    "listClasses": _read(READ, ClassPage),
    "getClass": _read(READ, ReadingAsOf),
    "getClassHistory": _read(AUDIT, ClassHistoryPage, *_WHOLE),
    "diffClass": _read(AUDIT, DiffQuery),
    # Members
    "enrolMember": _command(BODY_BYTES),
    "setMembers": _command(BULK_BODY_BYTES, RosterOptions),
    "changeRole": _command(BODY_BYTES),
    "withdrawMember": _command(query=Withdrawal),
    "listMembers": _read(READ, MemberPage),
    "getMember": _read(READ, ReadingAsOf),
    "enrolMany": _command(BULK_BODY_BYTES, Atomic, versioned=False),
    # Past events
    "getHistory": _read(AUDIT, HistoryPage, *_WHOLE),
    "followEvents": _read(AUDIT, FeedQuery, JSON, EVENT_STREAM),
    # Operations of the service
    "getProjections": _for_all_groups(ADMIN, JSON),
    "startRebuild": _for_all_groups(ADMIN, JSON, body=BODY_BYTES),
    "getRebuild": _for_all_groups(ADMIN, JSON),
    "cancelRebuild": _for_all_groups(ADMIN),
    "getMetrics": _for_all_groups(ADMIN, TEXT),
}
"""The policy of each operation by its id in the OpenAPI document.

`openapi`, `getDocs` and `getDocsFile` are not in that document.
"""

OPEN_METRICS = _public(TEXT)
"""The policy of `getMetrics` where `ROSTERLOG_METRICS_OPEN` is set: no token is needed."""

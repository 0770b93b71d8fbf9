"""To a caller confined to groups, things of other groups do not exist.

So it is on every route, in every answer, for commands and for reads.
"""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from rosterlog.api.rest.policy import POLICIES, SCOPES, WRITE
from tests.api.client import Api, done, problem, unknown_id
from tests.api.conftest import serving
from tests.api.identity import AUDIENCE, ISSUER, Provider, bearer, trusting
from tests.api.processes import rosterlog, succeeds
from tests.api.town import Town

PUBLIC = {"isAlive", "isReady", "getStarted", "explainProblem"}
NOBODY = "5a5a5a5a-5a5a-4a5a-8a5a-5a5a5a5a5a5a"
FOR_ALL_GROUPS = {
    "createGroup", "registerUser", "registerMany", "removeUser",
    "getProjections", "startRebuild", "getRebuild", "cancelRebuild", "getMetrics",
}  # fmt: skip
"""What only a token may that is confined to no groups."""
LISTS = {"listGroups", "listClasses", "listUsers", "getHistory", "followEvents"}
"""What lists things of any groups."""
IN_BODY = {"createClass", "enrolMany"}
"""What names a group or class in its body alone."""
OF_A_GROUP: dict[str, dict[str, Any]] = {
    "getGroup": {}, "renameGroup": {"json": {"name": "X"}}, "deleteGroup": {},
    "listGroupClasses": {}, "getGroupHistory": {},
    "getGroupRosters": {}, "diffGroup": {"params": {"from_position": 0}},
}  # fmt: skip
"""What is about the group, class or user in its path, and how to ask for it."""
OF_A_CLASS: dict[str, dict[str, Any]] = {
    "getClass": {}, "changeClass": {"json": {"name": "X"}}, "archiveClass": {}, "restoreClass": {},
    "deleteClass": {},
    "getClassHistory": {}, "diffClass": {"params": {"from_position": 0}},
    "enrolMember": {"json": {"user_id": NOBODY, "role": "student"}},
    "setMembers": {"json": {"members": []}, "params": {"max_withdrawals": 1}},
    "changeRole": {"json": {"role": "teacher"}}, "withdrawMember": {}, "listMembers": {},
    "getMember": {},
}  # fmt: skip
OF_A_USER: dict[str, dict[str, Any]] = {"getUser": {}, "listMemberships": {}, "getUserHistory": {}}
IN_PATH = OF_A_GROUP | OF_A_CLASS | OF_A_USER
OF_THE_PAST = {
    "getGroup",
    "listGroupClasses",
    "getGroupRosters",
    "getClass",
    "listMembers",
    "getMember",
    "getUser",
    "listMemberships",
}


def request(api: Api, operation: str, ids: dict[str, str], **more: Any) -> httpx.Response:
    """Ask for an operation by its name, with these ids in its path."""
    for path, methods in api.get("/openapi.json").json()["paths"].items():
        for method, described in methods.items():
            if described["operationId"] == operation:
                return api.request(
                    method, path.format(**ids), **{**IN_PATH.get(operation, {}), **more}
                )
    raise AssertionError(f"there is no operation {operation}")


def said(refusal: httpx.Response, ids: dict[str, str]) -> str:
    """Return all that a refusal says, without the ids that were asked for and the request's own."""
    body = {**refusal.json(), "request_id": None}
    text = json.dumps([refusal.status_code, body, sorted(set(refusal.headers) - {"date"})])
    for id_ in ids.values():
        text = text.replace(id_, "…")
    return text


def test_every_operation_is_in_one_of_these_tables(guarded: Api) -> None:
    paths = guarded.get("/openapi.json").json()["paths"]
    operations = [
        operation["operationId"] for methods in paths.values() for operation in methods.values()
    ]
    assert sorted(operations) == sorted([*PUBLIC, *FOR_ALL_GROUPS, *LISTS, *IN_BODY, *IN_PATH])


@pytest.mark.parametrize("operation", IN_PATH)
def test_what_is_of_another_group_is_as_what_never_was(town: Town, operation: str) -> None:
    theirs = {
        "group_id": town.other_group,
        "class_id": town.other_class,
        "user_id": town.other_user,
    }
    never = {name: unknown_id() for name in theirs}
    ways: list[dict[str, Any]] = [{}, {"headers": {"If-Match": '"99"'}}]
    if POLICIES[operation].scope != WRITE:
        ways.append({"headers": {"If-None-Match": "*"}})
    if operation in OF_THE_PAST:
        ways.append({"params": {"at_position": town.all.log_head}})
    with town.all.nothing_recorded():
        for more in ways:
            found = request(town.mine, operation, theirs, **more)
            assert found.status_code == 404, found.text
            assert said(found, theirs) == said(request(town.mine, operation, never, **more), never)
            assert said(found, theirs) == said(
                request(town.confined(), operation, theirs, **more), theirs
            )


@pytest.mark.parametrize("operation", IN_PATH)
def test_what_is_of_ones_own_group_is_as_to_anybody(town: Town, operation: str) -> None:
    ids = {"group_id": town.group, "class_id": town.class_id, "user_id": town.user}
    more = {"json": {"user_id": town.user, "role": "student"}} if operation == "enrolMember" else {}
    answer = request(town.mine, operation, ids, **more)
    assert answer.status_code in {200, 204}, answer.text
    if answer.request.method == "GET" and operation not in {"getUserHistory", "listMemberships"}:
        assert answer.json() == done(request(town.all, operation, ids), 200).json()


@pytest.mark.parametrize("operation", sorted(LISTS))
def test_lists_leave_out_what_is_of_other_groups(town: Town, operation: str) -> None:
    shown = done(request(town.mine, operation, {}), 200)
    assert not any(id_ in shown.text for id_ in town.others)
    own = {"listGroups": town.group, "listUsers": town.user}.get(operation, town.class_id)
    assert own in shown.text
    assert done(request(town.confined(), operation, {}), 200).json()["items"] == []
    assert any(id_ in done(request(town.both, operation, {}), 200).text for id_ in town.others)


@pytest.mark.parametrize("operation", sorted(FOR_ALL_GROUPS))
def test_what_is_of_no_group_is_refused_before_all_else(town: Town, operation: str) -> None:
    with town.all.nothing_recorded():
        problem(
            request(town.mine, operation, {"user_id": town.user}, json={"nonsense": 1}),
            403,
            "token-confined",
        )


@pytest.mark.parametrize(
    "claim",
    [
        None,
        "",
        "all",
        NOBODY,
        7,
        True,
        {},
        {"0": NOBODY},
        ["all"],
        [None],
        [7],
        [[NOBODY]],
        [NOBODY, "x"],
    ],
)
def test_a_claim_that_can_not_be_read_is_no_reason_to_show_everything(
    guarded: Api, provider: Provider, claim: Any
) -> None:
    refused = guarded.get("/v1/groups", headers=bearer(provider.token(roster_groups=claim)))
    assert "roster_groups" in problem(refused, 401, "unauthenticated")["detail"]


def test_an_empty_list_sees_nothing_and_ids_may_be_written_in_any_way(town: Town) -> None:
    for path in ("/v1/groups", "/v1/classes", "/v1/users", "/v1/history"):
        assert town.confined().items(path) == []
    assert [
        group["id"] for group in town.confined(town.group.upper(), town.group).items("/v1/groups")
    ] == [town.group]


def test_another_claim_can_confine_and_the_command_line_makes_such_tokens(
    database: str, tmp_path: Path
) -> None:
    key = tmp_path / "key.pem"
    environment = {
        "AUTH_KEYS": str(key),
        "AUTH_ISSUER": ISSUER,
        "AUTH_AUDIENCE": AUDIENCE,
        "AUTH_GROUPS_CLAIM": "schools",
    }
    arguments = [
        "token",
        "--key",
        str(key),
        "--subject",
        "me",
        *(part for scope in SCOPES for part in ("--scope", scope)),
    ]
    everywhere = succeeds(*arguments, "--make-key", **environment).strip()
    with serving(database, trusting(key, auth_groups_claim="schools")) as api:
        api.headers.update(bearer(everywhere))
        north, south = api.new_group("North"), api.new_group("South")
        confined = succeeds(
            *arguments, "--group", south, "--group", unknown_id(), **environment
        ).strip()
        assert [group["id"] for group in api.items("/v1/groups")] == [north, south]
        api.headers.update(bearer(confined))
        assert [group["id"] for group in api.items("/v1/groups")] == [south]
    assert "valid UUID" in rosterlog(*arguments, "--group", "north", **environment).stderr

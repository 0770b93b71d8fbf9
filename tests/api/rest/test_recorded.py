"""A command that was recorded is never answered as if it had failed, whatever fails on the way to its answer."""

import json
from itertools import cycle
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from psycopg_pool import PoolTimeout
from starlette.exceptions import HTTPException

from rosterlog.api.reading.reads import Reads
from rosterlog.api.rest import commands
from rosterlog.api.rest.commands import CommandRoute, Commands, _command
from rosterlog.api.rest.routes import (
    bulk,
    classes,
    events,
    groups,
    members,
    metrics,
    projections,
    service,
    users,
)
from rosterlog.api.settings import Settings
from rosterlog.domain.errors import (
    ClassDeleted,
    GroupUnknown,
    InvalidValue,
    OutcomeUnknown,
    ReadTablesBehind,
    StoreUnavailable,
)
from rosterlog.domain.log.silence import DatabaseSilent
from tests.api.client import Api, done, position, problem
from tests.api.conftest import serving
from tests.domain.threads import eventually, gathered
from tests.faults.proxy import Proxy

FAILURES = [
    StoreUnavailable(),
    OutcomeUnknown(),
    ReadTablesBehind(position=1),
    GroupUnknown(uuid4()),
    ClassDeleted(uuid4()),
    InvalidValue("name", "length", "too long"),
    PoolTimeout("no connection"),
    DatabaseSilent("no word"),
    psycopg.errors.QueryCanceled("statement timeout"),
    psycopg.errors.AdminShutdown("terminating"),
    psycopg.errors.UndefinedTable("no such table"),
    psycopg.InterfaceError("the connection is closed"),
    HTTPException(404),
    RequestValidationError([]),
    TimeoutError(),
    ConnectionResetError(),
    ValueError("NaN is no JSON"),
    UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates"),
    RecursionError(),
    MemoryError(),
    ZeroDivisionError(),
]


class Made:
    """Things that commands are given about, and the commands."""

    def __init__(self, api: Api) -> None:
        group, user = api.new_group(), api.new_user()
        class_ = api.new_class(group)
        member = api.enrol(class_)
        archived = api.new_class(group)
        done(api.post(f"/v1/classes/{archived}/archive"), 200)
        leaver = api.enrol(class_)
        of_class, members = f"/v1/classes/{class_}", f"/v1/classes/{class_}/members"
        self.requests: dict[str, tuple[str, str, Any]] = {
            "createGroup": ("POST", "/v1/groups", {"name": "South"}),
            "renameGroup": ("PATCH", f"/v1/groups/{group}", {"name": "West"}),
            "deleteGroup": ("DELETE", f"/v1/groups/{api.new_group()}", None),
            "registerUser": ("POST", "/v1/users", {}),
            "removeUser": ("DELETE", f"/v1/users/{api.new_user()}", None),
            "registerMany": ("POST", "/v1/users/batch", {"items": [{"id": str(uuid4())}]}),
            "createClass": ("POST", "/v1/classes", {"group_id": group, "name": "Art"}),
            "changeClass": ("PATCH", of_class, {"name": "Art"}),
            "archiveClass": ("POST", f"/v1/classes/{api.new_class(group)}/archive", {}),
            "restoreClass": ("POST", f"/v1/classes/{archived}/restore", {}),
            "deleteClass": ("DELETE", f"/v1/classes/{api.new_class(group)}", None),
            "enrolMember": ("POST", members, {"user_id": user, "role": "student"}),
            "changeRole": ("PATCH", f"{members}/{member}", {"role": "teacher"}),
            "withdrawMember": ("DELETE", f"{members}/{leaver}", None),
            "enrolMany": (
                "POST",
                "/v1/enrolments",
                {"items": [{"class_id": class_, "user_id": api.new_user(), "role": "student"}]},
            ),
            "setMembers": (
                "PUT",
                members,
                {"members": [{"user_id": api.new_user(), "role": "teacher"}]},
            ),
        }

    def give(self, api: Api, command: str) -> httpx.Response:
        method, path, body = self.requests[command]
        return api.request(method, path, json=body)


def is_accepted(answer: httpx.Response, head: int) -> bool:
    """Tell whether an answer says that what stands at the `head` was recorded."""
    body: dict[str, Any] = done(answer, 202).json()
    return body.keys() >= {"position", "id"} and body["position"] == position(answer) == head


def test_every_command_is_given_by_such_a_route(shared: Api) -> None:
    modules = (bulk, classes, events, groups, members, metrics, projections, service, users)
    routes = [
        route for module in modules for route in module.router.routes if isinstance(route, APIRoute)
    ]
    giving = {
        route.operation_id: route
        for route in routes
        if any(one.call is _command for one in route.dependant.dependencies)
    }
    assert giving.keys() == Made(shared).requests.keys()
    assert all(isinstance(route, CommandRoute) for route in giving.values())


@pytest.mark.parametrize(
    "broken", [(Commands, "_is_visible"), (Reads, "found")], ids=["wait", "read"]
)
def test_whatever_fails_after_recording_is_202_with_the_position(
    shared: Api, broken: tuple[type, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command meets some of the failures, and each failure meets some of the commands."""
    failures = cycle(FAILURES)

    async def fails(*_: object, **__: object) -> None:
        raise next(failures)

    for made in (Made(shared), Made(shared)):
        with monkeypatch.context() as patched:
            patched.setattr(*broken, fails)
            for command in made.requests:
                before, answer, head = shared.log_head, made.give(shared, command), shared.log_head
                assert before < position(answer) == head, command
                assert answer.is_success, command
                if broken[0] is Commands or answer.status_code == 202:
                    assert is_accepted(answer, head), command


def test_what_recorded_nothing_fails_as_it_fails(
    shared: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_id = shared.new_class()
    member = shared.enrol(class_id)

    async def fails(*_: object, **__: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(Reads, "found", fails)
    with shared.nothing_recorded():
        again = shared.post(
            f"/v1/classes/{class_id}/members", json={"user_id": member, "role": "student"}
        )
        problem(again, 503, "store-unavailable")


@pytest.mark.parametrize("odd", ['"\\ud800"', "1e999"])
def test_an_item_that_no_answer_can_show_does_not_make_the_others_fail(
    shared: Api, odd: str
) -> None:
    good = json.dumps(
        {"class_id": shared.new_class(), "user_id": shared.new_user(), "role": "student"}
    )
    body = f'{{"items": [{good}, {{"class_id": {odd}, "user_id": "x", "role": "student"}}]}}'
    answer = shared.post(
        "/v1/enrolments", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in {200, 202, 422}, answer.text
    assert answer.status_code == 422 or position(answer) == shared.log_head


def test_commands_go_on_while_nothing_can_be_read(
    database: str, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "WAIT_SECONDS", 0.1)
    with Proxy(database).running() as proxy:
        settings = Settings(
            database_url=proxy.conninfo, write_database_url=database, project_database_url=database
        )
        with serving(proxy.conninfo, settings) as api:
            made = Made(api)
            proxy.refuse()
            for command in made.requests:
                answer = made.give(api, command)
                (head,) = connection.execute(
                    "SELECT max(notification_id) FROM log.events"
                ).fetchone() or (0,)
                assert is_accepted(answer, head), command
            proxy.accept()
            eventually(
                lambda: api.get("/v1/groups", params={"min_position": head}).status_code == 200
            )


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_command_that_is_given_up_is_unknown_if_it_was_begun_and_else_never_is(
    database: str,
    connection: psycopg.Connection[Any],
    has_begun: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(database) as api:
        api.new_group()
        monkeypatch.setattr(commands, "GIVE_SECONDS", 0.5)
        if has_begun:
            connection.execute("BEGIN; LOCK TABLE log.events IN SHARE MODE")
            problem(api.post("/v1/groups", json={"name": "North"}), 503, "outcome-unknown")
            connection.execute("ROLLBACK")
            eventually(lambda: api.log_head == 2)
        else:
            with gathered(database):
                problem(api.post("/v1/groups", json={"name": "North"}), 503, "store-unavailable")
            assert position(done(api.post("/v1/groups", json={"name": "South"}), 201)) == 2

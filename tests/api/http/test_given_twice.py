"""A part of a request that counts once and is given twice is refused with its place.

So it is wherever it can be given, and nothing is recorded.
"""

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.client import Api, done, error, problem
from tests.api.http.test_bad_input import School, made

__all__ = ["made"]
JSON_TYPE = {"Content-Type": "application/json"}


@pytest.fixture
def school(made: School) -> Iterator[School]:
    with made.api.nothing_recorded():
        yield made


QUERIES = [
    (
        "PUT",
        "/v1/classes/{class_}/members?max_withdrawals=0&max_withdrawals=100",
        "max_withdrawals",
    ),
    ("PUT", "/v1/classes/{class_}/members?dry_run=true&dry_run=false", "dry_run"),
    ("PUT", "/v1/classes/{class_}/members?dry_run=true&%64ry_run=false", "dry_run"),
    ("PUT", "/v1/classes/{class_}/members?dry_run=true&dry%5Frun=true", "dry_run"),
    ("POST", "/v1/enrolments?atomic=true&atomic=false", "atomic"),
    ("POST", "/v1/users/batch?atomic=&atomic", "atomic"),
    (
        "DELETE",
        "/v1/classes/{class_}/members/{user}?effective_on=2026-09-01&effective_on=2026-09-02",
        "effective_on",
    ),
    ("GET", "/v1/classes?limit=1&limit=1", "limit"),
    ("GET", "/v1/classes?archived=true&limit=1&archived=false", "archived"),
    ("GET", "/v1/classes/{class_}?at_position=1&at_position=2", "at_position"),
    ("GET", "/v1/history?actor=a&%61ctor=b", "actor"),
    ("GET", "/v1/events?after=0&after=1", "after"),
    (
        "GET",
        "/v1/groups/{group}/rosters?as_of=2026-09-01T08:00:00Z&as_of=2026-09-01T08:00:00Z",
        "as_of",
    ),
    ("GET", "/v1/classes/{class_}/diff?from_position=1&from_position=2", "from_position"),
    ("GET", "/readyz?x=1&x=2", "x"),
]


@pytest.mark.parametrize(
    ("method", "path", "parameter"), QUERIES, ids=[path for _, path, _ in QUERIES]
)
def test_a_parameter(school: School, method: str, path: str, parameter: str) -> None:
    body: dict[str, Any] = (
        {}
        if method in {"GET", "DELETE"}
        else {"json": {"members": []} if method == "PUT" else {"items": []}}
    )
    found = error(school.api.request(method, school.path(path), **body))
    assert (found["parameter"], found["rule"]) == (parameter, "given-twice")


HEADERS = [
    "Roster-Actor",
    "Roster-Reason",
    "Idempotency-Key",
    "Authorization",
    "Content-Type",
    "Last-Event-ID",
    "Origin",
]


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("same", [True, False])
def test_a_header(school: School, name: str, same: bool) -> None:
    given = [
        (name, "http://localhost"),
        (name.swapcase(), "http://localhost" if same else "http://127.0.0.1"),
    ]
    found = error(
        school.api.send(httpx.Request("POST", f"{school.api.base_url}/v1/users", headers=given))
    )
    assert (found["header"], found["rule"]) == (name, "given-twice")


def test_the_host(school: School) -> None:
    request = (
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nhost: localhost\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(
        (school.api.base_url.host, school.api.base_url.port or 80), timeout=60
    ) as connection:
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"/problems/malformed-request" in answer


BODIES: dict[str, tuple[str, str, str, str]] = {
    "a field": ("POST", "/v1/groups", '{"name":"x","name":"x"}', "/name"),
    "written otherwise": ("POST", "/v1/groups", '{"name":"x","n\\u0061me":"y"}', "/name"),
    "an unknown one": ("POST", "/v1/groups", '{"name":"x","a/b":1,"a/b":1}', "/a~1b"),
    "settings": (
        "POST",
        "/v1/classes",
        '{"group_id":"{group}","name":"x","settings":{},"settings":{"a":1}}',
        "/settings",
    ),
    "within settings": (
        "PATCH",
        "/v1/classes/{class_}",
        '{"settings":{"a":[0,{"b":{"c":1,"d":2,"c":1}}]}}',
        "/settings/a/1/b/c",
    ),
    "an empty name": ("PATCH", "/v1/classes/{class_}", '{"settings":{"":1,"":2}}', "/settings/"),
    "the outer one of two": (
        "PATCH",
        "/v1/classes/{class_}",
        '{"settings":{"a":{"b":1,"b":2},"a":1}}',
        "/settings/a",
    ),
    "an item": (
        "POST",
        "/v1/enrolments",
        '{"items":[{},{"role":"student","role":"teacher"}]}',
        "/items/1/role",
    ),
    "the items": ("POST", "/v1/users/batch", '{"items":[],"items":[{}]}', "/items"),
    "a member": (
        "PUT",
        "/v1/classes/{class_}/members",
        '{"members":[{"user_id":1,"user_id":1,"role":"student"}]}',
        "/members/0/user_id",
    ),
    "of nothing": ("POST", "/v1/classes/{class_}/archive", '{"a":1,"a":2}', "/a"),
    "a rebuild": ("POST", "/v1/projections/rebuild", '{"a":1,"a":2}', "/a"),
}


@pytest.mark.parametrize(("method", "path", "body", "pointer"), BODIES.values(), ids=BODIES.keys())
def test_a_name_in_an_object(
    school: School, method: str, path: str, body: str, pointer: str
) -> None:
    found = error(school.raw(path, body.replace("{group}", school.group), method))
    assert (found["pointer"], found["rule"]) == (pointer, "given-twice")


def test_a_name_in_a_large_body_is_found_too(school: School) -> None:
    body = '{"items":[' + '{"id":"x"},' * 30_000 + '{"id":"x","\\u0069d":"y"}]}'
    assert error(school.raw("/v1/users/batch", body))["pointer"] == "/items/30000/id"


def test_what_is_a_list_may_come_in_several_lines(made: School) -> None:
    path = f"/v1/classes/{made.class_}"
    etag = done(made.api.get(path), 200).headers["ETag"]
    lines: list[Any] = [
        ("If-None-Match", '"x"'),
        ("If-None-Match", etag),
        ("Accept", "text/csv;q=0.1"),
        ("Accept", "application/json"),
    ]
    done(made.api.get(path, headers=lines), 304)
    both = [
        ("If-Match", '"99"'),
        ("If-Match", etag),
        ("Prefer", "wait=9"),
        ("Prefer", "respond-async"),
    ]
    done(made.api.patch(path, json={"name": "Changed"}, headers=both), 202)


def test_a_member_of_a_roster_is_named_once_and_an_item_of_many_is_decided_after_those_before_it(
    made: School,
) -> None:
    user = made.api.new_user()
    twice = [
        {"class_id": made.class_, "user_id": spelling, "role": "student"}
        for spelling in (user, user.upper())
    ]
    found = done(made.api.post("/v1/enrolments", json={"items": twice}), 200).json()
    assert [one["outcome"] for one in found["items"]] == ["enrolled", "unchanged"]
    members = [{"user_id": spelling, "role": "student"} for spelling in (user, user.upper())]
    path = f"/v1/classes/{made.class_}/members"
    assert error(made.api.put(path, json={"members": members}))["pointer"] == "/members/1/user_id"


CONDITIONS = [
    ("POST", "/v1/groups"),
    ("POST", "/v1/users"),
    ("POST", "/v1/classes"),
    ("POST", "/v1/enrolments"),
    ("POST", "/v1/users/batch"),
]


@pytest.mark.parametrize(("method", "path"), CONDITIONS)
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_a_condition_that_is_not_looked_at_is_refused(
    school: School, method: str, path: str, header: str
) -> None:
    bodies: dict[str, Any] = {
        "/v1/classes": {"group_id": school.group, "name": "x"},
        "/v1/groups": {"name": "x"},
        "/v1/users": {},
    }
    body = bodies.get(path, {"items": []})
    assert (
        error(school.api.request(method, path, json=body, headers={header: "*"}))["header"]
        == header
    )


def test_more_parameters_than_any_operation_has_are_not_read(school: School) -> None:
    found = error(
        school.api.get("/v1/classes?" + "&".join(f"a{number}=1" for number in range(101)))
    )
    assert found["rule"] == "too-many"
    assert problem(
        school.api.get("/v1/classes?" + "&".join(f"a{number}=1" for number in range(99))),
        422,
        "invalid-request",
    )["errors"]


def test_the_document_offers_no_version_where_there_is_none(shared: Api) -> None:
    paths = shared.read("/openapi.json")["paths"]
    offered = {
        operation["operationId"]
        for operations in paths.values()
        for operation in operations.values()
        if "If-Match" in {one["name"] for one in operation.get("parameters", [])}
    }
    assert "changeClass" in offered
    assert not offered & {"createGroup", "createClass", "registerUser", "enrolMany", "registerMany"}

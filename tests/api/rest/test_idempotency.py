"""A request with an `Idempotency-Key` can be sent again: it is carried out once and answered the same."""

from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest

from tests.api.client import Api, done, error, position, problem, unknown_id
from tests.domain.threads import together


def keyed(key: str | None = None, **headers: str) -> dict[str, str]:
    return {"Idempotency-Key": key or unknown_id(), **headers}


def answer(response: httpx.Response) -> tuple[Any, ...]:
    """Return all of an answer but for what each request has of its own."""
    headers = {
        name: value
        for name, value in response.headers.items()
        if name not in {"date", "x-request-id", "idempotent-replayed"}
    }
    return response.status_code, response.content, headers


COMMANDS: dict[str, Callable[[Api, str, str, str, dict[str, str]], httpx.Response]] = {
    "create a group": lambda api, group, class_id, user, key: api.post(
        "/v1/groups", json={"name": "New"}, headers=key
    ),
    "create a class": lambda api, group, class_id, user, key: api.post(
        "/v1/classes", json={"group_id": group, "name": "New"}, headers=key
    ),
    "register a user": lambda api, group, class_id, user, key: api.post("/v1/users", headers=key),
    "rename": lambda api, group, class_id, user, key: api.patch(
        f"/v1/classes/{class_id}", json={"name": "New"}, headers=key
    ),
    "enrol": lambda api, group, class_id, user, key: api.post(
        f"/v1/classes/{class_id}/members", json={"user_id": user, "role": "student"}, headers=key
    ),
    "set": lambda api, group, class_id, user, key: api.put(
        f"/v1/classes/{class_id}/members",
        json={"members": [{"user_id": user, "role": "teacher"}]},
        headers=key,
    ),
    "enrol many": lambda api, group, class_id, user, key: api.post(
        "/v1/enrolments",
        json={"items": [{"class_id": class_id, "user_id": user, "role": "student"}, {}]},
        headers=key,
    ),
    "archive": lambda api, group, class_id, user, key: api.post(
        f"/v1/classes/{class_id}/archive", headers=key
    ),
    "delete": lambda api, group, class_id, user, key: api.delete(
        f"/v1/classes/{class_id}", headers=key
    ),
    "remove": lambda api, group, class_id, user, key: api.delete(f"/v1/users/{user}", headers=key),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_sent_again_whatever_happened_since(shared: Api, name: str) -> None:
    group, user, key = shared.new_group(), shared.new_user(), keyed()
    class_id = shared.new_class(group)
    first = COMMANDS[name](shared, group, class_id, user, key)
    assert first.is_success
    assert "Idempotent-Replayed" not in first.headers
    done(shared.delete(f"/v1/groups/{group}"), 204)
    with shared.nothing_recorded():
        again = COMMANDS[name](shared, group, class_id, user, key)
    assert answer(again) == answer(first)
    assert again.headers["Idempotent-Replayed"] == "true"


def test_the_same_key_twice_at_the_same_moment_is_carried_out_once(shared: Api) -> None:
    answers: list[httpx.Response] = []
    head = shared.log_head

    def send(key: dict[str, str]) -> None:
        answers.append(shared.post("/v1/groups", json={"name": "Once"}, headers=key))

    for number in range(1, 6):
        answers.clear()
        assert together(*[partial(send, keyed(f"once-{number}"))] * 4) == [None] * 4
        assert {(one.status_code, one.content, position(one)) for one in answers} == {
            (201, answers[0].content, head + number)
        }


def test_a_key_belongs_to_one_request_of_one_subject(shared: Api) -> None:
    key = keyed()
    done(shared.post("/v1/groups", json={"name": "One"}, headers=key), 201)
    with shared.nothing_recorded():
        problem(shared.post("/v1/groups", json={"name": "Two"}, headers=key), 422, "key-reused")
    done(shared.post("/v1/users", headers=key), 201)
    assert (
        "Idempotent-Replayed"
        not in shared.post(
            "/v1/groups", json={"name": "One"}, headers=key | {"Roster-Actor": "head"}
        ).headers
    )


def test_a_dry_run_is_not_kept_and_leaves_its_key_to_what_follows(shared: Api) -> None:
    path, key = f"/v1/classes/{shared.new_class()}/members", keyed()
    body = {"members": [{"user_id": shared.new_user(), "role": "student"}]}
    for _ in range(2):
        shown = done(shared.put(path, json=body, params={"dry_run": "true"}, headers=key), 200)
        assert (shown.json()["enrolled"], "Idempotent-Replayed" in shown.headers) == (1, False)
    assert done(shared.put(path, json=body, headers=key), 200).json()["enrolled"] == 1
    assert (
        done(shared.put(path, json=body, headers=key), 200).headers["Idempotent-Replayed"] == "true"
    )


def test_a_refusal_is_not_kept(shared: Api) -> None:
    class_id, user, key = shared.new_class(), unknown_id(), keyed()
    body = {"user_id": user, "role": "student"}
    problem(
        shared.post(f"/v1/classes/{class_id}/members", json=body, headers=key), 409, "user-unknown"
    )
    done(shared.post("/v1/users", json={"id": user}), 201)
    done(shared.post(f"/v1/classes/{class_id}/members", json=body, headers=key), 201)


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "a b", '"a"b"', "a\tb"])
def test_a_key_is_short_and_visible(shared: Api, key: str) -> None:
    assert (
        error(shared.post("/v1/groups", json={"name": "One"}, headers={"Idempotency-Key": key}))[
            "header"
        ]
        == "Idempotency-Key"
    )


def test_a_key_may_stand_in_quotes(shared: Api) -> None:
    key = unknown_id()
    first = done(shared.post("/v1/users", headers=keyed(f'"{key}"')), 201)
    assert done(shared.post("/v1/users", headers=keyed(key)), 201).json() == first.json()


def test_every_command_documents_the_header(shared: Api) -> None:
    paths = shared.read("/openapi.json")["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            names = {parameter["name"] for parameter in operation.get("parameters", [])}
            is_command = method != "get" and not path.startswith("/v1/projections")
            assert ("idempotency-key" in {name.lower() for name in names}) == is_command, (
                method,
                path,
            )

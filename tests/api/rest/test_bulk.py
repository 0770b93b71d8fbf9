"""Many things in one request: each item's outcome, the limits, and that it is recorded whole or not at all."""

from typing import Any

import pytest

from tests.api.client import Api, done, error, position, problem, unknown_id


@pytest.fixture
def class_id(shared: Api) -> str:
    return shared.new_class()


@pytest.fixture
def members(class_id: str) -> str:
    return f"/v1/classes/{class_id}/members"


def student(user_id: object, role: object = "student") -> dict[str, Any]:
    return {"user_id": user_id, "role": role}


def test_a_whole_roster_is_set_in_one_append_and_visible_when_answered(
    shared: Api, class_id: str, members: str
) -> None:
    leaver, stayer, joiner = shared.enrol(class_id), shared.enrol(class_id), shared.new_user()
    response = done(
        shared.put(members, json={"members": [student(stayer), student(joiner, "teacher")]}), 200
    )
    assert response.json() == {
        "position": position(response), "enrolled": 1, "role_changed": 0, "withdrawn": 1, "unchanged": 1,
        "changes": [
            {"user_id": leaver, "change": "withdrawn", "role": None, "previous_role": "student"},
            {"user_id": joiner, "change": "enrolled", "role": "teacher", "previous_role": None},
        ],
    }  # fmt: skip
    assert response.headers["ETag"] == '"5"'
    assert [member["user_id"] for member in shared.items(members)] == [joiner, stayer]


def test_a_dry_run_and_a_limit_of_withdrawals_record_nothing(
    shared: Api, class_id: str, members: str
) -> None:
    shared.enrol(class_id)
    with shared.nothing_recorded():
        shown = done(
            shared.put(
                members, json={"members": []}, params={"dry_run": "true", "max_withdrawals": 1}
            ),
            200,
        )
        assert (shown.json()["withdrawn"], shown.headers["ETag"], position(shown)) == (
            1,
            '"2"',
            shared.log_head,
        )
        problem(
            shared.put(members, json={"members": []}, params={"max_withdrawals": 0}),
            409,
            "too-many-withdrawals",
        )
    assert (
        error(shared.put(members, json={"members": []}, params={"max_withdrawals": -1}))[
            "parameter"
        ]
        == "max_withdrawals"
    )


def test_a_roster_with_members_that_cannot_be_names_all_of_them(shared: Api, members: str) -> None:
    unknown, removed, known = unknown_id(), shared.new_user(), shared.new_user()
    done(shared.delete(f"/v1/users/{removed}"), 204)
    with shared.nothing_recorded():
        found = problem(
            shared.put(
                members, json={"members": [student(unknown), student(known), student(removed)]}
            ),
            409,
            "members-refused",
        )
    assert [(one["pointer"], one["rule"]) for one in found["errors"]] == [
        ("/members/0", "user-unknown"),
        ("/members/2", "user-removed"),
    ]
    assert (
        error(shared.put(members, json={"members": [student(known), student(known)]}))["pointer"]
        == "/members/1/user_id"
    )
    assert (
        error(shared.put(members, json={"members": [student(known, "janitor")]}))["pointer"]
        == "/members/0/role"
    )


def test_a_roster_is_set_at_the_version_expected(shared: Api, class_id: str, members: str) -> None:
    problem(
        shared.put(members, json={"members": []}, headers={"If-Match": '"7"'}), 412, "version-stale"
    )
    done(shared.put(members, json={"members": []}, headers={"If-Match": '"1"'}), 200)
    problem(
        shared.put(f"/v1/classes/{unknown_id()}/members", json={"members": []}),
        404,
        "class-unknown",
    )
    done(shared.delete(f"/v1/classes/{class_id}"), 204)
    problem(shared.put(members, json={"members": []}), 410, "class-deleted")


def test_each_of_many_enrolments_has_its_own_outcome(shared: Api, class_id: str) -> None:
    other, user = shared.new_class(), shared.new_user()
    items: list[Any] = [
        {"class_id": class_id, **student(user)},
        {"class_id": class_id, **student(user)},
        {"class_id": other, **student(user, "teacher"), "effective_on": "2026-09-01"},
        {"class_id": other, **student(user, "janitor")},
        {"class_id": "no id", **student(7)},
        {"class_id": other, **student(unknown_id())},
        "no object",
        {"class_id": class_id, **student(user), "colour": "red"},
    ]
    response = done(shared.post("/v1/enrolments", json={"items": items}), 200)
    found = response.json()
    assert {key: found[key] for key in ("position", "enrolled", "unchanged", "refused")} == {
        "position": position(response), "enrolled": 2, "unchanged": 1, "refused": 5,
    }  # fmt: skip
    assert [(one["index"], one["outcome"]) for one in found["items"]] == list(
        enumerate(
            [
                "enrolled",
                "unchanged",
                "enrolled",
                "refused",
                "refused",
                "refused",
                "refused",
                "refused",
            ]
        )
    )
    assert found["items"][0] == {
        "index": 0,
        "class_id": class_id,
        "user_id": user,
        "outcome": "enrolled",
    }
    problems = [one["problem"] for one in found["items"][3:]]
    assert [(one["type"], one["status"]) for one in problems] == [
        ("/problems/invalid-request", 422), ("/problems/invalid-request", 422), ("/problems/user-unknown", 409),
        ("/problems/invalid-request", 422), ("/problems/invalid-request", 422),
    ]  # fmt: skip
    assert [one["pointer"] for one in problems[1]["errors"]] == [
        "/items/4/class_id",
        "/items/4/user_id",
    ]
    assert sorted(
        one["class_id"] for one in shared.items(f"/v1/users/{user}/memberships")
    ) == sorted([class_id, other])


def test_all_or_nothing(shared: Api, class_id: str) -> None:
    good, bad = (
        {"class_id": class_id, **student(shared.new_user())},
        {"class_id": class_id, **student(unknown_id())},
    )
    with shared.nothing_recorded():
        response = shared.post(
            "/v1/enrolments", json={"items": [good, bad]}, params={"atomic": "true"}
        )
    assert response.status_code == 409
    refused = response.json()
    assert (refused["type"], refused["enrolled"], refused["refused"]) == (
        "/problems/items-refused",
        1,
        1,
    )
    assert [one["outcome"] for one in refused["items"]] == ["enrolled", "refused"]
    assert (
        done(
            shared.post("/v1/enrolments", json={"items": [good]}, params={"atomic": "true"}), 200
        ).json()["enrolled"]
        == 1
    )


def test_users_are_registered_many_at_a_time(shared: Api, class_id: str) -> None:
    new, known = unknown_id(), shared.new_user()
    response = done(
        shared.post(
            "/v1/users/batch", json={"items": [{"id": new}, {"id": known}, {"id": class_id}, {}]}
        ),
        200,
    )
    found = response.json()
    assert (found["registered"], found["unchanged"], found["refused"], found["position"]) == (
        1,
        1,
        2,
        shared.log_head,
    )
    assert [one.get("problem", {}).get("type") for one in found["items"][2:]] == [
        "/problems/id-taken",
        "/problems/invalid-request",
    ]
    assert shared.read(f"/v1/users/{new}")["version"] == 1


def test_ten_thousand_items_are_taken_and_one_more_is_not(shared: Api) -> None:
    users = [{"id": unknown_id()} for _ in range(10_001)]
    assert error(shared.post("/v1/users/batch", json={"items": users}))["pointer"] == "/items"
    assert (
        done(shared.post("/v1/users/batch", json={"items": users[:-1]}), 200).json()["registered"]
        == 10_000
    )
    classes = [shared.new_class() for _ in range(3)]
    enrolments = [
        {"class_id": classes[index % 3], **student(user["id"])}
        for index, user in enumerate(users[:-1])
    ]
    response = done(shared.post("/v1/enrolments", json={"items": enrolments}), 200)
    assert (response.json()["enrolled"], position(response)) == (10_000, shared.log_head)
    assert len(shared.all(f"/v1/classes/{classes[0]}/members", limit=1000)) == 3_334


def test_bodies_of_many_things_may_be_larger_and_not_without_bound(shared: Api) -> None:
    padding = " " * (300 * 1024)
    headers = {"content-type": "application/json"}
    done(
        shared.post("/v1/enrolments", content='{"items": []' + padding + "}", headers=headers), 200
    )
    problem(
        shared.post("/v1/enrolments", content='{"items": []' + padding * 15 + "}", headers=headers),
        413,
        "body-too-large",
    )
    assert (
        error(shared.post("/v1/enrolments", json={"items": [], "atomic": True}))["pointer"]
        == "/atomic"
    )
    assert (
        error(shared.post("/v1/enrolments", json={"items": []}, params={"atmic": "true"}))[
            "parameter"
        ]
        == "atmic"
    )
    assert error(shared.post("/v1/enrolments", json={}))["rule"] == "required"


def test_who_does_not_want_to_wait_gets_the_outcomes_all_the_same(shared: Api) -> None:
    response = done(
        shared.post(
            "/v1/users/batch",
            json={"items": [{"id": unknown_id()}]},
            headers={"Prefer": "respond-async"},
        ),
        202,
    )
    assert (response.json()["position"], response.json()["registered"]) == (position(response), 1)
    assert response.json()["id"] == response.headers["x-request-id"]

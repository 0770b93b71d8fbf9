"""The audit reading of a group and of everything, and what its filters leave."""

from itertools import combinations
from typing import Any

import pytest

from tests.api.client import Api, done, error, position, problem, unknown_id


def types(entries: list[Any]) -> list[str]:
    return [entry["type"] for entry in entries]


def of_group(api: Api, group_id: str, **parameters: Any) -> list[Any]:
    return api.items(f"/v1/groups/{group_id}/history", **parameters)


def test_a_group_s_history_has_its_classes_and_their_rosters(shared: Api) -> None:
    group, other = shared.new_group("North"), shared.new_group()
    class_id = shared.new_class(group)
    user = shared.enrol(class_id)
    done(shared.patch(f"/v1/groups/{group}", json={"name": "South"}), 200)
    done(shared.patch(f"/v1/classes/{class_id}", json={"group_id": other}), 200)
    done(shared.delete(f"/v1/classes/{class_id}/members/{user}"), 204)
    assert types(of_group(shared, group)) == [
        "GroupCreated",
        "ClassCreated",
        "MemberEnrolled",
        "GroupRenamed",
        "ClassMoved",
    ]
    assert types(of_group(shared, other)) == ["GroupCreated", "ClassMoved", "MemberWithdrawn"]
    assert of_group(shared, group)[-1] == of_group(shared, other)[1]
    assert (of_group(shared, group)[-2]["before"], of_group(shared, group)[-2]["after"]) == (
        {"name": "North"},
        {"name": "South"},
    )


def test_a_group_s_history_shows_each_membership_that_a_removed_user_had_in_it(shared: Api) -> None:
    group, other = shared.new_group(), shared.new_group()
    here, left, there = shared.new_class(group), shared.new_class(group), shared.new_class(other)
    user = shared.enrol(here, role="teacher")
    shared.enrol(left, user)
    shared.enrol(there, user)
    done(shared.delete(f"/v1/classes/{left}/members/{user}"), 204)
    removed = position(done(shared.delete(f"/v1/users/{user}"), 204))
    (entry,) = of_group(shared, group, type="UserRemoved")
    assert (entry["position"], entry["class_id"], entry["user_id"], entry["group_id"]) == (
        removed,
        here,
        user,
        group,
    )
    assert (entry["before"], entry["after"]) == ({"role": "teacher"}, {})
    assert [entry["class_id"] for entry in of_group(shared, other, type="UserRemoved")] == [there]


def test_a_cascade_shows_once_in_the_history_of_everything_and_of_what_ended(shared: Api) -> None:
    group = shared.new_group()
    classes = [shared.new_class(group) for _ in range(2)]
    user = shared.enrol(classes[0])
    shared.enrol(classes[1], user)
    removed = position(done(shared.delete(f"/v1/users/{user}"), 204))
    other = shared.enrol(classes[0])
    deleted = position(done(shared.delete(f"/v1/groups/{group}"), 204))
    everything = shared.items("/v1/history", limit=1000)
    assert [entry["position"] for entry in everything] == list(range(1, shared.log_head + 1))
    assert types(of_group(shared, group))[-1:] == ["GroupDeleted"]
    assert types(of_group(shared, group)).count("GroupDeleted") == 1
    assert [
        entry["position"] for entry in of_group(shared, group, user_id=user, type="UserRemoved")
    ] == [removed, removed]
    ended = shared.items(f"/v1/users/{other}/history", type="GroupDeleted")
    assert [(entry["position"], entry["class_id"]) for entry in ended] == [(deleted, classes[0])]


FILTERS = ("type", "actor", "source", "class_id", "user_id", "group_id", "since", "until")


@pytest.mark.parametrize(
    "names", [names for count in range(1, 4) for names in combinations(FILTERS, count)] + [FILTERS]
)
def test_filters_leave_what_agrees_with_all_of_them(
    shared: Api, past: list[Any], names: tuple[str, ...]
) -> None:
    sample = next(entry for entry in past if entry["type"] == "RoleChanged")
    times = {"since": past[3]["recorded_at"], "until": past[-3]["recorded_at"]}
    given = {name: times.get(name) or sample[name] for name in names}

    def agrees(entry: Any) -> bool:
        plain = all(entry[name] == value for name, value in given.items() if name not in times)
        since, until = given.get("since", entry["recorded_at"]), given.get("until", "9999")
        return bool(plain and since <= entry["recorded_at"] < until)

    expected = [entry for entry in past if agrees(entry)]
    assert expected
    assert [
        entry for entry in shared.all("/v1/history", limit=4, **given) if entry in past
    ] == expected
    assert [
        entry
        for entry in shared.all("/v1/history", limit=4, order="desc", **given)
        if entry in past
    ] == expected[::-1]


@pytest.fixture(scope="module")
def past(shared: Api) -> list[Any]:
    """Return the entries of a class's life by two actors."""
    before = shared.log_head
    group = shared.new_group()
    class_id, user = shared.new_class(group), shared.new_user()
    for actor in ("a-1", "b-2"):
        headers = {"Roster-Actor": actor}
        members = f"/v1/classes/{class_id}/members"
        done(shared.post(members, json={"user_id": user, "role": "student"}, headers=headers), 201)
        done(shared.patch(f"{members}/{user}", json={"role": "teacher"}, headers=headers), 200)
        done(shared.delete(f"{members}/{user}", headers=headers), 204)
    return [entry for entry in shared.all("/v1/history", limit=1000) if entry["position"] > before]


def test_the_history_of_no_group_is_not_found(shared: Api) -> None:
    for nothing in (unknown_id(), shared.new_user(), shared.new_class()):
        problem(shared.get(f"/v1/groups/{nothing}/history"), 404, "group-unknown")


def test_the_history_of_everything_is_empty_where_nothing_agrees(shared: Api) -> None:
    assert shared.items("/v1/history", class_id=unknown_id()) == []


def test_a_filter_that_is_none_is_refused_by_name(shared: Api) -> None:
    for name, value in (
        ("type", "ClassPainted"),
        ("class_id", "7"),
        ("since", "yesterday"),
        ("colour", "red"),
    ):
        assert error(shared.get("/v1/history", params={name: value}))["parameter"] == name

"""The audit reading: what happened to a class or a user, who did it and why."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest

from tests.api.client import Api, done, position, problem, unknown_id

REASON = "moved to Z\u00fcrich, 100% sure \U0001f393"


def brief(entries: list[Any]) -> list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    return [(entry["type"], entry["before"], entry["after"]) for entry in entries]


def of_class(api: Api, class_id: str, **parameters: Any) -> list[Any]:
    return api.items(f"/v1/classes/{class_id}/history", **parameters)


def of_user(api: Api, user_id: str, **parameters: Any) -> list[Any]:
    return api.items(f"/v1/users/{user_id}/history", **parameters)


def test_every_change_of_a_class_is_an_entry_with_what_was_before_and_after(shared: Api) -> None:
    group, other, user = shared.new_group(), shared.new_group(), shared.new_user()
    class_id = shared.new_class(group, "Art", settings={"a": 1})
    path = f"/v1/classes/{class_id}"
    member = f"{path}/members/{user}"
    shared.enrol(class_id, user)
    done(shared.patch(member, json={"role": "teacher"}), 200)
    done(shared.delete(member), 204)
    done(shared.patch(path, json={"name": "Music", "settings": {"b": [2]}, "group_id": other}), 200)
    done(shared.post(f"{path}/archive"), 200)
    done(shared.post(f"{path}/restore"), 200)
    done(shared.delete(path), 204)
    entries = of_class(shared, class_id)
    assert brief(entries) == [
        ("ClassCreated", {}, {"group_id": group, "name": "Art", "settings": {"a": 1}}),
        ("MemberEnrolled", {}, {"role": "student"}),
        ("RoleChanged", {"role": "student"}, {"role": "teacher"}),
        ("MemberWithdrawn", {"role": "teacher"}, {}),
        ("ClassRenamed", {"name": "Art"}, {"name": "Music"}),
        ("ClassSettingsChanged", {"settings": {"a": 1}}, {"settings": {"b": [2]}}),
        ("ClassMoved", {"group_id": group}, {"group_id": other}),
        ("ClassArchived", {"archived": False}, {"archived": True}),
        ("ClassRestored", {"archived": True}, {"archived": False}),
        ("ClassDeleted", {}, {}),
    ]
    assert [entry["version"] for entry in entries] == list(range(1, 11))
    assert {entry["class_id"] for entry in entries} == {class_id}
    assert [entry["user_id"] for entry in entries] == [
        None,
        user,
        user,
        user,
        None,
        None,
        None,
        None,
        None,
        None,
    ]
    assert [entry["group_id"] for entry in entries] == [group] * 6 + [other] * 4
    times = [entry["recorded_at"] for entry in entries]
    assert times == sorted(times)
    assert [entry["type"] for entry in of_user(shared, user)] == [
        "UserRegistered",
        "MemberEnrolled",
        "RoleChanged",
        "MemberWithdrawn",
    ]
    assert of_user(shared, user)[1:] == entries[1:4]


def test_an_entry_says_who_why_through_which_door_and_in_which_request(shared: Api) -> None:
    class_id, user = shared.new_class(), shared.new_user()
    response = shared.post(
        f"/v1/classes/{class_id}/members",
        json={"user_id": user, "role": "student", "effective_on": "2026-09-01"},
        headers={"Roster-Actor": "registrar-1", "Roster-Reason": quote(REASON)},
    )
    entry = of_class(shared, class_id)[-1]
    group = shared.read(f"/v1/classes/{class_id}")["group_id"]
    assert entry == {
        "position": position(done(response, 201)), "version": 2, "recorded_at": entry["recorded_at"], "type": "MemberEnrolled",
        "actor": "registrar-1", "reason": REASON, "source": "api", "request_id": response.headers["x-request-id"],
        "class_id": class_id, "user_id": user, "group_id": group, "effective_on": "2026-09-01", "before": {}, "after": {"role": "student"},
        "digest": entry["digest"],
    }  # fmt: skip


def test_a_time_is_written_the_same_way_in_a_history_and_in_the_reads(shared: Api) -> None:
    class_id = shared.new_class()
    for _ in range(60):
        shared.enrol(class_id)
    enrolled = [entry["recorded_at"] for entry in of_class(shared, class_id, type="MemberEnrolled")]
    assert enrolled == [
        member["created_at"] for member in shared.items(f"/v1/classes/{class_id}/members")
    ]


def test_who_names_no_actor_is_local_and_needs_no_reason(shared: Api) -> None:
    (entry,) = of_user(shared, shared.new_user())
    assert (entry["actor"], entry["reason"], entry["effective_on"]) == ("local", None, None)


def test_what_changed_nothing_or_was_refused_is_no_entry(shared: Api) -> None:
    class_id = shared.new_class()
    user = shared.enrol(class_id)
    members = f"/v1/classes/{class_id}/members"
    done(shared.post(members, json={"user_id": user, "role": "student"}), 200)
    problem(
        shared.post(members, json={"user_id": user, "role": "teacher"}),
        409,
        "enrolled-in-other-role",
    )
    assert [entry["type"] for entry in of_class(shared, class_id)] == [
        "ClassCreated",
        "MemberEnrolled",
    ]


@pytest.fixture
def past(shared: Api) -> tuple[str, list[Any]]:
    """Return a class, and its history of six events by two actors."""
    class_id = shared.new_class()
    user = shared.new_user()
    for actor, role in (
        ("a-1", "student"),
        ("b-2", "teacher"),
        ("a-1", None),
        ("b-2", "student"),
        ("a-1", "teacher"),
    ):
        path, headers = f"/v1/classes/{class_id}/members", {"Roster-Actor": actor}
        if role is None:
            done(shared.delete(f"{path}/{user}", headers=headers), 204)
        elif (
            shared.patch(f"{path}/{user}", json={"role": role}, headers=headers).status_code == 404
        ):
            done(shared.post(path, json={"user_id": user, "role": role}, headers=headers), 201)
    entries = of_class(shared, class_id)
    assert len(entries) == 6
    return class_id, entries


def test_an_order_can_be_chosen_and_pages_follow_it(
    shared: Api, past: tuple[str, list[Any]]
) -> None:
    class_id, entries = past
    path = f"/v1/classes/{class_id}/history"
    for limit in (1, 2, 6, 1000):
        assert shared.all(path, limit=limit) == entries
        assert shared.all(path, limit=limit, order="desc") == entries[::-1]


def test_pages_go_on_with_what_is_recorded_meanwhile(
    shared: Api, past: tuple[str, list[Any]]
) -> None:
    class_id, entries = past
    path = f"/v1/classes/{class_id}/history"
    first, backwards = shared.read(path, limit=4), shared.read(path, limit=4, order="desc")
    done(shared.post(f"/v1/classes/{class_id}/archive"), 200)
    rest = shared.items(path, cursor=first["next_cursor"])
    assert rest[:-1] == entries[4:]
    assert rest[-1]["type"] == "ClassArchived"
    assert shared.items(path, order="desc", cursor=backwards["next_cursor"]) == entries[1::-1]


def test_entries_are_filtered_by_type_actor_and_source(
    shared: Api, past: tuple[str, list[Any]]
) -> None:
    class_id, entries = past
    assert of_class(shared, class_id, type="RoleChanged") == [
        entry for entry in entries if entry["type"] == "RoleChanged"
    ]
    assert of_class(shared, class_id, actor="a-1") == [
        entry for entry in entries if entry["actor"] == "a-1"
    ]
    assert of_class(shared, class_id, source="api") == entries
    assert of_class(shared, class_id, type="MemberEnrolled", actor="b-2", order="desc") == [
        entries[4]
    ]
    for nothing in ({"type": "GroupRenamed"}, {"actor": "nobody"}, {"source": "cli"}):
        assert of_class(shared, class_id, **nothing) == []


def test_since_is_inclusive_and_until_is_not(shared: Api, past: tuple[str, list[Any]]) -> None:
    class_id, entries = past
    moment = entries[3]["recorded_at"]
    assert of_class(shared, class_id, since=moment) == entries[3:]
    assert of_class(shared, class_id, until=moment) == entries[:3]
    assert of_class(shared, class_id, since=entries[1]["recorded_at"], until=moment) == entries[1:3]
    assert of_class(shared, class_id, since=moment, until=moment) == []
    assert (
        of_class(
            shared, class_id, since="0001-01-01T00:00:00+14:00", until="9999-12-31T23:59:59-14:00"
        )
        == entries
    )


def test_removing_a_user_shows_in_the_history_of_each_class_that_it_took_them_from(
    shared: Api,
) -> None:
    group = shared.new_group()
    classes = [shared.new_class(group) for _ in range(2)]
    left = shared.new_class(group)
    user = shared.enrol(classes[0])
    shared.enrol(classes[1], user, "teacher")
    shared.enrol(left, user)
    done(shared.delete(f"/v1/classes/{left}/members/{user}"), 204)
    removed = done(
        shared.delete(
            f"/v1/users/{user}", headers={"Roster-Actor": "registrar-1", "Roster-Reason": "left"}
        ),
        204,
    )
    for class_id, role in zip(classes, ("student", "teacher"), strict=True):
        entry = of_class(shared, class_id)[-1]
        assert brief([entry]) == [("UserRemoved", {"role": role}, {})]
        assert [entry[name] for name in ("class_id", "user_id", "group_id")] == [
            class_id,
            user,
            group,
        ]
        assert (entry["position"], entry["actor"], entry["reason"]) == (
            position(removed),
            "registrar-1",
            "left",
        )
        assert entry["request_id"] == removed.headers["x-request-id"]
    assert [entry["type"] for entry in of_class(shared, left)][-1] == "MemberWithdrawn"
    ending = [entry for entry in of_user(shared, user) if entry["position"] == position(removed)]
    assert {entry["class_id"] for entry in ending} == {None, *classes}
    assert {entry["type"] for entry in ending} == {"UserRemoved"}
    assert shared.all(f"/v1/users/{user}/history", limit=1) == of_user(shared, user)
    assert (
        shared.all(f"/v1/users/{user}/history", limit=1, order="desc")
        == of_user(shared, user)[::-1]
    )


def test_deleting_a_group_shows_in_the_history_of_its_classes_and_their_members(
    shared: Api,
) -> None:
    group, elsewhere = shared.new_group(), shared.new_group()
    class_id, empty, moved = (
        shared.new_class(group),
        shared.new_class(group),
        shared.new_class(group),
    )
    user = shared.enrol(class_id, role="teacher")
    other = shared.enrol(class_id)
    shared.enrol(moved, other)
    done(shared.patch(f"/v1/classes/{moved}", json={"group_id": elsewhere}), 200)
    deleted = position(done(shared.delete(f"/v1/groups/{group}"), 204))
    ended = [entry for entry in of_class(shared, class_id) if entry["position"] == deleted]
    assert (ended[0]["type"], ended[0]["user_id"]) == ("GroupDeleted", None)
    assert {entry["user_id"]: entry["before"] for entry in ended[1:]} == {
        user: {"role": "teacher"},
        other: {"role": "student"},
    }
    assert of_class(shared, empty)[-1]["type"] == "GroupDeleted"
    assert of_class(shared, moved)[-1]["type"] == "ClassMoved"
    for member, role in ((user, "teacher"), (other, "student")):
        entry = of_user(shared, member)[-1]
        assert brief([entry]) == [("GroupDeleted", {"role": role}, {})]
        assert [entry[name] for name in ("position", "class_id", "user_id", "group_id")] == [
            deleted,
            class_id,
            member,
            group,
        ]


def test_deleting_a_class_shows_in_the_history_of_its_members(shared: Api) -> None:
    class_id = shared.new_class()
    user = shared.enrol(class_id)
    deleted = position(done(shared.delete(f"/v1/classes/{class_id}"), 204))
    entry = of_user(shared, user)[-1]
    assert brief([entry]) == [("ClassDeleted", {"role": "student"}, {})]
    assert (entry["position"], entry["class_id"]) == (deleted, class_id)


def test_a_membership_ends_once_whatever_else_ends_later(shared: Api) -> None:
    group = shared.new_group()
    class_id = shared.new_class(group)
    user = shared.enrol(class_id)
    removed = position(done(shared.delete(f"/v1/users/{user}"), 204))
    done(shared.delete(f"/v1/classes/{class_id}"), 204)
    done(shared.delete(f"/v1/groups/{group}"), 204)
    assert [
        entry["position"]
        for entry in of_class(shared, class_id)
        if entry["before"] == {"role": "student"}
    ] == [removed]
    assert [entry["type"] for entry in of_class(shared, class_id)][-2:] == [
        "UserRemoved",
        "ClassDeleted",
    ]
    assert of_user(shared, user)[-1]["position"] == removed


def test_the_history_of_nothing_is_not_found(shared: Api) -> None:
    user, group = shared.new_user(), shared.new_group()
    for nothing in (unknown_id(), user, group):
        problem(shared.get(f"/v1/classes/{nothing}/history"), 404, "class-unknown")
    for nothing in (unknown_id(), shared.new_class(), group):
        problem(shared.get(f"/v1/users/{nothing}/history"), 404, "user-unknown")

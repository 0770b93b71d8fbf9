"""The roster of a class: enrolling, changing roles, withdrawing, and what ends a membership from outside."""

import hashlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection

from rosterlog.api.rest import memberships
from tests.api.client import Api, done, position, problem, unknown_id


@pytest.fixture
def class_id(shared: Api) -> str:
    return shared.new_class()


@pytest.fixture
def members(class_id: str) -> str:
    return f"/v1/classes/{class_id}/members"


def membership_id(class_id: str, user_id: str) -> str:
    value = bytearray(hashlib.sha256(UUID(class_id).bytes + UUID(user_id).bytes).digest()[:16])
    value[6] = value[6] & 0x0F | 0x80
    value[8] = value[8] & 0x3F | 0x80
    return str(UUID(bytes=bytes(value)))


def student(user_id: str, **fields: Any) -> dict[str, Any]:
    return {"user_id": user_id, "role": "student", **fields}


def etag(api: Api, path: str) -> str:
    return done(api.get(path), 200).headers["ETag"]


def test_enrolling_answers_with_the_member_where_to_find_it_and_its_position(
    shared: Api, class_id: str, members: str
) -> None:
    user = shared.new_user()
    response = done(shared.post(members, json=student(user)), 201)
    assert response.headers["Location"] == f"{members}/{user}"
    assert response.headers["ETag"] == '"2"'
    assert position(response) == shared.log_head
    found = done(shared.get(response.headers["Location"]), 200)
    assert found.json() == response.json()
    assert (found.headers["ETag"], position(found)) == ('"2"', position(response))
    created_at = response.json().pop("created_at")
    assert created_at.endswith("+00:00")
    assert response.json() == {
        "id": membership_id(class_id, user), "class_id": class_id, "user_id": user, "role": "student", "created_at": created_at,
    }  # fmt: skip


def test_enrolling_again_with_the_same_role_changes_nothing(shared: Api, members: str) -> None:
    user = shared.new_user()
    first = done(shared.post(members, json=student(user)), 201)
    shared.new_user()
    with shared.nothing_recorded():
        again = done(shared.post(members, json=student(user, effective_on="2026-09-01")), 200)
        assert position(again) == shared.log_head
    assert again.json() == first.json()
    assert "Location" not in again.headers


def test_enrolling_in_another_role_is_refused(shared: Api, class_id: str, members: str) -> None:
    user = shared.enrol(class_id)
    with shared.nothing_recorded():
        problem(
            shared.post(members, json={"user_id": user, "role": "teacher"}),
            409,
            "enrolled-in-other-role",
        )
    assert shared.read(f"{members}/{user}")["role"] == "student"


def test_several_teachers_may_share_a_class_and_a_user_be_in_many(
    shared: Api, class_id: str, members: str
) -> None:
    teachers = {shared.enrol(class_id, role="teacher") for _ in range(2)}
    other = shared.new_class()
    for teacher in teachers:
        shared.enrol(other, teacher)
    assert {member["user_id"] for member in shared.items(members, role="teacher")} == teachers
    assert {
        membership["class_id"]
        for membership in shared.items(f"/v1/users/{teachers.pop()}/memberships")
    } == {class_id, other}


def test_a_role_change_updates_the_same_membership(
    shared: Api, class_id: str, members: str
) -> None:
    path = f"{members}/{shared.enrol(class_id)}"
    before = shared.read(path)
    changed = done(shared.patch(path, json={"role": "teacher"}), 200)
    assert changed.json() == {**before, "role": "teacher"} == shared.read(path)
    assert (changed.headers["ETag"], position(changed)) == ('"3"', shared.log_head)
    with shared.nothing_recorded():
        assert done(shared.patch(path, json={"role": "teacher"}), 200).json() == changed.json()


def test_withdrawing_ends_the_membership_and_again_changes_nothing(
    shared: Api, class_id: str, members: str
) -> None:
    path = f"{members}/{shared.enrol(class_id)}"
    withdrawn = done(shared.delete(path), 204)
    assert (withdrawn.content, withdrawn.headers["ETag"], position(withdrawn)) == (
        b"",
        '"3"',
        shared.log_head,
    )
    problem(shared.get(path), 404, "member-unknown")
    assert shared.items(members) == []
    with shared.nothing_recorded():
        assert position(done(shared.delete(path), 204)) == shared.log_head


def test_enrolling_after_a_withdrawal_revives_the_membership_with_a_new_time(
    shared: Api, class_id: str, members: str
) -> None:
    user = shared.enrol(class_id)
    before = shared.read(f"{members}/{user}")
    done(shared.delete(f"{members}/{user}"), 204)
    after = done(shared.post(members, json={"user_id": user, "role": "teacher"}), 201).json()
    assert after["id"] == before["id"] == membership_id(class_id, user)
    assert after["created_at"] > before["created_at"]


def test_withdrawing_who_was_never_a_member_is_no_error(shared: Api, members: str) -> None:
    for user in (shared.new_user(), unknown_id()):
        with shared.nothing_recorded():
            done(shared.delete(f"{members}/{user}"), 204)


def test_commands_about_an_unknown_class_are_not_found(shared: Api) -> None:
    members, user = f"/v1/classes/{unknown_id()}/members", shared.new_user()
    with shared.nothing_recorded():
        problem(shared.post(members, json=student(user)), 404, "class-unknown")
        problem(shared.patch(f"{members}/{user}", json={"role": "teacher"}), 404, "class-unknown")
        problem(shared.delete(f"{members}/{user}"), 404, "class-unknown")
    problem(shared.get(members), 404, "class-unknown")
    problem(shared.get(f"{members}/{user}"), 404, "class-unknown")


@pytest.mark.parametrize("ended", ["class", "group"])
def test_a_deleted_class_or_group_takes_its_memberships_with_it(shared: Api, ended: str) -> None:
    group = shared.new_group()
    class_id = shared.new_class(group)
    user, members = shared.enrol(class_id), f"/v1/classes/{class_id}/members"
    done(
        shared.delete(f"/v1/groups/{group}" if ended == "group" else f"/v1/classes/{class_id}"), 204
    )
    with shared.nothing_recorded():
        problem(
            shared.post(members, json=student(shared.read(f"/v1/users/{user}")["id"])),
            410,
            "class-deleted",
        )
        problem(shared.patch(f"{members}/{user}", json={"role": "teacher"}), 410, "class-deleted")
        done(shared.delete(f"{members}/{user}"), 204)
    problem(shared.get(members), 410, "class-deleted")
    problem(shared.get(f"{members}/{user}"), 410, "class-deleted")
    assert shared.items(f"/v1/users/{user}/memberships") == []


def test_a_removed_user_is_no_member_anywhere_and_can_not_be_enrolled(
    shared: Api, class_id: str, members: str
) -> None:
    user = shared.enrol(class_id)
    done(shared.delete(f"/v1/users/{user}"), 204)
    assert shared.items(members) == []
    problem(shared.get(f"{members}/{user}"), 410, "user-removed")
    with shared.nothing_recorded():
        problem(shared.post(members, json=student(user)), 409, "user-removed")
        problem(shared.patch(f"{members}/{user}", json={"role": "teacher"}), 410, "user-removed")
        done(shared.delete(f"{members}/{user}"), 204)


def test_the_roster_s_tag_changes_with_a_removed_user_and_the_class_s_does_not(
    shared: Api, class_id: str, members: str
) -> None:
    user = shared.enrol(class_id)
    roster, class_ = etag(shared, members), etag(shared, f"/v1/classes/{class_id}")
    done(shared.delete(f"/v1/users/{user}"), 204)
    assert etag(shared, members) != roster
    assert etag(shared, f"/v1/classes/{class_id}") == class_
    done(shared.get(members, headers={"If-None-Match": roster}), 200)


def test_a_user_s_memberships_have_a_tag_that_changes_with_a_deleted_class(
    shared: Api, class_id: str
) -> None:
    memberships = f"/v1/users/{shared.enrol(class_id)}/memberships"
    before = etag(shared, memberships)
    done(shared.get(memberships, headers={"If-None-Match": before}), 304)
    done(shared.delete(f"/v1/classes/{class_id}"), 204)
    assert etag(shared, memberships) != before


def test_an_unknown_user_in_the_body_is_a_conflict_and_in_the_path_not_found(
    shared: Api, class_id: str, members: str
) -> None:
    nobody = unknown_id()
    with shared.nothing_recorded():
        for user in (nobody, class_id, shared.read(f"/v1/classes/{class_id}")["group_id"]):
            problem(shared.post(members, json=student(user)), 409, "user-unknown")
        problem(shared.patch(f"{members}/{nobody}", json={"role": "teacher"}), 404, "user-unknown")
    problem(shared.get(f"{members}/{nobody}"), 404, "member-unknown")


def test_the_role_of_who_is_no_member_can_not_be_changed(shared: Api, members: str) -> None:
    user = shared.new_user()
    with shared.nothing_recorded():
        problem(shared.patch(f"{members}/{user}", json={"role": "teacher"}), 404, "member-unknown")


def test_an_archived_class_refuses_changes_to_its_roster_and_keeps_it(
    shared: Api, class_id: str, members: str
) -> None:
    user, other = shared.enrol(class_id), shared.new_user()
    before = shared.items(members)
    done(shared.post(f"/v1/classes/{class_id}/archive"), 200)
    with shared.nothing_recorded():
        problem(shared.post(members, json=student(other)), 409, "class-archived")
        problem(shared.patch(f"{members}/{user}", json={"role": "teacher"}), 409, "class-archived")
        problem(shared.delete(f"{members}/{user}"), 409, "class-archived")
        done(shared.post(members, json=student(user)), 200)
        done(shared.delete(f"{members}/{other}"), 204)
    assert shared.items(members) == before
    done(shared.post(f"/v1/classes/{class_id}/restore"), 200)
    done(shared.delete(f"{members}/{user}"), 204)


def test_if_match_takes_the_version_of_the_class_on_every_command(
    shared: Api, class_id: str, members: str
) -> None:
    stale = {"If-Match": '"1"'}
    user = shared.new_user()
    done(shared.post(members, json=student(user), headers=stale), 201)
    path = f"{members}/{user}"
    with shared.nothing_recorded():
        problem(
            shared.post(
                members, json=student(shared.read(f"/v1/users/{user}")["id"]), headers=stale
            ),
            412,
            "version-stale",
        )
        problem(shared.patch(path, json={"role": "teacher"}, headers=stale), 412, "version-stale")
        problem(shared.delete(path, headers=stale), 412, "version-stale")
    done(shared.patch(path, json={"role": "teacher"}, headers={"If-Match": 'W/"2"'}), 200)
    done(shared.patch(path, json={"role": "student"}, headers={"If-Match": "*"}), 200)
    done(shared.delete(path, headers={"If-Match": etag(shared, path)}), 204)


def test_a_member_and_a_roster_are_not_sent_again_to_who_has_them(
    shared: Api, class_id: str, members: str
) -> None:
    path = f"{members}/{shared.enrol(class_id)}"
    for read in (path, members):
        first = done(shared.get(read), 200)
        assert first.headers["Cache-Control"] == "private, no-cache"
        for known in (
            first.headers["ETag"],
            f"W/{first.headers['ETag']}",
            f'"x", {first.headers["ETag"]}',
            "*",
        ):
            unchanged = done(shared.get(read, headers={"If-None-Match": known}), 304)
            assert (unchanged.content, unchanged.headers["ETag"]) == (b"", first.headers["ETag"])
        done(shared.get(read, headers={"If-None-Match": '"x"'}), 200)


def test_who_prefers_not_to_wait_gets_the_position_to_wait_for(
    shared: Api, class_id: str, members: str
) -> None:
    asynchronous = {"Prefer": "respond-async, wait=1"}
    user = shared.new_user()
    path = f"{members}/{user}"
    enrolled = done(shared.post(members, json=student(user), headers=asynchronous), 202)
    assert enrolled.json() == {"position": position(enrolled), "id": class_id}
    assert shared.read(path, min_position=position(enrolled))["role"] == "student"
    changed = done(shared.patch(path, json={"role": "teacher"}, headers=asynchronous), 202)
    assert changed.json() == {"position": position(changed), "id": class_id}
    assert shared.read(path, min_position=position(changed))["role"] == "teacher"
    withdrawn = done(shared.delete(path, headers=asynchronous), 202)
    problem(shared.get(path, params={"min_position": position(withdrawn)}), 404, "member-unknown")


def test_a_user_s_memberships_name_their_classes(shared: Api) -> None:
    group = shared.new_group()
    physics, art = shared.new_class(group, "Physics"), shared.new_class(group, "Art")
    user = shared.enrol(physics, role="teacher")
    shared.enrol(art, user)
    found = shared.items(f"/v1/users/{user}/memberships")
    expected = [
        {"class_id": art, "class_name": "Art", "group_id": group, "role": "student"},
        {"class_id": physics, "class_name": "Physics", "group_id": group, "role": "teacher"},
    ]
    assert [membership | {"created_at": None} for membership in found] == [
        membership | {"created_at": None} for membership in expected
    ]
    assert [found[0]["created_at"]] == [
        member["created_at"] for member in shared.items(f"/v1/classes/{art}/members")
    ]


def test_effective_on_is_recorded_with_each_change_of_a_membership(
    shared: Api, class_id: str, members: str
) -> None:
    user = shared.enrol(class_id, effective_on="2026-09-01")
    done(
        shared.patch(f"{members}/{user}", json={"role": "teacher", "effective_on": "2026-10-01"}),
        200,
    )
    done(shared.delete(f"{members}/{user}", params={"effective_on": "2024-02-29"}), 204)
    history = shared.items(f"/v1/classes/{class_id}/history")
    assert [event["effective_on"] for event in history] == [
        None,
        "2026-09-01",
        "2026-10-01",
        "2024-02-29",
    ]


@pytest.mark.parametrize("microsecond", [0, 1, 120_000, 123_400, 999_999])
def test_the_time_of_an_enrolment_is_written_as_reads_write_it(
    connection: Connection[Any], microsecond: int
) -> None:
    time = datetime(2026, 11, 24, 8, 30, microsecond=microsecond, tzinfo=UTC)
    written = connection.execute(
        "SELECT set_config('timezone', 'UTC', true), to_json(%s::timestamptz)::text", [time]
    ).fetchone()
    assert written == ("UTC", f'"{memberships.time(time)}"')

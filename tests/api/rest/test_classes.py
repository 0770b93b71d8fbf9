"""Classes: their commands and reads."""

from typing import Any
from uuid import uuid4

import pytest

from tests.api.client import Api, done, position, problem, unknown_id

FIELDS = {"id", "group_id", "name", "settings", "created_at", "updated_at", "deleted_at", "version"}
SETTINGS = {"room": "2.14", "seats": 30, "tags": ["\u00e9", None, True, 0.5]}


def test_creating_answers_with_the_class_where_to_find_it_and_its_position(shared: Api) -> None:
    group = shared.new_group()
    response = done(
        shared.post("/v1/classes", json={"group_id": group, "name": " Art ", "settings": SETTINGS}),
        201,
    )
    class_ = response.json()
    assert class_.keys() == FIELDS
    assert class_["updated_at"] == class_["created_at"]
    assert [class_[name] for name in ("group_id", "name", "settings", "deleted_at", "version")] == [
        group,
        "Art",
        SETTINGS,
        None,
        1,
    ]
    assert response.headers["Location"] == f"/v1/classes/{class_['id']}"
    assert (response.headers["ETag"], position(response)) == ('"1"', shared.log_head)
    found = done(shared.get(response.headers["Location"]), 200)
    assert (found.json(), found.headers["ETag"], position(found)) == (
        class_,
        '"1"',
        shared.log_head,
    )


def test_creating_again_with_the_same_id_and_content_answers_with_the_class_as_it_is_now(
    shared: Api,
) -> None:
    creation: dict[str, Any] = {
        "id": str(uuid4()),
        "group_id": shared.new_group(),
        "name": "Art",
        "settings": {"a": 1},
    }
    done(shared.post("/v1/classes", json=creation), 201)
    renamed = done(
        shared.patch(f"/v1/classes/{creation['id']}", json={"name": "Music"}), 200
    ).json()
    others: list[dict[str, Any]] = [
        {"name": "Music"},
        {"group_id": shared.new_group()},
        {"settings": {}},
    ]
    with shared.nothing_recorded():
        again = done(shared.post("/v1/classes", json=creation), 200)
        assert (again.json(), position(again)) == (renamed, shared.log_head)
        assert "Location" not in again.headers
        for different in (*others, {"settings": {"a": 2}}, {"settings": {"a": True}}):
            problem(shared.post("/v1/classes", json={**creation, **different}), 409, "id-taken")


def test_an_id_of_another_kind_of_thing_is_taken(shared: Api) -> None:
    group, user = shared.new_group(), shared.new_user()
    with shared.nothing_recorded():
        for taken in (group, user):
            problem(
                shared.post("/v1/classes", json={"id": taken, "group_id": group, "name": "x"}),
                409,
                "id-taken",
            )
            problem(shared.get(f"/v1/classes/{taken}"), 404, "class-unknown")
            problem(shared.post(f"/v1/classes/{taken}/archive"), 404, "class-unknown")


def test_a_group_that_is_unknown_deleted_or_no_group_is_a_conflict(shared: Api) -> None:
    deleted, user = shared.new_group(), shared.new_user()
    class_id = shared.new_class()
    done(shared.delete(f"/v1/groups/{deleted}"), 204)
    with shared.nothing_recorded():
        for group, rule in (
            (deleted, "group-deleted"),
            (unknown_id(), "group-unknown"),
            (user, "group-unknown"),
            (class_id, "group-unknown"),
        ):
            problem(shared.post("/v1/classes", json={"group_id": group, "name": "x"}), 409, rule)
            problem(shared.patch(f"/v1/classes/{class_id}", json={"group_id": group}), 409, rule)


def test_several_changes_at_once_are_one_command(shared: Api) -> None:
    path = f"/v1/classes/{shared.new_class(settings={'a': 1})}"
    before, group = shared.read(path), shared.new_group()
    changed = done(
        shared.patch(path, json={"name": "Art", "settings": {"b": 2}, "group_id": group}), 200
    )
    after = changed.json()
    expected = {
        **before,
        "name": "Art",
        "settings": {"b": 2},
        "group_id": group,
        "version": 4,
        "updated_at": after["updated_at"],
    }
    assert after == expected == shared.read(path)
    assert after["updated_at"] > before["updated_at"]
    assert (changed.headers["ETag"], position(changed)) == ('"4"', shared.log_head)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"name": " Mathematics 7b "},
        {"settings": {"a": 1}},
        {"name": "Mathematics 7b", "settings": {"a": 1}},
    ],
)
def test_a_change_that_changes_nothing_records_nothing(shared: Api, change: dict[str, Any]) -> None:
    class_id = shared.new_class(settings={"a": 1})
    before = shared.read(f"/v1/classes/{class_id}")
    shared.new_user()
    with shared.nothing_recorded():
        changed = done(shared.patch(f"/v1/classes/{class_id}", json=change), 200)
        assert (changed.json(), changed.headers["ETag"], position(changed)) == (
            before,
            '"1"',
            shared.log_head,
        )


def test_a_refused_part_of_a_change_leaves_the_rest_undone(shared: Api) -> None:
    path = f"/v1/classes/{shared.new_class()}"
    before = shared.read(path)
    with shared.nothing_recorded():
        problem(
            shared.patch(path, json={"name": "Art", "group_id": unknown_id()}), 409, "group-unknown"
        )
    assert shared.read(path) == before
    assert done(shared.patch(path, json={"name": "Music"}), 200).json()["version"] == 2


def test_settings_are_replaced_whole(shared: Api) -> None:
    path = f"/v1/classes/{shared.new_class(settings={'a': 1, 'b': 2})}"
    assert done(shared.patch(path, json={"settings": {"b": 3}}), 200).json()["settings"] == {"b": 3}
    assert done(shared.patch(path, json={"settings": {}}), 200).json()["settings"] == {}


def test_updated_at_follows_the_class_and_not_its_roster_while_the_version_follows_both(
    shared: Api,
) -> None:
    class_id = shared.new_class()
    before = shared.read(f"/v1/classes/{class_id}")
    shared.enrol(class_id)
    assert shared.read(f"/v1/classes/{class_id}") == {**before, "version": 2}


def test_an_archived_class_takes_no_change_until_it_is_restored(shared: Api) -> None:
    path = f"/v1/classes/{shared.new_class()}"
    before = shared.read(path)
    archived = done(shared.post(f"{path}/archive"), 200)
    assert archived.json() == {
        **before,
        "version": 2,
        "deleted_at": archived.json()["updated_at"],
        "updated_at": archived.json()["updated_at"],
    }
    assert archived.json()["deleted_at"] > before["created_at"]
    assert (archived.headers["ETag"], position(archived)) == ('"2"', shared.log_head)
    group = shared.new_group()
    with shared.nothing_recorded():
        assert done(shared.post(f"{path}/archive"), 200).json() == archived.json()
        for change in ({"name": "x"}, {"settings": {"a": 1}}, {"group_id": group}):
            problem(shared.patch(path, json=change), 409, "class-archived")
    restored = done(shared.post(f"{path}/restore"), 200)
    assert (
        restored.json()
        == {**before, "version": 3, "updated_at": restored.json()["updated_at"]}
        == shared.read(path)
    )
    with shared.nothing_recorded():
        done(shared.post(f"{path}/restore"), 200)
    done(shared.patch(path, json={"name": "x"}), 200)


def test_an_unknown_class_is_not_found(shared: Api) -> None:
    path = f"/v1/classes/{unknown_id()}"
    with shared.nothing_recorded():
        problem(shared.patch(path, json={"name": "x"}), 404, "class-unknown")
        problem(shared.patch(path, json={"group_id": unknown_id()}), 404, "class-unknown")
        problem(shared.post(f"{path}/archive"), 404, "class-unknown")
        problem(shared.post(f"{path}/restore"), 404, "class-unknown")
        problem(shared.delete(path), 404, "class-unknown")
    problem(shared.get(path), 404, "class-unknown")


@pytest.mark.parametrize("archived", [False, True])
def test_a_deleted_class_is_gone_but_its_history_and_past_answer(
    shared: Api, archived: bool
) -> None:
    creation = {"id": str(uuid4()), "group_id": shared.new_group(), "name": "Art"}
    created = done(shared.post("/v1/classes", json=creation), 201)
    path = f"/v1/classes/{creation['id']}"
    if archived:
        done(shared.post(f"{path}/archive"), 200)
    deleted = done(shared.delete(path), 204)
    assert (deleted.content, deleted.headers["ETag"], position(deleted)) == (
        b"",
        f'"{2 + archived}"',
        shared.log_head,
    )
    with shared.nothing_recorded():
        assert position(done(shared.delete(path), 204)) == shared.log_head
        problem(shared.patch(path, json={"name": "x"}), 410, "class-deleted")
        problem(shared.post(f"{path}/archive"), 410, "class-deleted")
        problem(shared.post(f"{path}/restore"), 410, "class-deleted")
        problem(shared.post("/v1/classes", json=creation), 409, "class-deleted")
    problem(shared.get(path), 410, "class-deleted")
    assert shared.items("/v1/classes", group_id=creation["group_id"]) == []
    assert shared.items(f"{path}/history")[-1]["type"] == "ClassDeleted"
    assert shared.read(path, at_position=position(created)) == created.json()
    assert shared.read(path, as_of=created.json()["created_at"]) == created.json()
    assert shared.items(f"{path}/members", at_position=position(created)) == []


def test_a_stale_version_is_refused_by_every_command(shared: Api) -> None:
    path = f"/v1/classes/{shared.new_class()}"
    done(shared.patch(path, json={"name": "Art"}), 200)
    commands: list[tuple[str, str, Any]] = [
        ("PATCH", path, {"name": "Art"}),
        ("PATCH", path, {"name": "x"}),
        ("POST", f"{path}/archive", None),
        ("POST", f"{path}/restore", None),
        ("DELETE", path, None),
    ]
    with shared.nothing_recorded():
        for method, target, body in commands:
            for stale in ('"1"', 'W/"1"', '"3"'):
                problem(
                    shared.request(method, target, json=body, headers={"If-Match": stale}),
                    412,
                    "version-stale",
                )
    for version, (method, target, body) in zip(
        ('W/"2"', '"2"', '"3"', '"4"', "*"), commands, strict=True
    ):
        assert shared.request(
            method, target, json=body, headers={"If-Match": version}
        ).status_code in {200, 204}


def test_a_class_is_not_sent_again_to_who_has_it(shared: Api) -> None:
    class_id = shared.new_class()
    path = f"/v1/classes/{class_id}"
    known = {"If-None-Match": done(shared.get(path), 200).headers["ETag"]}
    assert done(shared.get(path, headers=known), 304).content == b""
    shared.enrol(class_id)
    done(shared.get(path, headers=known), 200)


def test_who_prefers_not_to_wait_gets_the_position_to_wait_for(shared: Api) -> None:
    asynchronous = {"Prefer": "respond-async"}
    created = done(
        shared.post(
            "/v1/classes", json={"group_id": shared.new_group(), "name": "x"}, headers=asynchronous
        ),
        202,
    )
    path = f"/v1/classes/{created.json()['id']}"
    assert created.json() == {"position": position(created), "id": path.rpartition("/")[2]}
    assert shared.read(path, min_position=position(created))["name"] == "x"
    for command in ("archive", "restore"):
        given = done(shared.post(f"{path}/{command}", headers=asynchronous), 202)
        assert (shared.read(path, min_position=position(given))["deleted_at"] is not None) == (
            command == "archive"
        )
    deleted = done(shared.delete(path, headers=asynchronous), 202)
    problem(shared.get(path, params={"min_position": position(deleted)}), 410, "class-deleted")

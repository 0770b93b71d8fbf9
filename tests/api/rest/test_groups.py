"""Groups: their commands and reads, and what the end of a group takes with it."""

from uuid import uuid4

import pytest

from tests.api.client import Api, done, position, problem, unknown_id


def test_creating_answers_with_the_group_where_to_find_it_and_its_position(shared: Api) -> None:
    response = done(shared.post("/v1/groups", json={"name": " Lincoln "}), 201)
    group = response.json()
    assert group == {**group, "name": "Lincoln", "version": 1, "updated_at": group["created_at"]}
    assert group.keys() == {"id", "name", "created_at", "updated_at", "version"}
    assert response.headers["Location"] == f"/v1/groups/{group['id']}"
    assert (response.headers["ETag"], position(response)) == ('"1"', shared.log_head)
    found = done(shared.get(response.headers["Location"]), 200)
    assert (found.json(), found.headers["ETag"], position(found)) == (group, '"1"', shared.log_head)


def test_creating_again_with_the_same_id_and_content_answers_with_the_group_as_it_is_now(
    shared: Api,
) -> None:
    creation = {"id": str(uuid4()), "name": "First"}
    done(shared.post("/v1/groups", json=creation), 201)
    renamed = done(
        shared.patch(f"/v1/groups/{creation['id']}", json={"name": "Second"}), 200
    ).json()
    with shared.nothing_recorded():
        again = done(shared.post("/v1/groups", json=creation), 200)
        assert (again.json(), position(again)) == (renamed, shared.log_head)
        assert "Location" not in again.headers
        problem(shared.post("/v1/groups", json={**creation, "name": "Second"}), 409, "id-taken")


def test_an_id_of_another_kind_of_thing_is_taken(shared: Api) -> None:
    class_id, user_id = shared.new_class(), shared.new_user()
    with shared.nothing_recorded():
        for taken in (class_id, user_id):
            problem(shared.post("/v1/groups", json={"id": taken, "name": "x"}), 409, "id-taken")
            problem(shared.get(f"/v1/groups/{taken}"), 404, "group-unknown")
            problem(shared.patch(f"/v1/groups/{taken}", json={"name": "x"}), 404, "group-unknown")
            problem(shared.delete(f"/v1/groups/{taken}"), 404, "group-unknown")


def test_renaming_raises_the_version_and_to_the_same_name_changes_nothing(shared: Api) -> None:
    path = f"/v1/groups/{shared.new_group('Before')}"
    before = shared.read(path)
    renamed = done(shared.patch(path, json={"name": "After"}), 200)
    after = renamed.json()
    assert (
        after
        == {**before, "name": "After", "version": 2, "updated_at": after["updated_at"]}
        == shared.read(path)
    )
    assert after["updated_at"] > before["updated_at"]
    assert (renamed.headers["ETag"], position(renamed)) == ('"2"', shared.log_head)
    shared.new_user()
    with shared.nothing_recorded():
        again = done(shared.patch(path, json={"name": " After "}), 200)
        assert (again.json(), again.headers["ETag"], position(again)) == (
            after,
            '"2"',
            shared.log_head,
        )


def test_an_unknown_group_is_not_found(shared: Api) -> None:
    path = f"/v1/groups/{unknown_id()}"
    with shared.nothing_recorded():
        problem(shared.patch(path, json={"name": "x"}), 404, "group-unknown")
        problem(shared.delete(path), 404, "group-unknown")
    problem(shared.get(path), 404, "group-unknown")
    problem(shared.get(f"{path}/classes"), 404, "group-unknown")


def test_a_deleted_group_is_gone_and_deleting_it_again_changes_nothing(shared: Api) -> None:
    creation = {"id": str(uuid4()), "name": "Closing"}
    done(shared.post("/v1/groups", json=creation), 201)
    path = f"/v1/groups/{creation['id']}"
    deleted = done(shared.delete(path), 204)
    assert (deleted.content, deleted.headers["ETag"], position(deleted)) == (
        b"",
        '"2"',
        shared.log_head,
    )
    with shared.nothing_recorded():
        assert position(done(shared.delete(path), 204)) == shared.log_head
        problem(shared.patch(path, json={"name": "x"}), 410, "group-deleted")
        problem(shared.post("/v1/groups", json=creation), 409, "group-deleted")
    problem(shared.get(path), 410, "group-deleted")
    problem(shared.get(f"{path}/classes"), 410, "group-deleted")
    assert creation["id"] not in {group["id"] for group in shared.all("/v1/groups", limit=1000)}


def test_deleting_a_group_ends_its_classes_and_their_memberships_in_one_event(shared: Api) -> None:
    group = shared.new_group()
    classes = [shared.new_class(group) for _ in range(3)]
    user = shared.enrol(classes[0])
    head = shared.log_head
    done(shared.delete(f"/v1/groups/{group}"), 204)
    assert shared.log_head == head + 1
    assert shared.items(f"/v1/users/{user}/memberships") == []
    assert shared.items("/v1/classes", group_id=group) == []
    for class_id in classes:
        problem(shared.get(f"/v1/classes/{class_id}"), 410, "class-deleted")
        done(shared.delete(f"/v1/classes/{class_id}"), 204)
    assert shared.log_head == head + 1


def test_a_group_s_classes_have_a_tag_that_changes_with_them(shared: Api) -> None:
    group = shared.new_group()
    path = f"/v1/groups/{group}/classes"
    empty = done(shared.get(path), 200).headers["ETag"]
    done(shared.get(path, headers={"If-None-Match": empty}), 304)
    class_id = shared.new_class(group)
    one = done(shared.get(path, headers={"If-None-Match": empty}), 200).headers["ETag"]
    done(shared.patch(f"/v1/classes/{class_id}", json={"group_id": shared.new_group()}), 200)
    assert done(shared.get(path, headers={"If-None-Match": one}), 200).json()["items"] == []


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_stale_version_is_refused(shared: Api, method: str) -> None:
    path = f"/v1/groups/{shared.new_group()}"
    done(shared.patch(path, json={"name": "After"}), 200)
    body = {"name": "Later"} if method == "PATCH" else None
    with shared.nothing_recorded():
        problem(
            shared.request(method, path, json=body, headers={"If-Match": '"1"'}),
            412,
            "version-stale",
        )
    assert shared.request(method, path, json=body, headers={"If-Match": 'W/"2"'}).status_code in {
        200,
        204,
    }


def test_a_group_is_not_sent_again_to_who_has_it(shared: Api) -> None:
    path = f"/v1/groups/{shared.new_group()}"
    known = {"If-None-Match": done(shared.get(path), 200).headers["ETag"]}
    done(shared.get(path, headers=known), 304)
    done(shared.patch(path, json={"name": "After"}), 200)
    done(shared.get(path, headers=known), 200)


def test_who_prefers_not_to_wait_gets_the_position_to_wait_for(shared: Api) -> None:
    asynchronous = {"Prefer": "respond-async"}
    created = done(shared.post("/v1/groups", json={"name": "x"}, headers=asynchronous), 202)
    path = f"/v1/groups/{created.json()['id']}"
    assert created.json()["position"] == position(created)
    assert shared.read(path, min_position=position(created))["name"] == "x"
    renamed = done(shared.patch(path, json={"name": "y"}, headers=asynchronous), 202)
    assert shared.read(path, min_position=position(renamed))["name"] == "y"
    deleted = done(shared.delete(path, headers=asynchronous), 202)
    problem(shared.get(path, params={"min_position": position(deleted)}), 410, "group-deleted")

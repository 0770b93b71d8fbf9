"""Users: registering, removing, and reading them."""

from uuid import uuid4

from tests.api.client import Api, done, position, problem, unknown_id


def test_registering_answers_with_the_user_where_to_find_it_and_its_position(shared: Api) -> None:
    response = done(shared.post("/v1/users", json={}), 201)
    user = response.json()
    assert user.keys() == {"id", "created_at", "version"}
    assert response.headers["Location"] == f"/v1/users/{user['id']}"
    assert (response.headers["ETag"], position(response)) == ('"1"', shared.log_head)
    found = done(shared.get(response.headers["Location"]), 200)
    assert (found.json(), found.headers["ETag"], position(found)) == (user, '"1"', shared.log_head)


def test_registering_again_with_the_same_id_changes_nothing(shared: Api) -> None:
    user = {"id": str(uuid4())}
    first = done(shared.post("/v1/users", json=user), 201)
    shared.new_group()
    with shared.nothing_recorded():
        again = done(shared.post("/v1/users", json=user), 200)
        assert (again.json(), position(again)) == (first.json(), shared.log_head)
        assert "Location" not in again.headers


def test_an_id_of_another_kind_of_thing_is_taken(shared: Api) -> None:
    group = shared.new_group()
    class_id = shared.new_class(group)
    with shared.nothing_recorded():
        for taken in (group, class_id):
            problem(shared.post("/v1/users", json={"id": taken}), 409, "id-taken")
            problem(shared.delete(f"/v1/users/{taken}"), 404, "user-unknown")
            problem(shared.get(f"/v1/users/{taken}"), 404, "user-unknown")


def test_an_unknown_user_is_not_found(shared: Api) -> None:
    path = f"/v1/users/{unknown_id()}"
    with shared.nothing_recorded():
        problem(shared.delete(path), 404, "user-unknown")
    problem(shared.get(path), 404, "user-unknown")
    problem(shared.get(f"{path}/memberships"), 404, "user-unknown")


def test_a_removed_user_is_gone_and_removing_again_changes_nothing(shared: Api) -> None:
    user = shared.new_user()
    path = f"/v1/users/{user}"
    removed = done(shared.delete(path), 204)
    assert (removed.content, removed.headers["ETag"], position(removed)) == (
        b"",
        '"2"',
        shared.log_head,
    )
    with shared.nothing_recorded():
        assert position(done(shared.delete(path), 204)) == shared.log_head
        problem(shared.post("/v1/users", json={"id": user}), 409, "user-removed")
    problem(shared.get(path), 410, "user-removed")
    problem(shared.get(f"{path}/memberships"), 410, "user-removed")
    assert user not in {found["id"] for found in shared.all("/v1/users", limit=1000)}


def test_removing_a_user_ends_all_memberships_in_one_event(shared: Api) -> None:
    classes = [shared.new_class() for _ in range(3)]
    user = shared.new_user()
    for class_id in classes:
        shared.enrol(class_id, user)
    head = shared.log_head
    done(shared.delete(f"/v1/users/{user}"), 204)
    assert shared.log_head == head + 1
    assert [shared.items(f"/v1/classes/{class_id}/members") for class_id in classes] == [[], [], []]


def test_a_stale_version_is_refused(shared: Api) -> None:
    path = f"/v1/users/{shared.new_user()}"
    with shared.nothing_recorded():
        problem(shared.delete(path, headers={"If-Match": '"2"'}), 412, "version-stale")
    done(shared.delete(path, headers={"If-Match": 'W/"1"'}), 204)


def test_a_user_is_not_sent_again_to_who_has_it(shared: Api) -> None:
    path = f"/v1/users/{shared.new_user()}"
    for read in (path, f"{path}/memberships"):
        known = {"If-None-Match": done(shared.get(read), 200).headers["ETag"]}
        assert done(shared.get(read, headers=known), 304).content == b""


def test_who_prefers_not_to_wait_gets_the_position_to_wait_for(shared: Api) -> None:
    asynchronous = {"Prefer": "respond-async"}
    registered = done(shared.post("/v1/users", headers=asynchronous), 202)
    path = f"/v1/users/{registered.json()['id']}"
    assert registered.json() == {"position": position(registered), "id": path.rpartition("/")[2]}
    shared.read(path, min_position=position(registered))
    removed = done(shared.delete(path, headers=asynchronous), 202)
    problem(shared.get(path, params={"min_position": position(removed)}), 410, "user-removed")
    with shared.nothing_recorded():
        done(shared.delete(path, headers=asynchronous), 204)

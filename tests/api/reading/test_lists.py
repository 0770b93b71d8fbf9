"""Lists: their order, their filters, and pages that stay complete while others write."""

from typing import Any

import pytest

from tests.api.client import Api, done, error, problem, unknown_id


def named(api: Api, group: str, *names: str) -> dict[str, str]:
    return {api.new_class(group, name): name for name in names}


def test_classes_come_by_name_then_id(api: Api) -> None:
    group = api.new_group()
    made = named(api, group, "b", "a", "B", "\u00e9", "a", "a b", "\U0001f393")
    expected = sorted(made, key=lambda id_: (made[id_].encode(), id_))
    for path in ("/v1/classes", f"/v1/groups/{group}/classes"):
        assert [found["id"] for found in api.items(path)] == expected
        assert [[found["id"] for found in page] for page in api.pages(path, limit=1)] == [
            [id_] for id_ in expected
        ]
        assert [found["id"] for found in api.all(path, limit=3)] == expected


def test_groups_come_by_name_then_id_and_users_by_id(api: Api) -> None:
    names = ["b", "a", "b", "C", "a"]
    groups = sorted((name, api.new_group(name)) for name in names)
    assert [(found["name"], found["id"]) for found in api.all("/v1/groups", limit=2)] == groups
    users = sorted(api.new_users(5))
    assert [found["id"] for found in api.all("/v1/users", limit=2)] == users


def test_members_come_teachers_first_then_by_time_of_enrolment(api: Api) -> None:
    class_id = api.new_class()
    roles = ["student", "teacher", "student", "teacher", "student"]
    enrolled = [(role, api.enrol(class_id, role=role)) for role in roles]
    expected = [user for role, user in enrolled if role == "teacher"] + [
        user for role, user in enrolled if role == "student"
    ]
    for limit in (1, 2, 5, 1000):
        assert [
            found["user_id"] for found in api.all(f"/v1/classes/{class_id}/members", limit=limit)
        ] == expected


def test_memberships_come_by_the_name_of_their_class(api: Api) -> None:
    group, user = api.new_group(), api.new_user()
    made = named(api, group, "c", "a", "b", "a")
    for class_id in made:
        api.enrol(class_id, user)
    expected = sorted(made, key=lambda id_: (made[id_], id_))
    assert [
        found["class_id"] for found in api.all(f"/v1/users/{user}/memberships", limit=1)
    ] == expected


def test_a_page_that_is_exactly_full_is_the_last_one(api: Api) -> None:
    api.new_users(3)
    assert len(api.items("/v1/users", limit=3)) == 3
    assert api.read("/v1/users", limit=2)["next_cursor"] is not None


def test_pages_have_100_items_where_no_limit_is_given(api: Api) -> None:
    api.new_users(101)
    assert [len(page) for page in api.pages("/v1/users")] == [100, 1]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1.5", "99999999999999999999"])
@pytest.mark.parametrize(
    "path",
    ["/v1/groups", "/v1/users", "/v1/classes", "/v1/classes/{}/members", "/v1/users/{}/history"],
)
def test_a_limit_beyond_1_to_1000_is_refused_never_clamped(
    shared: Api, path: str, limit: str
) -> None:
    assert (
        error(shared.get(path.format(unknown_id()), params={"limit": limit}))["parameter"]
        == "limit"
    )


def test_pages_miss_nothing_and_repeat_nothing_while_others_write(api: Api) -> None:
    group = api.new_group()
    before = named(api, group, *(f"{number:02}" for number in range(0, 40, 2)))
    seen: list[str] = []
    for number, page in enumerate(api.pages("/v1/classes", limit=3)):
        seen += [found["id"] for found in page]
        named(api, group, "0", f"{number * 6 + 1:02}", f"{number * 6 + 7:02}", "99"[: number + 1])
        done(api.delete(f"/v1/classes/{page[-1]['id']}"), 204)
        if number > 20:
            break
    assert len(seen) == len(set(seen))
    assert [id_ for id_ in seen if id_ in before] == list(before)


def test_pages_of_a_roster_go_on_where_they_were_when_members_come_and_go(api: Api) -> None:
    class_id = api.new_class()
    members = f"/v1/classes/{class_id}/members"
    students = [api.enrol(class_id) for _ in range(6)]
    pages = api.pages(members, limit=2)
    first = [found["user_id"] for found in next(pages)]
    api.enrol(class_id, role="teacher")
    for user in (students[1], students[2]):
        done(api.delete(f"{members}/{user}"), 204)
    newest = api.enrol(class_id)
    assert first == students[:2]
    assert [found["user_id"] for page in pages for found in page] == [*students[3:], newest]


def test_classes_are_filtered_by_group_name_and_whether_they_are_archived(api: Api) -> None:
    group, other = api.new_group(), api.new_group()
    (art,) = named(api, group, "Art")
    (music,) = named(api, group, "Music")
    (other_art,) = named(api, other, "Art")
    done(api.post(f"/v1/classes/{art}/archive"), 200)

    def found(**filters: Any) -> set[str]:
        return {class_["id"] for class_ in api.items("/v1/classes", **filters)}

    assert found() == {art, music, other_art}
    assert found(group_id=group) == {art, music}
    assert found(group_id=unknown_id()) == set()
    assert found(name="Art") == {art, other_art}
    assert found(name="art") == set()
    assert found(archived="true") == {art}
    assert found(archived="false") == {music, other_art}
    assert found(archived="false", name="Art", group_id=other) == {other_art}
    done(api.post(f"/v1/classes/{art}/restore"), 200)
    assert found(archived="true") == set()


def test_members_are_filtered_by_role(shared: Api) -> None:
    class_id = shared.new_class()
    made = {
        role: [shared.enrol(class_id, role=role) for _ in range(3)]
        for role in ("teacher", "student")
    }
    for role, users in made.items():
        assert [
            found["user_id"]
            for found in shared.all(f"/v1/classes/{class_id}/members", role=role, limit=2)
        ] == users


def test_a_cursor_is_good_for_its_own_list_and_filters_only(shared: Api) -> None:
    group = shared.new_group()
    classes = list(named(shared, group, "a", "b"))
    for class_id in classes:
        shared.enrol(class_id)
        shared.enrol(class_id)
    cursor = shared.read("/v1/classes", group_id=group, limit=1)["next_cursor"]
    members = shared.read(f"/v1/classes/{classes[0]}/members", limit=1)["next_cursor"]
    history = shared.read(f"/v1/classes/{classes[0]}/history", limit=1)["next_cursor"]
    wrong: list[tuple[str, dict[str, str]]] = [
        ("/v1/classes", {"cursor": cursor}),
        ("/v1/classes", {"cursor": cursor, "group_id": shared.new_group()}),
        ("/v1/classes", {"cursor": cursor, "group_id": group, "name": "b"}),
        ("/v1/classes", {"cursor": cursor, "group_id": group, "archived": "false"}),
        (f"/v1/groups/{group}/classes", {"cursor": cursor}),
        ("/v1/groups", {"cursor": cursor}),
        ("/v1/users", {"cursor": cursor}),
        (f"/v1/classes/{classes[1]}/members", {"cursor": members}),
        (f"/v1/classes/{classes[0]}/members", {"cursor": members, "role": "student"}),
        (f"/v1/classes/{classes[0]}/history", {"cursor": history, "order": "desc"}),
        (f"/v1/classes/{classes[0]}/history", {"cursor": history, "type": "ClassCreated"}),
        (f"/v1/classes/{classes[1]}/history", {"cursor": history}),
        ("/v1/classes", {"cursor": "garbage"}),
        ("/v1/classes", {"cursor": "W10"}),
        ("/v1/classes", {"cursor": cursor[:-4], "group_id": group}),
    ]
    for path, parameters in wrong:
        found = error(shared.get(path, params=parameters))
        assert (found["parameter"], found["rule"]) == ("cursor", "cursor"), path


def test_a_cursor_stays_good_for_another_limit(shared: Api) -> None:
    group = shared.new_group()
    made = list(named(shared, group, "a", "b", "c"))
    cursor = shared.read("/v1/classes", group_id=group, limit=1)["next_cursor"]
    assert [
        found["id"] for found in shared.items("/v1/classes", group_id=group, limit=2, cursor=cursor)
    ] == made[1:]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/groups?nmae=x",
        "/v1/groups?as_of=2026-09-01T08:00:00Z",
        "/v1/users?name=x",
        "/v1/classes?deleted=true",
        "/v1/classes/{}?limit=1",
        "/v1/classes/{}/members?archived=true",
        "/v1/classes/{}/members/{}?role=student",
        "/v1/users/{}/memberships?role=student",
        "/v1/classes/{}/history?role=student",
    ],
)
def test_an_unknown_parameter_is_refused_by_name(shared: Api, path: str) -> None:
    found = error(shared.get(path.format(unknown_id(), unknown_id())))
    assert found["parameter"] == path.partition("?")[2].partition("=")[0]
    assert found["rule"] == "unknown-field"


def test_a_list_of_an_unknown_thing_is_not_found_even_with_a_cursor(shared: Api) -> None:
    class_id = shared.new_class()
    shared.enrol(class_id)
    shared.enrol(class_id)
    members = f"/v1/classes/{class_id}/members"
    cursor = shared.read(members, limit=1)["next_cursor"]
    done(shared.delete(f"/v1/classes/{class_id}"), 204)
    problem(shared.get(members, params={"cursor": cursor}), 410, "class-deleted")


def test_a_list_is_not_sent_again_to_who_has_it(api: Api) -> None:
    api.new_class()
    for path in ("/v1/groups", "/v1/users", "/v1/classes"):
        known = {"If-None-Match": done(api.get(path), 200).headers["ETag"]}
        assert done(api.get(path, headers=known), 304).content == b""
    api.new_group()
    done(api.get("/v1/groups", headers=known), 200)

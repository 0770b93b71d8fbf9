"""Count day: every class of a school with its members at one moment."""

from typing import Any

from tests.api.client import Api, done, error, position, problem, unknown_id

NAMES = ["class_id", "class_name", "user_id", "role", "enrolled_at"]


def rows(api: Api, group: str, **moment: Any) -> list[list[Any]]:
    return [
        [item[name] for name in NAMES[:4]]
        for item in api.items(f"/v1/groups/{group}/rosters", **moment)
    ]


def test_every_class_has_its_members_teachers_first_and_an_empty_one_a_row(shared: Api) -> None:
    group = shared.new_group()
    music, art, empty = (shared.new_class(group, name) for name in ("Music", "Art", "Empty"))
    shared.enrol(shared.new_class(shared.new_group()))
    student, teacher = shared.enrol(music), shared.enrol(music, role="teacher")
    shared.enrol(art, student)
    done(shared.post(f"/v1/classes/{art}/archive"), 200)
    response = done(shared.get(f"/v1/groups/{group}/rosters"), 200)
    assert position(response) == shared.log_head
    assert rows(shared, group) == [
        [art, "Art", student, "student"],
        [empty, "Empty", None, None],
        [music, "Music", teacher, "teacher"],
        [music, "Music", student, "student"],
    ]
    items = response.json()["items"]
    assert list(items[0]) == NAMES
    assert items[1]["enrolled_at"] is None
    assert (
        items[2]["enrolled_at"]
        == shared.read(f"/v1/classes/{music}/members/{teacher}")["created_at"]
    )


def test_it_is_as_of_any_moment(shared: Api) -> None:
    group = shared.new_group()
    before = shared.log_head
    class_id = shared.new_class(group, "Art")
    student = shared.enrol(class_id)
    then = shared.read(f"/v1/classes/{class_id}/history", order="desc", limit=1)["items"][0]
    done(
        shared.patch(
            f"/v1/classes/{class_id}", json={"name": "Music", "group_id": shared.new_group()}
        ),
        200,
    )
    assert rows(shared, group) == []
    for moment in ({"at_position": then["position"]}, {"as_of": then["recorded_at"]}):
        assert rows(shared, group, **moment) == [[class_id, "Art", student, "student"]]
    assert rows(shared, group, at_position=before) == []
    assert (
        position(shared.get(f"/v1/groups/{group}/rosters", params={"at_position": before}))
        == before
    )


def test_more_classes_than_are_read_at_once_are_all_there(shared: Api) -> None:
    group = shared.new_group()
    classes = [shared.new_class(group, f"Class {number:02}") for number in range(45)]
    assert [row[0] for row in rows(shared, group)] == classes


def test_a_group_that_is_not_there_is_refused(shared: Api) -> None:
    group = shared.new_group()
    created = shared.log_head
    problem(shared.get(f"/v1/groups/{unknown_id()}/rosters"), 404, "group-unknown")
    problem(
        shared.get(f"/v1/groups/{group}/rosters", params={"at_position": created - 1}),
        404,
        "group-unknown",
    )
    assert (
        error(shared.get(f"/v1/groups/{group}/rosters", params={"at_position": created + 1}))[
            "parameter"
        ]
        == "at_position"
    )
    done(shared.delete(f"/v1/groups/{group}"), 204)
    problem(shared.get(f"/v1/groups/{group}/rosters"), 410, "group-deleted")
    assert rows(shared, group, at_position=created) == []

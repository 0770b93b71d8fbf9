"""What differs between two moments."""

from typing import Any

import pytest

from tests.api.client import Api, done, error, problem, unknown_id

NOTHING: dict[str, list[Any]] = {"enrolled": [], "withdrawn": [], "role_changed": [], "classes": []}


def diff(api: Api, path: str, first: int, last: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = api.read(
        f"/v1/{path}/diff", from_position=first, **({} if last is None else {"to_position": last})
    )
    return found


def test_a_class_s_changes_between_two_moments(shared: Api) -> None:
    class_id = shared.new_class(name="Art", settings={"n": 1})
    stays, goes, changes = (shared.enrol(class_id) for _ in range(3))
    first = shared.log_head
    done(
        shared.patch(f"/v1/classes/{class_id}", json={"name": "Music", "settings": {"n": True}}),
        200,
    )
    done(shared.patch(f"/v1/classes/{class_id}/members/{changes}", json={"role": "teacher"}), 200)
    done(shared.delete(f"/v1/classes/{class_id}/members/{goes}"), 204)
    comes = shared.enrol(class_id, role="teacher")
    passes = shared.enrol(class_id)
    done(shared.delete(f"/v1/users/{passes}"), 204)
    done(shared.post(f"/v1/classes/{class_id}/archive"), 200)
    expected = {
        "enrolled": [{"class_id": class_id, "user_id": comes, "role": "teacher"}],
        "withdrawn": [{"class_id": class_id, "user_id": goes, "role": "student"}],
        "role_changed": [
            {"class_id": class_id, "user_id": changes, "from": "student", "to": "teacher"}
        ],
        "classes": [
            {
                "class_id": class_id,
                "changes": {
                    "name": {"from": "Art", "to": "Music"},
                    "settings": {"from": {"n": 1}, "to": {"n": True}},
                    "archived": {"from": False, "to": True},
                },
            }
        ],
    }
    assert diff(shared, f"classes/{class_id}", first) == expected
    assert stays not in str(expected)
    assert diff(shared, f"classes/{class_id}", first, first) == NOTHING


def test_a_class_that_comes_into_a_group_or_leaves_it_brings_and_takes_its_members(
    shared: Api,
) -> None:
    group, other = shared.new_group(), shared.new_group()
    class_id = shared.new_class(group, "Art")
    user = shared.enrol(class_id)
    first = shared.log_head
    done(shared.patch(f"/v1/classes/{class_id}", json={"group_id": other}), 200)
    fields = {"name": "Art", "settings": {}, "archived": False}
    member = {"class_id": class_id, "user_id": user, "role": "student"}
    left, came = diff(shared, f"groups/{group}", first), diff(shared, f"groups/{other}", first)
    assert (left["withdrawn"], left["enrolled"]) == ([member], [])
    assert (came["withdrawn"], came["enrolled"]) == ([], [member])
    moved = {"from": group, "to": other}
    assert left["classes"][0]["changes"] == {"group_id": moved} | {
        name: {"from": value, "to": None} for name, value in fields.items()
    }
    assert came["classes"][0]["changes"] == {"group_id": moved} | {
        name: {"from": None, "to": value} for name, value in fields.items()
    }
    assert diff(shared, f"classes/{class_id}", first)["classes"][0]["changes"] == {
        "group_id": moved
    }


def test_moments_can_be_times(shared: Api) -> None:
    class_id = shared.new_class()
    shared.enrol(class_id)
    shared.enrol(class_id)
    created, first, second = (
        entry["recorded_at"] for entry in shared.items(f"/v1/classes/{class_id}/history")
    )
    path = f"/v1/classes/{class_id}/diff"
    assert len(shared.read(path, **{"from": first, "to": second})["enrolled"]) == 1
    assert len(shared.read(path, **{"from": created})["enrolled"]) == 2
    assert len(shared.read(path, from_position=0, to=first)["enrolled"]) == 1


def test_what_began_or_ended_between_the_moments_has_a_diff(shared: Api) -> None:
    group = shared.new_group()
    before = shared.log_head
    class_id = shared.new_class(group)
    user = shared.enrol(class_id)
    there = shared.log_head
    done(shared.delete(f"/v1/groups/{group}"), 204)
    for path in (f"classes/{class_id}", f"groups/{group}"):
        assert [member["user_id"] for member in diff(shared, path, before, there)["enrolled"]] == [
            user
        ]
        assert [member["user_id"] for member in diff(shared, path, there)["withdrawn"]] == [user]
    gone = shared.log_head
    problem(
        shared.get(f"/v1/classes/{class_id}/diff", params={"from_position": gone}),
        410,
        "class-deleted",
    )
    problem(
        shared.get(f"/v1/groups/{group}/diff", params={"from_position": gone}), 410, "group-deleted"
    )
    problem(
        shared.get(
            f"/v1/classes/{class_id}/diff", params={"from_position": 0, "to_position": before}
        ),
        404,
        "class-unknown",
    )
    problem(
        shared.get(f"/v1/groups/{unknown_id()}/diff", params={"from_position": 0}),
        404,
        "group-unknown",
    )


@pytest.mark.parametrize(
    ("query", "parameter", "rule"),
    [
        ({}, "from", "required"),
        ({"to_position": 1}, "from", "required"),
        ({"from_position": 1, "from": "2026-01-01T00:00:00Z"}, "from", "one-moment"),
        ({"from_position": 1, "to_position": 1, "to": "2026-01-01T00:00:00Z"}, "to", "one-moment"),
        ({"from_position": 10**9}, "from_position", "head"),
        ({"from_position": 0, "to_position": 10**9}, "to_position", "head"),
        ({"from": "2100-01-01T00:00:00Z"}, "from", "past"),
        ({"from_position": 1, "to_position": 0}, "from_position", "order"),
        ({"from": "2026-01-01"}, "from", "rfc3339"),
    ],
)
def test_moments_that_make_no_sense_are_refused_by_name(
    shared: Api, query: dict[str, Any], parameter: str, rule: str
) -> None:
    found = error(shared.get(f"/v1/classes/{shared.new_class()}/diff", params=query))
    assert (found["parameter"], found["rule"]) == (parameter, rule)

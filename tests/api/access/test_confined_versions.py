"""A caller confined to groups counts a class's versions in these groups alone.

How much happened to the class in other groups is not said.
"""

from typing import Any

import httpx

from tests.api.client import Api, done, position, problem
from tests.api.town import Town


def move(town: Town, class_id: str, group_id: str) -> int:
    return position(
        done(town.all.patch(f"/v1/classes/{class_id}", json={"group_id": group_id}), 200)
    )


def moved(town: Town) -> tuple[str, int]:
    """Return a class with six events elsewhere and two here, and its last position.

    The two are the move and an enrolment.
    """
    class_id = town.all.new_class(town.other_group)
    for _ in range(5):
        town.all.enrol(class_id)
    move(town, class_id, town.group)
    town.all.enrol(class_id, town.user)
    return class_id, town.all.log_head


def version(answer: httpx.Response) -> tuple[int, str]:
    return done(answer, 200).json()["version"], answer.headers["ETag"]


def listed(api: Api, path: str, class_id: str) -> Any:
    return next(item["version"] for item in api.all(path) if item["id"] == class_id)


def test_every_read_counts_what_happened_here(town: Town) -> None:
    class_id, at = moved(town)
    path = f"/v1/classes/{class_id}"
    for api, seen in ((town.mine, 2), (town.both, 8), (town.all, 8)):
        assert (
            version(api.get(path))
            == version(api.get(path, params={"at_position": at}))
            == (seen, f'"{seen}"')
        )
        assert version(api.get(path, params={"at_position": at - 1})) == (seen - 1, f'"{seen - 1}"')
        for listing in (
            "/v1/classes",
            f"/v1/groups/{town.group}/classes",
            f"/v1/groups/{town.group}/classes?at_position={at}",
        ):
            assert listed(api, listing, class_id) == seen
        for members in (
            f"{path}/members",
            f"{path}/members?limit=1000",
            f"{path}/members?at_position={at}",
            f"{path}/members?limit=2",
        ):
            assert done(api.get(members), 200).headers["ETag"].startswith(f'"{seen}-')
        for member in (
            f"{path}/members/{town.user}",
            f"{path}/members/{town.user}?at_position={at}",
        ):
            assert done(api.get(member), 200).headers["ETag"] == f'"{seen}"'
        for history in (
            f"{path}/history",
            f"/v1/groups/{town.group}/history",
            "/v1/history?limit=1000",
        ):
            entries = [
                entry["version"] for entry in api.all(history) if entry["class_id"] == class_id
            ]
            assert (
                entries == list(range(1, 9))[-len(entries) :] if seen == 8 else entries == [1, 2]
            ), history
    last = town.mine.items(f"/v1/users/{town.user}/history", order="desc", limit=1000)[0]
    assert (last["class_id"], last["version"]) == (class_id, 2)
    fed = town.mine.read("/v1/events", after=at - 2)["items"]
    assert [event["version"] for event in fed if event["class_id"] == class_id] == [1, 2]


def test_what_one_has_is_known_by_the_version_that_one_saw(town: Town) -> None:
    class_id, _ = moved(town)
    for path in (f"/v1/classes/{class_id}", f"/v1/classes/{class_id}/members"):
        for _ in range(2):
            for api in (town.mine, town.all):
                etag = done(api.get(path), 200).headers["ETag"]
                done(api.get(path, headers={"If-None-Match": etag}), 304)
        mine, theirs = (api.get(path).headers["ETag"] for api in (town.mine, town.all))
        done(town.mine.get(path, headers={"If-None-Match": theirs}), 200)
        done(town.all.get(path, headers={"If-None-Match": mine}), 200)


def test_commands_rely_on_the_version_that_one_saw(town: Town) -> None:
    class_id, _ = moved(town)
    path = f"/v1/classes/{class_id}"
    stale = problem(
        town.mine.patch(path, json={"name": "X"}, headers={"If-Match": '"8"'}), 412, "version-stale"
    )
    assert "at version 2, not at 8" in stale["detail"]
    problem(
        town.all.patch(path, json={"name": "X"}, headers={"If-Match": '"2"'}), 412, "version-stale"
    )
    changed = town.mine.patch(path, json={"name": "X"}, headers={"If-Match": '"2"'})
    assert version(changed) == (3, '"3"')
    roster = town.mine.put(
        f"{path}/members",
        json={"members": [{"user_id": town.user, "role": "student"}]},
        params={"max_withdrawals": 9},
    )
    assert done(roster, 200).headers["ETag"] == '"8"'
    later = town.mine.delete(
        f"{path}/members/{town.user}", headers={"If-Match": '"8"', "Prefer": "respond-async"}
    )
    assert done(later, 202).headers["ETag"] == '"9"'
    assert version(town.all.get(path, params={"min_position": position(later)})) == (15, '"15"')


def test_a_class_that_comes_back_goes_on_where_it_was(town: Town) -> None:
    class_id, _ = moved(town)
    path = f"/v1/classes/{class_id}"
    move(town, class_id, town.other_group)
    done(town.all.post(f"{path}/archive"), 200)
    done(town.all.post(f"{path}/restore"), 200)
    problem(town.mine.get(path), 404, "class-unknown")
    back = move(town, class_id, town.group)
    assert version(town.mine.get(path)) == (3, '"3"')
    assert version(town.confined(town.other_group).get(path, params={"at_position": back - 1})) == (
        9,
        '"9"',
    )
    assert [entry["version"] for entry in town.mine.items(f"{path}/history")] == [1, 2, 3]
    done(town.mine.delete(path, headers={"If-Match": '"3"'}), 204)


def seen(api: Api, paths: list[str]) -> dict[str, Any]:
    """Return the answers without the position, which tells of the whole district.

    The position is said to everybody.
    """
    answers = {path: api.get(path) for path in paths}
    of_each_answer = {"date", "x-request-id", "roster-position", "content-length"}
    return {
        path: (
            answer.status_code,
            {
                name: value
                for name, value in answer.headers.items()
                if name not in of_each_answer | ({"etag"} if "events" in path else set())
            },
            {
                name: value
                for name, value in answer.json().items()
                if name not in {"request_id", "head", "after"}
            },
        )
        for path, answer in answers.items()
    }


def test_what_happens_elsewhere_changes_no_answer(town: Town) -> None:
    class_id, at = moved(town)
    gone = town.all.new_class(town.group)
    town.all.enrol(gone, town.user)
    left = move(town, gone, town.other_group) - 1
    group, user, other = town.group, town.user, town.other_class
    paths = [
        "/v1/groups",
        "/v1/classes",
        "/v1/users",
        "/v1/users?limit=1",
        "/v1/history?limit=1000",
        "/v1/events?limit=1000",
        "/readyz",
    ]
    paths += [
        f"/v1/groups/{id_}{end}"
        for id_ in (group, town.other_group)
        for end in ("", "/classes", "/rosters", "/history?limit=1000")
    ]
    paths += [
        f"/v1/users/{id_}{end}"
        for id_ in (user, town.other_user)
        for end in ("", "/memberships", "/history?limit=1000")
    ]
    for id_ in (class_id, gone, other):
        ends = (
            "",
            "/members",
            f"/members/{user}",
            "/history",
            f"?at_position={left}",
            f"/members?at_position={left}",
        )
        paths += [
            f"/v1/classes/{id_}{end}"
            for end in (*ends, f"/diff?from_position={at}&to_position={left}")
        ]
    paths += [
        f"/v1/history?{name}"
        for name in (
            f"user_id={user}",
            f"class_id={gone}",
            f"group_id={town.other_group}",
            "limit=2",
        )
    ]
    before = seen(town.mine, paths)
    elsewhere = f"/v1/classes/{gone}"
    town.all.enrol(other, user)
    town.all.enrol(gone)
    done(town.all.patch(f"{elsewhere}/members/{user}", json={"role": "teacher"}), 200)
    done(town.all.patch(elsewhere, json={"name": "Elsewhere"}), 200)
    done(town.all.delete(f"{elsewhere}/members/{user}"), 204)
    done(town.all.post(f"{elsewhere}/archive"), 200)
    done(town.all.patch(f"/v1/groups/{town.other_group}", json={"name": "New"}), 200)
    done(town.all.delete(f"/v1/users/{town.other_user}"), 204)
    assert seen(town.mine, paths) == before

"""A caller confined to groups: each rule of what is seen and what is accepted.

Beside it stands a caller who is confined to none.
"""

import json
from itertools import islice
from typing import Any

import httpx
import pytest

from rosterlog.api.rest import feed
from tests.api.client import done, position, problem, unknown_id
from tests.api.following import following
from tests.api.town import Town


def test_a_class_is_made_in_ones_own_groups_only(town: Town) -> None:
    made = done(
        town.mine.post("/v1/classes", json={"group_id": town.group, "name": "Art"}), 201
    ).json()
    assert town.mine.read(f"/v1/classes/{made['id']}") == made
    for group in (town.other_group, unknown_id()):
        refused = town.mine.post("/v1/classes", json={"group_id": group, "name": "Art"})
        assert problem(refused, 409, "group-unknown")["detail"] == f"There is no group {group}."
    taken = {"id": town.other_class, "group_id": town.group, "name": "Art"}
    problem(town.mine.post("/v1/classes", json=taken), 409, "id-taken")
    # With the very content that it was created with, also where it was created here and is
    # elsewhere now, or the other way round.
    again = {"id": town.other_class, "group_id": town.other_group, "name": "Mathematics 7b"}
    problem(town.mine.post("/v1/classes", json=again), 409, "group-unknown")
    done(town.all.patch(f"/v1/classes/{town.other_class}", json={"group_id": town.group}), 200)
    problem(town.mine.post("/v1/classes", json=again), 409, "group-unknown")
    done(town.all.patch(f"/v1/classes/{town.class_id}", json={"group_id": town.other_group}), 200)
    here = {"id": town.class_id, "group_id": town.group, "name": "Mathematics 7b"}
    problem(town.mine.post("/v1/classes", json=here), 409, "id-taken")


def test_moving_a_class_needs_both_groups(town: Town) -> None:
    for group in (town.other_group, unknown_id()):
        problem(
            town.mine.patch(f"/v1/classes/{town.class_id}", json={"group_id": group}),
            409,
            "group-unknown",
        )
    problem(
        town.mine.patch(f"/v1/classes/{town.other_class}", json={"group_id": town.group}),
        404,
        "class-unknown",
    )
    both = town.both
    moved = done(
        both.patch(f"/v1/classes/{town.class_id}", json={"group_id": town.other_group}), 200
    ).json()
    assert moved["group_id"] == town.other_group
    problem(town.mine.get(f"/v1/classes/{town.class_id}"), 404, "class-unknown")


def test_a_group_of_ones_own_is_renamed_and_deleted(town: Town) -> None:
    done(town.mine.patch(f"/v1/groups/{town.group}", json={"name": "Northern"}), 200)
    done(town.mine.delete(f"/v1/groups/{town.group}"), 204)
    for api, group, class_id, status in (
        (town.mine, town.group, town.class_id, 410),
        (town.confined(town.other_group), town.group, town.class_id, 404),
    ):
        assert api.get(f"/v1/groups/{group}").status_code == status
        assert api.get(f"/v1/classes/{class_id}").status_code == status
        assert api.get(f"/v1/classes/{class_id}/members").status_code == status
        assert api.patch(f"/v1/classes/{class_id}", json={"name": "X"}).status_code == status
        assert api.get(f"/v1/classes/{class_id}/history").status_code == (
            200 if status == 410 else 404
        )
        # Deleting again succeeds for who could delete it; to others it never was.
        assert api.delete(f"/v1/classes/{class_id}").status_code == (204 if status == 410 else 404)
        assert api.delete(f"/v1/groups/{group}").status_code == (204 if status == 410 else 404)


def test_any_registered_user_can_be_enrolled_by_who_has_the_id(town: Town) -> None:
    problem(town.mine.get(f"/v1/users/{town.other_user}"), 404, "user-unknown")
    members = f"/v1/classes/{town.class_id}/members"
    done(town.mine.post(members, json={"user_id": town.other_user, "role": "teacher"}), 201)
    assert town.mine.read(f"/v1/users/{town.other_user}")["id"] == town.other_user
    (membership,) = town.mine.items(f"/v1/users/{town.other_user}/memberships")
    assert membership["class_id"] == town.class_id
    assert {
        entry["group_id"] for entry in town.mine.items(f"/v1/users/{town.other_user}/history")
    } == {town.group}
    done(town.mine.delete(f"{members}/{town.other_user}"), 204)
    problem(town.mine.get(f"/v1/users/{town.other_user}"), 404, "user-unknown")
    problem(town.mine.get(f"/v1/users/{town.other_user}/memberships"), 404, "user-unknown")
    assert len(town.mine.items(f"/v1/users/{town.other_user}/history")) == 2


def test_a_user_who_was_removed_is_as_one_who_never_was(town: Town) -> None:
    gone = town.all.new_user()
    done(town.all.delete(f"/v1/users/{gone}"), 204)
    done(town.all.delete(f"/v1/users/{town.user}"), 204)
    for user in (gone, town.user, town.other_user, unknown_id()):
        problem(
            town.mine.get(f"/v1/users/{user}")
            if user != town.other_user
            else town.mine.get(f"/v1/users/{gone}"),
            404,
            "user-unknown",
        )
        member = f"/v1/classes/{town.class_id}/members/{user}"
        problem(town.mine.get(member), 404, "member-unknown")
        problem(town.mine.patch(member, json={"role": "teacher"}), 404, "member-unknown")
        done(town.mine.delete(member), 204)
    for user in (gone, town.user, unknown_id()):
        new = {"user_id": user, "role": "student"}
        problem(
            town.mine.post(f"/v1/classes/{town.class_id}/members", json=new), 409, "user-unknown"
        )
        refused = problem_of_members(
            town.mine.put(f"/v1/classes/{town.class_id}/members", json={"members": [new]})
        )
        assert refused["rule"] == "user-unknown"


def problem_of_members(response: httpx.Response) -> dict[str, Any]:
    (error,) = problem(response, 409, "members-refused")["errors"]
    return dict(error)


def test_items_of_other_groups_are_refused_one_by_one(town: Town) -> None:
    new = town.all.new_user()
    items = [
        {"class_id": class_id, "user_id": new, "role": "student"}
        for class_id in (town.class_id, town.other_class, unknown_id())
    ]
    answer = done(town.mine.post("/v1/enrolments", json={"items": items}), 200).json()
    assert [item["outcome"] for item in answer["items"]] == ["enrolled", "refused", "refused"]
    assert {item["problem"]["type"] for item in answer["items"][1:]} == {"/problems/class-unknown"}
    with town.all.nothing_recorded():
        problem_with_items = town.mine.post(
            "/v1/enrolments", params={"atomic": True}, json={"items": items[1:2]}
        )
        assert problem_with_items.status_code == 409
    assert len(town.all.items(f"/v1/classes/{town.other_class}/members")) == 1


def test_a_class_belongs_to_the_group_that_it_was_in(town: Town) -> None:
    head = town.all.log_head
    moved = position(
        done(town.all.patch(f"/v1/classes/{town.other_class}", json={"group_id": town.group}), 200)
    )
    late = town.all.enrol(town.other_class)
    left = position(
        done(
            town.all.patch(f"/v1/classes/{town.other_class}", json={"group_id": town.other_group}),
            200,
        )
    )
    path = f"/v1/classes/{town.other_class}"
    for at, status in ((head, 404), (moved, 200), (left - 1, 200), (left, 404)):
        for read in (
            path,
            f"{path}/members",
            f"{path}/members/{town.other_user}",
            f"/v1/users/{town.other_user}/memberships",
        ):
            assert town.mine.get(read, params={"at_position": at}).status_code == status, (read, at)
    history = town.mine.items(f"{path}/history")
    assert [entry["type"] for entry in history] == ["ClassMoved", "MemberEnrolled"]
    assert history[0]["before"] == {"group_id": None}
    assert history[0]["after"] == {"group_id": town.group}
    assert [
        entry["position"] for entry in town.mine.items("/v1/history", class_id=town.other_class)
    ] == [moved, left - 1]
    assert [
        entry["user_id"] for entry in town.mine.items(f"{path}/history", type="MemberEnrolled")
    ] == [late]
    assert town.mine.items(f"{path}/history", type="ClassArchived") == []
    assert all(
        town.other_group not in town.mine.get(read).text
        for read in (f"{path}/history", "/v1/history", "/v1/events?limit=1000")
    )
    # Registered in between, the late one is of no group: who is confined does not see that there is
    # anything at that position.
    assert moved + 1 not in {
        entry["position"]
        for entry in town.mine.items("/v1/history", since=history[0]["recorded_at"])
    }


def test_a_difference_shows_no_more_than_the_two_moments_do(town: Town) -> None:
    path = f"/v1/classes/{town.class_id}/diff"
    head = town.all.log_head
    left = position(
        done(
            town.all.patch(f"/v1/classes/{town.class_id}", json={"group_id": town.other_group}), 200
        )
    )
    town.all.enrol(town.class_id)
    for read in (path, f"/v1/groups/{town.group}/diff"):
        found = town.mine.read(read, from_position=head)
        assert found["withdrawn"] == [
            {"class_id": town.class_id, "user_id": town.user, "role": "student"}
        ]
        assert found["enrolled"] == []
        ((changed,),) = [found["classes"]]
        assert changed["changes"]["group_id"] == {"from": town.group, "to": None}
        assert changed["changes"]["name"]["to"] is None
        assert town.mine.read(read, from_position=head, to_position=head)["classes"] == []
    problem(town.mine.get(path, params={"from_position": left}), 404, "class-unknown")
    arrived = town.confined(town.other_group).read(
        f"/v1/groups/{town.other_group}/diff", from_position=head
    )
    assert arrived["classes"][0]["changes"]["group_id"] == {"from": None, "to": town.other_group}
    assert town.group not in json.dumps(arrived)


def test_a_group_that_a_class_left_shows_that_to_who_may_see_both(town: Town) -> None:
    done(town.all.patch(f"/v1/classes/{town.class_id}", json={"group_id": town.other_group}), 200)
    path = f"/v1/groups/{town.group}/history"
    assert "ClassMoved" not in {entry["type"] for entry in town.mine.items(path)}
    both = town.both
    assert both.items(path) == town.all.items(path)
    assert both.items(path)[-1]["after"] == {"group_id": town.other_group}
    # The one that it came into shows nothing of the one that it left.
    problem(town.confined(town.other_group).get(path), 404, "group-unknown")


def test_a_removal_shows_once_to_groups_where_it_ended_a_membership(town: Town) -> None:
    second = town.all.new_class(town.group, "Art")
    town.all.enrol(second, town.user)
    done(town.all.delete(f"/v1/users/{town.user}"), 204)
    head = position(done(town.all.delete(f"/v1/users/{town.other_user}"), 204))
    shown = [
        entry
        for entry in town.mine.items("/v1/history", type="UserRemoved")
        if entry["position"] >= head - 1
    ]
    assert [(entry["position"], entry["user_id"], entry["group_id"]) for entry in shown] == [
        (head - 1, town.user, None)
    ]
    assert shown == town.mine.items("/v1/history", user_id=town.user, type="UserRemoved")
    assert town.mine.read("/v1/events", after=head - 2) == {
        "items": shown,
        "after": head,
        "head": head,
    }
    for class_id in (town.class_id, second):
        ended = town.mine.items(f"/v1/classes/{class_id}/history")[-1]
        assert (ended["type"], ended["before"], ended["group_id"]) == (
            "UserRemoved",
            {"role": "student"},
            town.group,
        )
    assert [
        entry["class_id"]
        for entry in town.mine.items(f"/v1/users/{town.user}/history", type="UserRemoved")
    ] == sorted([town.class_id, second])
    at_both = town.all.enrol(town.class_id)
    town.all.enrol(town.other_class, at_both)
    last = position(done(town.all.delete(f"/v1/users/{at_both}"), 204))
    removals = town.both.items("/v1/history", type="UserRemoved", order="desc")
    assert [entry["position"] for entry in removals][:3] == [last, head, head - 1]
    assert [
        entry["position"]
        for entry in town.mine.items("/v1/history", type="UserRemoved", order="desc")
    ][:2] == [last, head - 1]


def test_what_anybody_read_before_is_shown_to_nobody_else(town: Town) -> None:
    path = f"/v1/classes/{town.other_class}/members"
    tag = done(town.all.get(path), 200).headers["etag"]
    for headers in ({}, {"If-None-Match": tag}, {"If-None-Match": "*"}):
        problem(town.mine.get(path, headers=headers), 404, "class-unknown")
    own = f"/v1/classes/{town.class_id}/members"
    first = done(town.mine.get(own), 200)
    assert (first.text, first.headers["etag"]) == (
        town.all.get(own).text,
        town.all.get(own).headers["etag"],
    )
    assert town.mine.get(own, headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    assert town.mine.read(own, limit=1)["items"] == town.all.read(own, limit=1)["items"]


def test_an_answer_that_was_kept_is_given_to_no_other_groups(town: Town) -> None:
    key, path = {"Idempotency-Key": unknown_id()}, f"/v1/classes/{town.other_class}/members"
    body = {"members": [{"user_id": town.user, "role": "teacher"}]}
    changed = done(town.all.put(path, json=body, headers=key), 200)
    for api in (town.mine, town.confined()):
        refused = api.put(path, json=body, headers=key)
        assert town.other_user not in refused.text
        problem(refused, 422, "key-reused")
    again = done(town.all.put(path, json=body, headers=key), 200)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == changed.json()
    own, key = f"/v1/classes/{town.class_id}/members", {"Idempotency-Key": unknown_id()}
    answers = [town.mine.put(own, json=body, headers=key) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotent-replayed"] == "true"


def test_pages_lead_a_confined_reader_to_the_head(town: Town) -> None:
    town.all.enrol(town.other_class)
    town.all.enrol(town.class_id)
    town.all.new_user()
    history, seen, after = town.mine.all("/v1/history", limit=2), list[Any](), 0
    assert history
    while True:
        page = town.mine.read("/v1/events", after=after, limit=2)
        assert page["after"] > after or not page["items"]
        if not page["items"]:
            break
        seen += page["items"]
        after = page["after"]
    assert seen == history
    assert page["after"] == page["head"] == town.all.log_head
    assert town.mine.all("/v1/history", limit=2, order="desc") == history[::-1]
    lines = done(
        town.mine.get("/v1/history", headers={"Accept": "application/x-ndjson"}), 200
    ).text.splitlines()
    assert [json.loads(line) for line in lines] == history


def test_a_stream_passes_over_what_is_of_others_and_stays_alive(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "COMMENT_SECONDS", 0.2)
    with following(town.mine, after=town.all.log_head) as stream:
        town.all.enrol(town.other_class)
        assert list(islice(stream, 2)) == [{}, {}]
        # Not even others' events in a row keep it from saying that it is alive.
        for _ in range(12):
            town.all.new_user()
        town.all.enrol(town.other_class)
        user = town.all.enrol(town.class_id)
        shown = next(event for event in stream if event)
        assert (shown["type"], shown["user_id"]) == ("MemberEnrolled", user)
    with following(town.mine, last_seen=shown["position"]) as stream:
        town.all.new_user()
        second = town.all.enrol(town.class_id)
        assert next(event for event in stream if event)["user_id"] == second


def test_all_media_types_keep_to_the_groups(town: Town) -> None:
    for path in (
        "/v1/history",
        f"/v1/groups/{town.group}/history",
        f"/v1/groups/{town.group}/rosters",
    ):
        for accept in ("text/csv", "application/x-ndjson"):
            shown = done(town.mine.get(path, headers={"Accept": accept}), 200).text
            assert town.class_id in shown
            assert not any(id_ in shown for id_ in town.others)

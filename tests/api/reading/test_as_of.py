"""The roster as of a moment of the past, by time and by position of the log."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

import pytest

from tests.api.client import Api, done, error, position, problem, unknown_id

LATER = datetime(2100, 1, 1, tzinfo=UTC).isoformat()


class School(NamedTuple):
    """A group, a class in it with a teacher and a student, and a group to move to."""

    group: str
    other: str
    class_: str
    teacher: str
    student: str

    @property
    def reads(self) -> dict[str, str]:
        class_, student = f"/v1/classes/{self.class_}", f"/v1/users/{self.student}"
        return {
            "class": class_,
            "members": f"{class_}/members",
            "teachers": f"{class_}/members?role=teacher",
            "member": f"{class_}/members/{self.student}",
            "group": f"/v1/groups/{self.group}",
            "classes": f"/v1/groups/{self.group}/classes",
            "user": student,
            "memberships": f"{student}/memberships",
        }


@pytest.fixture
def school(shared: Api) -> School:
    group, other = shared.new_group(), shared.new_group()
    class_ = shared.new_class(group, settings={"n": 1, "deep": [{"x": None}], "ratio": 0.1})
    return School(group, other, class_, shared.enrol(class_, role="teacher"), shared.enrol(class_))


def answers(api: Api, reads: dict[str, str], **moment: Any) -> dict[str, Any]:
    return {
        name: done(api.get(path, params=dict(with_query(path), **moment)), 200).json()
        for name, path in reads.items()
    }


def with_query(path: str) -> list[tuple[str, Any]]:
    return [
        (name, value)
        for name, _, value in (
            part.partition("=") for part in path.partition("?")[2].split("&") if part
        )
    ]


def last_recorded_at(api: Api, path: str) -> str:
    return str(api.read(f"{path}/history", order="desc", limit=1)["items"][0]["recorded_at"])


def change_everything(api: Api, school: School) -> None:
    reads = school.reads
    done(api.patch(reads["group"], json={"name": "Renamed"}), 200)
    done(
        api.patch(reads["class"], json={"name": "Other", "settings": {}, "group_id": school.other}),
        200,
    )
    done(api.patch(reads["member"], json={"role": "teacher"}), 200)
    done(api.delete(f"{reads['members']}/{school.teacher}"), 204)
    done(api.post(f"{reads['class']}/archive"), 200)


def archived(api: Api, school: School) -> None:
    done(api.post(f"/v1/classes/{school.class_}/archive"), 200)


def restored(api: Api, school: School) -> None:
    archived(api, school)
    done(api.post(f"/v1/classes/{school.class_}/restore"), 200)


def enrolled_again(api: Api, school: School) -> None:
    done(api.delete(school.reads["member"]), 204)
    api.enrol(school.class_, school.student, "teacher")


def moved_away_and_back(api: Api, school: School) -> None:
    for group in (school.other, school.group):
        done(api.patch(school.reads["class"], json={"group_id": group}), 200)


def as_it_was_made(api: Api, school: School) -> None:
    """Change nothing."""


@pytest.mark.parametrize(
    "past", [as_it_was_made, archived, restored, enrolled_again, moved_away_and_back]
)
def test_the_answer_at_the_head_is_the_live_answer(
    shared: Api, school: School, past: Callable[[Api, School], None]
) -> None:
    past(shared, school)
    live = answers(shared, school.reads)
    assert answers(shared, school.reads, at_position=shared.log_head) == live
    assert answers(shared, school.reads, as_of=datetime.now(UTC).isoformat()) == live


@pytest.mark.parametrize(
    "past", [as_it_was_made, archived, restored, enrolled_again, moved_away_and_back]
)
def test_the_state_then_stays_the_same_whatever_comes_later(
    shared: Api, school: School, past: Callable[[Api, School], None]
) -> None:
    past(shared, school)
    live, head, moment = (
        answers(shared, school.reads),
        shared.log_head,
        datetime.now(UTC).isoformat(),
    )
    if past is archived:
        done(shared.post(f"/v1/classes/{school.class_}/restore"), 200)
    change_everything(shared, school)
    assert answers(shared, school.reads, at_position=head) == live
    assert answers(shared, school.reads, as_of=moment) == live


@pytest.mark.parametrize(
    "ended", ["/v1/users/{student}", "/v1/classes/{class_}", "/v1/groups/{group}"]
)
def test_what_has_ended_answers_for_the_past_and_is_gone_after(
    shared: Api, school: School, ended: str
) -> None:
    live, head = answers(shared, school.reads), shared.log_head
    moment = datetime.now(UTC).isoformat()
    path = ended.format(**school._asdict())
    done(shared.delete(path), 204)
    after = position(done(shared.delete(path), 204))
    assert answers(shared, school.reads, at_position=head) == live
    assert answers(shared, school.reads, as_of=moment) == live
    now = {name: shared.get(read, params=with_query(read)) for name, read in school.reads.items()}
    then = {
        name: shared.get(read, params=[*with_query(read), ("at_position", str(after))])
        for name, read in school.reads.items()
    }
    assert {
        name: (found.status_code, found.json().get("type")) for name, found in then.items()
    } == {name: (found.status_code, found.json().get("type")) for name, found in now.items()}
    gone = {
        "users": {"member", "user", "memberships"},
        "classes": {"class", "members", "teachers", "member"},
    }
    gone["groups"] = gone["classes"] | {"group", "classes"}
    assert {name for name, found in then.items() if found.status_code == 410} == gone[
        ended.split("/")[2]
    ]
    assert {name: found.json() for name, found in then.items() if found.status_code == 200} == {
        name: found.json() for name, found in now.items() if found.status_code == 200
    }


def test_before_it_existed_nothing_is_found(shared: Api) -> None:
    before = shared.log_head
    moment = datetime.now(UTC).isoformat()
    group = shared.new_group()
    class_ = shared.new_class(group)
    school = School(group, group, class_, shared.enrol(class_), shared.enrol(class_))
    for path in school.reads.values():
        for parameters in (
            {"at_position": before},
            {"at_position": 0},
            {"as_of": moment},
            {"as_of": "0001-01-01T00:00:00+10:00"},
        ):
            assert (
                shared.get(path, params=with_query(path) + list(parameters.items())).status_code
                == 404
            ), (path, parameters)
    problem(
        shared.get(f"/v1/groups/{unknown_id()}", params={"at_position": shared.log_head}),
        404,
        "group-unknown",
    )


def test_a_time_is_inclusive(shared: Api, school: School) -> None:
    path = f"/v1/classes/{school.class_}"
    enrolled = last_recorded_at(shared, path)
    done(shared.delete(school.reads["member"]), 204)
    withdrawn = last_recorded_at(shared, path)
    assert len(shared.items(f"{path}/members", as_of=enrolled)) == 2
    assert len(shared.items(f"{path}/members", as_of=withdrawn)) == 1
    just_before = (datetime.fromisoformat(withdrawn) - timedelta(microseconds=1)).isoformat()
    assert len(shared.items(f"{path}/members", as_of=just_before)) == 2


def test_a_time_means_the_same_in_every_offset(shared: Api, school: School) -> None:
    moment = datetime.fromisoformat(last_recorded_at(shared, f"/v1/classes/{school.class_}"))
    path = f"/v1/classes/{school.class_}"
    written = [
        moment.astimezone(timezone(timedelta(hours=hours))).isoformat() for hours in (-11, 0, 5, 14)
    ]
    written += [moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), moment.strftime("%Y-%m-%dt%H:%M:%S.%fz")]
    assert len({done(shared.get(path, params={"as_of": text}), 200).text for text in written}) == 1


def test_an_answer_as_of_a_time_says_its_position(shared: Api, school: School) -> None:
    path = f"/v1/classes/{school.class_}"
    moment, head = last_recorded_at(shared, path), shared.log_head
    shared.new_user()
    found = done(shared.get(path, params={"as_of": moment}), 200)
    assert position(found) == head
    assert done(shared.get(path, params={"at_position": position(found)}), 200).text == found.text


@pytest.mark.parametrize(
    "name", ["class", "members", "member", "group", "classes", "user", "memberships"]
)
def test_what_is_no_moment_of_the_past_is_refused(shared: Api, school: School, name: str) -> None:
    path = school.reads[name]
    past_head = error(shared.get(path, params={"at_position": shared.log_head + 1}))
    assert (past_head["parameter"], past_head["rule"]) == ("at_position", "head")
    for moment in (
        LATER,
        "9999-12-31T23:59:59-14:00",
        (datetime.now(UTC) + timedelta(seconds=60)).isoformat(),
    ):
        future = error(shared.get(path, params={"as_of": moment}))
        assert (future["parameter"], future["rule"]) == ("as_of", "past")
    both = error(shared.get(path, params={"as_of": "2026-01-01T00:00:00Z", "at_position": 0}))
    assert both["rule"] == "one-moment"


@pytest.mark.parametrize(
    "text",
    [
        "2026-09-01",
        "1756713600",
        "1.5",
        "",
        "now",
        "2026-09-01T08:00:00",
        "2026-09-01T08:00Z",
        "20260901T080000Z",
        "2026-09-01T24:00:01Z",
        "2026-02-30T08:00:00Z",
        "2026-09-01T08:00:00+25:00",
        "2026-09-01T08:00:00%00Z",
    ],
)
def test_a_time_is_in_rfc_3339_with_an_offset(shared: Api, school: School, text: str) -> None:
    assert error(shared.get(f"/v1/classes/{school.class_}?as_of={text}"))["parameter"] == "as_of"


def test_an_unencoded_plus_is_refused_with_a_hint(shared: Api, school: School) -> None:
    for path in (
        f"/v1/classes/{school.class_}?as_of=",
        f"/v1/classes/{school.class_}/history?since=",
    ):
        found = error(shared.get(f"{path}2026-09-01T08:00:00+02:00"))
        assert "%2B" in found["detail"]
        assert "Z" in found["detail"]


def test_pages_at_the_position_of_the_first_one_are_one_consistent_pull(
    shared: Api, school: School
) -> None:
    for _ in range(5):
        shared.enrol(school.class_)
    reads = [school.reads["members"], school.reads["memberships"], school.reads["classes"]]
    for class_id in (shared.new_class(school.group) for _ in range(3)):
        shared.enrol(class_id, school.student)
    expected = [shared.items(path) for path in reads]
    firsts = [done(shared.get(path, params={"limit": 1}), 200) for path in reads]
    change_everything(shared, school)
    done(shared.delete(f"/v1/users/{school.student}"), 204)
    done(shared.delete(f"/v1/groups/{school.group}"), 204)
    for path, first, whole in zip(reads, firsts, expected, strict=True):
        rest = shared.all(path, limit=2, at_position=position(first))
        then = shared.items(path, at_position=position(first), cursor=first.json()["next_cursor"])
        assert rest == whole == first.json()["items"] + then


def test_an_answer_for_the_past_is_not_sent_again_to_who_has_it(
    shared: Api, school: School
) -> None:
    for path in school.reads.values():
        parameters = [*with_query(path), ("at_position", str(shared.log_head))]
        known = {"If-None-Match": done(shared.get(path, params=parameters), 200).headers["ETag"]}
        done(shared.get(path, params=parameters, headers=known), 304)


def test_the_tag_of_an_answer_at_the_head_is_the_live_one(shared: Api, school: School) -> None:
    # A whole roster's live tag says which tables it was read from; the past is read from the log.
    for path in (path for path in school.reads.values() if path != school.reads["members"]):
        live = done(shared.get(path, params=with_query(path)), 200)
        then = done(
            shared.get(path, params=[*with_query(path), ("at_position", str(shared.log_head))]), 200
        )
        assert then.headers["ETag"] == live.headers["ETag"], path

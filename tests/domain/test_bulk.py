"""Commands about many things: what each item comes to, and that all of it is one append."""

from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from psycopg import Connection

from rosterlog.domain.bulk import RosterRules, outcomes
from rosterlog.domain.deciding.outcome import Outcome
from rosterlog.domain.errors import (
    ClassArchived,
    ClassDeleted,
    ItemsRefused,
    MembersRefused,
    TooManyWithdrawals,
    VersionStale,
)
from rosterlog.domain.items import Enrolment, Items, Member, Refused, Registration
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from tests.conftest import by

GROUP, CLASS, ART, ANNA, BEN, CARL = (UUID(int=number) for number in range(1, 7))
NOBODY, BATCH = UUID(int=98), UUID(int=99)
TEACHER, STUDENT = Role.TEACHER, Role.STUDENT


@pytest.fixture
def school(roster: Roster) -> Roster:
    """Two classes and three users; Anna teaches Maths, Ben is a student of it: positions 1 to 8."""
    roster.create_group(GROUP, "North", by())
    for class_id, name in ((CLASS, "Maths"), (ART, "Art")):
        roster.create_class(class_id, GROUP, name, {}, by())
    for user in (ANNA, BEN, CARL):
        roster.register_user(user, by())
    roster.enrol(CLASS, ANNA, TEACHER, by())
    roster.enrol(CLASS, BEN, STUDENT, by())
    return roster


def members(**roles: Role) -> Items[Member]:
    return Items(
        [
            Member({"anna": ANNA, "ben": BEN, "carl": CARL, "nobody": NOBODY}[name], role)
            for name, role in roles.items()
        ]
    )


def result(outcome: Outcome) -> dict[str, Any]:
    assert outcome.result is not None
    return outcome.result


def recorded(roster: Roster) -> list[str]:
    return [event.topic for event in roster.recorder.select_notifications(9, 1000)]


def test_a_roster_is_set_by_the_fewest_events(school: Roster, connection: Connection[Any]) -> None:
    outcome = school.set_members(CLASS, members(carl=STUDENT, ben=TEACHER), by())
    assert recorded(school) == ["MemberWithdrawn", "RoleChanged", "MemberEnrolled"] or recorded(school) == [
        "MemberWithdrawn", "MemberEnrolled", "RoleChanged",
    ]  # fmt: skip
    assert (outcome.position, outcome.version, outcome.changed) == (11, 6, True)
    assert result(outcome) == {
        "enrolled": 1, "role_changed": 1, "withdrawn": 1, "unchanged": 0,
        "changes": [
            {"user_id": str(ANNA), "change": "withdrawn", "role": None, "previous_role": "teacher"},
            {"user_id": str(CARL), "change": "enrolled", "role": "student", "previous_role": None},
            {"user_id": str(BEN), "change": "role_changed", "role": "teacher", "previous_role": "student"},
        ],
    }  # fmt: skip
    assert connection.execute(
        "SELECT count(DISTINCT recorded_at) FROM log.events WHERE notification_id > 8"
    ).fetchone() == (1,)


def test_setting_the_same_roster_again_changes_nothing(school: Roster) -> None:
    outcome = school.set_members(CLASS, members(ben=STUDENT, anna=TEACHER), by())
    assert (outcome.changed, outcome.position, outcome.version) == (False, 8, 3)
    assert result(outcome) == {
        "enrolled": 0,
        "role_changed": 0,
        "withdrawn": 0,
        "unchanged": 2,
        "changes": [],
    }


def test_a_dry_run_shows_the_changes_and_records_nothing(school: Roster) -> None:
    shown = school.set_members(CLASS, members(carl=STUDENT), by(), rules=RosterRules(dry_run=True))
    assert (shown.changed, shown.position, shown.version, recorded(school)) == (False, 8, 3, [])
    assert result(school.set_members(CLASS, members(carl=STUDENT), by())) == result(shown)


def test_what_looks_like_half_a_roster_is_refused(school: Roster) -> None:
    for dry_run in (True, False):
        with pytest.raises(TooManyWithdrawals):
            school.set_members(
                CLASS, members(), by(), rules=RosterRules(dry_run, max_withdrawals=1)
            )
    assert recorded(school) == []
    assert (
        result(school.set_members(CLASS, members(), by(), rules=RosterRules(max_withdrawals=2)))[
            "withdrawn"
        ]
        == 2
    )


def enrolled(roster: Roster, count: int) -> list[UUID]:
    """Enrol so many new students in Art, and return them."""
    students = [UUID(int=1000 + number) for number in range(count)]
    roster.register_many(BATCH, Items([Registration(student) for student in students]), by())
    roster.enrol_many(
        BATCH, Items([Enrolment(ART, student, STUDENT) for student in students]), by()
    )
    return students


@pytest.mark.parametrize(
    ("present", "stay", "few", "allowed"),
    [
        (0, 0, 4, True), (1, 0, 4, False), (10, 0, 4, False), (5, 1, 4, True), (4, 1, 4, True), (9, 4, 4, False), (9, 5, 4, True),
        (10, 5, 4, True), (10, 4, 4, False), (0, 0, 0, True), (1, 0, 0, False), (3, 2, 0, True), (3, 1, 0, False), (2, 1, 0, True),
    ],
)  # fmt: skip
def test_without_a_limit_half_of_a_roster_or_a_few_may_go_but_not_all(
    school: Roster, present: int, stay: int, few: int, allowed: bool
) -> None:
    students = enrolled(school, present)
    head = school.recorder.max_notification_id()
    staying = Items([Member(student, STUDENT) for student in students[:stay]])
    for dry_run in (True, False):
        rules = RosterRules(dry_run, few=few)
        if allowed:
            assert (
                result(school.set_members(ART, staying, by(), rules=rules))["withdrawn"]
                == present - stay
            )
        else:
            with pytest.raises(TooManyWithdrawals, match=f"max_withdrawals={present - stay}"):
                school.set_members(ART, staying, by(), rules=rules)
            assert school.recorder.max_notification_id() == head


def test_a_roster_whose_members_are_all_replaced_is_half_a_roster_too(school: Roster) -> None:
    enrolled(school, 6)
    with pytest.raises(TooManyWithdrawals):
        school.set_members(ART, members(carl=STUDENT), by())
    assert (
        result(
            school.set_members(
                ART, members(carl=STUDENT), by(), rules=RosterRules(max_withdrawals=6)
            )
        )["withdrawn"]
        == 6
    )


def test_a_roster_with_members_that_cannot_be_names_all_of_them(school: Roster) -> None:
    school.remove_user(CARL, by())
    with pytest.raises(MembersRefused) as refused:
        school.set_members(CLASS, members(anna=TEACHER, nobody=STUDENT, carl=STUDENT), by())
    assert [(one["pointer"], one["rule"]) for one in refused.value.errors] == [
        ("/members/1", "user-unknown"),
        ("/members/2", "user-removed"),
    ]
    assert recorded(school) == ["UserRemoved"]


def test_a_removed_user_is_no_member_to_withdraw(school: Roster) -> None:
    school.remove_user(ANNA, by())
    outcome = school.set_members(
        CLASS, members(ben=STUDENT), by(), rules=RosterRules(max_withdrawals=0)
    )
    assert (outcome.changed, result(outcome)["unchanged"]) == (False, 1)


def test_a_roster_is_set_only_of_a_class_that_takes_it_at_the_version_expected(
    school: Roster,
) -> None:
    with pytest.raises(VersionStale):
        school.set_members(CLASS, members(), by(), expected=2)
    school.archive_class(CLASS, by())
    with pytest.raises(ClassArchived):
        school.set_members(CLASS, members(), by())
    assert not school.set_members(CLASS, members(ben=STUDENT, anna=TEACHER), by()).changed
    school.delete_group(GROUP, by())
    with pytest.raises(ClassDeleted):
        school.set_members(CLASS, members(), by())


MIXED: Items[Enrolment] = Items(
    [
        Enrolment(CLASS, CARL, STUDENT),
        Enrolment(CLASS, CARL, STUDENT),
        Enrolment(CLASS, CARL, TEACHER),
        Enrolment(CLASS, ANNA, TEACHER),
        Enrolment(ART, NOBODY, STUDENT),
        Enrolment(NOBODY, ANNA, STUDENT),
        Refused("invalid-request", "1 rule: no such role"),
        Enrolment(ART, ANNA, TEACHER),
        Enrolment(GROUP, ANNA, TEACHER),
    ]
)
OUTCOMES = [
    "enrolled",
    "unchanged",
    "refused",
    "unchanged",
    "refused",
    "refused",
    "refused",
    "enrolled",
    "refused",
]
RULES = [
    "enrolled-in-other-role",
    "user-unknown",
    "class-unknown",
    "invalid-request",
    "class-unknown",
]


def test_each_enrolment_is_decided_on_what_those_before_it_left_and_the_good_ones_are_one_append(
    school: Roster, connection: Connection[Any]
) -> None:
    outcome = school.enrol_many(BATCH, MIXED, by())
    items = outcomes(MIXED, result(outcome))
    assert [one["outcome"] for one in items] == OUTCOMES
    assert [one["rule"] for one in items if one["outcome"] == "refused"] == RULES
    assert (outcome.id, outcome.position, recorded(school)) == (BATCH, 10, ["MemberEnrolled"] * 2)
    assert connection.execute(
        "SELECT count(DISTINCT recorded_at) FROM log.events WHERE notification_id > 8"
    ).fetchone() == (1,)


def test_all_or_nothing_records_nothing_where_one_is_refused(school: Roster) -> None:
    with pytest.raises(ItemsRefused) as refused:
        school.enrol_many(BATCH, MIXED, by(), atomic=True)
    assert [one["outcome"] for one in outcomes(MIXED, refused.value.result)] == OUTCOMES
    assert recorded(school) == []
    good = Items([Enrolment(CLASS, CARL, STUDENT), Enrolment(ART, ANNA, TEACHER)])
    assert school.enrol_many(BATCH, good, by(), atomic=True).position == 10


def test_users_are_registered_many_at_a_time(school: Roster) -> None:
    school.remove_user(BEN, by())
    new = uuid4()
    items = Items([Registration(one) for one in (new, ANNA, new, BEN, CLASS)])
    outcome = school.register_many(BATCH, items, by())
    found = outcomes(items, result(outcome))
    assert [one["outcome"] for one in found] == [
        "registered",
        "unchanged",
        "unchanged",
        "refused",
        "refused",
    ]
    assert [one.get("rule") for one in found[3:]] == ["user-removed", "id-taken"]
    assert outcome.position == 10


def test_what_many_items_came_to_is_kept_in_a_few_bytes_each_and_read_whole(school: Roster) -> None:
    given: list[Enrolment | Refused] = [
        Enrolment(CLASS, UUID(int=number), STUDENT) for number in range(10_000, 15_000)
    ]
    given += [
        Refused("invalid-request", "wrong", ({"pointer": "/items/1", "detail": "x" * 500},), 1)
    ] * 5_000
    outcome = school.enrol_many(BATCH, Items(given), by())
    assert len(msgspec.json.encode(outcome.result)) < 4 * len(given)
    found = outcomes(Items(given), msgspec.json.decode(msgspec.json.encode(outcome.result)))
    assert found[7]["detail"] == f"There is no user {UUID(int=10_007)}."
    assert (found[-1]["detail"], found[-1]["count"]) == ("wrong", 1)


def test_what_a_release_before_kept_is_read(school: Roster) -> None:
    kept = [
        {"outcome": "enrolled"},
        {"outcome": "refused", "rule": "user-unknown", "detail": "There is no user 7."},
    ]
    assert outcomes(Items([Enrolment(CLASS, ANNA, STUDENT)] * 2), {"items": kept}) == kept


def test_nothing_to_do_is_no_append(school: Roster) -> None:
    outcome = school.enrol_many(BATCH, Items([]), by(), atomic=True)
    assert (outcome.changed, outcome.position, outcomes(Items([]), result(outcome))) == (
        False,
        8,
        [],
    )

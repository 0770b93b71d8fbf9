"""Commands about many things: what each item comes to, and that all of it is one append."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import Connection

from domain.bulk import Enrolment, Items, Member, Refused, Registration, RosterRules
from domain.decision import Outcome
from domain.errors import ClassArchived, ClassDeleted, ItemsRefused, MembersRefused, TooManyWithdrawals, VersionStale
from domain.roster import Roster
from domain.values import Role
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
    return Items([Member({"anna": ANNA, "ben": BEN, "carl": CARL, "nobody": NOBODY}[name], role) for name, role in roles.items()])


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
    assert connection.execute("SELECT count(DISTINCT recorded_at) FROM log.events WHERE notification_id > 8").fetchone() == (1,)


def test_setting_the_same_roster_again_changes_nothing(school: Roster) -> None:
    outcome = school.set_members(CLASS, members(ben=STUDENT, anna=TEACHER), by())
    assert (outcome.changed, outcome.position, outcome.version) == (False, 8, 3)
    assert result(outcome) == {"enrolled": 0, "role_changed": 0, "withdrawn": 0, "unchanged": 2, "changes": []}


def test_a_dry_run_shows_the_changes_and_records_nothing(school: Roster) -> None:
    shown = school.set_members(CLASS, members(carl=STUDENT), by(), rules=RosterRules(dry_run=True))
    assert (shown.changed, shown.position, shown.version, recorded(school)) == (False, 8, 3, [])
    assert result(school.set_members(CLASS, members(carl=STUDENT), by())) == result(shown)


def test_what_looks_like_half_a_roster_is_refused(school: Roster) -> None:
    for dry_run in (True, False):
        with pytest.raises(TooManyWithdrawals):
            school.set_members(CLASS, members(), by(), rules=RosterRules(dry_run, max_withdrawals=1))
    assert recorded(school) == []
    assert result(school.set_members(CLASS, members(), by(), rules=RosterRules(max_withdrawals=2)))["withdrawn"] == 2


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
    outcome = school.set_members(CLASS, members(ben=STUDENT), by(), rules=RosterRules(max_withdrawals=0))
    assert (outcome.changed, result(outcome)["unchanged"]) == (False, 1)


def test_a_roster_is_set_only_of_a_class_that_takes_it_at_the_version_expected(school: Roster) -> None:
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
OUTCOMES = ["enrolled", "unchanged", "refused", "unchanged", "refused", "refused", "refused", "enrolled", "refused"]
RULES = ["enrolled-in-other-role", "user-unknown", "class-unknown", "invalid-request", "class-unknown"]


def test_each_enrolment_is_decided_on_what_those_before_it_left_and_the_good_ones_are_one_append(
    school: Roster, connection: Connection[Any]
) -> None:
    outcome = school.enrol_many(BATCH, MIXED, by())
    items = result(outcome)["items"]
    assert [one["outcome"] for one in items] == OUTCOMES
    assert [one["rule"] for one in items if one["outcome"] == "refused"] == RULES
    assert (outcome.id, outcome.position, recorded(school)) == (BATCH, 10, ["MemberEnrolled"] * 2)
    assert connection.execute("SELECT count(DISTINCT recorded_at) FROM log.events WHERE notification_id > 8").fetchone() == (1,)


def test_all_or_nothing_records_nothing_where_one_is_refused(school: Roster) -> None:
    with pytest.raises(ItemsRefused) as refused:
        school.enrol_many(BATCH, MIXED, by(), atomic=True)
    assert [one["outcome"] for one in refused.value.outcomes] == OUTCOMES
    assert recorded(school) == []
    good = Items([Enrolment(CLASS, CARL, STUDENT), Enrolment(ART, ANNA, TEACHER)])
    assert school.enrol_many(BATCH, good, by(), atomic=True).position == 10


def test_users_are_registered_many_at_a_time(school: Roster) -> None:
    school.remove_user(BEN, by())
    new = uuid4()
    items = Items([Registration(one) for one in (new, ANNA, new, BEN, CLASS)])
    outcome = school.register_many(BATCH, items, by())
    found = result(outcome)["items"]
    assert [one["outcome"] for one in found] == ["registered", "unchanged", "unchanged", "refused", "refused"]
    assert [one.get("rule") for one in found[3:]] == ["user-removed", "id-taken"]
    assert outcome.position == 10


def test_nothing_to_do_is_no_append(school: Roster) -> None:
    outcome = school.enrol_many(BATCH, Items([]), by(), atomic=True)
    assert (outcome.changed, outcome.position, result(outcome)) == (False, 8, {"items": []})

"""The rules of commands."""

from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import pytest

from rosterlog.domain.deciding.outcome import Outcome
from rosterlog.domain.errors import (
    ClassArchived,
    ClassDeleted,
    ClassUnknown,
    DomainError,
    EnrolledInOtherRole,
    GroupDeleted,
    GroupUnknown,
    IdTaken,
    InvalidValue,
    MemberUnknown,
    StoreUnavailable,
    UserRemoved,
    UserUnknown,
    VersionStale,
)
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from tests.conftest import by

GROUP, OTHER_GROUP, CLASS, USER, OTHER_USER = (UUID(int=number) for number in range(1, 6))
NOBODY = UUID(int=99)
TEACHER, STUDENT = Role.TEACHER, Role.STUDENT

Command = Callable[[Roster], Outcome]


@pytest.fixture
def roster(log: PostgresLog) -> Roster:
    """Two groups, a class in the first, two users, the first of whom is a student of the class: positions 1 to 6."""
    roster = Roster(log)
    roster.create_group(GROUP, "North", by())
    roster.create_group(OTHER_GROUP, "South", by())
    roster.register_user(USER, by())
    roster.register_user(OTHER_USER, by())
    roster.create_class(CLASS, GROUP, "Maths", {"room": 1}, by())
    roster.enrol(CLASS, USER, STUDENT, by())
    return roster


@pytest.fixture
def elsewhere(log: PostgresLog, roster: Roster) -> Roster:
    """A second process on the same log, which has read everything before the test goes on."""
    other = Roster(log)
    assert not other.enrol(CLASS, USER, STUDENT, by()).changed
    assert not other.create_group(OTHER_GROUP, "South", by()).changed
    assert not other.register_user(OTHER_USER, by()).changed
    return other


def topics(roster: Roster, after: int = 6) -> list[str]:
    return [event.topic for event in roster.recorder.select_notifications(after + 1, 1000)]


def refused(roster: Roster, error: type[DomainError], command: Command) -> DomainError:
    head = roster.recorder.max_notification_id()
    with pytest.raises(error) as raised:
        command(roster)
    assert type(raised.value) is error
    assert roster.recorder.max_notification_id() == head
    return raised.value


def unchanged(roster: Roster, command: Command) -> None:
    head = roster.recorder.max_notification_id()
    outcome = command(roster)
    assert (outcome.changed, outcome.position) == (False, head)
    assert roster.recorder.max_notification_id() == head


COMMANDS: dict[str, tuple[Command, list[str], UUID, int]] = {
    "create_group": (lambda r: r.create_group(NOBODY, "West", by()), ["GroupCreated"], NOBODY, 1),
    "rename_group": (lambda r: r.rename_group(GROUP, "West", by()), ["GroupRenamed"], GROUP, 2),
    "delete_group": (lambda r: r.delete_group(GROUP, by()), ["GroupDeleted"], GROUP, 2),
    "register_user": (lambda r: r.register_user(NOBODY, by()), ["UserRegistered"], NOBODY, 1),
    "remove_user": (lambda r: r.remove_user(USER, by()), ["UserRemoved"], USER, 2),
    "create_class": (
        lambda r: r.create_class(NOBODY, GROUP, "Art", {}, by()),
        ["ClassCreated"],
        NOBODY,
        1,
    ),
    "rename_class": (lambda r: r.change_class(CLASS, by(), name="Art"), ["ClassRenamed"], CLASS, 3),
    "change_settings": (
        lambda r: r.change_class(CLASS, by(), settings={}),
        ["ClassSettingsChanged"],
        CLASS,
        3,
    ),
    "move_class": (
        lambda r: r.change_class(CLASS, by(), group_id=OTHER_GROUP),
        ["ClassMoved"],
        CLASS,
        3,
    ),
    "change_class": (
        lambda r: r.change_class(CLASS, by(), name="Art", settings={}, group_id=OTHER_GROUP),
        ["ClassRenamed", "ClassSettingsChanged", "ClassMoved"],
        CLASS,
        5,
    ),
    "archive_class": (lambda r: r.archive_class(CLASS, by()), ["ClassArchived"], CLASS, 3),
    "delete_class": (lambda r: r.delete_class(CLASS, by()), ["ClassDeleted"], CLASS, 3),
    "enrol": (lambda r: r.enrol(CLASS, OTHER_USER, TEACHER, by()), ["MemberEnrolled"], CLASS, 3),
    "change_role": (lambda r: r.change_role(CLASS, USER, TEACHER, by()), ["RoleChanged"], CLASS, 3),
    "withdraw": (lambda r: r.withdraw(CLASS, USER, by()), ["MemberWithdrawn"], CLASS, 3),
}
OF_THE_CLASS = [
    "rename_class",
    "change_settings",
    "move_class",
    "change_class",
    "enrol",
    "change_role",
    "withdraw",
]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_records_its_events_and_reports_version_and_position(
    roster: Roster, name: str
) -> None:
    command, expected, stream, version = COMMANDS[name]
    assert command(roster) == Outcome(stream, version, 6 + len(expected), changed=True)
    assert topics(roster) == expected


def test_provenance_and_effective_date_are_recorded_with_the_event(roster: Roster) -> None:
    roster.enrol(CLASS, OTHER_USER, TEACHER, by("head", "cover"), effective_on=date(2025, 9, 1))
    event: Any = list(roster.events.get(CLASS))[-1]
    assert (event.actor, event.reason, event.source, event.request_id) == (
        "head",
        "cover",
        "api",
        "request-1",
    )
    assert event.effective_on == date(2025, 9, 1)


@pytest.mark.parametrize(
    "command",
    [
        lambda r: r.create_group(GROUP, " North ", by("somebody else")),
        lambda r: r.rename_group(GROUP, "North ", by()),
        lambda r: r.register_user(USER, by()),
        lambda r: r.create_class(CLASS, GROUP, "Maths", {"room": 1}, by()),
        lambda r: r.change_class(CLASS, by()),
        lambda r: r.change_class(CLASS, by(), name="Maths", settings={"room": 1}, group_id=GROUP),
        lambda r: r.restore_class(CLASS, by()),
        lambda r: r.enrol(CLASS, USER, STUDENT, by()),
        lambda r: r.change_role(CLASS, USER, STUDENT, by()),
        lambda r: r.withdraw(CLASS, OTHER_USER, by()),
        lambda r: r.withdraw(CLASS, NOBODY, by()),
    ],
)
def test_a_command_that_would_change_nothing_records_nothing_and_reports_the_head(
    roster: Roster, command: Command
) -> None:
    unchanged(roster, command)


def test_creating_again_is_compared_with_the_creation_not_with_the_present(roster: Roster) -> None:
    roster.change_class(CLASS, by(), name="Art", settings={}, group_id=OTHER_GROUP)
    roster.rename_group(GROUP, "West", by())
    unchanged(roster, lambda r: r.create_class(CLASS, GROUP, "Maths", {"room": 1}, by()))
    unchanged(roster, lambda r: r.create_group(GROUP, "North", by()))
    refused(roster, IdTaken, lambda r: r.create_class(CLASS, OTHER_GROUP, "Art", {}, by()))
    refused(roster, IdTaken, lambda r: r.create_group(GROUP, "West", by()))


@pytest.mark.parametrize("settings", [{"room": True}, {"room": 1.5}, {}])
def test_creating_again_with_other_content_is_refused(
    roster: Roster, settings: dict[str, Any]
) -> None:
    refused(roster, IdTaken, lambda r: r.create_class(CLASS, GROUP, "Maths", settings, by()))


def test_creating_again_does_not_ask_whether_the_group_of_then_still_exists(roster: Roster) -> None:
    roster.change_class(CLASS, by(), group_id=OTHER_GROUP)
    roster.delete_group(GROUP, by())
    unchanged(roster, lambda r: r.create_class(CLASS, GROUP, "Maths", {"room": 1}, by()))


@pytest.mark.parametrize(
    ("kind", "ids"), [("group", (CLASS, USER)), ("user", (GROUP, CLASS)), ("class", (GROUP, USER))]
)
def test_an_id_is_unique_across_all_kinds_of_things(
    roster: Roster, kind: str, ids: tuple[UUID, ...]
) -> None:
    create: dict[str, Callable[[Roster, UUID], Outcome]] = {
        "group": lambda r, id_: r.create_group(id_, "North", by()),
        "user": lambda r, id_: r.register_user(id_, by()),
        "class": lambda r, id_: r.create_class(id_, GROUP, "Maths", {}, by()),
    }
    for id_ in ids:
        refused(roster, IdTaken, lambda r, id_=id_: create[kind](r, id_))  # type: ignore[misc]


def test_an_id_is_never_used_again(roster: Roster) -> None:
    roster.delete_class(CLASS, by())
    roster.remove_user(USER, by())
    roster.delete_group(GROUP, by())
    refused(
        roster, ClassDeleted, lambda r: r.create_class(CLASS, GROUP, "Maths", {"room": 1}, by())
    )
    refused(roster, UserRemoved, lambda r: r.register_user(USER, by()))
    refused(roster, GroupDeleted, lambda r: r.create_group(GROUP, "North", by()))
    refused(roster, IdTaken, lambda r: r.create_group(GROUP, "Other", by()))
    refused(roster, IdTaken, lambda r: r.create_group(USER, "North", by()))


UNKNOWN: list[tuple[type[DomainError], Command]] = [
    (GroupUnknown, lambda r: r.rename_group(NOBODY, "x", by())),
    (GroupUnknown, lambda r: r.rename_group(CLASS, "x", by())),
    (GroupUnknown, lambda r: r.delete_group(NOBODY, by())),
    (UserUnknown, lambda r: r.remove_user(NOBODY, by())),
    (UserUnknown, lambda r: r.remove_user(GROUP, by())),
    (GroupUnknown, lambda r: r.create_class(NOBODY, NOBODY, "x", {}, by())),
    (GroupUnknown, lambda r: r.create_class(NOBODY, USER, "x", {}, by())),
    (GroupUnknown, lambda r: r.change_class(CLASS, by(), group_id=NOBODY)),
    (UserUnknown, lambda r: r.enrol(CLASS, NOBODY, STUDENT, by())),
    (UserUnknown, lambda r: r.enrol(CLASS, GROUP, STUDENT, by())),
    (UserUnknown, lambda r: r.change_role(CLASS, NOBODY, STUDENT, by())),
    (MemberUnknown, lambda r: r.change_role(CLASS, OTHER_USER, STUDENT, by())),
    (EnrolledInOtherRole, lambda r: r.enrol(CLASS, USER, TEACHER, by())),
    (ClassUnknown, lambda r: r.enrol(NOBODY, USER, STUDENT, by())),
    (ClassUnknown, lambda r: r.enrol(GROUP, USER, STUDENT, by())),
    (ClassUnknown, lambda r: r.change_role(NOBODY, USER, STUDENT, by())),
    (ClassUnknown, lambda r: r.withdraw(NOBODY, USER, by())),
    (ClassUnknown, lambda r: r.change_class(NOBODY, by(), name="x")),
    (ClassUnknown, lambda r: r.archive_class(NOBODY, by())),
    (ClassUnknown, lambda r: r.restore_class(NOBODY, by())),
    (ClassUnknown, lambda r: r.delete_class(NOBODY, by())),
    (InvalidValue, lambda r: r.create_group(NOBODY, "", by())),
    (InvalidValue, lambda r: r.create_class(NOBODY, GROUP, "x", {"x": float("inf")}, by())),
    (InvalidValue, lambda r: r.change_class(CLASS, by(), name="ok", settings={"x": "\ud800"})),
]


@pytest.mark.parametrize(("error", "command"), UNKNOWN)
def test_a_refused_command_records_nothing_and_says_why(
    roster: Roster, error: type[DomainError], command: Command
) -> None:
    refused(roster, error, command)


def test_a_refused_command_leaves_no_trace_in_what_is_decided_next(roster: Roster) -> None:
    refused(
        roster, GroupUnknown, lambda r: r.change_class(CLASS, by(), name="Art", group_id=NOBODY)
    )
    unchanged(roster, lambda r: r.change_class(CLASS, by(), name="Maths"))
    assert roster.change_class(CLASS, by(), name="Art").version == 3
    assert topics(roster) == ["ClassRenamed"]


def test_an_archived_class_refuses_every_change_but_restoring_and_deleting(roster: Roster) -> None:
    roster.archive_class(CLASS, by())
    for name in OF_THE_CLASS:
        refused(roster, ClassArchived, COMMANDS[name][0])
    roster.restore_class(CLASS, by())
    roster.archive_class(CLASS, by())
    roster.delete_class(CLASS, by())
    assert topics(roster) == ["ClassArchived", "ClassRestored", "ClassArchived", "ClassDeleted"]


@pytest.mark.parametrize(
    "command",
    [
        lambda r: r.change_class(CLASS, by(), name="Maths", settings={"room": 1}, group_id=GROUP),
        lambda r: r.archive_class(CLASS, by()),
        lambda r: r.enrol(CLASS, USER, STUDENT, by()),
        lambda r: r.change_role(CLASS, USER, STUDENT, by()),
        lambda r: r.withdraw(CLASS, OTHER_USER, by()),
        lambda r: r.create_class(CLASS, GROUP, "Maths", {"room": 1}, by()),
    ],
)
def test_what_changes_nothing_succeeds_in_an_archived_class(
    roster: Roster, command: Command
) -> None:
    roster.archive_class(CLASS, by())
    unchanged(roster, command)


def test_a_deleted_group_takes_its_classes_with_it_in_one_event(roster: Roster) -> None:
    roster.delete_group(GROUP, by())
    assert topics(roster) == ["GroupDeleted"]
    for name in [*OF_THE_CLASS, "archive_class"]:
        if name != "withdraw":
            refused(roster, ClassDeleted, COMMANDS[name][0])
    unchanged(roster, COMMANDS["withdraw"][0])
    refused(roster, ClassDeleted, lambda r: r.restore_class(CLASS, by()))
    refused(
        roster, ClassDeleted, lambda r: r.create_class(CLASS, GROUP, "Maths", {"room": 1}, by())
    )
    refused(roster, GroupDeleted, lambda r: r.create_class(NOBODY, GROUP, "x", {}, by()))
    refused(roster, GroupDeleted, lambda r: r.rename_group(GROUP, "x", by()))
    unchanged(roster, lambda r: r.delete_class(CLASS, by()))
    unchanged(roster, lambda r: r.delete_group(GROUP, by()))


def test_a_class_can_be_moved_out_of_a_group_before_it_is_deleted_and_not_into_one_after(
    roster: Roster,
) -> None:
    roster.change_class(CLASS, by(), group_id=OTHER_GROUP)
    roster.delete_group(GROUP, by())
    assert roster.enrol(CLASS, OTHER_USER, STUDENT, by()).changed
    refused(roster, GroupDeleted, lambda r: r.change_class(CLASS, by(), group_id=GROUP))


def test_a_deleted_class_is_deleted_for_good(roster: Roster) -> None:
    roster.delete_class(CLASS, by())
    for name in [*OF_THE_CLASS, "archive_class"]:
        if name != "withdraw":
            refused(roster, ClassDeleted, COMMANDS[name][0])
    unchanged(roster, COMMANDS["withdraw"][0])
    unchanged(roster, lambda r: r.delete_class(CLASS, by()))


def test_a_removed_user_is_no_member_anywhere_in_one_event(roster: Roster) -> None:
    roster.remove_user(USER, by())
    assert topics(roster) == ["UserRemoved"]
    unchanged(roster, lambda r: r.withdraw(CLASS, USER, by()))
    unchanged(roster, lambda r: r.remove_user(USER, by()))
    for role in Role:
        refused(roster, UserRemoved, lambda r, role=role: r.enrol(CLASS, USER, role, by()))  # type: ignore[misc]
        refused(roster, UserRemoved, lambda r, role=role: r.change_role(CLASS, USER, role, by()))  # type: ignore[misc]


def test_withdrawing_a_removed_user_from_an_archived_class_changes_nothing(roster: Roster) -> None:
    roster.remove_user(USER, by())
    roster.archive_class(CLASS, by())
    unchanged(roster, lambda r: r.withdraw(CLASS, USER, by()))


@pytest.mark.parametrize(
    ("command", "version"),
    [
        (lambda r, expected: r.rename_group(GROUP, "x", by(), expected=expected), 1),
        (lambda r, expected: r.delete_group(GROUP, by(), expected=expected), 1),
        (lambda r, expected: r.remove_user(USER, by(), expected=expected), 1),
        (lambda r, expected: r.change_class(CLASS, by(), name="x", expected=expected), 2),
        (lambda r, expected: r.change_class(CLASS, by(), name="Maths", expected=expected), 2),
        (lambda r, expected: r.archive_class(CLASS, by(), expected=expected), 2),
        (lambda r, expected: r.restore_class(CLASS, by(), expected=expected), 2),
        (lambda r, expected: r.delete_class(CLASS, by(), expected=expected), 2),
        (lambda r, expected: r.enrol(CLASS, OTHER_USER, STUDENT, by(), expected=expected), 2),
        (lambda r, expected: r.change_role(CLASS, USER, TEACHER, by(), expected=expected), 2),
        (lambda r, expected: r.withdraw(CLASS, USER, by(), expected=expected), 2),
    ],
)
def test_a_command_for_another_version_is_refused(
    roster: Roster, command: Callable[[Roster, int], Outcome], version: int
) -> None:
    for other in (version - 1, version + 1):
        error = refused(roster, VersionStale, lambda r, other=other: command(r, other))  # type: ignore[misc]
        assert error.facts == {"id": str(error.facts["id"]), "version": version, "expected": other}
    command(roster, version)


def test_the_expected_version_is_compared_with_the_log_not_with_what_is_cached(
    roster: Roster, elsewhere: Roster
) -> None:
    roster.change_class(CLASS, by(), name="Art")
    refused(
        elsewhere, VersionStale, lambda r: r.change_class(CLASS, by(), name="Physics", expected=2)
    )
    roster.change_class(CLASS, by(), name="Physics")
    assert elsewhere.change_class(CLASS, by(), name="Art", expected=4).version == 5


STALE: list[tuple[Command, Command, type[DomainError]]] = [
    (
        lambda r: r.remove_user(OTHER_USER, by()),
        lambda r: r.enrol(CLASS, OTHER_USER, STUDENT, by()),
        UserRemoved,
    ),
    (
        lambda r: r.remove_user(USER, by()),
        lambda r: r.enrol(CLASS, USER, STUDENT, by()),
        UserRemoved,
    ),
    (
        lambda r: r.remove_user(USER, by()),
        lambda r: r.change_role(CLASS, USER, TEACHER, by()),
        UserRemoved,
    ),
    (
        lambda r: r.delete_group(GROUP, by()),
        lambda r: r.enrol(CLASS, OTHER_USER, STUDENT, by()),
        ClassDeleted,
    ),
    (
        lambda r: r.delete_group(GROUP, by()),
        lambda r: r.enrol(CLASS, USER, STUDENT, by()),
        ClassDeleted,
    ),
    (
        lambda r: r.delete_group(GROUP, by()),
        lambda r: r.create_class(NOBODY, GROUP, "x", {}, by()),
        GroupDeleted,
    ),
    (
        lambda r: r.delete_group(OTHER_GROUP, by()),
        lambda r: r.change_class(CLASS, by(), group_id=OTHER_GROUP),
        GroupDeleted,
    ),
    (
        lambda r: r.delete_class(CLASS, by()),
        lambda r: r.change_role(CLASS, USER, TEACHER, by()),
        ClassDeleted,
    ),
    (
        lambda r: r.archive_class(CLASS, by()),
        lambda r: r.enrol(CLASS, OTHER_USER, STUDENT, by()),
        ClassArchived,
    ),
    (
        lambda r: r.withdraw(CLASS, USER, by()),
        lambda r: r.change_role(CLASS, USER, TEACHER, by()),
        MemberUnknown,
    ),
    (
        lambda r: r.change_role(CLASS, USER, TEACHER, by()),
        lambda r: r.enrol(CLASS, USER, STUDENT, by()),
        EnrolledInOtherRole,
    ),
    (lambda r: r.create_group(NOBODY, "x", by()), lambda r: r.register_user(NOBODY, by()), IdTaken),
]


@pytest.mark.parametrize(("first", "second", "error"), STALE)
def test_nothing_is_accepted_because_a_cached_aggregate_is_out_of_date(
    roster: Roster, elsewhere: Roster, first: Command, second: Command, error: type[DomainError]
) -> None:
    first(roster)
    refused(elsewhere, error, second)


LEARNT_THEN_UNDONE: list[tuple[Command, tuple[type[DomainError], Command], Command, Command]] = [
    (
        lambda r: r.archive_class(CLASS, by()),
        (ClassArchived, lambda r: r.enrol(CLASS, OTHER_USER, STUDENT, by())),
        lambda r: r.restore_class(CLASS, by()),
        lambda r: r.enrol(CLASS, OTHER_USER, STUDENT, by()),
    ),
    (
        lambda r: r.withdraw(CLASS, USER, by()),
        (MemberUnknown, lambda r: r.change_role(CLASS, USER, TEACHER, by())),
        lambda r: r.enrol(CLASS, USER, STUDENT, by()),
        lambda r: r.change_role(CLASS, USER, TEACHER, by()),
    ),
    (
        lambda r: r.change_role(CLASS, USER, TEACHER, by()),
        (EnrolledInOtherRole, lambda r: r.enrol(CLASS, USER, STUDENT, by())),
        lambda r: r.withdraw(CLASS, USER, by()),
        lambda r: r.enrol(CLASS, USER, STUDENT, by()),
    ),
    (
        lambda r: r.rename_group(GROUP, "West", by()),
        (VersionStale, lambda r: r.rename_group(GROUP, "East", by(), expected=1)),
        lambda r: r.rename_group(GROUP, "South", by()),
        lambda r: r.rename_group(GROUP, "East", by(), expected=3),
    ),
]


@pytest.mark.parametrize(("before", "learnt", "after", "command"), LEARNT_THEN_UNDONE)
def test_nothing_is_refused_because_a_cached_aggregate_is_out_of_date(
    roster: Roster,
    elsewhere: Roster,
    before: Command,
    learnt: tuple[type[DomainError], Command],
    after: Command,
    command: Command,
) -> None:
    before(roster)
    refused(elsewhere, *learnt)
    after(roster)
    assert command(elsewhere).changed


def test_what_another_process_withdrew_can_be_enrolled_again(
    roster: Roster, elsewhere: Roster
) -> None:
    roster.withdraw(CLASS, USER, by())
    assert elsewhere.enrol(CLASS, USER, STUDENT, by()) == Outcome(CLASS, 4, 8, changed=True)


def test_a_new_process_decides_on_what_was_recorded_before_it(
    roster: Roster, log: PostgresLog
) -> None:
    roster.change_class(CLASS, by(), name="Art")
    assert Roster(log).change_class(CLASS, by(), name="Physics") == Outcome(
        CLASS, 4, 8, changed=True
    )


def test_a_log_that_cannot_be_reached_is_reported_as_such(database: str) -> None:
    unreachable = PostgresLog(database)
    unreachable.close()
    with pytest.raises(StoreUnavailable):
        Roster(unreachable).create_group(uuid4(), "North", by())

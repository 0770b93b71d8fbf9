"""What a class decides."""

from collections.abc import Callable
from copy import copy
from datetime import date
from typing import Any
from uuid import UUID

import pytest

from rosterlog.domain.classes import Class
from rosterlog.domain.errors import ClassArchived, EnrolledInOtherRole, InvalidValue, MemberUnknown
from rosterlog.domain.values import Role
from tests.conftest import by
from tests.domain.given import given

ID, GROUP, OTHER_GROUP, USER = UUID(int=1), UUID(int=2), UUID(int=3), UUID(int=4)
TEACHER, STUDENT = Role.TEACHER, Role.STUDENT
DAY = date(2025, 9, 1)

Command = Callable[[Class], None]


def maths() -> Class:
    return Class.create(ID, GROUP, "Maths", {"room": 1}, by())


def enrolled(class_: Class) -> None:
    class_.enrol(USER, STUDENT, by())


def archived(class_: Class) -> None:
    class_.archive(by())


def test_creating_a_class_starts_its_stream() -> None:
    (event,) = Class.create(ID, GROUP, " Maths ", {"room": 1}, by(reason="term")).collect_events()
    assert isinstance(event, Class.Created)
    assert (event.originator_id, event.originator_version, event.group_id) == (ID, 1, GROUP)
    assert (event.name, event.settings, event.reason) == ("Maths", {"room": 1}, "term")


@pytest.mark.parametrize(
    ("name", "settings"), [("", {}), ("x" * 101, {}), ("Maths", {"x": float("nan")})]
)
def test_a_class_with_an_invalid_name_or_invalid_settings_is_not_created(
    name: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(InvalidValue):
        Class.create(ID, GROUP, name, settings, by())


def test_renaming_records_both_names() -> None:
    given(maths()).when(lambda c: c.rename(" Physics ", by())).then(
        Class.Renamed, name="Physics", previous_name="Maths"
    )


def test_renaming_to_an_invalid_name_is_refused() -> None:
    given(maths()).when(lambda c: c.rename("\0", by())).then_refused(InvalidValue)


def test_changing_settings_replaces_them_whole_and_records_both() -> None:
    class_ = (
        given(maths())
        .when(lambda c: c.change_settings({"shift": "late"}, by()))
        .then(Class.SettingsChanged, settings={"shift": "late"}, previous_settings={"room": 1})
    )
    assert class_.settings == {"shift": "late"}


def test_settings_that_differ_only_in_type_are_a_change() -> None:
    given(maths()).when(lambda c: c.change_settings({"room": True}, by())).then(
        Class.SettingsChanged, settings={"room": True}
    )


def test_changing_to_invalid_settings_is_refused() -> None:
    given(maths()).when(lambda c: c.change_settings({"x": 2**53 + 1}, by())).then_refused(
        InvalidValue
    )


def test_moving_records_both_groups() -> None:
    given(maths()).when(lambda c: c.move(OTHER_GROUP, by())).then(
        Class.Moved, group_id=OTHER_GROUP, previous_group_id=GROUP
    )


def test_archiving_and_restoring_keep_the_roster() -> None:
    class_ = given(maths(), enrolled).when(archived).then(Class.Archived)
    assert class_.archived
    class_.restore(by())
    assert not class_.archived
    assert class_.members == {USER: STUDENT}


def test_deleting_is_recorded_once() -> None:
    given(maths()).when(lambda c: c.delete(by())).then(Class.Deleted)
    given(maths(), lambda c: c.delete(by())).when(lambda c: c.delete(by())).then_nothing()


def test_enrolling_records_role_and_effective_date() -> None:
    class_ = (
        given(maths())
        .when(lambda c: c.enrol(USER, TEACHER, by(), DAY))
        .then(Class.MemberEnrolled, user_id=USER, role=TEACHER, effective_on=DAY)
    )
    assert class_.members == {USER: TEACHER}


def test_several_teachers_may_share_a_class() -> None:
    class_ = (
        given(maths(), lambda c: c.enrol(USER, TEACHER, by()))
        .when(lambda c: c.enrol(ID, TEACHER, by()))
        .then(Class.MemberEnrolled)
    )
    assert set(class_.members.values()) == {TEACHER}
    assert len(class_.members) == 2


def test_enrolling_in_another_role_is_refused_and_names_the_role() -> None:
    error = (
        given(maths(), enrolled)
        .when(lambda c: c.enrol(USER, TEACHER, by()))
        .then_refused(EnrolledInOtherRole)
    )
    assert error.facts["role"] == STUDENT


def test_changing_a_role_records_both_roles() -> None:
    class_ = (
        given(maths(), enrolled)
        .when(lambda c: c.change_role(USER, TEACHER, by(), DAY))
        .then(
            Class.RoleChanged, user_id=USER, role=TEACHER, previous_role=STUDENT, effective_on=DAY
        )
    )
    assert class_.members == {USER: TEACHER}


def test_changing_the_role_of_someone_who_is_no_member_is_refused() -> None:
    given(maths()).when(lambda c: c.change_role(USER, TEACHER, by())).then_refused(MemberUnknown)


def test_withdrawing_records_the_role_that_ended() -> None:
    class_ = (
        given(maths(), enrolled)
        .when(lambda c: c.withdraw(USER, by(), DAY))
        .then(Class.MemberWithdrawn, user_id=USER, role=STUDENT, effective_on=DAY)
    )
    assert class_.members == {}


def test_a_withdrawn_member_can_be_enrolled_again_in_any_role() -> None:
    past = given(maths(), enrolled, lambda c: c.withdraw(USER, by()))
    past.when(lambda c: c.enrol(USER, TEACHER, by())).then(Class.MemberEnrolled, role=TEACHER)


NO_CHANGE: dict[str, Command] = {
    "rename": lambda c: c.rename(" Maths", by()),
    "change_settings": lambda c: c.change_settings({"room": 1}, by()),
    "move": lambda c: c.move(GROUP, by()),
    "enrol": lambda c: c.enrol(USER, STUDENT, by(), DAY),
    "change_role": lambda c: c.change_role(USER, STUDENT, by(), DAY),
    "withdraw": lambda c: c.withdraw(ID, by()),
}
CHANGE: dict[str, Command] = {
    "rename": lambda c: c.rename("Physics", by()),
    "change_settings": lambda c: c.change_settings({}, by()),
    "move": lambda c: c.move(OTHER_GROUP, by()),
    "enrol": lambda c: c.enrol(ID, STUDENT, by()),
    "change_role": lambda c: c.change_role(USER, TEACHER, by()),
    "withdraw": lambda c: c.withdraw(USER, by()),
}


@pytest.mark.parametrize("command", NO_CHANGE.values(), ids=NO_CHANGE)
@pytest.mark.parametrize("past", [[enrolled], [enrolled, archived]], ids=["in use", "archived"])
def test_what_would_change_nothing_records_nothing_archived_or_not(
    command: Command, past: list[Command]
) -> None:
    given(maths(), *past).when(command).then_nothing()


@pytest.mark.parametrize("command", CHANGE.values(), ids=CHANGE)
def test_an_archived_class_refuses_every_change(command: Command) -> None:
    given(maths(), enrolled, archived).when(command).then_refused(ClassArchived)


def test_an_archived_class_can_be_restored_and_deleted() -> None:
    given(maths(), archived).when(lambda c: c.restore(by())).then(Class.Restored)
    given(maths(), archived).when(lambda c: c.delete(by())).then(Class.Deleted)


def test_archiving_twice_and_restoring_twice_record_nothing() -> None:
    given(maths(), archived).when(archived).then_nothing()
    given(maths()).when(lambda c: c.restore(by())).then_nothing()


@pytest.mark.parametrize(
    ("content", "same"),
    [
        ((GROUP, " Maths ", {"room": 1}), True),
        ((OTHER_GROUP, "Maths", {"room": 1}), False),
        ((GROUP, "Physics", {"room": 1}), False),
        ((GROUP, "Maths", {"room": 1.0}), True),
        ((GROUP, "Maths", {"room": True}), False),
    ],
)
def test_a_class_remembers_the_content_it_was_created_with(
    content: tuple[UUID, str, dict[str, Any]], same: bool
) -> None:
    class_ = maths()
    class_.rename("Physics", by())
    class_.change_settings({}, by())
    class_.move(OTHER_GROUP, by())
    assert class_.was_created_as(*content) is same


def test_a_decision_on_a_copy_leaves_no_trace_on_the_original() -> None:
    class_ = maths()
    class_.collect_events()
    copied = copy(class_)
    copied.enrol(USER, STUDENT, by())
    copied.rename("Physics", by())
    assert (class_.members, class_.name, class_.version, class_.collect_events()) == (
        {},
        "Maths",
        1,
        [],
    )

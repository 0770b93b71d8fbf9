"""What a group decides."""

from uuid import UUID

import pytest

from rosterlog.domain.errors import InvalidValue
from rosterlog.domain.groups import Group
from tests.conftest import by
from tests.domain.given import given

ID = UUID(int=1)


def north() -> Group:
    return Group.create(ID, "North", by())


def test_creating_a_group_starts_its_stream_with_the_trimmed_name() -> None:
    (event,) = Group.create(ID, "  North ", by(reason="new school")).collect_events()
    assert isinstance(event, Group.Created)
    assert (event.originator_id, event.originator_version) == (ID, 1)
    assert (event.name, event.actor, event.source, event.request_id, event.reason) == (
        "North",
        "registrar",
        "api",
        "request-1",
        "new school",
    )


def test_renaming_records_both_names() -> None:
    group = (
        given(north())
        .when(lambda g: g.rename(" South ", by()))
        .then(Group.Renamed, name="South", previous_name="North")
    )
    assert (group.name, group.version) == ("South", 2)


def test_renaming_to_the_same_name_records_nothing() -> None:
    given(north()).when(lambda g: g.rename(" North", by())).then_nothing()


def test_renaming_to_no_name_is_refused() -> None:
    assert (
        given(north()).when(lambda g: g.rename(" ", by())).then_refused(InvalidValue).field
        == "name"
    )


def test_deleting_records_who_and_why() -> None:
    group = (
        given(north())
        .when(lambda g: g.delete(by("head", "merged")))
        .then(Group.Deleted, actor="head", reason="merged")
    )
    assert group.deleted


def test_deleting_again_records_nothing() -> None:
    given(north(), lambda g: g.delete(by())).when(lambda g: g.delete(by())).then_nothing()


@pytest.mark.parametrize(
    ("name", "same"), [("North", True), ("  North ", True), ("South", False), ("north", False)]
)
def test_a_group_remembers_the_name_it_was_created_with(name: str, same: bool) -> None:
    group = north()
    group.rename("South", by())
    assert group.was_created_as(name) is same

"""Commands of who is confined to groups: what is of others is unknown to them, whatever happens meanwhile."""

from contextlib import closing, suppress
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import Connection

from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.domain.deciding.outcome import Outcome
from rosterlog.domain.errors import (
    ClassUnknown,
    DomainError,
    GroupUnknown,
    IdTaken,
    MemberUnknown,
    UserRemoved,
    UserUnknown,
)
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from tests.conftest import TEMPLATE, by, fresh_database
from tests.domain.threads import together
from tests.projections.model import Model
from tests.projections.test_properties import IDS, PHASES, START, Command, commands, real

MINE, OTHER = uuid4(), uuid4()
ONLY_MINE = frozenset({MINE})


@pytest.fixture
def school(roster: Roster) -> UUID:
    """Make two groups and a class in the first."""
    class_id = uuid4()
    for group in (MINE, OTHER):
        roster.create_group(group, "North", by())
    roster.create_class(class_id, MINE, "Art", {}, by())
    return class_id


@pytest.fixture
def elsewhere(log: PostgresLog, school: UUID) -> Roster:
    """Another process, which knows the class as it is."""
    other = Roster(log)
    assert not other.change_class(school, by(), group_id=MINE).changed
    return other


def test_a_class_that_another_process_moved_away_is_unknown_at_once(
    roster: Roster, school: UUID, elsewhere: Roster
) -> None:
    def rename() -> Outcome:
        command = elsewhere.change_class.prepared(school, by(), name="Music")
        return command.within(ONLY_MINE).given()

    roster.change_class(school, by(), group_id=OTHER)
    with pytest.raises(ClassUnknown):
        rename()
    roster.change_class(school, by(), group_id=MINE)
    assert rename().changed


def test_a_class_that_moves_to_and_fro_is_changed_only_where_it_is_ones_own(
    roster: Roster, school: UUID, elsewhere: Roster, connection: Connection[Any]
) -> None:
    def move() -> None:
        for group in [OTHER, MINE] * 20:
            roster.change_class(school, by(), group_id=group)

    def rename() -> None:
        for number in range(100):
            with suppress(ClassUnknown):
                elsewhere.change_class.prepared(school, by(), name=f"Art {number}").within(
                    ONLY_MINE
                ).given()

    assert together(move, rename) == [None, None]
    renamed = connection.execute(
        "SELECT DISTINCT group_id FROM log.events WHERE topic = 'ClassRenamed'"
    ).fetchall()
    assert renamed == [(MINE,)]


def test_a_move_needs_both_groups_in_the_same_command(roster: Roster, school: UUID) -> None:
    for groups in (ONLY_MINE, frozenset({OTHER})):
        with pytest.raises(GroupUnknown if MINE in groups else ClassUnknown):
            roster.change_class.prepared(school, by(), group_id=OTHER, name="Music").within(
                groups
            ).given()
    assert (
        roster.change_class.prepared(school, by(), group_id=OTHER)
        .within(frozenset({MINE, OTHER}))
        .given()
        .changed
    )


def test_an_id_that_is_used_elsewhere_is_taken(roster: Roster, school: UUID) -> None:
    roster.change_class(school, by(), group_id=OTHER)
    for id_ in (OTHER, school):
        with pytest.raises(IdTaken):
            roster.create_class.prepared(id_, MINE, "Art", {}, by()).within(ONLY_MINE).given()
    with pytest.raises(GroupUnknown):
        roster.create_class.prepared(school, OTHER, "Art", {}, by()).within(ONLY_MINE).given()


def test_a_removed_user_is_gone_to_one_and_unknown_to_the_other(
    roster: Roster, school: UUID
) -> None:
    user = uuid4()
    roster.register_user(user, by())
    roster.enrol.prepared(school, user, Role.STUDENT, by()).within(ONLY_MINE).given()
    roster.remove_user(user, by())
    for groups, enrolling, changing in (
        (None, UserRemoved, UserRemoved),
        (ONLY_MINE, UserUnknown, MemberUnknown),
    ):
        with pytest.raises(enrolling):
            roster.enrol.prepared(school, user, Role.TEACHER, by()).within(groups).given()
        with pytest.raises(changing):
            roster.change_role.prepared(school, user, Role.TEACHER, by()).within(groups).given()


def names_hidden(
    command: Command, groups: frozenset[str], model: Model, last_group: dict[str, str]
) -> bool:
    """Tell whether a command names a group or class that was created and is of none of the groups."""
    verb, *arguments = command
    if verb == "withdraw":
        # Nobody looks at the thing that is no member: what it is does not matter.
        arguments = arguments[:1]
    named = {value for value in arguments if isinstance(value, str)}
    named |= {
        change["group_id"]
        for change in arguments
        if isinstance(change, dict) and "group_id" in change
    }
    made = {
        id_ for id_ in named & model.created.keys() if model.created[id_][0] in {"group", "class"}
    }
    return any(last_group.get(id_, id_) not in groups for id_ in made)


CONFINED = {
    "rename_group", "delete_group", "create_class", "change_class", "archive_class", "restore_class", "delete_class",
    "enrol", "change_role", "withdraw",
}  # fmt: skip


@settings(max_examples=25, deadline=None, phases=PHASES, report_multiple_bugs=False)
@given(past=st.lists(st.tuples(commands(), st.booleans()), min_size=15, max_size=60))
def test_who_is_confined_is_accepted_where_the_model_has_what_is_named_in_the_groups(
    server: EmbeddedPostgres, past: list[tuple[Command, bool]]
) -> None:
    model, groups, last_group = Model(), frozenset({"g1", "g3"}), dict[str, str]()
    with (
        fresh_database(server, TEMPLATE) as database,
        closing(PostgresLog(database, pool_size=1)) as log,
    ):
        roster = Roster(log)
        for command, confined in [*((start, False) for start in START), *past]:
            verb, *arguments = command
            is_confined = confined and verb in CONFINED
            hidden = is_confined and names_hidden(command, groups, model, last_group)
            expected = not hidden and getattr(model, verb)(*arguments)
            last_group |= {id_: class_.group_id for id_, class_ in model.classes.items()}
            assert accepted(roster, command, groups if is_confined else None) is expected, (
                command,
                is_confined,
            )


def accepted(roster: Roster, command: Command, groups: frozenset[str] | None) -> bool:
    verb, *arguments = command
    positional = [real(argument) for argument in arguments]
    change = positional.pop() if verb == "change_class" else {}
    confinement = None if groups is None else frozenset(IDS[group] for group in groups)
    named = {key: real(value) for key, value in change.items()}
    try:
        getattr(roster, verb).prepared(*positional, by(), **named).within(confinement).given()
    except DomainError:
        return False
    return True

"""A failing event is skipped by an operator, with a reason, and every projection leaves it out from then on."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import Connection

from rosterlog.domain.errors import InvalidValue
from rosterlog.domain.events import RosterAggregate
from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from rosterlog.projections.projector import skips
from rosterlog.projections.projector.projector import project, project_up_to_failure
from rosterlog.projections.projector.runner import _RECORD_FAILURE
from rosterlog.projections.projector.skips import NotFailing, NotSkipped
from rosterlog.projections.rebuild.rebuilding import Rebuild
from rosterlog.projections.status import projection_status
from rosterlog.projections.tables import SCHEMA
from rosterlog.projections.verify.tables_check import verify_tables
from tests.conftest import by
from tests.projections.forging import append_unknown, insert_event
from tests.projections.tables import (
    CLASS,
    GROUP,
    USER,
    checkpoint,
    project_all,
    record_everything,
    rows,
    start_over,
)


def stand_still(connection: Connection[Any]) -> int:
    """Project up to the event that fails, record that as the runner does, and return its position."""
    failing = project_up_to_failure(connection, SCHEMA, limit=1000)
    assert failing is not None
    connection.execute(_RECORD_FAILURE, {"position": failing.position, "failure": str(failing)})
    return failing.position


def skip_recorded(connection: Connection[Any], *positions: int) -> None:
    """Skip events that would not fail, as if an earlier release had failed at them."""
    for position in positions:
        connection.execute(
            "INSERT INTO log.skips (position, stream, version, topic, reason, actor, error) "
            "SELECT notification_id, originator_id, originator_version, topic, 'test', 'test', 'test' FROM log.events "
            "WHERE notification_id = %s",
            [position],
        )


def skip_failing(connection: Connection[Any]) -> int:
    position = stand_still(connection)
    skips.skip(connection, position, reason="came from a broken import", actor="operator-1")
    return position


def is_the_same_everywhere(connection: Connection[Any], database: str) -> dict[str, list[str]]:
    """Project the log in ranges of every kind, rebuild and verify; return the rows, which are the same each time."""
    project_all(connection, 1)
    live = rows(connection)
    for limit in (2, 3, 7, 1000):
        start_over(connection)
        project_all(connection, limit)
        assert rows(connection) == live, f"ranges of {limit}"
    assert list(verify_tables(database)) == []
    assert Rebuild(database).run().state == "done"
    assert rows(connection) == live
    return live


def test_the_failing_event_is_left_out_and_those_after_it_are_projected(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    head = record_everything(roster)
    bad = append_unknown(connection)
    later = uuid4()
    roster.register_user(later, by())
    assert skip_failing(connection) == bad == head + 1
    assert project_all(connection) == head + 2
    live = is_the_same_everywhere(connection, database)
    assert str(later) in "".join(live["users"])
    status = projection_status(connection)
    assert (status.lag, status.failing_position) == (0, None)
    (skip,) = status.skips
    assert (skip.position, skip.topic, skip.reason, skip.actor) == (
        bad,
        "ClassPainted",
        "came from a broken import",
        "operator-1",
    )
    assert "ClassPainted, which this release does not know" in skip.error


@pytest.mark.parametrize("state", [b"{", b'{"role":"principal"}', b"\xff"])
def test_an_event_that_can_not_be_read_is_left_out_of_the_middle_of_a_range(
    roster: Roster, connection: Connection[Any], database: str, state: bytes
) -> None:
    record_everything(roster)
    bad = insert_event(connection, "RoleChanged", EventCodec(), state, class_id=CLASS, user_id=USER)
    roster.withdraw(CLASS, USER, by())
    assert skip_failing(connection) == bad
    is_the_same_everywhere(connection, database)


def test_only_the_event_that_fails_can_be_skipped(
    roster: Roster, connection: Connection[Any]
) -> None:
    head = record_everything(roster)
    project_all(connection)
    for position in (1, head, head + 1):
        with pytest.raises(NotFailing, match="no event fails"):
            skips.skip(connection, position, reason="because", actor="operator-1")
    bad = append_unknown(connection)
    assert stand_still(connection) == bad
    for position in (bad - 1, bad + 1):
        with pytest.raises(NotFailing, match=f"the event that fails is at position {bad}"):
            skips.skip(connection, position, reason="because", actor="operator-1")
    assert skips.active(connection) == []


@pytest.mark.parametrize(
    ("reason", "actor", "field"),
    [(" ", "operator-1", "reason"), ("x" * 501, "a", "reason"), ("x", "a@b", "actor")],
)
def test_a_skip_needs_a_reason_and_an_actor(
    connection: Connection[Any], reason: str, actor: str, field: str
) -> None:
    bad = append_unknown(connection)
    assert stand_still(connection) == bad
    with pytest.raises(InvalidValue) as refused:
        skips.skip(connection, bad, reason=reason, actor=actor)
    assert refused.value.field == field
    assert skips.active(connection) == []


def test_a_skip_can_be_taken_back_and_a_rebuild_then_projects_the_event(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    head = record_everything(roster)
    skip_recorded(connection, head)
    project_all(connection)
    without = rows(connection)
    skips.take_back(connection, head, actor="operator-2")
    with pytest.raises(NotSkipped):
        skips.take_back(connection, head, actor="operator-2")
    assert Rebuild(database).run().differing
    assert rows(connection) != without
    row = connection.execute("SELECT taken_back_by FROM log.skips").fetchone()
    assert row == ("operator-2",)
    assert list(verify_tables(database)) == []


def position_of(connection: Connection[Any], topic: str, stream: UUID, nth: int = 0) -> int:
    statement = "SELECT notification_id FROM log.events WHERE topic = %s AND originator_id = %s ORDER BY 1 OFFSET %s LIMIT 1"
    row = connection.execute(statement, [topic, stream, nth]).fetchone()
    assert row is not None
    return int(row[0])


def test_what_was_to_be_created_is_not_there_and_nothing_later_about_it_fails(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    record_everything(roster)
    for topic, stream in (
        ("GroupCreated", GROUP),
        ("UserRegistered", USER),
        ("ClassCreated", CLASS),
    ):
        skip_recorded(connection, position_of(connection, topic, stream))
    whole = "".join(
        row for table in is_the_same_everywhere(connection, database).values() for row in table
    )
    assert str(USER) not in whole
    assert str(CLASS) not in whole


@pytest.mark.parametrize("nth", range(3))
@pytest.mark.parametrize("topic", ["MemberEnrolled", "MemberWithdrawn", "RoleChanged"])
def test_a_skipped_change_of_a_membership_leaves_what_was_before(
    roster: Roster, connection: Connection[Any], database: str, topic: str, nth: int
) -> None:
    roster.create_group(GROUP, "North", by())
    roster.register_user(USER, by())
    roster.create_class(CLASS, GROUP, "Maths", {}, by())
    for _ in range(4):
        roster.enrol(CLASS, USER, Role.STUDENT, by())
        roster.change_role(CLASS, USER, Role.TEACHER, by())
        roster.withdraw(CLASS, USER, by())
    roster.enrol(CLASS, USER, Role.STUDENT, by())
    roster.change_role(CLASS, USER, Role.TEACHER, by())
    skip_recorded(connection, position_of(connection, topic, CLASS, nth))
    live = is_the_same_everywhere(connection, database)
    assert len(live["class_members"]) == 1


def test_every_single_event_can_be_skipped_and_all_projections_agree(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    head = record_everything(roster)
    for position in range(1, head + 1):
        connection.execute("TRUNCATE log.skips")
        skip_recorded(connection, position)
        found = []
        for limit in (1, 4, head):
            start_over(connection)
            assert project_all(connection, limit) == head
            found.append(rows(connection))
        assert found[0] == found[1] == found[2], f"position {position}"
        assert list(verify_tables(database)) == [], f"position {position}"


def test_a_skipped_event_counts_in_its_stream_so_that_commands_can_be_compared_with_it(
    roster: Roster, connection: Connection[Any]
) -> None:
    record_everything(roster)
    roster.rename_group(GROUP, "Skipped", by())
    roster.change_class(CLASS, by(), name="Skipped")
    for topic, stream, nth in (("GroupRenamed", GROUP, 1), ("ClassRenamed", CLASS, 1)):
        skip_recorded(connection, position_of(connection, topic, stream, nth))
    project_all(connection, 5)
    for table, stream in (("groups", GROUP), ("classes", CLASS)):
        aggregate: RosterAggregate = roster.repository.get(stream)
        row = connection.execute(
            f"SELECT version, name FROM roster.{table} WHERE id = %s", [stream]
        ).fetchone()
        assert row is not None
        assert row[0] == aggregate.version
        assert row[1] != "Skipped"


def test_an_event_is_projected_or_skipped_never_both(
    roster: Roster, connection: Connection[Any]
) -> None:
    bad = append_unknown(connection)
    assert skip_failing(connection) == bad
    assert project(connection, SCHEMA, limit=10).position == bad
    with pytest.raises(NotFailing):
        skips.skip(connection, bad, reason="again", actor="operator-1")
    assert checkpoint(connection) == bad

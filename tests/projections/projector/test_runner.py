"""The projector follows the log, hands over its lead, heals by itself, and stops at an event that fails."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Thread
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection

from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.roster import Roster
from rosterlog.projections.projector.runner import Runner
from rosterlog.projections.rebuild.rebuilding import Rebuild
from rosterlog.projections.status import projection_status
from tests.conftest import by
from tests.domain.threads import eventually
from tests.projections.forging import append_unknown, insert_event
from tests.projections.tables import CLASS, USER, checkpoint, record_everything, rows

Start = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def start(database: str) -> Start:
    @contextmanager
    def running(name: str) -> Iterator[None]:
        runner = Runner(database, name)
        thread = Thread(target=runner.run)
        thread.start()
        try:
            yield
        finally:
            runner.stop()
            thread.join(30)
            assert not thread.is_alive()

    return running


def reaches(connection: Connection[Any], position: int) -> None:
    eventually(lambda: checkpoint(connection) == position)


def leader(connection: Connection[Any]) -> str | None:
    return projection_status(connection).leader


def terminate(connection: Connection[Any], name: str) -> None:
    statement = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()"
    assert connection.execute(statement, [name]).fetchall() == [(True,)]


def failing(connection: Connection[Any]) -> tuple[int | None, str | None]:
    status = projection_status(connection)
    return status.failing_position, status.failure


def test_it_catches_up_and_then_follows(
    roster: Roster, connection: Connection[Any], start: Start
) -> None:
    head = record_everything(roster)
    with start("one"):
        reaches(connection, head)
        for step in range(1, 6):
            roster.register_user(uuid4(), by())
            reaches(connection, head + step)
        status = projection_status(connection)
        assert (status.leader, status.state, status.lag) == ("one", "following", 0)
    eventually(lambda: leader(connection) is None)
    assert projection_status(connection).state == "leaderless"


def test_it_goes_on_where_it_stopped(
    roster: Roster, connection: Connection[Any], start: Start
) -> None:
    with start("one"):
        position = roster.register_user(uuid4(), by()).position
        reaches(connection, position)
    head = record_everything(roster)
    assert checkpoint(connection) == position
    with start("two"):
        reaches(connection, head)


def test_one_leads_and_the_stand_by_takes_over_when_the_leaders_session_ends(
    roster: Roster, connection: Connection[Any], start: Start
) -> None:
    with start("one"):
        eventually(lambda: leader(connection) == "one")
        with start("two"):
            reaches(connection, roster.register_user(uuid4(), by()).position)
            for _ in range(3):
                old = leader(connection)
                assert old is not None
                terminate(connection, old)
                reaches(connection, roster.register_user(uuid4(), by()).position)
                eventually(lambda: leader(connection) is not None)


def test_the_stand_by_takes_over_when_the_leader_stops(
    roster: Roster, connection: Connection[Any], start: Start
) -> None:
    with start("one"):
        eventually(lambda: leader(connection) == "one")
        two = start("two")
        two.__enter__()
    try:
        eventually(lambda: leader(connection) == "two")
        reaches(connection, roster.register_user(uuid4(), by()).position)
    finally:
        two.__exit__(None, None, None)


def test_a_lost_connection_heals(roster: Roster, connection: Connection[Any], start: Start) -> None:
    with start("one"):
        for _ in range(3):
            eventually(lambda: leader(connection) == "one")
            terminate(connection, "one")
            reaches(connection, roster.register_user(uuid4(), by()).position)
        assert failing(connection) == (None, None)


@pytest.mark.parametrize("kind", ["unknown topic", "refused by the database", "no JSON"])
def test_a_failing_event_stalls_the_projector_exactly_there(
    roster: Roster, connection: Connection[Any], start: Start, kind: str
) -> None:
    head = record_everything(roster)
    if kind == "unknown topic":
        bad = append_unknown(connection)
    elif kind == "no JSON":
        bad = insert_event(connection, "ClassRenamed", EventCodec(), b"{", class_id=CLASS)
    else:
        bad = insert_event(
            connection, "MemberEnrolled", EventCodec(), class_id=uuid4(), user_id=USER
        )
    later = uuid4()
    roster.register_user(later, by())
    with start("one"):
        eventually(lambda: failing(connection)[0] is not None)
        position, failure = failing(connection)
        assert (position, checkpoint(connection)) == (bad, head)
        assert failure
        status = projection_status(connection)
        assert (status.state, status.lag, status.leader) == ("stalled", 2, "one")
        since = status.failing_since
        roster.register_user(uuid4(), by())
        connection.execute("NOTIFY rosterlog_recorded")
        eventually(lambda: projection_status(connection).lag == 3)
        assert projection_status(connection).failing_since == since
    assert checkpoint(connection) == head
    assert str(later) not in "".join(rows(connection)["users"])


def test_a_mended_failure_is_forgotten(
    roster: Roster, connection: Connection[Any], start: Start
) -> None:
    roster.register_user(USER, by())
    connection.execute(
        "INSERT INTO roster.users (id, created_at, version) VALUES (%s, now(), 1)", [USER]
    )
    with start("one"):
        eventually(lambda: failing(connection)[0] == 1)
        connection.execute("DELETE FROM roster.users")
        reaches(connection, 1)
        assert failing(connection) == (None, None)
        assert projection_status(connection).state == "following"


def test_it_follows_on_through_a_rebuild(
    roster: Roster, connection: Connection[Any], database: str, start: Start
) -> None:
    record_everything(roster)
    with start("one"):
        for _ in range(3):
            eventually(lambda: leader(connection) == "one")
            position = roster.register_user(uuid4(), by()).position
            eventually(lambda: Rebuild(database).run().state == "done")
            reaches(connection, position)
            reaches(connection, roster.register_user(uuid4(), by()).position)


def test_a_database_that_cannot_be_reached_is_tried_again_until_stopped(server: Any) -> None:
    runner = Runner(server.conninfo("no_such_database"), "one")
    thread = Thread(target=runner.run)
    thread.start()
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    runner.stop()
    thread.join(30)
    assert not thread.is_alive()

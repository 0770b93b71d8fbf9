"""A live follower sees every position, in order, whatever the writers do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection

from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.log.event_store import APPEND_LOCK, RECORDED_CHANNEL, PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from rosterlog.projections.projector import skips
from rosterlog.projections.projector.runner import Runner
from rosterlog.projections.rebuild.rebuilding import Rebuild
from rosterlog.projections.status import projection_status
from rosterlog.projections.verify.tables_check import verify_tables
from tests.conftest import by
from tests.domain.threads import eventually, together, waiting_backend
from tests.projections.forging import append_unknown, insert_event
from tests.projections.tables import CLASS, GROUP, checkpoint, rows


@pytest.fixture
def following(database: str) -> Iterator[None]:
    runner = Runner(database, "follower")
    thread = threading.Thread(target=runner.run)
    thread.start()
    yield
    runner.stop()
    thread.join(30)
    assert not thread.is_alive()


@contextmanager
def followed(log: PostgresLog) -> Iterator[list[int]]:
    """Follow the log from its first event on, as fast as it goes, and collect the positions."""
    seen, done = list[int](), threading.Event()

    def follow() -> None:
        while not done.is_set() or log.max_notification_id() != (seen[-1] if seen else None):
            seen.extend(
                event.id
                for event in log.select_notifications(
                    seen[-1] if seen else 0, 50, inclusive_of_start=False
                )
            )

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join(30)


def test_followers_see_every_position_of_a_race_of_many_writers(
    following: None, log: PostgresLog, roster: Roster, connection: Connection[Any], database: str
) -> None:
    roster.create_group(GROUP, "North", by())
    roster.create_class(CLASS, GROUP, "Maths", {}, by())

    def write() -> None:
        for _ in range(15):
            user = uuid4()
            roster.register_user(user, by())
            roster.enrol(CLASS, user, Role.STUDENT, by())

    with followed(log) as seen:
        assert together(*[write] * 8) == [None] * 8
    head = 2 + 8 * 15 * 2
    assert seen == list(range(1, head + 1))
    eventually(lambda: checkpoint(connection) == head)
    live = rows(connection)
    assert len(live["class_members"]) == 8 * 15
    assert list(verify_tables(database)) == []
    assert Rebuild(database).run().differing == 0


def test_a_position_that_is_drawn_and_not_committed_is_waited_for_and_never_passed_over(
    following: None, roster: Roster, connection: Connection[Any], database: str
) -> None:
    roster.create_group(GROUP, "North", by())
    eventually(lambda: checkpoint(connection) == 1)
    late = UUID(int=99)
    with psycopg.connect(database) as slow:
        slow.execute("SELECT pg_advisory_xact_lock(%s)", [APPEND_LOCK])
        drawn = insert_event(slow, "UserRegistered", EventCodec())
        overtaking = threading.Thread(target=lambda: roster.register_user(late, by()))
        overtaking.start()
        waiting_backend(connection)
        connection.execute(f"NOTIFY {RECORDED_CHANNEL}")
        assert checkpoint(connection) == 1
        slow.commit()
        overtaking.join(30)
    eventually(lambda: checkpoint(connection) == drawn + 1)
    assert len(rows(connection)["users"]) == 2
    assert list(verify_tables(database)) == []


def _reached(connection: Connection[Any], position: int) -> bool:
    return checkpoint(connection) == position


def test_lost_hints_delay_and_lose_nothing(
    following: None, connection: Connection[Any], database: str
) -> None:
    for _ in range(3):
        position = insert_event(connection, "UserRegistered", EventCodec())
        eventually(partial(_reached, connection, position))
    assert list(verify_tables(database)) == []


def test_a_skip_lets_a_projector_that_stands_still_go_on(
    following: None, roster: Roster, connection: Connection[Any]
) -> None:
    bad = append_unknown(connection)
    position = roster.register_user(uuid4(), by()).position
    eventually(lambda: projection_status(connection).failing_position == bad)
    assert projection_status(connection).state == "stalled"
    skips.skip(connection, bad, reason="a test", actor="operator-1")
    eventually(lambda: checkpoint(connection) == position)
    status = projection_status(connection)
    assert (
        status.state,
        status.seconds_without_progress,
        [skip.position for skip in status.skips],
    ) == ("following", 0, [bad])

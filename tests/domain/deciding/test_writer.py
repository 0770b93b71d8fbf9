"""The writer: commands that wait share an append, each with its own outcome, whatever happens to the connection."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection

from rosterlog.domain.deciding import cache
from rosterlog.domain.deciding.outcome import Outcome, Result
from rosterlog.domain.deciding.unit_of_work import UnitOfWork
from rosterlog.domain.deciding.writer import Prepared
from rosterlog.domain.errors import ClassArchived, EnrolledInOtherRole, GroupUnknown, UserRemoved
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from tests.conftest import by
from tests.domain.proxy import cutting
from tests.domain.threads import eventually, gathered, together, waiting_backend

GROUP, CLASS, USER, OTHER = (UUID(int=number) for number in range(1, 5))


@pytest.fixture
def roster(log: PostgresLog) -> Iterator[Roster]:
    with closing(Roster(log)) as opened:
        opened.create_group(GROUP, "North", by())
        opened.create_class(CLASS, GROUP, "Maths", {}, by())
        opened.register_user(USER, by())
        opened.register_user(OTHER, by())
        yield opened


def appends(connection: Connection[Any]) -> list[int]:
    """Return how many events each append recorded; those of one append share their time."""
    return [
        row[0]
        for row in connection.execute(
            "SELECT count(*) FROM log.events GROUP BY recorded_at ORDER BY recorded_at"
        )
    ]


def test_commands_that_wait_are_recorded_in_one_append_each_with_its_own_position(
    roster: Roster, database: str, connection: Connection[Any]
) -> None:
    with gathered(database):
        first = roster.register_user.submit(uuid4(), by())
        waiting_backend(connection)
        others = [roster.register_user.submit(uuid4(), by()) for _ in range(20)]
    assert [one.result().position for one in [first, *others]] == list(range(5, 26))
    assert appends(connection) == [1, 1, 1, 1, 21]


def test_commands_about_one_class_build_on_each_other_within_an_append(
    roster: Roster, database: str, connection: Connection[Any]
) -> None:
    with gathered(database):
        first = roster.register_user.submit(uuid4(), by())
        waiting_backend(connection)
        given: list[Future[Outcome]] = [
            roster.enrol.submit(CLASS, USER, Role.STUDENT, by()),
            roster.enrol.submit(CLASS, USER, Role.STUDENT, by()),
            roster.enrol.submit(CLASS, USER, Role.TEACHER, by()),
            roster.remove_user.submit(OTHER, by()),
            roster.enrol.submit(CLASS, OTHER, Role.STUDENT, by()),
            roster.create_class.submit(uuid4(), uuid4(), "Art", {}, by()),
            roster.archive_class.submit(CLASS, by()),
            roster.withdraw.submit(CLASS, USER, by()),
        ]
    first.result()
    refusals = [type(one.exception()) for one in given if one.exception()]
    outcomes = [
        (one.result().position, one.result().changed) for one in given if not one.exception()
    ]
    assert refusals == [EnrolledInOtherRole, UserRemoved, GroupUnknown, ClassArchived]
    assert outcomes == [(6, True), (6, False), (7, True), (8, True)]
    assert appends(connection)[-1] == 4


def test_what_is_wrong_with_one_command_is_not_the_others_fault(
    roster: Roster, database: str, connection: Connection[Any]
) -> None:
    def fail(work: UnitOfWork) -> Result:
        raise ZeroDivisionError

    with gathered(database):
        first = roster.register_user.submit(uuid4(), by())
        waiting_backend(connection)
        before = roster.register_user.submit(uuid4(), by())
        wrong = Prepared(roster.writer, fail, set()).submit()
        after = roster.register_user.submit(uuid4(), by())
    assert isinstance(wrong.exception(), ZeroDivisionError)
    assert [one.result().position for one in (first, before, after)] == [5, 6, 7]


def test_many_threads_change_one_class_without_conflict(
    roster: Roster, connection: Connection[Any]
) -> None:
    users = [uuid4() for _ in range(32)]
    for user in users:
        roster.register_user.submit(user, by())
    enrolments: list[Callable[[], object]] = [
        partial(roster.enrol, CLASS, user, Role.STUDENT, by()) for user in users
    ]
    assert together(*enrolments) == [None] * 32
    versions = connection.execute(
        "SELECT originator_version FROM log.events WHERE class_id = %s ORDER BY notification_id",
        [CLASS],
    )
    assert [row[0] for row in versions] == list(range(1, 34))


@pytest.mark.parametrize("few", [cache.FEW, 2])
def test_a_decision_is_taken_on_what_another_process_changed(
    roster: Roster,
    database: str,
    connection: Connection[Any],
    few: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache, "FEW", few)
    with closing(PostgresLog(database)) as other_log, closing(Roster(other_log)) as other:
        for one in (roster, other):
            one.enrol(CLASS, OTHER, Role.STUDENT, by())
        for number in range(5):
            other.change_class(CLASS, by(), name=f"Maths {number}")
        other.remove_user(USER, by())
        with pytest.raises(UserRemoved):
            roster.enrol(CLASS, USER, Role.STUDENT, by())
        assert roster.change_role(CLASS, OTHER, Role.TEACHER, by()).version == 8
        assert other.change_role(CLASS, OTHER, Role.STUDENT, by()).version == 9


def test_an_append_never_waits_behind_a_migration_that_waits_for_the_append(
    roster: Roster, database: str, connection: Connection[Any]
) -> None:
    def migrate() -> None:
        with psycopg.connect(database) as migrating:
            migrating.execute("LOCK TABLE log.events IN ACCESS EXCLUSIVE MODE")

    def decide(work: UnitOfWork) -> Result:
        migrations.append(threads.submit(migrate))
        waiting_backend(connection)
        assert not work.exists(uuid4())
        return Result(CLASS, 1)

    migrations: list[Future[None]] = []
    with ThreadPoolExecutor(1) as threads:
        assert not Prepared(roster.writer, decide, {CLASS}).given().changed
        migrations[0].result()


def test_an_append_uses_one_session_whatever_it_has_to_read(database: str) -> None:
    with closing(PostgresLog(database, pool_size=1)) as log, closing(Roster(log)) as roster:
        with gathered(database):
            roster.register_user.submit(USER, by())
            eventually(
                lambda: (
                    log.pool_stats()["requests_waiting"] == 0
                    and log.pool_stats()["pool_available"] == 0
                )
            )
            given = [
                roster.create_group.submit(GROUP, "North", by()),
                roster.create_class.submit(CLASS, GROUP, "Maths", {}, by()),
                roster.enrol.submit(CLASS, USER, Role.STUDENT, by()),
            ]
        assert [one.result().changed for one in given] == [True] * 3


def test_connections_that_a_restart_of_the_database_broke_cost_no_command_its_success(
    roster: Roster, connection: Connection[Any]
) -> None:
    for _ in range(3):
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert roster.register_user(uuid4(), by()).changed


def test_a_session_that_is_terminated_in_mid_append_is_replaced_and_the_command_recorded_once(
    roster: Roster, database: str, connection: Connection[Any]
) -> None:
    with psycopg.connect(database) as holder, ThreadPoolExecutor(1) as threads:
        holder.execute("LOCK TABLE log.events IN SHARE MODE")
        append = threads.submit(roster.remove_user, USER, by())
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [waiting_backend(connection)])
        holder.commit()
        assert append.result().position == 5
    assert connection.execute("SELECT count(*) FROM log.events").fetchone() == (5,)


@pytest.mark.parametrize("wait_for_answer", [True, False])
def test_a_connection_lost_after_commit_is_recognised_as_success_and_nothing_is_recorded_twice(
    database: str, connection: Connection[Any], wait_for_answer: bool
) -> None:
    with (
        cutting(database) as proxy,
        closing(PostgresLog(proxy.conninfo)) as log,
        closing(Roster(log)) as roster,
    ):
        roster.create_group(GROUP, "North", by())
        proxy.wait_for_answer = wait_for_answer
        for number in range(2, 7):
            proxy.cut_after_commit = True
            outcome = roster.register_user(uuid4(), by())
            assert (outcome.position, outcome.changed) == (number, True)
        assert proxy.cuts == 5
    assert connection.execute(
        "SELECT count(*), max(notification_id) FROM log.events"
    ).fetchone() == (6, 6)


def test_a_command_that_nobody_waits_for_any_more_is_not_begun(
    roster: Roster, database: str, connection: Connection[Any]
) -> None:
    with gathered(database):
        first = roster.register_user.submit(uuid4(), by())
        waiting_backend(connection)
        given_up = roster.register_user.submit(uuid4(), by())
        assert given_up.cancel()
        last = roster.register_user.submit(uuid4(), by())
    assert (first.result().position, last.result().position) == (5, 6)

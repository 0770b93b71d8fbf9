"""A rebuild makes the same tables again while readers read and commands go on."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from threading import Event
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection

from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from rosterlog.projections.projector.projector import EventFails
from rosterlog.projections.rebuild import rebuilding as rebuild
from rosterlog.projections.rebuild import shadow
from rosterlog.projections.rebuild.rebuilding import IDLE, Rebuild, RebuildState
from rosterlog.projections.rebuild.shadow import ShadowInUse
from rosterlog.projections.shared_sql import PROJECTED_CHANNEL
from rosterlog.projections.tables import SHADOW
from tests.conftest import by
from tests.domain.threads import eventually
from tests.projections.catalog import definitions
from tests.projections.forging import append_unknown
from tests.projections.tables import (
    CLASS,
    GROUP,
    USER,
    checkpoint,
    project_all,
    record_everything,
    rows,
)


@pytest.fixture
def head(roster: Roster, connection: Connection[Any]) -> int:
    """Record a bit of everything and project it live, in small ranges."""
    head = record_everything(roster)
    assert project_all(connection, 3) == head
    return head


def shadow_tables(connection: Connection[Any]) -> list[str]:
    statement = (
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r'"
    )
    return [row[0] for row in connection.execute(statement, [SHADOW])]


def test_rebuilt_tables_equal_the_live_ones_byte_for_byte(
    head: int, connection: Connection[Any], database: str
) -> None:
    live = rows(connection)
    ended = Rebuild(database).run()
    assert (ended.state, ended.done, ended.total, ended.error) == ("done", head, head, None)
    assert rows(connection) == live
    assert all(live.values())
    assert checkpoint(connection) == head
    assert shadow_tables(connection) == []


def test_tables_keep_their_columns_constraints_and_indexes_by_name(
    head: int, connection: Connection[Any], database: str
) -> None:
    before = definitions(connection, "roster")
    for _ in range(2):
        Rebuild(database).run()
    assert definitions(connection, "roster") == before


def test_a_rebuild_mends_what_was_damaged_by_hand(
    head: int, connection: Connection[Any], database: str
) -> None:
    live = rows(connection)
    connection.execute("UPDATE roster.classes SET name = 'Damaged', settings = '{}'")
    connection.execute("DELETE FROM roster.class_members")
    connection.execute(
        "INSERT INTO roster.users (id, created_at, version) VALUES (gen_random_uuid(), now(), 1)"
    )
    assert rows(connection) != live
    Rebuild(database).run()
    assert rows(connection) == live


def test_a_rebuild_takes_no_step_back_behind_the_live_tables_nor_leaves_any_event_out(
    head: int, roster: Roster, connection: Connection[Any], database: str
) -> None:
    for _ in range(5):
        roster.register_user(uuid4(), by())
    assert Rebuild(database).run().done == head + 5
    assert project_all(connection) == head + 5


def test_projection_goes_on_after_a_rebuild(
    head: int, roster: Roster, connection: Connection[Any], database: str
) -> None:
    Rebuild(database).run()
    roster.rename_group(GROUP, "East", by())
    assert project_all(connection) == head + 1
    assert connection.execute(
        "SELECT name FROM roster.groups WHERE id = %s", [GROUP]
    ).fetchone() == ("East",)
    live = rows(connection)
    Rebuild(database).run()
    assert rows(connection) == live


@pytest.mark.parametrize("batch", [1, 7, 10])
def test_a_rebuild_in_many_batches_reports_each(
    head: int,
    connection: Connection[Any],
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    monkeypatch.setattr(rebuild, "BATCH", batch)
    live, seen = rows(connection), list[RebuildState]()
    Rebuild(database).run(seen.append)
    assert sorted({state.done for state in seen}) == [*range(batch, head, batch), head]
    assert {state.state for state in seen} == {"running"}
    assert all(state.total == head for state in seen)
    assert seen[0].per_second is not None
    assert seen[0].seconds_left is not None
    # What comes after all events are taken in takes as long again; once they are, nobody knows how
    # much of it is over.
    assert seen[0].seconds_left * seen[0].per_second == pytest.approx(2 * head - batch)
    assert seen[-1].seconds_left is None
    assert rows(connection) == live


def test_readers_never_see_an_empty_table_nor_an_error_during_rebuilds(
    head: int, roster: Roster, connection: Connection[Any], database: str
) -> None:
    expected = rows(connection)
    done = Event()
    reads = []

    def read() -> None:
        with psycopg.connect(database, autocommit=True, prepare_threshold=1) as reader:
            while not done.is_set():
                assert rows(reader) == expected
                joined = reader.execute(
                    "SELECT role, name, settings FROM roster.class_members AS m JOIN roster.classes AS c ON c.id = m.class_id "
                    "WHERE c.id = %s ORDER BY m.id",
                    [CLASS],
                    binary=True,
                ).fetchall()
                assert len(joined) == 2
                with reader.transaction():
                    first = reader.execute("SELECT count(*) FROM roster.classes").fetchone()
                    assert reader.execute(
                        "SELECT count(*) FROM roster.class_members"
                    ).fetchone() == (len(expected["class_members"]),)
                    assert first == (len(expected["classes"]),)
                reads.append(1)

    def more_than(before: int) -> bool:
        return len(reads) > before or any(reader.done() for reader in readers)

    with ThreadPoolExecutor(3) as threads:
        readers = [threads.submit(read) for _ in range(3)]
        try:
            for _ in range(6):
                before = len(reads)
                assert Rebuild(database).run().state == "done"
                eventually(partial(more_than, before))
        finally:
            done.set()
        for reader in readers:
            reader.result()


def test_commands_and_projection_go_on_during_rebuilds(
    head: int, roster: Roster, connection: Connection[Any], database: str
) -> None:
    done = Event()

    def command() -> None:
        while not done.is_set():
            user = uuid4()
            roster.register_user(user, by())
            roster.enrol(CLASS, user, Role.STUDENT, by())

    def follow() -> None:
        with psycopg.connect(database, autocommit=True) as projector:
            reached = 0
            while not done.is_set():
                project_all(projector, 2)
                now = checkpoint(projector)
                assert now >= reached
                reached = now
                time.sleep(0.005)

    with ThreadPoolExecutor(2) as threads:
        others = [threads.submit(command), threads.submit(follow)]
        try:
            for _ in range(3):
                assert Rebuild(database).run().state == "done"
        finally:
            done.set()
        for other in others:
            other.result()
    project_all(connection)
    live = rows(connection)
    assert len(live["users"]) > 2
    Rebuild(database).run()
    assert rows(connection) == live


def test_a_switch_waits_for_readers_in_a_transaction_and_never_breaks_them(
    head: int, connection: Connection[Any], database: str
) -> None:
    with psycopg.connect(database) as reader, ThreadPoolExecutor(1) as threads:
        reader.execute("SELECT FROM roster.class_members")
        rebuilding = threads.submit(Rebuild(database).run)
        eventually(lambda: rebuild.state(connection).done == head)
        time.sleep(0.5)
        assert not rebuilding.done()
        assert len(reader.execute("SELECT FROM roster.groups").fetchall()) == 2
        reader.commit()
        assert rebuilding.result().state == "done"


def test_a_second_rebuild_is_refused_while_one_runs(
    head: int, connection: Connection[Any], database: str
) -> None:
    first = Rebuild(database)
    with pytest.raises(ShadowInUse, match="already running"):
        Rebuild(database)
    assert rebuild.state(connection).id == first.id
    assert first.run().state == "done"
    assert Rebuild(database).run().state == "done"


def test_a_rebuild_can_be_cancelled_and_leaves_the_live_tables_as_they_were(
    head: int, connection: Connection[Any], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "BATCH", 10)
    connection.execute("UPDATE roster.groups SET name = 'by hand'")
    live = rows(connection)

    def cancel(_: RebuildState) -> None:
        assert rebuild.cancel(connection)

    ended = Rebuild(database).run(cancel)
    assert (ended.state, ended.error) == ("cancelled", None)
    assert rows(connection) == live
    assert shadow_tables(connection) == []
    assert Rebuild(database).run().state == "done"


def test_there_is_nothing_to_cancel_when_no_rebuild_runs(
    head: int, connection: Connection[Any], database: str
) -> None:
    assert rebuild.state(connection) == IDLE
    assert not rebuild.cancel(connection)
    Rebuild(database).run()
    assert not rebuild.cancel(connection)
    assert rebuild.state(connection).state == "done"


def test_a_rebuild_that_meets_a_failing_event_fails_and_leaves_the_live_tables(
    head: int, connection: Connection[Any], database: str
) -> None:
    live = rows(connection)
    position = append_unknown(connection)
    with pytest.raises(EventFails):
        Rebuild(database).run()
    failed = rebuild.state(connection)
    assert failed.state == "failed"
    assert failed.error is not None
    assert f"Position {position} holds" in failed.error
    assert (rows(connection), checkpoint(connection), shadow_tables(connection)) == (live, head, [])


def test_shadow_tables_left_by_a_crash_are_replaced(
    head: int, connection: Connection[Any], database: str
) -> None:
    live = rows(connection)
    shadow.create(connection)
    connection.execute(
        f"INSERT INTO {SHADOW}.users (id, created_at, version) VALUES (gen_random_uuid(), now(), 1)"
    )
    connection.execute(f"UPDATE {SHADOW}.checkpoint SET position = 5")
    Rebuild(database).run()
    assert rows(connection) == live


def test_a_rebuild_whose_session_dies_counts_as_failed_and_the_next_one_works(
    head: int, connection: Connection[Any], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "BATCH", 10)
    live = rows(connection)

    def kill(_: RebuildState) -> None:
        statement = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'rosterlog rebuild'"
        connection.execute(f"{statement} AND datname = current_database()")

    with pytest.raises(psycopg.OperationalError):
        Rebuild(database).run(kill)
    assert rebuild.state(connection).state == "failed"
    assert rows(connection) == live
    assert shadow_tables(connection) != []
    assert Rebuild(database).run().state == "done"
    assert rows(connection) == live
    states = connection.execute(
        "SELECT state, error FROM projections.rebuilds ORDER BY started_at"
    ).fetchall()
    assert states == [("failed", "its process ended"), ("done", None)]


def test_whoever_waits_for_a_position_is_told_about_the_switch(
    database: str, connection: Connection[Any]
) -> None:
    with closing(PostgresLog(database)) as log:
        Roster(log).register_user(USER, by())
    connection.execute(f"LISTEN {PROJECTED_CHANNEL}")
    Rebuild(database).run()
    assert [n.payload for n in connection.notifies(timeout=60, stop_after=1)] == ["1"]


def test_privileges_of_readers_survive_a_rebuild(
    head: int, connection: Connection[Any], database: str
) -> None:
    connection.execute("CREATE ROLE reader_of_rosters")
    try:
        connection.execute("GRANT USAGE ON SCHEMA roster TO reader_of_rosters")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA roster TO reader_of_rosters")
        Rebuild(database).run()
        connection.execute("SET ROLE reader_of_rosters")
        assert len(connection.execute("SELECT FROM roster.classes").fetchall()) == 2
    finally:
        connection.execute("RESET ROLE")
        connection.execute("DROP OWNED BY reader_of_rosters")
        connection.execute("DROP ROLE reader_of_rosters")


@pytest.fixture(autouse=True)
def no_shadow_claim_left(database: str) -> Iterator[None]:
    yield
    with psycopg.connect(database, autocommit=True) as connection:
        shadow.claim(connection)

"""What a rebuild refuses beforehand, whom its switch waits for, and where it may crash."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection, IsolationLevel
from psycopg.conninfo import make_conninfo

from rosterlog.domain.log import sessions
from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.roster import Roster
from rosterlog.projections.projector import skips
from rosterlog.projections.projector.projector import EventFails, project, project_up_to_failure
from rosterlog.projections.projector.runner import _RECORD_FAILURE
from rosterlog.projections.rebuild import comparison, loading, shadow, switch
from rosterlog.projections.rebuild import rebuilding as rebuild
from rosterlog.projections.rebuild import record as rebuild_record
from rosterlog.projections.rebuild.rebuilding import Rebuild
from rosterlog.projections.rebuild.switch import ReaderInTheWay, SwitchImpossible
from rosterlog.projections.verify.tables_check import verify_tables
from tests.conftest import by
from tests.domain.threads import eventually
from tests.projections.forging import append_unknown, insert_event
from tests.projections.tables import (
    CLASS,
    GROUP,
    OTHER_USER,
    USER,
    checkpoint,
    project_all,
    record_everything,
    rows,
)


@pytest.fixture
def head(roster: Roster, connection: Connection[Any]) -> int:
    record_everything(roster)
    return project_all(connection)


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (
            "CREATE VIEW public.sizes AS SELECT class_id, count(*) FROM roster.class_members GROUP BY 1",
            "view public.sizes",
        ),
        (
            "CREATE MATERIALIZED VIEW public.names AS SELECT name FROM roster.classes",
            "materialized view public.names",
        ),
        (
            "CREATE TABLE public.notes (class_id uuid REFERENCES roster.classes)",
            "constraint notes_class_id_fkey on table public.notes",
        ),
        ("CREATE INDEX mine ON roster.classes (created_at)", "index roster.mine"),
        (
            "CREATE TRIGGER mine AFTER INSERT ON roster.users EXECUTE FUNCTION log.refuse_change()",
            "trigger mine on table roster.users",
        ),
        ("CREATE POLICY mine ON roster.users", "policy mine on table roster.users"),
        (
            "CREATE STATISTICS public.mine (dependencies) ON group_id, name FROM roster.classes",
            "statistics object public.mine",
        ),
        ("CREATE PUBLICATION mine FOR TABLE roster.classes", "publication"),
    ],
)
def test_what_the_switch_would_drop_is_named_before_any_work(
    head: int, connection: Connection[Any], database: str, made: str, named: str
) -> None:
    connection.execute(made)
    live = rows(connection)
    with pytest.raises(SwitchImpossible, match=named):
        Rebuild(database).run(lambda _: pytest.fail("it has begun to project"))
    assert named in str(rebuild.state(connection).error)
    assert rows(connection) == live


def test_a_rebuild_says_in_how_many_rows_the_old_tables_differed(
    head: int, connection: Connection[Any], database: str
) -> None:
    assert Rebuild(database).run().differing == 0
    connection.execute("UPDATE roster.groups SET name = 'Damaged' WHERE id = %s", [GROUP])
    connection.execute(
        "DELETE FROM roster.class_members WHERE class_id = %s AND user_id = %s", [CLASS, USER]
    )
    connection.execute(
        "INSERT INTO roster.users (id, created_at, version) VALUES (gen_random_uuid(), now(), 1)"
    )
    assert Rebuild(database).run().differing == 3
    assert Rebuild(database).run().differing == 0


def test_live_tables_that_are_far_behind_are_not_compared(
    head: int,
    roster: Roster,
    connection: Connection[Any],
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rebuild, "BATCH", 3)
    for _ in range(5):
        roster.register_user(uuid4(), by())
    ended = Rebuild(database).run()
    assert (ended.state, ended.done, ended.differing) == ("done", head + 5, None)


def test_while_it_switches_nobody_reads_or_projects_into_the_old_tables(
    head: int,
    roster: Roster,
    connection: Connection[Any],
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, refused = switch.switch, list[str]()
    roster.register_user(uuid4(), by())

    def switching(rebuilding: Connection[Any]) -> None:
        roster.register_user(uuid4(), by())
        with psycopg.connect(database, autocommit=True) as other:
            other.execute("SET lock_timeout = '50ms'")
            reads = [
                partial(other.execute, f"SELECT FROM roster.{table}") for table in shadow.TABLES
            ]
            attempts: list[Callable[[], Any]] = [partial(project_all, other), *reads]
            for attempt in attempts:
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    attempt()
                refused.append("waits")
        real(rebuilding)

    monkeypatch.setattr(switch, "switch", switching)
    assert Rebuild(database).run().done == head + 1
    assert len(refused) == 1 + len(shadow.TABLES)
    assert checkpoint(connection) == head + 1
    assert project_all(connection) == head + 2


def test_it_switches_though_events_never_stop_coming(
    head: int,
    roster: Roster,
    connection: Connection[Any],
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = list[int]()

    def busy(*arguments: Any, **named: Any) -> Any:
        assert len(calls) < 50, "it waits for a moment without events"
        calls.append(roster.register_user(uuid4(), by()).position)
        return project(*arguments, **named)

    monkeypatch.setattr(rebuild, "project", busy)
    assert Rebuild(database).run().state == "done"
    assert project_all(connection) == calls[-1]
    assert list(verify_tables(database)) == []


def test_a_transaction_older_than_the_new_tables_never_finds_them_half_empty(
    head: int, connection: Connection[Any], database: str
) -> None:
    with psycopg.connect(database) as reader, ThreadPoolExecutor(1) as threads:
        reader.isolation_level = IsolationLevel.REPEATABLE_READ
        # A snapshot, and no lock on any read table: only the snapshot can hold up the switch.
        reader.execute("SELECT 1")
        rebuilding = threads.submit(Rebuild(database).run)
        eventually(lambda: rebuild.state(connection).compare_seconds is not None)
        assert not rebuilding.done()
        found = {
            table: len(reader.execute(f"SELECT FROM roster.{table}").fetchall())
            for table in ("groups", "users", "class_members")
        }
        assert found == {table: len(rows(connection)[table]) for table in found}
        reader.commit()
        assert rebuilding.result().state == "done"


def test_a_transaction_that_stays_in_the_way_is_named(
    head: int, connection: Connection[Any], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "SWITCH_SECONDS", 0.5)
    live = rows(connection)
    with psycopg.connect(make_conninfo(database, application_name="a long report")) as reader:
        reader.isolation_level = IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT 1")
        with pytest.raises(ReaderInTheWay, match="a long report"):
            Rebuild(database).run()
    assert "a long report" in str(rebuild.state(connection).error)
    assert rows(connection) == live


def test_prepared_statements_cursors_and_pipelines_live_through_switches(
    head: int, connection: Connection[Any], database: str
) -> None:
    expected = len(rows(connection)["class_members"])
    statement = "SELECT id, role FROM roster.class_members WHERE class_id <> %s"
    with (
        psycopg.connect(database, autocommit=True, prepare_threshold=0) as reader,
        ThreadPoolExecutor(1) as threads,
    ):
        for _ in range(3):
            assert Rebuild(database).run().state == "done"
            with reader.pipeline():
                cursors = [reader.execute(statement, [uuid4()]) for _ in range(3)]
            assert [len(cursor.fetchall()) for cursor in cursors] == [expected] * 3
            assert len(reader.execute(statement, [uuid4()], binary=True).fetchall()) == expected
            with reader.transaction(), reader.cursor("held") as named:
                named.execute(statement, [uuid4()])
                rebuilding = threads.submit(Rebuild(database).run)
                eventually(lambda: rebuild.state(connection).compare_seconds is not None)
                assert len(named.fetchall()) == expected
            assert rebuilding.result().state == "done"
            with reader.cursor().copy("COPY roster.class_members TO STDOUT") as copy:
                assert len(list(copy.rows())) == expected


STEPS: list[tuple[Any, str]] = [
    (switch, "refuse_impossible"),
    (shadow, "create"),
    (rebuild, "project"),
    (loading, "finish"),
    (shadow, "complete"),
    (comparison, "count"),
    (switch, "refuse_older_snapshots"),
    (switch, "lock_live"),
    (switch, "switch"),
    (rebuild_record, "end"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("module", "step"), STEPS, ids=[step for _, step in STEPS])
def test_a_crash_at_any_step_leaves_the_old_tables_and_the_next_rebuild_works(
    head: int,
    connection: Connection[Any],
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    step: str,
    after: bool,
) -> None:
    connection.execute("UPDATE roster.groups SET name = 'by hand'")
    live = rows(connection)
    real = getattr(module, step)

    def crash(rebuilding: Connection[Any], *arguments: Any, **named: Any) -> Any:
        result = real(rebuilding, *arguments, **named) if after else None
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [rebuilding.info.backend_pid])
        return result or real(rebuilding, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(module, step, crash)
        with pytest.raises(psycopg.OperationalError):
            Rebuild(database).run()
    assert rows(connection) == live
    assert rebuild.state(connection).state == "failed"
    assert Rebuild(database).run().state == "done"
    assert rows(connection) != live
    assert list(verify_tables(database)) == []


def test_a_cancel_interrupts_the_statement_it_is_in(
    head: int, connection: Connection[Any], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = rows(connection)
    monkeypatch.setattr(
        shadow, "complete", lambda rebuilding: rebuilding.execute("SELECT pg_sleep(60)")
    )
    with ThreadPoolExecutor(1) as threads:
        rebuilding = threads.submit(Rebuild(database).run)
        eventually(
            lambda: (
                connection.execute(
                    "SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
                ).fetchone()
                is not None
            )
        )
        assert rebuild.cancel(connection)
        assert rebuilding.result(30).state == "cancelled"
    assert rows(connection) == live


@pytest.mark.parametrize(
    ("topic", "state", "ids"),
    [
        ("ClassPainted", b"{}", {}),
        ("RoleChanged", b"{", {"class_id": CLASS, "user_id": USER}),
        ("RoleChanged", b'{"role":"principal"}', {"class_id": CLASS, "user_id": USER}),
        ("MemberEnrolled", None, {"class_id": uuid4(), "user_id": OTHER_USER}),
        ("MemberEnrolled", None, {"class_id": CLASS, "user_id": uuid4()}),
        ("ClassCreated", None, {"group_id": uuid4()}),
        ("UserRegistered", None, {}),
    ],
)
def test_a_rebuild_names_the_very_position_that_fails_in_the_midst_of_a_large_range(
    head: int,
    roster: Roster,
    connection: Connection[Any],
    database: str,
    topic: str,
    state: bytes | None,
    ids: dict[str, Any],
) -> None:
    bad = insert_event(connection, topic, EventCodec(), state, **ids)
    if topic == "UserRegistered":
        connection.execute("ALTER TABLE log.events DISABLE TRIGGER events_append_only")
        connection.execute(
            "UPDATE log.events SET originator_id = %s, originator_version = 99 WHERE notification_id = %s",
            [USER, bad],
        )
    for _ in range(20):
        roster.register_user(uuid4(), by())
    live = rows(connection)
    with pytest.raises(EventFails, match=f"^Position {bad} ") as failed:
        Rebuild(database).run()
    assert failed.value.position == bad
    assert f"Position {bad} " in str(rebuild.state(connection).error)
    assert (rows(connection), checkpoint(connection)) == (live, head)


@pytest.fixture
def projector(connection: Connection[Any], database: str) -> Iterator[str]:
    """Hand the read tables to a role that may do what docs/operations.md lists, and nothing else; return how to connect as it."""
    role = f"projector_{uuid4().hex[:8]}"
    connection.execute(f"CREATE ROLE {role} LOGIN")
    for statement in (
        f"GRANT USAGE ON SCHEMA log, projections TO {role}",
        f"GRANT USAGE, CREATE ON SCHEMA roster, roster_shadow TO {role}",
        f"GRANT SELECT ON log.events TO {role}",
        f"GRANT SELECT, INSERT, UPDATE ON projections.rebuilds, log.skips TO {role}",
        *(f"ALTER TABLE roster.{table} OWNER TO {role}" for table in shadow.TABLES),
    ):
        connection.execute(statement)
    try:
        yield make_conninfo(database, user=role)
    finally:
        connection.execute(f"DROP OWNED BY {role} CASCADE")
        connection.execute(f"DROP ROLE {role}")


def test_a_role_that_owns_the_read_tables_and_only_reads_the_log_projects_skips_verifies_and_rebuilds(
    roster: Roster, connection: Connection[Any], projector: str
) -> None:
    record_everything(roster)
    bad = append_unknown(connection)
    with psycopg.connect(projector, autocommit=True) as own:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            own.execute("INSERT INTO log.events SELECT * FROM log.events")
        with pytest.raises(EventFails):
            raise project_up_to_failure(own, "roster", limit=1000) or AssertionError
        own.execute(_RECORD_FAILURE, {"position": bad, "failure": "unknown"})
        skips.skip(own, bad, reason="a test", actor="operator-1")
        assert project_all(own) == bad
        assert list(verify_tables(projector)) == []
        ended = Rebuild(projector).run()
        assert (ended.state, ended.differing) == ("done", 0)
        roster.register_user(uuid4(), by())
        assert project_all(own) == bad + 1


def test_a_role_without_rights_on_statistics_sees_old_transactions_of_others(
    connection: Connection[Any], database: str, projector: str
) -> None:
    with sessions.connect(projector) as own, psycopg.connect(database) as other:
        other.execute("SELECT count(*) FROM roster.users")
        switch.refuse_older_snapshots(own, switch.moment(own))
        other.rollback()
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute("SELECT count(*) FROM roster.users")
        connection.execute("SELECT pg_current_xact_id()")
        moment = switch.moment(own)
        with pytest.raises(switch.ReaderInTheWay, match=f"process {other.info.backend_pid} "):
            switch.refuse_older_snapshots(own, moment)
        other.rollback()
        switch.refuse_older_snapshots(own, moment)


def test_privileges_on_columns_and_the_right_to_pass_them_on_survive(
    head: int, connection: Connection[Any], database: str
) -> None:
    role = f"reader_{uuid4().hex[:8]}"
    connection.execute(f"CREATE ROLE {role}")
    privileges: Callable[[], Any] = lambda: connection.execute(  # noqa: E731
        "SELECT relname, relacl::text, (SELECT array_agg(attacl::text ORDER BY attnum) FROM pg_attribute WHERE attrelid = pg_class.oid) "
        "FROM pg_class WHERE relnamespace = 'roster'::regnamespace AND relkind = 'r' ORDER BY 1"
    ).fetchall()
    try:
        connection.execute(f"GRANT SELECT (id, name) ON roster.classes TO {role}")
        connection.execute(f"GRANT SELECT ON roster.groups TO {role} WITH GRANT OPTION")
        connection.execute("GRANT SELECT ON roster.users TO PUBLIC")
        before = privileges()
        Rebuild(database).run()
        assert privileges() == before
    finally:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")

"""Mending: whatever follows from the log's events is derived again, and nothing else is touched."""

from typing import Any

import psycopg
import pytest
from psycopg import Connection

from rosterlog.domain.log.event_codec import INDEX, EventCodec
from rosterlog.domain.roster import Roster
from rosterlog.projections.verify import stretch
from rosterlog.projections.verify.log_check import LogAltered, verify_log
from rosterlog.projections.verify.log_indexes import CONSTRAINTS, INDEXES
from rosterlog.projections.verify.mend_log import Mended, mend
from tests.api.processes import rosterlog, succeeds
from tests.conftest import by
from tests.projections.forging import insert_event
from tests.projections.tables import GROUP, project_all, record_everything

COVERED = "SELECT notification_id, originator_id, originator_version, topic, state, recorded_at, digest FROM log.events ORDER BY 1"
EVERYTHING = "SELECT * FROM log.events ORDER BY 1"
ENDINGS = "SELECT * FROM log.endings ORDER BY 1, 3, 4"
FOUND = """
    SELECT relname, pg_get_indexdef(indexrelid), EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE relnamespace = 'log'::regnamespace
"""
OTHER = "'00000000-0000-4000-8000-0000000000ff'"
WRONG = {
    "class_id": ("NULL", OTHER, "user_id"),
    "user_id": ("NULL", OTHER, "class_id"),
    "group_id": ("NULL", OTHER),
    "previous_group_id": ("NULL", OTHER, "group_id"),
    "actor": ("''", "'somebody'"),
    "source": ("''", "'elsewhere'"),
}


@pytest.fixture
def head(roster: Roster, connection: Connection[Any]) -> int:
    head = record_everything(roster)
    project_all(connection)
    return head


def damage(connection: Connection[Any], table: str, statement: str) -> None:
    connection.execute(f"ALTER TABLE log.{table} DISABLE TRIGGER {table}_append_only")
    connection.execute(statement)
    connection.execute(f"ALTER TABLE log.{table} ENABLE ALWAYS TRIGGER {table}_append_only")


def test_there_is_nothing_to_mend_in_a_log_that_is_whole(
    head: int, connection: Connection[Any]
) -> None:
    before = connection.execute("SELECT xmin, * FROM log.events").fetchall()
    assert not mend(connection)
    assert connection.execute("SELECT xmin, * FROM log.events").fetchall() == before


def test_an_empty_log_is_whole(connection: Connection[Any]) -> None:
    assert not mend(connection)


def test_every_column_is_derived_again(
    head: int, connection: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretch, "LENGTH", 5)
    assert WRONG.keys() == set(INDEX)
    before = connection.execute(EVERYTHING).fetchall(), connection.execute(ENDINGS).fetchall()
    for column, values in WRONG.items():
        for value in values:
            damage(connection, "events", f"UPDATE log.events SET {column} = {value}")
            covered = connection.execute(COVERED).fetchall()
            with pytest.raises(LogAltered):
                verify_log(connection)
            found = mend(connection, dry_run=True)
            assert found.columns
            with pytest.raises(LogAltered):
                verify_log(connection)
            mended = mend(connection)
            assert (mended.columns, mended.indexes) == (found.columns, [])
            assert connection.execute(COVERED).fetchall() == covered
            assert (
                connection.execute(EVERYTHING).fetchall(),
                connection.execute(ENDINGS).fetchall(),
            ) == before
    assert verify_log(connection).position == head


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM log.endings",
        "DELETE FROM log.endings WHERE user_id IS NULL",
        "UPDATE log.endings SET role = 'teacher'",
        "UPDATE log.endings SET group_id = class_id",
        "UPDATE log.endings SET topic = 'UserRemoved'",
        "UPDATE log.endings SET notification_id = notification_id + 1000",
        "INSERT INTO log.endings SELECT 0, topic, class_id, user_id, group_id, role FROM log.endings",
    ],
)
def test_the_index_of_endings_is_derived_again(
    head: int, connection: Connection[Any], statement: str
) -> None:
    before = connection.execute(ENDINGS).fetchall()
    damage(connection, "endings", statement)
    assert connection.execute(ENDINGS).fetchall() != before
    found = mend(connection, dry_run=True)
    assert found == Mended(endings=found.endings)
    assert mend(connection) == found
    assert connection.execute(ENDINGS).fetchall() == before
    assert verify_log(connection).position == head


def test_what_an_older_process_left_out_is_filled_in(
    head: int, connection: Connection[Any]
) -> None:
    """Columns and endings at once: the endings follow from the columns."""
    before = connection.execute(EVERYTHING).fetchall(), connection.execute(ENDINGS).fetchall()
    damage(
        connection,
        "events",
        "UPDATE log.events SET class_id = NULL, user_id = NULL, group_id = NULL",
    )
    damage(connection, "endings", "DELETE FROM log.endings")
    assert mend(connection)
    assert (
        connection.execute(EVERYTHING).fetchall(),
        connection.execute(ENDINGS).fetchall(),
    ) == before
    assert not mend(connection)


def test_each_index_that_is_missing_broken_or_another_one_is_made_anew(
    head: int, connection: Connection[Any]
) -> None:
    before = connection.execute(FOUND).fetchall()
    assert {row[0]: row[1] for row in before} == INDEXES
    assert {row[0] for row in before if row[2]} == CONSTRAINTS.keys()
    for name in INDEXES:
        table = f"log.{name.partition('_')[0]}" if name in CONSTRAINTS else ""
        table = table.replace("log.idempotency", "log.idempotency_keys")
        connection.execute(
            f"ALTER TABLE {table} DROP CONSTRAINT {name}" if table else f"DROP INDEX log.{name}"
        )
    assert sorted(mend(connection, dry_run=True).indexes) == sorted(INDEXES)
    assert sorted(mend(connection).indexes) == sorted(INDEXES)
    assert sorted(connection.execute(FOUND).fetchall()) == sorted(before)
    connection.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'log.events_user_id_idx'::regclass"
    )
    connection.execute("DROP INDEX log.events_topic_idx")
    connection.execute("CREATE INDEX events_topic_idx ON log.events (topic)")
    assert mend(connection).indexes == ["events_topic_idx", "events_user_id_idx"]
    assert not mend(connection, reindex=True)
    assert sorted(connection.execute(FOUND).fetchall()) == sorted(before)
    assert verify_log(connection).position == head


def test_the_log_refuses_changes_again_afterwards_and_after_a_mending_that_failed(
    head: int, connection: Connection[Any]
) -> None:
    damage(connection, "events", "UPDATE log.events SET actor = 'somebody'")
    connection.execute("ALTER TABLE log.events ADD CONSTRAINT stuck CHECK (actor = 'somebody')")
    with pytest.raises(psycopg.errors.CheckViolation):
        mend(connection)
    refuses(connection)
    connection.execute("ALTER TABLE log.events DROP CONSTRAINT stuck")
    assert mend(connection).columns
    refuses(connection)


def refuses(connection: Connection[Any]) -> None:
    for table in ("events", "endings"):
        for role in ("origin", "replica"):
            connection.execute(f"SET session_replication_role = {role}")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"DELETE FROM log.{table}")
    connection.execute("RESET session_replication_role")


def test_an_event_that_cannot_be_read_is_named_and_nothing_is_guessed(
    head: int, connection: Connection[Any]
) -> None:
    insert_event(connection, "UserRegistered", EventCodec(), b"{}")
    with pytest.raises(LogAltered, match=f"Position {head + 1}"):
        mend(connection)


def test_commands_go_on_after_a_mending(
    roster: Roster, head: int, connection: Connection[Any]
) -> None:
    damage(connection, "events", "UPDATE log.events SET group_id = NULL")
    assert mend(connection).columns
    assert roster.rename_group(GROUP, "Once more", by()).position == head + 1
    assert not mend(connection)
    assert verify_log(connection).position == head + 1


def test_the_command_says_what_it_mended(
    head: int, database: str, connection: Connection[Any]
) -> None:
    assert "nothing to mend" in succeeds("mend", DATABASE_URL=database)
    damage(connection, "events", "UPDATE log.events SET actor = 'somebody'")
    connection.execute("DROP INDEX log.events_topic_idx")
    for options, word in ((["--dry-run"], "to mend"), ([], "mended")):
        said = succeeds("mend", *options, DATABASE_URL=database)
        assert f"{word}: index events_topic_idx" in said
        assert f"{word}: columns of position 1, 2, 3" in said
    assert succeeds("verify", "--log", DATABASE_URL=database)


def test_an_account_that_may_not_mend_is_told_which_one_may(
    head: int, database: str, connection: Connection[Any]
) -> None:
    damage(connection, "events", "UPDATE log.events SET actor = 'somebody'")
    succeeds("roles", "--apply", DATABASE_URL=database)
    refused = rosterlog(
        "mend", DATABASE_URL=psycopg.conninfo.make_conninfo(database, user="rosterlog_reader")
    )
    assert (refused.returncode, "rosterlog mend as the migrator" in refused.stderr) == (1, True)
    assert "columns of position" in succeeds(
        "mend", DATABASE_URL=psycopg.conninfo.make_conninfo(database, user="rosterlog_migrator")
    )

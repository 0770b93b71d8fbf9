"""The command line, as an operator runs it."""

import json
import re
import signal
from typing import Any

import pytest
from psycopg import Connection
from psycopg.conninfo import make_conninfo

from rosterlog.domain.roster import Roster
from rosterlog.migrations import commands
from rosterlog.projections.rebuild.rebuilding import Rebuild
from tests.api.processes import SECONDS, rosterlog, started, succeeds
from tests.domain.threads import eventually
from tests.projections.tables import checkpoint, record_everything, rows


@pytest.fixture
def head(roster: Roster, database: str) -> int:
    """Record a bit of everything and project it."""
    head = record_everything(roster)
    assert Rebuild(database).run().done == head
    return head


def forge(connection: Connection[Any], change: str) -> None:
    """Change the log as somebody could who is its owner."""
    connection.execute("ALTER TABLE log.events DISABLE TRIGGER events_append_only")
    connection.execute(change)
    connection.execute("ALTER TABLE log.events ENABLE ALWAYS TRIGGER events_append_only")


def test_help_lists_every_command() -> None:
    shown = succeeds("--help")
    for command in (
        "serve",
        "project",
        "migrate",
        "rebuild",
        "verify",
        "status",
        "demo",
        "register",
        "enrol",
        "roster",
        "openapi",
    ):
        assert re.search(rf"^ +{command} +\w", shown, re.MULTILINE), command
    for setting in ("DATABASE_URL", "DATA_DIR", "HOST", "PORT"):
        assert f"ROSTERLOG_{setting}" in shown


def test_migrate_brings_an_empty_database_to_the_newest_migration_and_back(
    empty_database: str,
) -> None:
    assert commands.newest() in succeeds("migrate", DATABASE_URL=empty_database)
    assert commands.newest() in succeeds("migrate", DATABASE_URL=empty_database)
    assert "0004_create_users" in succeeds(
        "migrate", "--down", "--to", "0004_create_users", DATABASE_URL=empty_database
    )
    assert "no migration" in succeeds(
        "migrate", "--down", "--to", "base", DATABASE_URL=empty_database
    )


def test_migrate_prints_sql_for_review_and_needs_no_database() -> None:
    shown = succeeds("migrate", "--sql")
    for table in (
        "log.events",
        "roster.groups",
        "roster.users",
        "roster.classes",
        "roster.class_members",
    ):
        assert re.search(rf"CREATE TABLE {table}\b", shown), table
    assert "CREATE TABLE roster.class_members" not in succeeds(
        "migrate", "--sql", "--to", "0004_create_users"
    )
    assert "DROP TABLE log.events" in succeeds("migrate", "--sql", "--down", "--to", "base")


def test_status_says_where_everything_stands(head: int, database: str) -> None:
    url = make_conninfo(database, password="open sesame")
    shown = succeeds("status", "--json", DATABASE_URL=url)
    status = json.loads(shown)
    assert (status["head_position"], status["checkpoint"], status["lag"]) == (head, head, 0)
    assert status["projector"] == {
        **status["projector"],
        "leader": None,
        "state": "leaderless",
        "last_error": None,
    }
    assert status["migrations"] == {"at": commands.newest(), "newest": commands.newest()}
    assert "password=***" in status["database_url"]
    plain = succeeds("status", DATABASE_URL=url)
    assert re.search(rf"^head_position: +{head}$", plain, re.MULTILINE)
    assert "sesame" not in shown + plain


def test_status_of_a_database_that_is_not_migrated_says_so(empty_database: str) -> None:
    status = json.loads(succeeds("status", "--json", DATABASE_URL=empty_database))
    assert status["migrations"] == {"at": None, "newest": commands.newest()}


def test_rebuild_mends_the_read_tables(
    head: int, database: str, connection: Connection[Any]
) -> None:
    before = rows(connection)
    connection.execute("DELETE FROM roster.class_members")
    ended = rosterlog("rebuild", DATABASE_URL=database)
    assert f"done: {head} events" in ended.stdout
    assert "comparing and switching" in ended.stderr
    assert rows(connection) == before


def test_verify_is_content_with_what_nobody_touched(head: int, database: str) -> None:
    both = succeeds("verify", DATABASE_URL=database)
    assert re.search(rf"\b{head}:[0-9a-f]{{64}}$", both, re.MULTILINE)
    only_log, only_tables = (
        succeeds("verify", option, DATABASE_URL=database) for option in ("--log", "--tables")
    )
    assert only_log in both
    assert only_tables in both
    assert f"{head}:" not in only_tables


def test_verify_proves_that_the_log_goes_on_from_a_head_that_was_kept(
    head: int, database: str
) -> None:
    kept = succeeds("verify", "--log", DATABASE_URL=database).split()[-1]
    assert f"continues {head}; its head: {kept}" in succeeds(
        "verify", "--against", kept, DATABASE_URL=database
    )
    for other, says in (
        (f"{head + 1}:{'00' * 32}", "went up to"),
        (f"{head}:{'00' * 32}", "another one"),
        ("7:x", "no head of a log"),
    ):
        ended = rosterlog("verify", "--against", other, DATABASE_URL=database)
        assert ended.returncode != 0
        assert says in ended.stderr


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE log.events SET state = convert_to(convert_from(state, 'UTF8') || ' ', 'UTF8') WHERE notification_id = 5",
        "UPDATE log.events SET recorded_at = recorded_at + interval '1 microsecond' WHERE notification_id = 5",
        "UPDATE log.events SET actor = 'somebody' WHERE notification_id = 5",
        "DELETE FROM log.events WHERE notification_id = 5",
    ],
    ids=["state", "time", "index", "deletion"],
)
def test_verify_names_the_first_position_that_was_altered(
    head: int, database: str, connection: Connection[Any], change: str
) -> None:
    forge(connection, change)
    for options in ((), ("--log",)):
        ended = rosterlog("verify", *options, DATABASE_URL=database)
        assert ended.returncode == 1
        assert "Position 5:" in ended.stderr.splitlines()[-1]
        assert "Traceback" not in ended.stderr


def test_verify_names_the_rows_that_do_not_say_what_the_log_says(
    head: int, database: str, connection: Connection[Any]
) -> None:
    connection.execute("UPDATE roster.classes SET name = 'By hand' WHERE name = 'Physics'")
    for options in ((), ("--tables",)):
        ended = rosterlog("verify", *options, DATABASE_URL=database)
        assert ended.returncode == 1
        assert re.search("^classes: .*By hand.* expected .*Physics", ended.stdout, re.MULTILINE)
    succeeds("verify", "--log", DATABASE_URL=database)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_project_projects_until_it_is_told_to_stop(
    roster: Roster, database: str, connection: Connection[Any], number: signal.Signals
) -> None:
    head = record_everything(roster)
    with started("project", DATABASE_URL=database) as process:
        eventually(lambda: checkpoint(connection) == head)
        process.send_signal(number)
        assert process.wait(SECONDS) == 0


def test_a_failing_event_is_named_by_status(
    head: int, database: str, connection: Connection[Any]
) -> None:
    connection.execute(
        "UPDATE roster.checkpoint SET failing_position = 3, failing_since = now(), failure = 'Position 3 is poison'"
    )
    projector = json.loads(succeeds("status", "--json", DATABASE_URL=database))["projector"]
    assert (projector["state"], projector["failing_position"], projector["last_error"]) == (
        "stalled",
        3,
        "Position 3 is poison",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "x"),
        ("PORT", "65536"),
        ("HOST", "0.0.0.0"),
        ("HOST", "example.org"),
        ("DATABASE_URL", "postgresql://["),
        ("DATABASE_URL", "x"),
    ],
)
def test_a_setting_that_can_not_be_used_is_named_in_one_line(name: str, value: str) -> None:
    ended = rosterlog("serve", **{name: value})
    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith(f"ROSTERLOG_{name}: ")
    assert ended.stdout == ""

"""The fence between releases: who does not append as the log needs it records nothing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection

from rosterlog.domain.errors import NotMigrated, ReleaseOutdated
from rosterlog.domain.log import fence
from rosterlog.domain.log.append import APPEND_LOCK
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.migrations import commands
from rosterlog.projections.verify.log_check import verify_log
from tests.conftest import by, execute
from tests.domain import older_release
from tests.domain.threads import waiting_backend

BEFORE = "0010_hash_membership_ids_once"
NEWER = f"CREATE OR REPLACE FUNCTION log.append_format() RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT {fence.FORMAT + 1}'"
GROUP = UUID(int=1)


@pytest.fixture
def roster(log: PostgresLog) -> Iterator[Roster]:
    with closing(Roster(log)) as opened:
        yield opened


@pytest.fixture
def older(database: str) -> Iterator[Connection[Any]]:
    """A session of a process of the release before the fence."""
    with psycopg.connect(database, autocommit=True) as session:
        yield session


def head(connection: Connection[Any]) -> int:
    return int(
        (
            connection.execute(
                "SELECT coalesce(max(notification_id), 0) FROM log.events"
            ).fetchone()
            or (0,)
        )[0]
    )


@pytest.mark.parametrize("events", [0, 1])
def test_a_process_of_the_release_before_the_fence_records_nothing(
    roster: Roster, older: Connection[Any], connection: Connection[Any], events: int
) -> None:
    for _ in range(events):
        roster.create_group(GROUP, "North", by())
    # That release answers 503 to every error of this class, and goes on with ROLLBACK.
    with pytest.raises(psycopg.OperationalError, match="append format 1 only"):
        older_release.register(older, older_release.begin(older), uuid4())
    older.execute("ROLLBACK")
    assert head(connection) == events
    assert roster.register_user(uuid4(), by()).position == events + 1


def test_an_append_of_the_older_release_that_is_under_way_ends_before_the_migration_and_none_comes_after(
    database: str, older: Connection[Any], connection: Connection[Any]
) -> None:
    commands.downgrade(database, BEFORE)
    under_way = older_release.begin(older)
    with ThreadPoolExecutor(1) as threads:
        migrating = threads.submit(commands.upgrade, database)
        waiting_backend(connection)
        older_release.register(older, under_way, uuid4())
        migrating.result()
    assert head(connection) == 1
    with pytest.raises(psycopg.OperationalError):
        older_release.register(older, older_release.begin(older), uuid4())
    older.execute("ROLLBACK")
    assert verify_log(connection).position == 1


def test_this_release_records_nothing_once_a_newer_one_has_migrated_the_log(
    roster: Roster, log: PostgresLog, database: str, connection: Connection[Any]
) -> None:
    # Often enough for the driver and the database to have prepared all statements.
    for number in range(8):
        roster.create_group(UUID(int=number + 1), "North", by())
    with psycopg.connect(database) as migration, ThreadPoolExecutor(1) as threads:
        migration.execute("SELECT pg_advisory_xact_lock(%s)", [APPEND_LOCK])
        given = threads.submit(roster.register_user, uuid4(), by())
        waiting_backend(connection)
        migration.execute(NEWER)
        migration.commit()
        with pytest.raises(ReleaseOutdated):
            given.result()
    for _ in range(3):
        with pytest.raises(ReleaseOutdated):
            roster.rename_group(GROUP, "South", by())
    assert (head(connection), fence.is_outdated(connection)) == (8, True)


def test_on_a_database_that_lacks_the_fence_it_says_what_to_do_and_goes_on_after_that(
    roster: Roster, database: str
) -> None:
    roster.create_group(GROUP, "North", by())
    commands.downgrade(database, BEFORE)
    with pytest.raises(NotMigrated, match="rosterlog migrate"):
        roster.rename_group(GROUP, "South", by())
    commands.upgrade(database)
    assert roster.rename_group(GROUP, "South", by()).position == 2


def insert(connection: Connection[Any], statement: str) -> None:
    if statement.startswith("COPY"):
        with connection.cursor().copy(statement):
            pass
    else:
        connection.execute(statement)


@pytest.mark.parametrize("declared", ["", "0", "1.0", " 1", "2", "x"])
@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO log.events SELECT * FROM log.events LIMIT 0", "COPY log.events FROM STDIN"],
)
def test_whoever_declares_another_format_inserts_nothing(
    connection: Connection[Any], declared: str, statement: str
) -> None:
    connection.execute("SELECT set_config('rosterlog.append_format', %s, false)", [declared])
    with pytest.raises(psycopg.OperationalError, match="append format"):
        insert(connection, statement)


def test_what_logical_replication_applies_is_let_pass(
    database: str, connection: Connection[Any]
) -> None:
    connection.execute("SET session_replication_role = replica")
    connection.execute("INSERT INTO log.events SELECT * FROM log.events LIMIT 0")
    execute(
        database,
        "SET check_function_bodies = off; INSERT INTO log.events SELECT * FROM log.events LIMIT 0",
    )

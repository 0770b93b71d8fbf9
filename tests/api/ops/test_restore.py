"""The log is all that a backup must hold: everything else is derived from it again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from rosterlog.api.ops.embedded import Binaries, EmbeddedPostgres
from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.roster import Roster
from rosterlog.migrations import commands
from rosterlog.projections.projector import skips
from rosterlog.projections.rebuild.rebuilding import Rebuild
from rosterlog.projections.verify.log_check import verify_log
from tests.api.client import done
from tests.api.conftest import serving
from tests.api.processes import succeeds
from tests.conftest import execute, folder, fresh_database
from tests.copies import base_backup, configure
from tests.domain.samples import samples
from tests.domain.threads import eventually
from tests.faults.site import own_server
from tests.projections.forging import insert_event
from tests.projections.projector.test_skips import skip_failing
from tests.projections.tables import CLASS, GROUP, project_all, record_everything, rows

WAL_FILE_BYTES = 16 * 1024 * 1024


def to_database(conninfo: str) -> list[str]:
    parts = conninfo_to_dict(conninfo)
    return [f"--host={parts['host']}", "--username=postgres", f"--dbname={parts['dbname']}"]


def test_a_restored_log_verifies_and_the_tables_are_rebuilt_from_it(
    server: EmbeddedPostgres, roster: Roster, database: str, connection: Connection[Any]
) -> None:
    head = record_everything(roster)
    Rebuild(database).run()
    with folder() as backups, fresh_database(server, "template1") as restored:
        backups.chmod(0o777)
        file = backups / "log.dump"
        server.run(
            "pg_dump",
            "--format=custom",
            "--data-only",
            "--schema=log",
            f"--file={file}",
            *to_database(database),
        )
        commands.upgrade(restored)
        server.run(
            "pg_restore",
            "--data-only",
            "--single-transaction",
            "--exit-on-error",
            *to_database(restored),
            str(file),
        )
        assert Rebuild(restored).run().state == "done"
        with psycopg.connect(restored) as there:
            assert rows(there) == rows(connection)
            assert verify_log(there) == verify_log(connection)
        succeeds("verify", DATABASE_URL=restored)
        goes_on(restored, head)


def test_what_is_skipped_is_restored_with_the_log(
    server: EmbeddedPostgres, roster: Roster, database: str, connection: Connection[Any]
) -> None:
    head = record_everything(roster)
    bad = record_what_can_not_be_projected(connection)
    assert skip_failing(connection) == bad == head + 1
    project_all(connection)
    with folder() as backups, fresh_database(server, "template1") as restored:
        backups.chmod(0o777)
        file = backups / "log.dump"
        server.run(
            "pg_dump",
            "--format=custom",
            "--data-only",
            "--schema=log",
            f"--file={file}",
            *to_database(database),
        )
        commands.upgrade(restored)
        server.run(
            "pg_restore",
            "--data-only",
            "--single-transaction",
            "--exit-on-error",
            *to_database(restored),
            str(file),
        )
        assert Rebuild(restored).run().state == "done"
        with psycopg.connect(restored) as there:
            assert rows(there) == rows(connection)
            assert skips.active(there) == skips.active(connection) != []
        assert f"skipped: position {bad} (ClassRenamed)" in succeeds(
            "verify", DATABASE_URL=restored
        )
        goes_on(restored, bad)


def record_what_can_not_be_projected(connection: Connection[Any]) -> int:
    """Record an event that is well-formed, and whose name is too long for the read tables."""
    codec = EventCodec()
    state = json.loads(codec.to_stored_event(samples()["ClassRenamed"]).state) | {
        "name": "long" * 50
    }
    index = {"class_id": CLASS, "group_id": GROUP, "user_id": None, "previous_group_id": None}
    return insert_event(
        connection, "ClassRenamed", codec, msgspec.json.encode(state), stream=CLASS, **index
    )


def test_a_whole_restored_database_verifies_and_goes_on(
    server: EmbeddedPostgres, roster: Roster, database: str, connection: Connection[Any]
) -> None:
    head = record_everything(roster)
    Rebuild(database).run()
    with folder() as backups, fresh_database(server, "template1") as restored:
        backups.chmod(0o777)
        server.run(
            "pg_dump", "--format=custom", f"--file={backups / 'all.dump'}", *to_database(database)
        )
        server.run(
            "pg_restore",
            "--single-transaction",
            "--exit-on-error",
            *to_database(restored),
            str(backups / "all.dump"),
        )
        succeeds("verify", DATABASE_URL=restored)
        goes_on(restored, head)


@pytest.fixture
def archived(binaries: Binaries | None) -> Iterator[tuple[EmbeddedPostgres, Path]]:
    """A server that archives its write-ahead log as operations.md says, and the archive."""
    with folder() as archive, own_server(binaries) as server:
        archive.chmod(0o777)
        database = server.conninfo("postgres")
        commands.upgrade(database)
        execute(database, "ALTER SYSTEM SET archive_mode = on")
        execute(
            database,
            f"ALTER SYSTEM SET archive_command = 'test ! -f {archive}/%f && cp %p {archive}/%f'",
        )
        server.stop()
        server.start()
        yield server, archive


def test_a_recovery_to_a_moment_has_the_log_up_to_there_and_goes_on(
    archived: tuple[EmbeddedPostgres, Path], binaries: Binaries | None
) -> None:
    server, archive = archived
    with folder() as home:
        copy = base_backup(server, home)
        with (
            serving(server.conninfo("postgres")) as api,
            psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection,
        ):
            group, users = api.new_group(), api.new_users(10)
            kept = verify_log(connection)
            (moment,) = connection.execute("SELECT clock_timestamp()::text").fetchone() or ("",)
            done(api.delete(f"/v1/groups/{group}"), 204)
            is_archived(connection, archive)
        configure(
            copy,
            archive_mode="off",
            restore_command=f"cp {archive}/%f %p",
            recovery_target_action="promote",
            recovery_target_time=moment,
        )
        (copy / "recovery.signal").touch()
        recovered = EmbeddedPostgres(home, binaries)
        database = recovered.start()
        try:
            with psycopg.connect(database, autocommit=True) as connection:
                eventually(
                    lambda: connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
                )
                assert verify_log(connection) == kept
            assert "continues" in succeeds("verify", "--against", str(kept), DATABASE_URL=database)
            succeeds("verify", DATABASE_URL=database)
            with serving(database) as api:
                assert {user["id"] for user in api.items("/v1/users")} == set(users)
                assert api.read(f"/v1/groups/{group}")["id"] == group
                api.new_user()
                assert api.log_head == kept.position + 1
        finally:
            recovered.stop()


def is_archived(connection: Connection[Any], archive: Path) -> None:
    """Wait until all that was written so far is in the archive."""
    (file,) = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone() or ("",)
    connection.execute("SELECT pg_switch_wal()")
    eventually(
        lambda: (archive / file).exists() and (archive / file).stat().st_size == WAL_FILE_BYTES
    )


def goes_on(restored: str, head: int) -> None:
    """See that a restored service reads the past, and records at the next position."""
    with serving(restored) as api:
        assert api.items(f"/v1/classes/{CLASS}/history")
        assert api.read(f"/v1/groups/{GROUP}")["name"] == "West"
        api.new_user()
        assert api.log_head == head + 1

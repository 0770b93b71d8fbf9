"""The log is all that a backup must hold: everything else is derived from it again."""

from typing import Any

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from api.embedded import EmbeddedPostgres
from domain.roster import Roster
from migrations import commands
from projections.rebuild import Rebuild
from projections.verify_log import verify_log
from tests.api.conftest import serving
from tests.api.processes import succeeds
from tests.conftest import folder, fresh_database
from tests.projections.tables import CLASS, GROUP, record_everything, rows


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
        server.run("pg_dump", "--format=custom", "--data-only", "--schema=log", f"--file={file}", *to_database(database))
        commands.upgrade(restored)
        server.run("pg_restore", "--data-only", "--single-transaction", "--exit-on-error", *to_database(restored), str(file))
        assert Rebuild(restored).run().state == "done"
        with psycopg.connect(restored) as there:
            assert rows(there) == rows(connection)
            assert verify_log(there) == verify_log(connection)
        succeeds("verify", DATABASE_URL=restored)
        goes_on(restored, head)


def test_a_whole_restored_database_verifies_and_goes_on(
    server: EmbeddedPostgres, roster: Roster, database: str, connection: Connection[Any]
) -> None:
    head = record_everything(roster)
    Rebuild(database).run()
    with folder() as backups, fresh_database(server, "template1") as restored:
        backups.chmod(0o777)
        server.run("pg_dump", "--format=custom", f"--file={backups / 'all.dump'}", *to_database(database))
        server.run("pg_restore", "--single-transaction", "--exit-on-error", *to_database(restored), str(backups / "all.dump"))
        succeeds("verify", DATABASE_URL=restored)
        goes_on(restored, head)


def goes_on(restored: str, head: int) -> None:
    """See that a restored service reads the past, and records at the next position."""
    with serving(restored) as api:
        assert api.items(f"/v1/classes/{CLASS}/history")
        assert api.read(f"/v1/groups/{GROUP}")["name"] == "West"
        api.new_user()
        assert api.log_head == head + 1

"""Services and PostgreSQL end under load, again and again: nothing acknowledged is lost, nothing is recorded twice."""

import os
from contextlib import closing
from signal import SIGINT, SIGKILL, SIGQUIT
from uuid import uuid4

import psycopg

from rosterlog.api.ops.embedded import Binaries, EmbeddedPostgres
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.migrations import commands
from tests.conftest import DISK, by, execute, folder
from tests.domain.threads import eventually
from tests.faults.site import end_server, own_server, site

KILLS = 3

_PROJECTOR = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'rosterlog serve%'"


def test_services_killed_in_turns_are_stood_in_for_by_each_other(database: str) -> None:
    with site(database, services=2) as running:
        for number in range(KILLS):
            service = running.services[number % 2]
            service.kill()
            running.load.meets("none")
            running.load.flows()
            service.start()
            service.becomes_ready()
            running.load.flows()


def test_a_database_that_ends_and_comes_back_finds_the_service_waiting(
    binaries: Binaries | None,
) -> None:
    with own_server(binaries) as server, site(server.conninfo("postgres")) as running:
        for number in (SIGKILL, SIGQUIT, SIGINT, SIGKILL):
            end_server(server, number)
            running.load.meets("503")
            server.start()
            running.heals()


def test_service_and_database_killed_together_start_again_with_all_that_was_acknowledged() -> None:
    """The service starts its embedded PostgreSQL, so starting it again is all that an operator does."""
    with (
        folder(DISK) as data,
        own_server(None, data) as server,
        site(server.conninfo("postgres"), data_dir=data) as running,
    ):
        (service,) = running.services
        for _ in range(KILLS):
            os.kill(server.server_pid, SIGKILL)
            service.kill()
            running.load.meets("none")
            service.start()
            running.heals()


def test_a_killed_session_makes_the_database_recover_and_the_service_wait(
    binaries: Binaries | None,
) -> None:
    """PostgreSQL ends all sessions when one of its processes dies, because it might have left shared memory in disorder."""
    with own_server(binaries) as server, site(server.conninfo("postgres")) as running:
        for _ in range(KILLS):
            pid: int = eventually(lambda: _projector(server))
            os.kill(pid, SIGKILL)
            # Nobody need have been refused: commands and reads are tried once more.
            eventually(lambda: _projector(server) not in {None, pid})  # noqa: B023  # waited for within the turn
            running.heals()


def test_what_is_acknowledged_is_on_disk_also_where_the_databases_default_is_to_be_hasty(
    binaries: Binaries | None,
) -> None:
    """Without a projector, whose commits would bring the log to the disk along with their own."""
    with own_server(binaries) as server:
        database = server.conninfo("postgres")
        commands.upgrade(database)
        # The only process that would write the log late now does so much later than the end comes.
        execute(database, "ALTER SYSTEM SET wal_writer_delay = '10s'")
        execute(database, "SELECT pg_reload_conf()")
        execute(database, "ALTER DATABASE postgres SET synchronous_commit = off")
        with closing(PostgresLog(database)) as log, closing(Roster(log)) as roster:
            positions = [roster.register_user(uuid4(), by()).position for _ in range(20)]
            end_server(server, SIGKILL)
        server.start()
        with psycopg.connect(database) as connection:
            assert [
                row[0]
                for row in connection.execute("SELECT notification_id FROM log.events ORDER BY 1")
            ] == positions
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)


def _projector(server: EmbeddedPostgres) -> int | None:
    """Return the process id of the projector's session, None while there is none or the database recovers."""
    try:
        with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
            row = connection.execute(_PROJECTOR).fetchone()
            return row[0] if row else None
    except psycopg.OperationalError:
        return None

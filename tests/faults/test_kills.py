"""Services and PostgreSQL end under load, again and again: nothing acknowledged is lost, nothing is recorded twice."""

import os
from signal import SIGINT, SIGKILL, SIGQUIT, Signals

import psycopg
import pytest

from tests.conftest import execute
from tests.domain.threads import eventually
from tests.faults.site import end_server, own_server, site

KILLS = 4


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


@pytest.mark.parametrize("number", [SIGKILL, SIGQUIT, SIGINT], ids=["killed", "stopped at once", "stopped in order"])
def test_a_database_that_ends_and_comes_back_finds_the_service_waiting(number: Signals) -> None:
    with own_server() as server, site(server.conninfo("postgres")) as running:
        for _ in range(KILLS):
            end_server(server, number)
            running.load.meets("503", 5)
            server.start()
            running.heals()


def test_a_killed_session_makes_the_database_recover_and_the_service_wait() -> None:
    """PostgreSQL ends all sessions when one of its processes dies, because it might have left shared memory in disorder."""
    with own_server() as server, site(server.conninfo("postgres")) as running:
        for _ in range(KILLS):
            with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
                (pid,) = connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'rosterlog serve%'").fetchone() or ()
            os.kill(pid, SIGKILL)
            running.load.meets("503")
            running.heals()

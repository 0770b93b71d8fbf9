"""Sessions of a service ended from outside: whatever was in them is repeated or refused, never half done."""

from typing import Any

from psycopg import Connection

from tests.faults.site import site

ROUNDS = 2

_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"


def sessions(connection: Connection[Any]) -> list[int]:
    return [row[0] for row in connection.execute(_SESSIONS)]


def terminate(connection: Connection[Any], pids: list[int]) -> None:
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS ended (pid)", [pids]
    )


def test_each_session_can_be_terminated_and_then_all_of_them(
    database: str, connection: Connection[Any]
) -> None:
    """Appends, reads, the projector and the watch of the checkpoint, whichever they are: every session gets its turn."""
    with site(database) as running:
        for _ in range(ROUNDS):
            for pid in sessions(connection):
                terminate(connection, [pid])
                running.heals()
            for _ in range(3):
                terminate(connection, sessions(connection))
                running.load.flows(5)

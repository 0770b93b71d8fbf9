"""Running several functions at the same moment, and waiting for what another session does."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any

import psycopg
from psycopg import Connection

from rosterlog.domain.log.append import APPEND_LOCK

PATIENCE_SECONDS = 60
"""How long to wait for what comes within a second or few: longer than any machine that runs the tests is too busy for."""


def together(*functions: Callable[[], object]) -> list[BaseException | None]:
    """Start all functions at once and return, for each, what it raised."""
    barrier = Barrier(len(functions))

    def run(function: Callable[[], object]) -> None:
        barrier.wait(PATIENCE_SECONDS)
        function()

    with ThreadPoolExecutor(len(functions)) as threads:
        return [
            future.exception()
            for future in [threads.submit(run, function) for function in functions]
        ]


def eventually(condition: Callable[[], Any]) -> Any:
    """Return the condition's first true value."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)
    return value


def waiting_backend(connection: Connection[Any]) -> int:
    """Return the process id of a session of this database that waits for a lock, as soon as there is one."""
    statement = """
        SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE NOT granted AND datname = current_database() LIMIT 1
    """
    return int(eventually(lambda: connection.execute(statement).fetchone())[0])


@contextmanager
def gathered(database: str) -> Iterator[None]:
    """Hold the append's lock, so that all commands given meanwhile wait together."""
    with psycopg.connect(database) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [APPEND_LOCK])
        yield

"""Connections run out: those of the service, held by a lock, and those of the server."""

from contextlib import ExitStack
from threading import Thread
from typing import Any

import httpx
import psycopg
from psycopg import Connection

from rosterlog.api.ops.embedded import Binaries
from rosterlog.domain.log.event_store import APPEND_LOCK
from tests.api.client import Api, problem
from tests.conftest import execute
from tests.domain.threads import eventually, together
from tests.faults.site import own_server, site

CALLERS = 24
"""More than a service has connections to append with, or to read with."""
CONNECTIONS = 30

_END_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> ALL (%s::int[])
"""


def test_commands_that_wait_for_a_held_append_give_up_and_reads_go_on(
    database: str, connection: Connection[Any]
) -> None:
    with site(database) as running, Api(base_url=running.services[0].url, timeout=60) as api:
        connection.execute("SELECT pg_advisory_lock(%s)", [APPEND_LOCK])

        def give() -> None:
            problem(api.post("/v1/users"), 503, "store-unavailable")

        readers = Thread(target=lambda: [api.read("/v1/groups") for _ in range(20)])
        readers.start()
        assert together(*[give] * CALLERS) == [None] * CALLERS
        readers.join()
        connection.execute("SELECT pg_advisory_unlock(%s)", [APPEND_LOCK])
        running.heals()


def test_reads_that_wait_for_held_tables_give_up_and_the_service_stays_alive(database: str) -> None:
    with site(database) as running, Api(base_url=running.services[0].url, timeout=60) as api:
        with psycopg.connect(database) as holding:
            holding.execute("LOCK TABLE roster.groups IN ACCESS EXCLUSIVE MODE")
            alive = Thread(target=lambda: [api.read("/healthz") for _ in range(20)])
            alive.start()
            answers: list[httpx.Response] = []
            reads = [
                Thread(target=lambda: answers.append(api.get("/v1/groups"))) for _ in range(CALLERS)
            ]
            for read in reads:
                read.start()
            eventually(lambda: answers)
            alive.join()
        for read in reads:
            read.join()
        refused = [answer for answer in answers if answer.status_code != 200]
        assert refused
        for answer in refused:
            problem(answer, 503, "store-unavailable")
        running.heals()


def test_a_server_that_has_no_connections_left_is_asked_again(binaries: Binaries | None) -> None:
    with own_server(binaries) as server:
        database = server.conninfo("postgres")
        execute(database, f"ALTER SYSTEM SET max_connections = {CONNECTIONS}")
        server.stop()
        server.start()
        with site(database) as running:
            with ExitStack() as taken:
                take_all(database, taken)
                running.load.meets("503")
            running.heals()


def take_all(database: str, taken: ExitStack) -> None:
    """Take every connection that the server has, those of the service too."""
    ours: list[Connection[Any]] = []

    def has_all() -> bool:
        try:
            while True:
                ours.append(taken.enter_context(psycopg.connect(database, autocommit=True)))
        except psycopg.OperationalError:
            pass
        return not ours[0].execute(_END_OTHERS, [[one.info.backend_pid for one in ours]]).fetchall()

    eventually(has_all)

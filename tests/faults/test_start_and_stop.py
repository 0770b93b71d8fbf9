"""A service that starts before its database waits, and one that is stopped answers first what was asked."""

import subprocess
import time
from threading import Thread
from typing import Any

import httpx
import psycopg
from psycopg import Connection
from psycopg.conninfo import make_conninfo

from tests.api.client import Api, done
from tests.domain.threads import eventually
from tests.faults.proxy import Proxy
from tests.faults.site import ServiceProcess


def test_a_start_waits_for_the_database_and_says_for_which(database: str) -> None:
    with Proxy(database).running() as proxy:
        proxy.refuse()
        service = ServiceProcess(
            DATABASE_URL=make_conninfo(proxy.conninfo, password="not-to-be-shown")
        )
        process = service.start(stderr=subprocess.PIPE)
        assert process.stderr is not None
        try:
            words = process.stderr.readline().decode()
            assert "waiting for the database" in words
            assert "port=" in words
            assert "not-to-be-shown" not in words
            proxy.accept()
            rest = Thread(target=process.stderr.read)
            rest.start()
            service.becomes_ready()
            assert service.stop() == 0
            rest.join()
        finally:
            service.kill()
            process.stderr.close()


def test_requests_under_way_are_answered_before_a_stopped_service_ends(
    database: str, connection: Connection[Any]
) -> None:
    service = ServiceProcess(DATABASE_URL=database)
    answers: dict[str, httpx.Response] = {}

    def ask(method: str, path: str) -> None:
        with Api(base_url=service.url, timeout=60) as api:
            answers[method] = api.request(method, path)

    service.start()
    try:
        service.becomes_ready()
        asking = [
            Thread(target=ask, args=["POST", "/v1/users"]),
            Thread(target=ask, args=["GET", "/v1/groups"]),
        ]
        with psycopg.connect(database) as holding:
            holding.execute("LOCK TABLE roster.users, roster.groups IN ACCESS EXCLUSIVE MODE")
            for asked in asking:
                asked.start()
            eventually(lambda: len(connection.execute(_WAITING).fetchall()) == len(asking))
            service.terminate()
            eventually(lambda: refuses(service.url))
            # It takes no one new, and has time for these: for much less than it must, and much more
            # than none.
            time.sleep(2)
        for asked in asking:
            asked.join()
        assert service.stop() == 0
    finally:
        service.kill()
    user = done(answers["POST"], 201).json()["id"]
    done(answers["GET"], 200)
    assert connection.execute("SELECT id::text FROM roster.users").fetchall() == [(user,)]


# The projector, on the command's behalf, and the read.
_WAITING = "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()"


def refuses(url: str) -> bool:
    try:
        httpx.get(f"{url}/healthz", timeout=5)
    except httpx.TransportError:
        return True
    return False

"""Several workers on one port, and a service that ends what it has begun."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from psycopg import Connection

from rosterlog.domain.log.event_store import APPEND_LOCK
from tests.api.client import Api, done
from tests.api.processes import SECONDS, started, succeeds
from tests.domain.threads import eventually, waiting_backend
from tests.serving import free_port

DRAINING_SECONDS = 2


@contextmanager
def serve(
    database: str, answers_on: str = "/readyz", **settings: str
) -> Iterator[tuple["subprocess.Popen[bytes]", Api]]:
    port = str(free_port())
    with (
        started(
            "serve", stderr=None, DATABASE_URL=database, PORT=port, ACCESS_LOG="false", **settings
        ) as process,
        # A connection for each request, so that any worker may answer.
        Api(
            base_url=f"http://127.0.0.1:{port}", timeout=30, headers={"Connection": "close"}
        ) as client,
    ):
        eventually(lambda: answers(client, answers_on))
        yield process, client


def answers(client: Api, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False


def metric(client: Api, sample: str) -> float:
    (line,) = [
        line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{sample} ")
    ] or ["none 0"]
    return float(line.split()[1])


def leader(client: Api) -> int:
    return int(eventually(lambda: client.read("/v1/projections")["leader"]).rpartition(":")[2])


def test_several_workers_serve_one_leads_and_another_takes_over(database: str) -> None:
    with serve(database, WORKERS="2") as (process, client):
        class_id = client.new_class()
        for _ in range(10):
            client.enrol(class_id)
        assert len(client.items(f"/v1/classes/{class_id}/members")) == 10
        text = client.get("/metrics").text
        assert re.search(r"^rosterlog_append_events_sum 22\.0$", text, re.MULTILINE), (
            "the counts are those of all workers"
        )
        eventually(lambda: metric(client, 'rosterlog_pool_connections{pool="reads"}') >= 2)
        assert metric(client, "process_resident_memory_bytes") > 2 * 10_000_000
        asked = [metric(client, 'rosterlog_pool_requests_total{pool="reads"}') for _ in range(10)]
        assert asked == sorted(asked), "counts never go back, whichever worker answers"
        first = leader(client)
        assert first != process.pid
        os.kill(first, signal.SIGKILL)
        eventually(lambda: led_by_another(client, first))
        eventually(lambda: answers(client, "/readyz"))
        client.enrol(class_id)
        assert metric(client, 'rosterlog_pool_requests_total{pool="reads"}') >= asked[-1], (
            "what a worker counted outlives it"
        )
        process.terminate()
        assert process.wait(SECONDS) == 0


def test_workers_end_with_the_process_that_started_them(database: str) -> None:
    with serve(database, WORKERS="2") as (process, client):
        process.kill()
        process.wait(SECONDS)
        eventually(lambda: not answers(client, "/healthz"))


def led_by_another(client: Api, first: int) -> bool:
    try:
        return leader(client) != first
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_command_under_way_is_answered_before_the_service_ends(
    database: str, connection: Connection[Any], workers: str
) -> None:
    with serve(database, WORKERS=workers) as (process, client), ThreadPoolExecutor() as threads:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [APPEND_LOCK])
            answer = threads.submit(client.post, "/v1/users", json={})
            waiting_backend(connection)
            process.terminate()
            eventually(lambda: not answers(client, "/healthz"))
            # It takes no one new, and has time for this one: for much less than it must, and much
            # more than none.
            time.sleep(DRAINING_SECONDS)
        done(answer.result(), 201)
        assert process.wait(SECONDS) == 0
    assert json.loads(succeeds("status", "--json", DATABASE_URL=database))["head_position"] == 1


def test_a_serving_process_can_leave_the_projection_to_others(database: str) -> None:
    with serve(database, answers_on="/healthz", PROJECT="false") as (_, client):
        accepted = client.post("/v1/users", json={}, headers={"Prefer": "respond-async"}).json()
        assert client.read("/v1/projections")["state"] == "leaderless"
        with started("project", DATABASE_URL=database):
            eventually(lambda: answers(client, f"/v1/users/{accepted['id']}"))

"""Expensive reads have connections of their own: however many are asked for at once, commands and cheap reads go on."""

import gc
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import islice
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from httpx import Response
from psycopg import Connection

from rosterlog.api.reading import expensive, spools
from rosterlog.api.reading.expensive import CONNECTIONS
from rosterlog.api.reading.spools import File
from rosterlog.api.rest import diffs
from tests.api.client import Api, done, problem
from tests.api.conftest import serving
from tests.domain.threads import eventually

CALLERS = 20
CSV = {"Accept": "text/csv"}


@pytest.fixture
def impatient(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Serve callers who wait for their turn for half a second only."""
    monkeypatch.setattr(expensive, "TURN_SECONDS", 0.5)
    with serving(database) as client:
        yield client


@contextmanager
def asking(
    database: str, api: Api, path: str, callers: int = CALLERS
) -> Iterator[list[Future[Response]]]:
    """Ask for whole histories that wait, as nobody may read what endings ended: such as a log that takes long to read."""
    with ThreadPoolExecutor(callers) as threads, psycopg.connect(database) as connection:
        connection.execute("LOCK TABLE log.endings IN ACCESS EXCLUSIVE MODE")
        yield [threads.submit(api.get, path, headers=CSV) for _ in range(callers)]


def test_however_many_ask_for_much_the_others_are_answered(impatient: Api, database: str) -> None:
    class_id, user_id = impatient.new_class(), impatient.new_user()
    with asking(database, impatient, f"/v1/classes/{class_id}/history") as asked:
        for late in islice(as_completed(asked), CALLERS - CONNECTIONS):
            assert int(late.result().headers["Retry-After"]) >= 1
            problem(late.result(), 503, "expensive-reads-busy")
        impatient.enrol(class_id, user_id)
        assert len(impatient.items(f"/v1/classes/{class_id}/members")) == 1
        assert impatient.read("/v1/history", limit=100)["items"]
        assert impatient.read("/v1/events")["items"]
        assert impatient.read("/readyz")["degraded"] == []
    assert [one.result().status_code for one in asked].count(200) == CONNECTIONS


def test_every_read_that_may_take_long_waits_for_its_turn(impatient: Api, database: str) -> None:
    group_id = impatient.new_group()
    class_id = impatient.new_class(group_id)
    user_id = impatient.enrol(class_id)
    before: dict[str, Any] = {"at_position": impatient.log_head}
    expensive_reads: list[tuple[str, dict[str, Any], dict[str, str]]] = [
        (f"/v1/classes/{class_id}/diff", {"from_position": 1}, {}),
        (f"/v1/groups/{group_id}/diff", {"from_position": 1}, {}),
        (f"/v1/groups/{group_id}/rosters", {}, {}),
        (f"/v1/groups/{group_id}/rosters", before, CSV),
        (f"/v1/groups/{group_id}/classes", before, {}),
        (f"/v1/classes/{class_id}/members", before, {}),
        (f"/v1/users/{user_id}/memberships", before, {}),
        ("/v1/history", {"limit": 101}, {}),
        ("/v1/history", {}, {"Accept": "application/x-ndjson"}),
        (f"/v1/users/{user_id}/history", {}, CSV),
        ("/v1/events", {"limit": 101}, {}),
    ]
    for path, parameters, headers in expensive_reads:
        done(impatient.get(path, params=parameters, headers=headers), 200)
    with asking(database, impatient, f"/v1/classes/{class_id}/history", CONNECTIONS):
        for path, parameters, headers in expensive_reads:
            problem(
                impatient.get(path, params=parameters, headers=headers), 503, "expensive-reads-busy"
            )


def test_a_difference_too_large_for_memory_comes_from_a_file_and_is_the_same(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(database) as api:
        group_id = api.new_group()
        classes = [api.new_class(group_id) for _ in range(diffs.CLASSES_AT_ONCE + 3)]
        for class_id in classes:
            api.enrol(class_id)
        path = f"/v1/groups/{group_id}/diff"
        asked: dict[str, Any] = {"from_position": 1}
        whole = api.read(path, **asked)
        assert len(whole["enrolled"]) == len(classes)
        for module in (diffs, spools):
            monkeypatch.setattr(module, "MEMORY_BYTES", 100)
        streamed = done(api.get(path, params=asked), 200)
        assert streamed.json() == whole
        assert int(streamed.headers["Roster-Position"]) == api.log_head
        known = {"If-None-Match": streamed.headers["ETag"]}
        done(api.get(path, params=asked, headers=known), 304)
        api.enrol(classes[0])
        done(api.get(path, params=asked, headers=known), 200)


MANY, MORE = 1_500, 6_000
"""Members of a class whose answers are larger than what is kept in memory, and of one four times as large."""


def new_large_class(api: Api, size: int) -> tuple[str, str]:
    """Make a class with so many members, in a group of its own; return the ids of both."""
    group_id = api.new_group()
    class_id = api.new_class(group_id)
    users = [str(uuid4()) for _ in range(size)]
    done(api.post("/v1/users/batch", json={"items": [{"id": user_id} for user_id in users]}), 200)
    items = [{"class_id": class_id, "user_id": user_id, "role": "student"} for user_id in users]
    answer = done(api.post("/v1/enrolments", json={"items": items}), 200)
    assert answer.json()["enrolled"] == size
    return group_id, class_id


def large_reads(group_id: str, class_id: str) -> list[tuple[str, dict[str, Any], dict[str, str]]]:
    """Return the reads whose answers are as large as a class."""
    return [
        (f"/v1/classes/{class_id}/diff", {"from_position": 1}, {}),
        (f"/v1/groups/{group_id}/rosters", {}, {}),
        (f"/v1/groups/{group_id}/rosters", {}, CSV),
        (f"/v1/classes/{class_id}/history", {}, CSV),
    ]


def test_memory_does_not_grow_with_what_is_answered(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (diffs, spools):
        monkeypatch.setattr(module, "MEMORY_BYTES", 20_000)

    def peak(path: str, parameters: dict[str, Any], headers: dict[str, str]) -> int:
        gc.collect()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        with api.stream("GET", path, params=parameters, headers=headers) as response:
            assert response.status_code == 200
            assert sum(map(len, response.iter_raw())) > 100_000
        return tracemalloc.get_traced_memory()[1] - before

    classes = [new_large_class(api, size) for size in (MANY, MORE)]
    small, large = (large_reads(*one) for one in classes)
    tracemalloc.start()
    try:
        for one, other in zip(small, large, strict=True):
            peak(*one)
            assert peak(*other) < 2 * peak(*one), other
    finally:
        tracemalloc.stop()


def test_readers_of_much_that_stop_reading_hold_no_connection(
    api: Api, connection: Connection[Any]
) -> None:
    group_id, class_id = new_large_class(api, MORE)
    clients = [httpx.Client(base_url=api.base_url, timeout=60) for _ in range(CALLERS)]
    asked = large_reads(group_id, class_id)
    requests = [
        client.build_request("GET", path, params=parameters, headers=headers)
        for client, (path, parameters, headers) in zip(clients, asked * CALLERS, strict=False)
    ]
    stalled = [
        client.send(request, stream=True) for client, request in zip(clients, requests, strict=True)
    ]
    try:
        assert {response.status_code for response in stalled} == {200}
        busy = "datname = current_database() AND state LIKE 'idle in%' AND pid <> pg_backend_pid()"
        count = f"SELECT count(*) FROM pg_stat_activity WHERE {busy}"
        eventually(lambda: connection.execute(count.encode()).fetchone() == (0,))
        api.new_user()
        done(api.get(asked[0][0], params=asked[0][1]), 200)
    finally:
        for response, client in zip(stalled, clients, strict=True):
            response.close()
            client.close()
    eventually(lambda: gc.collect() is not None and File.all_bytes == 0)


def test_files_of_all_readers_together_have_a_limit(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    group_id, class_id = new_large_class(api, 10)
    for path, parameters, headers in large_reads(group_id, class_id)[:3]:
        done(api.get(path, params=parameters, headers=headers), 200)
        with monkeypatch.context() as patched:
            patched.setattr(spools, "ALL_BYTES", 500)
            refused = api.get(path, params=parameters, headers=headers)
            problem(refused, 503, "expensive-reads-busy")
            assert int(refused.headers["Retry-After"]) >= 1
    eventually(lambda: gc.collect() is not None and File.all_bytes == 0)

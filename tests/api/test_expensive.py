"""Expensive reads have connections of their own: however many are asked for at once, commands and cheap reads go on."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import islice
from typing import Any

import psycopg
import pytest
from httpx import Response

from api import diffs, expensive, spools
from api.expensive import CONNECTIONS
from tests.api.client import Api, done, problem
from tests.api.conftest import serving

CALLERS = 20
CSV = {"Accept": "text/csv"}


@pytest.fixture
def impatient(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Serve callers who wait for their turn for half a second only."""
    monkeypatch.setattr(expensive, "TURN_SECONDS", 0.5)
    with serving(database) as client:
        yield client


@contextmanager
def asking(database: str, api: Api, path: str, callers: int = CALLERS) -> Iterator[list[Future[Response]]]:
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
        ("/v1/history", {"limit": 101}, {}),
        ("/v1/history", {}, {"Accept": "application/x-ndjson"}),
        (f"/v1/users/{user_id}/history", {}, CSV),
        ("/v1/events", {"limit": 101}, {}),
    ]
    for path, parameters, headers in expensive_reads:
        done(impatient.get(path, params=parameters, headers=headers), 200)
    with asking(database, impatient, f"/v1/classes/{class_id}/history", CONNECTIONS):
        for path, parameters, headers in expensive_reads:
            problem(impatient.get(path, params=parameters, headers=headers), 503, "expensive-reads-busy")


def test_a_difference_too_large_for_memory_comes_from_a_file_and_is_the_same(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
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

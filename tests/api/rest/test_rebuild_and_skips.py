"""A rebuild and a skipped event, as those see them who call the API and who operate the service."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import pytest
from psycopg import Connection

from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.projections.projector import skips
from rosterlog.projections.status import projection_status
from tests.api.client import Api, done
from tests.api.processes import rosterlog, succeeds
from tests.domain.threads import eventually
from tests.projections.forging import insert_event
from tests.projections.tables import checkpoint

REBUILD = "/v1/projections/rebuild"


def answers(api: Api) -> dict[str, Any]:
    """Make classes and their rosters, and return what each path about them answers."""
    group, users = api.new_group(), api.new_users(4)
    classes = [api.new_class(group, f"Class {number}") for number in range(3)]
    for class_id in classes:
        for user in users:
            api.enrol(class_id, user)
    paths = [f"/v1/classes/{class_id}/members" for class_id in classes] + [
        f"/v1/users/{user}/memberships" for user in users
    ]
    return {
        path: api.read(path)
        for path in (*paths, f"/v1/groups/{group}/classes", f"/v1/groups/{group}")
    }


def test_readers_of_the_api_get_whole_and_true_answers_during_rebuilds(api: Api) -> None:
    expected = answers(api)
    paths = list(expected)
    stopping, reads = threading.Event(), list[int]()

    def read(prefer: int) -> None:
        with httpx.Client(base_url=api.base_url, timeout=30) as client:
            while not stopping.is_set():
                for path in paths[prefer:] + paths[:prefer]:
                    assert done(client.get(path), 200).json() == expected[path]
                    reads.append(1)

    def command() -> None:
        with Api(base_url=api.base_url, timeout=30) as client:
            while not stopping.is_set():
                user = client.new_user()
                assert client.read(f"/v1/users/{user}")["id"] == user

    def more_than(before: int) -> bool:
        return len(reads) > before or any(other.done() for other in others)

    with ThreadPoolExecutor(4) as threads:
        others = [threads.submit(read, number) for number in range(3)] + [threads.submit(command)]
        try:
            for _ in range(5):
                before = len(reads)
                done(api.post(REBUILD), 202)
                eventually(lambda: api.read(REBUILD)["state"] != "running")
                assert api.read(REBUILD)["state"] == "done"
                eventually(partial(more_than, before))
        finally:
            stopping.set()
        for other in others:
            other.result()


@pytest.fixture
def failing(api: Api, connection: Connection[Any]) -> tuple[int, str]:
    """Record an event that can't be projected; return its position and the class that it is about."""
    class_id = api.new_class()
    state = json.dumps(
        {"reason": None, "request_id": None, "previous_name": "x", "name": "too long" * 20}
    ).encode()
    bad = insert_event(connection, "ClassRenamed", EventCodec(), state, class_id=UUID(class_id))
    eventually(lambda: projection_status(connection).failing_position == bad)
    return bad, class_id


def test_an_operator_skips_the_failing_event_and_everybody_can_see_that(
    api: Api, connection: Connection[Any], database: str, failing: tuple[int, str]
) -> None:
    bad, class_id = failing
    assert api.read("/readyz")["degraded"] == ["projection-stalled"]
    options = ["--skip", str(bad), "--reason", "import of March", "--actor", "operator-1"]
    assert f"position {bad} (ClassRenamed) is skipped" in succeeds(
        "project", *options, DATABASE_URL=database
    )
    eventually(lambda: checkpoint(connection) == bad)
    assert api.read("/readyz")["degraded"] == []
    (skip,) = api.read("/v1/projections")["skips"]
    assert (skip["position"], skip["reason"], skip["actor"]) == (
        bad,
        "import of March",
        "operator-1",
    )
    entries = api.items(f"/v1/classes/{class_id}/history")
    assert entries[-1]["skipped"] == {
        "reason": "import of March",
        "actor": "operator-1",
        "at": entries[-1]["skipped"]["at"],
    }
    assert all("skipped" not in entry for entry in entries[:-1])
    line = f"skipped: position {bad} (ClassRenamed), by operator-1 at "
    assert line in succeeds("status", DATABASE_URL=database)
    assert line in succeeds("verify", "--tables", DATABASE_URL=database)
    assert (
        json.loads(succeeds("status", "--json", DATABASE_URL=database))["projector"]["skips"][0][
            "position"
        ]
        == bad
    )
    done(api.post(REBUILD), 202)
    eventually(lambda: api.read(REBUILD)["state"] == "done")


def test_what_can_not_be_skipped_is_refused_in_one_line(
    database: str, connection: Connection[Any], failing: tuple[int, str]
) -> None:
    bad, _ = failing
    for options, message in (
        (["--skip", str(bad - 1), "--reason", "x"], f"the event that fails is at position {bad}"),
        (["--skip", str(bad)], "--skip needs --reason"),
        (["--skip", str(bad), "--reason", " "], "reason needs 1 to 500 characters"),
        (["--skip", str(bad), "--reason", "x", "--actor", "a@b"], "actor must be an opaque id"),
        (["--unskip", str(bad)], f"Position {bad} is not skipped"),
    ):
        ended = rosterlog("project", *options, DATABASE_URL=database)
        assert ended.returncode != 0
        assert message in " ".join(ended.stderr.split()).replace(" │ ", " ")
        assert "Traceback" not in ended.stderr
    assert skips.active(connection) == []


def test_a_skip_is_taken_back_on_the_command_line(
    database: str, connection: Connection[Any], failing: tuple[int, str]
) -> None:
    bad, _ = failing
    succeeds("project", "--skip", str(bad), "--reason", "x", DATABASE_URL=database)
    eventually(lambda: checkpoint(connection) == bad)
    assert "rosterlog rebuild projects it" in succeeds(
        "project", "--unskip", str(bad), DATABASE_URL=database
    )
    assert skips.active(connection) == []
    ended = rosterlog("rebuild", DATABASE_URL=database)
    assert ended.returncode == 1
    assert f"Position {bad} can't be projected" in ended.stderr
    assert "Traceback" not in ended.stderr

"""A command's change can be read once it has answered; where it can't, the answer says so."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from rosterlog.projections.projector.runner import PROJECT_LOCK
from tests.api.client import Api, done, position, problem
from tests.api.conftest import serving
from tests.domain.threads import eventually


@pytest.fixture
def holder(database: str) -> Iterator[Connection[Any]]:
    """Hold the lead, and project nothing."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [PROJECT_LOCK])
        yield connection


@pytest.fixture
def leaderless(holder: Connection[Any], database: str) -> Iterator[Api]:
    with serving(database) as client:
        yield client


def test_what_a_command_answered_is_visible_at_once(api: Api) -> None:
    group = api.new_group()
    for number in range(50):
        class_id = api.new_class(group, f"{number:03}")
        assert api.read(f"/v1/classes/{class_id}")["name"] == f"{number:03}"
        assert api.items(f"/v1/groups/{group}/classes")[-1]["id"] == class_id
        api.enrol(class_id)
        assert len(api.items(f"/v1/classes/{class_id}/members")) == 1
        done(api.delete(f"/v1/classes/{class_id}"), 204)
        problem(api.get(f"/v1/classes/{class_id}"), 410, "class-deleted")


def test_a_read_that_waits_in_vain_says_when_to_try_again(api: Api) -> None:
    api.new_group()
    response = api.get("/v1/groups", params={"min_position": api.log_head + 1})
    assert "min" not in problem(response, 503, "read-tables-behind")["errors"]
    assert int(response.headers["Retry-After"]) >= 1


def test_without_a_projector_a_command_answers_that_it_is_recorded_and_becomes_visible_later(
    leaderless: Api, holder: Connection[Any]
) -> None:
    accepted = done(leaderless.post("/v1/groups", json={"name": "Waiting"}), 202)
    group = f"/v1/groups/{accepted.json()['id']}"
    assert accepted.json()["position"] == position(accepted) == 1
    problem(leaderless.get(group), 404, "group-unknown")
    asynchronous = {"Prefer": "respond-async"}
    done(leaderless.patch(group, json={"name": "Decided on the log"}, headers=asynchronous), 202)
    status = leaderless.read("/v1/projections")
    assert (status["head"], status["checkpoint"], status["lag"]) == (2, 0, 2)
    holder.execute("SELECT pg_advisory_unlock(%s)", [PROJECT_LOCK])
    assert leaderless.read(group, min_position=2)["name"] == "Decided on the log"
    eventually(lambda: leaderless.read("/v1/projections")["state"] == "following")

"""Questions of operators to the service.

Is it alive, is it ready, how far is the projection; and a rebuild.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from rosterlog.api.http import problems
from rosterlog.api.http.problems import explanations
from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.api.settings import Settings
from rosterlog.projections.rebuild import shadow
from rosterlog.projections.tables import SHADOW
from tests.api.client import Api, done, problem
from tests.api.conftest import serving
from tests.domain.threads import eventually
from tests.projections.forging import append_unknown

REBUILD = "/v1/projections/rebuild"
READY = {"status": "ready", "state": "following", "degraded": []}


@pytest.fixture
def claimed(database: str) -> Iterator[Connection[Any]]:
    """Claim the shadow tables, as another process's rebuild would."""
    with psycopg.connect(database, autocommit=True) as connection:
        shadow.claim(connection)
        yield connection


def end_the_lead(connection: Connection[Any]) -> None:
    statement = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name LIKE 'rosterlog serve %'"
    )
    connection.execute(f"{statement} AND datname = current_database()")


def test_the_service_is_alive_and_ready(api: Api) -> None:
    assert api.read("/healthz") == {"status": "alive"}
    eventually(lambda: api.read("/readyz") == READY)


def test_the_root_says_where_to_go(api: Api) -> None:
    places = {place for place in api.read("/").values() if place.startswith("/")}
    assert {"/docs", "/openapi.json", "/healthz", "/readyz"} <= places
    eventually(lambda: {api.get(place).status_code for place in places} == {200})


def test_the_projection_says_how_far_it_is_and_who_leads(api: Api) -> None:
    api.new_users(3)
    status = api.read("/v1/projections")
    assert (status["head"], status["checkpoint"], status["lag"], status["state"]) == (
        3,
        3,
        0,
        "following",
    )
    assert status["leader"].startswith("rosterlog serve ")
    assert (status["failing_position"], status["failing_since"], status["failure"]) == (
        None,
        None,
        None,
    )


def test_a_stalled_projection_says_where_to_operators_and_in_fixed_words_to_probes(
    api: Api, connection: Connection[Any]
) -> None:
    api.new_user()
    poison = append_unknown(connection)
    connection.execute("SELECT pg_notify('rosterlog_recorded', '')")
    eventually(lambda: api.read("/v1/projections")["state"] == "stalled")
    status = api.read("/v1/projections")
    assert (status["failing_position"], status["checkpoint"], status["lag"]) == (
        poison,
        poison - 1,
        1,
    )
    assert str(poison) in status["failure"]
    degraded = {"status": "ready", "state": "stalled", "degraded": ["projection-stalled"]}
    assert api.read("/readyz") == degraded
    assert api.read("/healthz") == {"status": "alive"}
    assert len(api.items("/v1/users")) == 1


def test_without_a_leader_the_service_serves_on_and_says_so(
    api: Api, connection: Connection[Any]
) -> None:
    def leaderless() -> bool:
        end_the_lead(connection)
        found = api.read("/readyz")
        return "projection-leaderless" in found["degraded"] and bool(found["state"] == "leaderless")

    eventually(leaderless)
    eventually(lambda: api.read("/readyz") == READY)
    api.new_user()


def test_a_strict_service_is_unready_for_whatever_is_degraded(
    database: str, connection: Connection[Any]
) -> None:
    with serving(database, Settings(ready_strict=True)) as api:
        eventually(lambda: api.get("/readyz").status_code == 200)

        def leaderless() -> bool:
            end_the_lead(connection)
            response = api.get("/readyz")
            return response.status_code == 503 and bool(
                problem(response, 503, "projection-leaderless")
            )

        eventually(leaderless)
        eventually(lambda: api.get("/readyz").status_code == 200)
        append_unknown(connection)
        connection.execute("SELECT pg_notify('rosterlog_recorded', '')")
        eventually(lambda: api.read("/v1/projections")["state"] == "stalled")
        response = api.get("/readyz")
        problem(response, 503, "projection-stalled")
        assert "Retry-After" in response.headers


def test_a_probe_needs_no_connection_that_the_work_may_have_used_up(
    api: Api, database: str, server: EmbeddedPostgres
) -> None:
    eventually(lambda: api.read("/readyz") == READY)
    with ThreadPoolExecutor(20) as callers:
        # A burst of work, after which the database takes no new connection.
        for one in [callers.submit(api.new_user) for _ in range(100)]:
            one.result()
    name = conninfo_to_dict(database)["dbname"]
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as elsewhere:
        elsewhere.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
            psycopg.connect(database)
        with ThreadPoolExecutor(20) as callers:
            probes = [callers.submit(api.read, "/readyz") for _ in range(100)]
            made = [callers.submit(api.new_user) for _ in range(100)]
            assert {tuple(probe.result()["degraded"]) for probe in probes} == {()}
            assert len({one.result() for one in made}) == 100
            assert api.read("/v1/projections")["lag"] == 0
        elsewhere.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_probes_that_come_at_once_share_their_checks(
    api: Api, database: str, connection: Connection[Any]
) -> None:
    waiting = """
        SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE NOT granted AND datname = current_database() AND query LIKE %s
    """

    def asking() -> int:
        (count,) = connection.execute(waiting, ["%checkpoint%"]).fetchone() or (0,)
        return int(count)

    eventually(lambda: api.get("/readyz").status_code == 200)
    with ThreadPoolExecutor(20) as probing, psycopg.connect(database) as holding:
        # Reads and the state wait for the lock; that commands can be recorded is enough.
        holding.execute("LOCK TABLE roster.checkpoint IN ACCESS EXCLUSIVE MODE")
        probes = [probing.submit(api.read, "/readyz") for _ in range(20)]
        for probe in probes:
            assert {"reads-unavailable", "state-unknown"} <= set(probe.result()["degraded"])
        # Of the projector and the watch of the checkpoint one each, and one of each check.
        assert asking() <= 4
        holding.rollback()
    eventually(lambda: api.read("/readyz") == READY)


def test_a_database_that_is_not_migrated_makes_the_service_unready(
    api: Api, connection: Connection[Any]
) -> None:
    connection.execute("UPDATE alembic_version SET version_num = '0005_create_classes'")
    assert "0005" not in problem(api.get("/readyz"), 503, "not-migrated")["detail"]


def test_a_database_that_a_newer_release_migrated_does_not_make_the_service_unready(
    api: Api, connection: Connection[Any]
) -> None:
    connection.execute("UPDATE alembic_version SET version_num = '9999_of_tomorrow'")
    eventually(lambda: api.get("/readyz").status_code == 200)


def test_a_rebuild_runs_to_its_end_and_says_how_far_it_is(
    api: Api, connection: Connection[Any]
) -> None:
    assert api.read(REBUILD)["state"] == "idle"
    class_id = api.new_class()
    api.enrol(class_id)
    connection.execute("DELETE FROM roster.class_members")
    started = done(api.post(REBUILD), 202).json()
    eventually(lambda: api.read(REBUILD)["state"] != "running")
    progress = api.read(REBUILD)
    assert (progress["id"], progress["state"], progress["done"], progress["total"]) == (
        started["id"],
        "done",
        4,
        4,
    )
    assert progress.keys() == {
        "id",
        "state",
        "done",
        "total",
        "per_second",
        "seconds_left",
        "error",
    }
    assert progress["error"] is None
    assert len(api.items(f"/v1/classes/{class_id}/members")) == 1


def test_one_rebuild_runs_at_a_time(api: Api, claimed: Connection[Any]) -> None:
    problem(api.post(REBUILD), 409, "shadow-in-use")
    claimed.close()
    eventually(lambda: api.post(REBUILD).status_code == 202)
    eventually(lambda: api.read(REBUILD)["state"] == "done")


def test_a_running_rebuild_can_be_cancelled(api: Api, connection: Connection[Any]) -> None:
    api.new_users(2)
    shadow.create(connection)
    with connection.transaction():
        # What an earlier rebuild left is still being read, so this one can't begin with its own.
        connection.execute(f"SELECT FROM {SHADOW}.checkpoint")
        done(api.post(REBUILD), 202)
        assert api.read(REBUILD)["state"] == "running"
        done(api.delete(REBUILD), 204)
    eventually(lambda: api.read(REBUILD)["state"] == "cancelled")
    assert api.read(REBUILD)["error"] is None
    assert len(api.items("/v1/users")) == 2


def test_where_no_rebuild_runs_there_is_nothing_to_cancel(api: Api) -> None:
    done(api.delete(REBUILD), 204)
    assert api.read(REBUILD)["state"] == "idle"


def test_every_problem_is_explained(shared: Api) -> None:
    source = Path(problems.__file__).parents[1]
    answered = {
        rule
        for path in source.rglob("*.py")
        for rule in re.findall(r'respond\(\s*request,\s*"([a-z-]+)"', path.read_text())
    }
    assert {"invalid-request", "not-migrated", "internal-error"} <= answered
    for rule in sorted(answered | explanations().keys()):
        response = done(shared.get(f"/problems/{rule}"), 200)
        assert response.headers["content-type"].startswith("text/plain")
        assert len(response.text) > 10, rule

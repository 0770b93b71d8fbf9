"""What Prometheus reads is there and right, and dashboard and alerts ask for nothing else."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from psycopg import Connection

from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.api.ops.metrics import MULTIPROCESS, forget_the_dead
from rosterlog.api.settings import Settings
from rosterlog.projections.projector.runner import PROJECT_LOCK
from tests.api.client import Api, done, problem, unknown_id
from tests.api.conftest import serving
from tests.conftest import TEMPLATE, execute, fresh_database
from tests.domain.threads import eventually
from tests.projections.forging import append_unknown

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations"
BY_PROMETHEUS = {"instance", "job"}
"""Labels that a target gets when it is read."""
Sample = tuple[str, frozenset[tuple[str, str]]]


def samples(api: Api) -> dict[Sample, float]:
    families = text_string_to_metric_families(done(api.get("/metrics"), 200).text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(api: Api, name: str, **labels: str) -> float:
    return samples(api).get((name, frozenset(labels.items())), 0)


def test_requests_are_counted_by_route_and_status_and_never_by_what_a_caller_made_up(
    api: Api,
) -> None:
    api.new_group()
    for _ in range(2):
        problem(api.get(f"/v1/groups/{unknown_id()}"), 404, "group-unknown")
    api.get(f"/v1/{unknown_id()}")
    api.request("BREW", "/v1/groups")
    counted = {
        dict(labels)["route"]
        for name, labels in samples(api)
        if name == "rosterlog_http_requests_total"
    }
    assert counted == {"/v1/groups", "/v1/groups/{group_id}", "/metrics", "none"} - (
        {"/metrics"} - counted
    )
    group = {"method": "GET", "route": "/v1/groups/{group_id}", "status": "404"}
    assert value(api, "rosterlog_http_requests_total", **group) == 2
    assert (
        value(api, "rosterlog_http_requests_total", method="POST", route="/v1/groups", status="201")
        == 1
    )
    assert {
        dict(labels)["method"]
        for name, labels in samples(api)
        if name == "rosterlog_http_requests_total"
    } <= {"GET", "POST", "other"}


def test_commands_reads_and_appends_are_measured(api: Api) -> None:
    api.new_users(3)
    api.items("/v1/users")
    assert value(api, "rosterlog_command_duration_seconds_count", command="registerUser") == 3
    assert 0 < value(api, "rosterlog_command_duration_seconds_sum", command="registerUser") < 30
    assert value(api, "rosterlog_read_duration_seconds_count", read="listUsers") == 1
    assert value(api, "rosterlog_append_events_sum") == 3
    assert 1 <= value(api, "rosterlog_append_events_count") <= 3


def test_the_projection_is_measured(api: Api) -> None:
    api.new_users(3)
    names = ("head_position", "checkpoint_position", "lag_events", "lag_seconds")
    assert [value(api, f"rosterlog_{name}") for name in names] == [3, 3, 0, 0]
    assert 0 <= value(api, "rosterlog_seconds_since_progress") < 60
    states = {
        dict(labels)["state"]: found
        for (name, labels), found in samples(api).items()
        if name == "rosterlog_projection_state"
    }
    assert states == {"following": 1, "catching-up": 0, "leaderless": 0, "stalled": 0}
    (leader,) = (
        dict(labels)["leader"] for name, labels in samples(api) if name == "rosterlog_leader_info"
    )
    assert leader == api.read("/v1/projections")["leader"]
    assert value(api, "rosterlog_pool_connections", pool="log") >= 1
    assert value(api, "rosterlog_pool_requests_total", pool="reads") >= 1


def test_a_stall_shows(api: Api, connection: Connection[Any]) -> None:
    append_unknown(connection)
    eventually(lambda: value(api, "rosterlog_projection_state", state="stalled") == 1)
    assert value(api, "rosterlog_lag_events") == 1
    assert value(api, "rosterlog_lag_seconds") > 0


def test_that_nobody_leads_shows(database: str, connection: Connection[Any]) -> None:
    connection.execute("SELECT pg_advisory_lock(%s)", [PROJECT_LOCK])
    with serving(database) as api:
        connection.execute("SELECT pg_advisory_unlock(%s)", [PROJECT_LOCK])
        eventually(lambda: value(api, "rosterlog_projection_state", state="following") == 1)
        connection.execute("UPDATE roster.checkpoint SET progressed_at = now() - interval '1 hour'")
        assert value(api, "rosterlog_seconds_since_progress") > 3599


def test_a_rebuild_shows(api: Api) -> None:
    api.new_users(3)
    assert value(api, "rosterlog_rebuild_state", state="idle") == 1
    done(api.post("/v1/projections/rebuild"), 202)
    eventually(lambda: value(api, "rosterlog_rebuild_state", state="done") == 1)
    assert (
        value(api, "rosterlog_rebuild_done_events")
        == value(api, "rosterlog_rebuild_total_events")
        == 3
    )


def test_without_a_database_the_metrics_say_so(server: EmbeddedPostgres) -> None:
    with fresh_database(server, TEMPLATE) as database, serving(database) as api:
        assert value(api, "rosterlog_database_up") == 1
        name = database.partition("dbname=")[2].partition(" ")[0]
        execute(server.conninfo("postgres"), f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        execute(
            server.conninfo("postgres"),
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )
        assert value(api, "rosterlog_database_up") == 0
        assert (
            value(
                api, "rosterlog_http_requests_total", method="GET", route="/metrics", status="200"
            )
            >= 1
        )
        execute(server.conninfo("postgres"), f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def serving_with_replica(database: str, replica: str) -> AbstractContextManager[Api]:
    return serving(database, Settings(database_url=database, read_database_url=replica))


def test_a_replica_that_is_gone_shows_and_the_rest_goes_on(
    server: EmbeddedPostgres, database: str
) -> None:
    with fresh_database(server, TEMPLATE) as other, serving_with_replica(database, other) as api:
        assert value(api, "rosterlog_replica_up") == 1
        name = other.partition("dbname=")[2].partition(" ")[0]
        execute(server.conninfo("postgres"), f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        execute(server.conninfo("postgres"), end)
        assert (value(api, "rosterlog_replica_up"), value(api, "rosterlog_database_up")) == (0, 1)
        assert "rosterlog_replica_lag_seconds" not in {name for name, _ in samples(api)}
        execute(server.conninfo("postgres"), f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        eventually(lambda: value(api, "rosterlog_replica_up") == 1)


def test_a_worker_that_is_gone_has_no_connections_and_no_memory_any_more_and_its_counts_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    files = [
        f"{kind}_{pid}.db"
        for kind in ("gauge_livesum", "counter")
        for pid in (gone.pid, os.getpid())
    ]
    for file in files:
        (tmp_path / file).touch()
    monkeypatch.setenv(MULTIPROCESS, str(tmp_path))
    forget_the_dead()
    assert {file.name for file in tmp_path.iterdir()} == set(files) - {
        f"gauge_livesum_{gone.pid}.db"
    }


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every expression of dashboard and alerts, with the place where it stands."""
    rules = yaml.safe_load((OPERATIONS / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule.keys() >= {"alert", "expr", "labels", "annotations"}
            yield rule["alert"], rule["expr"]
    for panel in json.loads((OPERATIONS / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.fixture(scope="module")
def known(server: EmbeddedPostgres) -> dict[str, set[str]]:
    """Return the labels of each metric of a service that reads from a replica.

    The replica is the database itself here.
    """
    with (
        fresh_database(server, TEMPLATE) as database,
        serving_with_replica(database, database) as api,
    ):
        api.enrol(api.new_class())
        api.items("/v1/users")
        eventually(lambda: value(api, "rosterlog_projection_state", state="following") == 1)
        labels: dict[str, set[str]] = {}
        for name, pairs in samples(api):
            labels.setdefault(name, set()).update(key for key, _ in pairs)
        return labels


@pytest.mark.parametrize(
    ("place", "expression"), [pytest.param(*one, id=one[0]) for one in expressions()]
)
def test_dashboard_and_alerts_use_only_what_exists(
    place: str, expression: str, known: dict[str, set[str]]
) -> None:
    used = re.findall(r"\b(?:rosterlog|process)_\w+", expression)
    assert used
    assert set(used) <= known.keys()
    matched = {
        name: set(re.findall(r"(\w+)\s*[=!]", inside))
        for name, inside in re.findall(r"\b(rosterlog_\w+)\{([^}]*)\}", expression)
    }
    grouped = {
        label
        for inside in re.findall(r"\bby \(([^)]*)\)", expression)
        for label in re.split(r",\s*", inside)
    }
    for name in used:
        assert matched.get(name, set()) | grouped <= known[name] | BY_PROMETHEUS, name


def test_every_state_in_a_dashboard_or_alert_exists(shared: Api) -> None:
    asked = {
        state
        for _, expression in expressions()
        for state in re.findall(r'state="([a-z-]+)"', expression)
    }
    assert asked <= {
        dict(labels)["state"] for _, labels in samples(shared) if "state" in dict(labels)
    }

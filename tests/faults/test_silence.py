"""A database that keeps its connections and says nothing: reads give up within a bound, and all is well once it speaks again."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from psycopg.conninfo import make_conninfo

from tests.api.client import Api, problem
from tests.api.conftest import serving
from tests.domain.threads import eventually
from tests.faults.proxy import Proxy

CALLERS = 24
"""More than a service has connections to read with."""
SILENT_SECONDS = 1.0


@pytest.fixture
def proxy(database: str) -> Iterator[Proxy]:
    with Proxy(database).running() as running:
        yield running


@pytest.fixture
def api(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Serve with little patience, over the proxy."""
    for name in ("READ_SECONDS", "LOOK_SECONDS", "OPERATOR_SECONDS"):
        monkeypatch.setattr(f"rosterlog.domain.log.silence.{name}", SILENT_SECONDS)
    with serving(make_conninfo(proxy.conninfo, connect_timeout=2)) as client:
        yield client


def reads_of(class_id: str, group: str) -> list[str]:
    """Return a read of each way to the database: gathered, a list, of the past, of the log, whole, and waiting for a position."""
    return [
        f"/v1/classes/{class_id}",
        f"/v1/classes/{class_id}/members",
        "/v1/groups",
        f"/v1/groups?min_position={10**6}",
        f"/v1/classes/{class_id}?at_position=2",
        f"/v1/classes/{class_id}/history",
        f"/v1/groups/{group}/rosters",
        "/v1/events?after=0",
        "/v1/projections",
    ]


def test_reads_of_a_silent_database_are_refused_and_succeed_once_it_speaks_or_hangs_up(
    api: Api, proxy: Proxy
) -> None:
    group = api.new_group()
    paths = reads_of(api.new_class(group), group)
    eventually(lambda: api.get("/readyz").status_code == 200)
    proxy.freeze()
    are_refused(api, (paths * CALLERS)[:CALLERS])
    assert api.get("/healthz").status_code == 200
    assert "rosterlog_database_up 0.0" in api.get("/metrics").text
    problem(api.get("/readyz"), 503, "store-unavailable")
    proxy.thaw()
    are_answered(api, paths)
    proxy.freeze()
    are_refused(api, paths)
    proxy.cut()
    proxy.thaw()
    are_answered(api, paths)


def are_refused(api: Api, paths: list[str]) -> None:
    def refused(path: str) -> None:
        # The client's own patience, 30 s, is what an answer without a bound would meet.
        answer = httpx.get(f"{api.base_url}{path}", timeout=30)
        problem(
            answer, 503, "read-tables-behind" if "min_position" in path else "store-unavailable"
        )
        assert int(answer.headers["Retry-After"]) > 0

    with ThreadPoolExecutor(len(paths)) as callers:
        list(callers.map(refused, paths))


def are_answered(api: Api, paths: list[str]) -> None:
    eventually(lambda: api.get("/readyz").status_code == 200)
    for path in paths:
        if "min_position" not in path:
            eventually(lambda path=path: api.get(path).status_code == 200)  # type: ignore[misc]
    # The watch of the checkpoint is back, too.
    api.new_user()
    assert api.read("/v1/groups", min_position=api.log_head)

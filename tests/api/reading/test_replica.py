"""Reads from a streaming replica keep their promises: `min_position` waits, the past is whole, a switch of tables fails no read."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import AsyncConnection, Connection
from psycopg_pool import AsyncConnectionPool

from rosterlog.api.ops.embedded import Binaries, EmbeddedPostgres
from rosterlog.api.reading.replica import ReplicaConnections
from rosterlog.api.settings import Settings
from rosterlog.domain.errors import StoreUnavailable
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.projections.rebuild.rebuilding import Rebuild
from tests.api.client import Api, done, position, problem
from tests.api.conftest import serving
from tests.api.identity import Provider, trusting
from tests.api.town import town
from tests.conftest import TEMPLATE, by, folder, fresh_database
from tests.copies import base_backup, configure
from tests.domain.threads import eventually
from tests.faults.proxy import Proxy
from tests.projections.tables import GROUP

REBUILD = "/v1/projections/rebuild"


@pytest.fixture(scope="module")
def replica(server: EmbeddedPostgres, binaries: Binaries | None) -> Iterator[EmbeddedPostgres]:
    """A hot standby of the tests' server, which cancels whatever is in the way of replaying, at once."""
    with folder() as home:
        configure(
            base_backup(server, home, "--write-recovery-conf"), max_standby_streaming_delay="0"
        )
        standby = EmbeddedPostgres(home, binaries)
        standby.start()
        try:
            yield standby
        finally:
            standby.stop()


@pytest.fixture
def names(server: EmbeddedPostgres, replica: EmbeddedPostgres) -> Iterator[tuple[str, str]]:
    """Yield the connection strings of one database on both servers."""
    with fresh_database(server, TEMPLATE) as database:
        there = replica.conninfo(str(psycopg.conninfo.conninfo_to_dict(database)["dbname"]))
        eventually(lambda: answers(there))
        yield database, there


def answers(conninfo: str) -> bool:
    try:
        psycopg.connect(conninfo).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def api(names: tuple[str, str]) -> Iterator[Api]:
    database, there = names
    with serving(database, Settings(database_url=database, read_database_url=there)) as client:
        eventually(lambda: client.get("/readyz").status_code == 200)
        yield client


@pytest.fixture
def standby(names: tuple[str, str]) -> Iterator[Connection[Any]]:
    with psycopg.connect(names[1], autocommit=True) as connection:
        yield connection
        connection.execute("SELECT pg_wal_replay_resume()")


def pause(standby: Connection[Any]) -> None:
    standby.execute("SELECT pg_wal_replay_pause()")
    eventually(
        lambda: standby.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("paused",)
    )


def test_a_read_is_the_replicas_and_waits_for_min_position(
    api: Api, standby: Connection[Any]
) -> None:
    first = api.new_group()
    api.read("/v1/groups", min_position=1)
    pause(standby)
    created = done(api.post("/v1/groups", json={"name": "Later"}), 201)
    assert [group["id"] for group in api.items("/v1/groups")] == [first]
    problem(api.get(f"/v1/groups/{created.json()['id']}"), 404, "group-unknown")
    found: list[httpx.Response] = []
    waiting = [
        threading.Thread(
            target=lambda path=path: found.append(
                api.get(path, params={"min_position": position(created)})
            )
        )
        for path in ("/v1/groups", f"/v1/groups/{created.json()['id']}")
    ]
    for thread in waiting:
        thread.start()
    standby.execute("SELECT pg_wal_replay_resume()")
    for thread in waiting:
        thread.join()
    assert [(answer.status_code, position(answer)) for answer in found] == [(200, 2), (200, 2)]


def test_a_replica_that_stays_behind_is_told_from_one_that_is_current(
    api: Api, standby: Connection[Any]
) -> None:
    pause(standby)
    created = done(api.post("/v1/groups", json={"name": "Later"}), 201)
    response = api.get("/v1/groups", params={"min_position": position(created)})
    problem(response, 503, "read-tables-behind")
    assert "Retry-After" in response.headers


def test_how_far_a_replica_is_behind_shows(api: Api, standby: Connection[Any]) -> None:
    def measured(name: str) -> float:
        (line,) = [
            line
            for line in api.get("/metrics").text.splitlines()
            if line.startswith(f"rosterlog_replica_{name} ")
        ]
        return float(line.split()[1])

    api.new_group()
    eventually(lambda: measured("position") == 1)
    assert (measured("up"), measured("lag_seconds")) == (1, 0)
    pause(standby)
    api.new_group()
    assert (measured("up"), measured("position")) == (1, 1)
    assert 0 < measured("lag_seconds") < measured("lag_seconds")
    standby.execute("SELECT pg_wal_replay_resume()")
    eventually(lambda: (measured("position"), measured("lag_seconds")) == (2, 0))


@pytest.fixture
def network(names: tuple[str, str]) -> Iterator[Proxy]:
    """Stand between the service and the replica."""
    with Proxy(names[1]).running() as proxy:
        yield proxy


LIVE = ("/v1/groups", "/v1/users", "/v1/classes")
GONE = ["replica-unavailable"]


def degraded(api: Api) -> list[str]:
    found: list[str] = api.read("/readyz")["degraded"]
    return found


@pytest.mark.parametrize(
    ("goes", "comes_back"), [(Proxy.refuse, Proxy.accept), (Proxy.freeze, Proxy.thaw)]
)
def test_where_the_replica_is_gone_its_reads_go_to_the_primary(
    names: tuple[str, str],
    network: Proxy,
    goes: Callable[[Proxy], None],
    comes_back: Callable[[Proxy], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rosterlog.domain.log.silence.REPLICA_SECONDS", 1.0)
    settings = Settings(database_url=names[0], read_database_url=network.conninfo)
    with serving(names[0], settings) as api, ThreadPoolExecutor(20) as callers:
        group_id = api.new_group()
        eventually(lambda: degraded(api) == [] and len(api.items("/v1/groups")) == 1)
        goes(network)
        # More than there are connections to the replica, and before anybody knows that it is gone.
        asked = [callers.submit(api.items, path) for path in LIVE * 8]
        assert [group["id"] for group in asked[0].result()] == [group_id]
        assert all(isinstance(one.result(), list) for one in asked)
        eventually(lambda: degraded(api) == GONE)
        user_id = api.new_user()
        assert [user["id"] for user in api.items("/v1/users")] == [user_id]
        comes_back(network)
        eventually(lambda: degraded(api) == [])


def test_where_the_primary_may_not_stand_in_reads_are_refused_and_commands_go_on(
    names: tuple[str, str], network: Proxy
) -> None:
    settings = Settings(
        database_url=names[0], read_database_url=network.conninfo, replica_fallback=False
    )
    with serving(names[0], settings) as api:
        eventually(lambda: degraded(api) == [])
        network.refuse()
        eventually(lambda: degraded(api) == GONE)
        for path in LIVE:
            problem(api.get(path), 503, "store-unavailable")
        group_id = api.new_group()
        assert api.read(f"/v1/groups/{group_id}", at_position=1)["id"] == group_id
        network.accept()
        eventually(lambda: degraded(api) == [])
        eventually(lambda: api.get("/v1/groups", params={"min_position": 1}).status_code == 200)
        assert [group["id"] for group in api.items("/v1/groups")] == [group_id]


def test_the_past_is_read_where_it_is_whole(api: Api, standby: Connection[Any]) -> None:
    pause(standby)
    class_id = api.new_class()
    member = api.enrol(class_id)
    assert [
        one["user_id"]
        for one in api.items(f"/v1/classes/{class_id}/members", at_position=api.log_head)
    ] == [member]
    assert len(api.items(f"/v1/classes/{class_id}/history")) == 2


def test_who_is_confined_is_so_on_the_replica_too(
    names: tuple[str, str], provider: Provider, tmp_path: Path
) -> None:
    database, there = names
    provider.write(tmp_path / "keys")
    with (
        serving(
            database, trusting(tmp_path / "keys", database_url=database, read_database_url=there)
        ) as api,
        town(api, provider) as made,
    ):
        reads = [
            f"/v1/classes/{made.other_class}",
            f"/v1/classes/{made.other_class}/members",
            f"/v1/users/{made.other_user}/memberships",
        ]
        for path in reads:
            done(api.get(path, params={"min_position": api.log_head}), 200)
            assert made.mine.get(path).status_code == 404
        assert [item["id"] for item in made.mine.items("/v1/users")] == [made.user]
        assert [
            item["user_id"] for item in made.mine.items(f"/v1/classes/{made.class_id}/members")
        ] == [made.user]


def test_a_read_that_a_switch_cancels_runs_again(
    names: tuple[str, str], standby: Connection[Any]
) -> None:
    database, there = names
    # It sleeps on the table that the rebuild replaces, for as long as it may take to be cancelled,
    # and not on its successor.
    (old,) = standby.execute("SELECT 'roster.users'::regclass::oid").fetchone() or (0,)
    slow = f"SELECT count(*) FROM roster.users, pg_sleep(CASE WHEN 'roster.users'::regclass::oid = {old} THEN 60 ELSE 0 END)"

    async def read_while_a_rebuild_switches() -> list[tuple[Any, ...]]:
        async with AsyncConnectionPool[AsyncConnection[Any]](there, open=False) as pool:
            reading = asyncio.create_task(ReplicaConnections(pool).rows(slow, {}))
            await asyncio.to_thread(eventually, lambda: is_running(standby, slow))
            assert (await asyncio.to_thread(Rebuild(database).run)).state == "done"
            return await reading

    assert asyncio.run(read_while_a_rebuild_switches()) == [(0,)]
    # By the lock of the switch, or by what the rebuild removed before it: whichever the standby
    # replays first.
    cancelled = "SELECT confl_lock + confl_snapshot > 0 FROM pg_stat_database_conflicts WHERE datname = current_database()"
    eventually(lambda: standby.execute(cancelled).fetchone() == (True,))


def is_running(standby: Connection[Any], statement: str) -> bool:
    return (
        standby.execute(
            "SELECT FROM pg_stat_activity WHERE query = %s AND state = 'active'", [statement]
        ).rowcount
        > 0
    )


def test_no_read_fails_because_of_a_rebuild(api: Api, standby: Connection[Any]) -> None:
    class_id = api.new_class()
    api.new_users(50)
    api.read("/v1/users", min_position=api.log_head)
    ending = threading.Event()
    statuses: set[int] = set()

    def read() -> None:
        with httpx.Client(base_url=api.base_url, timeout=30) as client:
            while not ending.is_set():
                statuses.update(
                    client.get(path).status_code
                    for path in ("/v1/users", f"/v1/classes/{class_id}/members", "/v1/groups")
                )

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for _ in range(3):
        done(api.post(REBUILD), 202)
        eventually(lambda: api.read(REBUILD)["state"] == "done")
    api.new_user()
    api.read("/v1/users", min_position=api.log_head)
    ending.set()
    for reader in readers:
        reader.join()
    assert statuses == {200}


def test_nothing_is_decided_on_a_standby_which_may_be_behind_the_log(
    names: tuple[str, str],
) -> None:
    database, there = names
    with closing(PostgresLog(database)) as log, closing(Roster(log)) as roster:
        roster.create_group(GROUP, "North", by())
    with closing(PostgresLog(there)) as log, closing(Roster(log)) as roster:
        with pytest.raises(StoreUnavailable):
            roster.create_group(GROUP, "North", by())
        with pytest.raises(StoreUnavailable):
            roster.rename_group(uuid4(), "South", by())

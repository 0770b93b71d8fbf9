"""Processes that project: killed, frozen, restarted, one after the other.

Nothing is projected twice or left out.
"""

import itertools
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import Connection

from rosterlog.api.ops.embedded import Binaries, EmbeddedPostgres
from rosterlog.domain.log import sessions
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.migrations import commands
from rosterlog.projections.projector import runner as runners
from rosterlog.projections.projector.runner import Runner
from rosterlog.projections.rebuild.rebuilding import Rebuild
from rosterlog.projections.status import projection_status
from rosterlog.projections.verify.tables_check import verify_tables
from tests.api.client import Api, done
from tests.api.processes import SECONDS, started
from tests.conftest import by, folder
from tests.domain.threads import eventually, waiting_backend
from tests.faults.proxy import Proxy
from tests.projections.tables import checkpoint, record_everything, rows
from tests.serving import free_port

SERVER_END = {
    "client_connection_check_interval": "1s",
    "idle_in_transaction_session_timeout": "5s",
    "statement_timeout": "0",
}
CLIENT_END = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": 4000}


def leader(connection: Connection[Any]) -> str:
    return projection_status(connection).leader or ""


def led_by(connection: Connection[Any], pid: int) -> bool:
    return leader(connection).endswith(f":{pid}")


@contextmanager
def running(database: str, name: str) -> Iterator[Runner]:
    runner = Runner(database, name)
    thread = threading.Thread(target=runner.run)
    thread.start()
    try:
        yield runner
    finally:
        runner.stop()
        thread.join(SECONDS)
        assert not thread.is_alive()


def is_as_rebuilt(connection: Connection[Any], database: str) -> None:
    live = rows(connection)
    assert Rebuild(database).run().state == "done"
    assert rows(connection) == live


def test_a_projector_killed_in_mid_batch_leaves_nothing_half_done(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    head = record_everything(roster)
    with (
        psycopg.connect(database) as blocking,
        started("project", DATABASE_URL=database) as process,
    ):
        # The batch has made groups, users and classes by the time it waits here.
        blocking.execute("LOCK TABLE roster.class_members IN SHARE MODE")
        waiting_backend(connection)
        process.send_signal(signal.SIGKILL)
        process.wait(SECONDS)
        blocking.rollback()
        eventually(lambda: leader(connection) == "")
    assert checkpoint(connection) == 0
    assert not any(rows(connection).values())
    with started("project", DATABASE_URL=database):
        eventually(lambda: checkpoint(connection) == head)
    is_as_rebuilt(connection, database)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stand_by_takes_over_when_the_leader_ends(
    roster: Roster, connection: Connection[Any], database: str, number: signal.Signals
) -> None:
    with started("project", DATABASE_URL=database) as first:
        eventually(lambda: led_by(connection, first.pid))
        with running(database, "stand-by"):
            first.send_signal(number)
            first.wait(SECONDS)
            position = roster.register_user(uuid4(), by()).position
            eventually(lambda: checkpoint(connection) == position)
            assert leader(connection) == "stand-by"


def test_a_frozen_leader_shows_as_stalled_and_loses_its_lead(
    roster: Roster, connection: Connection[Any], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "FROZEN_SECONDS", 2)
    with started("project", DATABASE_URL=database) as first:
        eventually(lambda: led_by(connection, first.pid))
        first.send_signal(signal.SIGSTOP)
        position = roster.register_user(uuid4(), by()).position
        assert checkpoint(connection) < position
        eventually(lambda: projection_status(connection).seconds_without_progress > 0)
        with running(database, "stand-by"):
            eventually(lambda: checkpoint(connection) == position)
            assert leader(connection) == "stand-by"
            first.send_signal(signal.SIGCONT)
            position = roster.register_user(uuid4(), by()).position
            eventually(lambda: checkpoint(connection) == position)
            assert leader(connection) == "stand-by"
        eventually(lambda: led_by(connection, first.pid))
        position = roster.register_user(uuid4(), by()).position
        eventually(lambda: checkpoint(connection) == position)
    is_as_rebuilt(connection, database)


def test_a_leader_frozen_in_its_transaction_is_fenced_off(
    roster: Roster, connection: Connection[Any], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The stand-by ends nobody here: the server itself ends the session that says nothing any more
    # in the middle of its transaction.
    monkeypatch.setattr(runners, "FROZEN_SECONDS", 1e6)
    head = record_everything(roster)
    with psycopg.connect(database) as blocking, started("project", DATABASE_URL=database) as first:
        blocking.execute("LOCK TABLE roster.class_members IN SHARE MODE")
        waiting_backend(connection)
        first.send_signal(signal.SIGSTOP)
        blocking.rollback()
        with running(database, "stand-by"):
            eventually(lambda: checkpoint(connection) == head)
            assert leader(connection) == "stand-by"
            first.send_signal(signal.SIGCONT)
            position = roster.register_user(uuid4(), by()).position
            eventually(lambda: checkpoint(connection) == position)
    is_as_rebuilt(connection, database)


def test_a_leader_whose_network_is_gone_without_a_word_loses_its_lead_and_stands_by_when_it_is_back(
    roster: Roster, connection: Connection[Any], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "FROZEN_SECONDS", 2)
    with Proxy(database).running() as proxy, running(proxy.conninfo, "far away"):
        eventually(lambda: leader(connection) == "far away")
        proxy.freeze()
        with running(database, "stand-by"):
            position = roster.register_user(uuid4(), by()).position
            eventually(lambda: checkpoint(connection) == position)
            assert leader(connection) == "stand-by"
            proxy.thaw()
            position = roster.register_user(uuid4(), by()).position
            eventually(lambda: checkpoint(connection) == position)
            assert leader(connection) == "stand-by"
        eventually(lambda: leader(connection) == "far away")
    is_as_rebuilt(connection, database)


def test_both_ends_of_a_session_that_projects_watch_the_other(database: str) -> None:
    """The server's end of a TCP connection, seen over a proxy.

    The server of the tests does not speak TCP, so a proxy stands in front of it.
    """
    with (
        Proxy(database).running() as proxy,
        sessions.connect(proxy.conninfo, sessions.PROJECTING) as session,
    ):
        server_end = {name: session.execute(f"SHOW {name}").fetchone() for name in SERVER_END}
        with socket.socket(fileno=os.dup(session.fileno())) as client:
            client_end = {
                name: client.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in CLIENT_END
            }
    assert server_end == {name: (value,) for name, value in SERVER_END.items()}
    assert client_end == CLIENT_END


def test_projecting_goes_on_after_postgresql_was_killed(binaries: Binaries | None) -> None:
    with folder() as data:
        postgres = EmbeddedPostgres(data, binaries)
        conninfo = postgres.start()
        commands.upgrade(conninfo)
        try:
            with running(conninfo, "survivor"):
                position = _register(conninfo, 20)
                os.kill(postgres.server_pid, signal.SIGKILL)
                eventually(lambda: not _answers(conninfo))
                again = EmbeddedPostgres(data, binaries)
                again.start()
                try:
                    position = _register(conninfo, 20)
                    with psycopg.connect(conninfo, autocommit=True) as connection:
                        eventually(lambda: checkpoint(connection) == position)
                        assert position == 40
                        assert projection_status(connection).failing_position is None
                    assert list(verify_tables(conninfo)) == []
                finally:
                    again.stop()
        finally:
            postgres.stop()


def _register(conninfo: str, count: int) -> int:
    log = PostgresLog(conninfo)
    try:
        return [Roster(log).register_user(uuid4(), by()).position for _ in range(count)][-1]
    finally:
        log.close()


def _answers(conninfo: str) -> bool:
    try:
        psycopg.connect(conninfo, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


class Pair:
    """Two servers on one database; a command goes to whichever answers."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.clients = [
            Api(base_url=f"http://127.0.0.1:{free_port()}", timeout=SECONDS) for _ in range(2)
        ]

    @contextmanager
    def serving(self, index: int) -> Iterator[Any]:
        with started(
            "serve", DATABASE_URL=self.database, PORT=str(self.clients[index].base_url.port)
        ) as process:
            eventually(lambda: self.is_ready(index))
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0

    def close(self) -> None:
        for client in self.clients:
            client.close()

    def is_ready(self, index: int) -> bool:
        try:
            return self.clients[index].get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def register(self, user: str) -> Api:
        """Register a user, again until a server says that it is done and visible.

        Return that user.
        """
        for client in itertools.cycle(self.clients):
            try:
                response = client.post("/v1/users", json={"id": user})
            except httpx.TransportError:
                continue
            assert response.is_success, response.text
            if response.status_code != 202:
                return client
        raise AssertionError


def test_two_servers_restarted_in_turn_answer_every_command_and_show_what_they_answered(
    connection: Connection[Any], database: str
) -> None:
    pair, stopping, registered = Pair(database), threading.Event(), list[str]()
    failures = list[BaseException]()

    def command() -> None:
        try:
            while not stopping.is_set():
                user = str(uuid4())
                client = pair.register(user)
                registered.append(user)
                try:
                    done(client.get(f"/v1/users/{user}"), 200)
                except httpx.TransportError:
                    continue
        except BaseException as failure:
            failures.append(failure)
            raise

    def goes_on() -> None:
        before = len(registered)
        eventually(lambda: failures or len(registered) > before + 5)

    with closing(pair), ExitStack() as second:
        second.enter_context(pair.serving(1))
        commanding = threading.Thread(target=command)
        try:
            with pair.serving(0):
                commanding.start()
                goes_on()
            goes_on()
            with pair.serving(0):
                goes_on()
                second.close()
                goes_on()
                with pair.serving(1):
                    goes_on()
                    stopping.set()
                    commanding.join(SECONDS)
        finally:
            stopping.set()
    assert not failures
    there = {str(row[0]) for row in connection.execute("SELECT id FROM roster.users")}
    assert set(registered) <= there
    assert list(verify_tables(database)) == []

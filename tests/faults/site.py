"""A site: services in processes of their own on one database, callers, and at the end the account of it all."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psycopg

from rosterlog.api.ops.embedded import Binaries, EmbeddedPostgres
from tests.api.processes import SECONDS, Program, environment
from tests.conftest import DISK, folder
from tests.domain.threads import eventually
from tests.faults.ledger import settle
from tests.faults.load import Load
from tests.serving import free_port


class ServiceProcess:
    """`rosterlog serve`, which can be killed and started again at the same address."""

    def __init__(self, **settings: str) -> None:
        """Serve with these settings, given without their prefix, on a free port."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._environment = environment({**settings, "PORT": str(port)})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, stderr: int | None = None) -> "subprocess.Popen[bytes]":
        self._process = Program("serve", env=self._environment, stderr=stderr)
        return self._process

    def kill(self) -> None:
        """End it as the kernel's out-of-memory killer does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(SECONDS)

    def terminate(self) -> None:
        assert self._process is not None
        self._process.terminate()

    def stop(self) -> int:
        """End it as an operator does, and return its exit status."""
        self.terminate()
        assert self._process is not None
        return self._process.wait(SECONDS)

    def becomes_ready(self) -> None:
        """Wait until it is ready, and show its last words where it never is."""
        words = []

        def is_ready() -> bool:
            assert self._process is None or self._process.poll() is None, "the service has ended"
            try:
                answer = httpx.get(f"{self.url}/readyz", timeout=30)
            except httpx.TransportError as none:
                words.append(repr(none))
                return False
            words.append(answer.text)
            return answer.status_code == 200

        try:
            eventually(is_ready)
        except AssertionError as never:
            raise AssertionError(f"{self.url} did not become ready: {words[-1:]}") from never


class Site:
    """Services on one database, and the load on them."""

    def __init__(self, services: list[ServiceProcess], load: Load) -> None:
        self.services = services
        self.load = load

    def heals(self) -> None:
        """Wait until every service is ready and commands are acknowledged, without anybody's help."""
        for service in self.services:
            service.becomes_ready()
        self.load.flows()


@contextmanager
def site(
    account: str, *, database: str | None = None, data_dir: Path | None = None, services: int = 1
) -> Iterator[Site]:
    """Run services under load, and in the end settle the ledger over `account`, a connection that no fault is in the way of.

    The services use the same connection, another one to the same `database`, or the embedded
    PostgreSQL in `data_dir`.
    """
    settings = {"DATA_DIR": str(data_dir)} if data_dir else {"DATABASE_URL": database or account}
    with ExitStack() as closing:
        running = [ServiceProcess(**settings) for _ in range(services)]
        for service in running:
            closing.callback(service.kill)
            service.start()
        for service in running:
            service.becomes_ready()
        load = Load([service.url for service in running])
        with load.running():
            load.flows()
            made = Site(running, load)
            yield made
            made.heals()
        print(f"answers: {dict(load.ledger.answers)}")
        settle(load.ledger, account)
        for service in running:
            assert service.stop() == 0


@contextmanager
def own_server(binaries: Binaries | None, home: Path | None = None) -> Iterator[EmbeddedPostgres]:
    """Run a PostgreSQL that a test may end as it likes, with the durability that operators have.

    Without `binaries` it is the packaged one, which a service starts by itself.
    """
    with ExitStack() as closing:
        server = EmbeddedPostgres(home or closing.enter_context(folder(DISK)), binaries)
        server.start()
        try:
            yield server
        finally:
            server.start()
            server.stop()


def end_server(server: EmbeddedPostgres, number: signal.Signals) -> None:
    """End PostgreSQL with a signal, and wait until it no longer answers."""
    os.kill(server.server_pid, number)
    eventually(lambda: not answers(server.conninfo("postgres")))


def answers(database: str) -> bool:
    """Tell whether a database takes connections."""
    try:
        psycopg.connect(database, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True

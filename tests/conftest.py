"""One PostgreSQL server for the whole run, and a fresh database for each test that asks for one."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection

from rosterlog.api.ops.embedded import Binaries, EmbeddedPostgres
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Provenance
from rosterlog.migrations import commands

TEMPLATE = "template_rosterlog"
DISK = Path("/tmp")
MEMORY = Path("/dev/shm")
"""Where Linux keeps files in memory: a database is made there in a tenth of the time."""
ROOM = 4 << 30
"""Bytes that must be free there; a server of the tests takes less than a quarter."""
OTHER_POSTGRES = os.environ.get("ROSTERLOG_TEST_POSTGRES_BIN")
"""The folder of the programs of a PostgreSQL that is not the packaged one."""


def by(actor: str = "registrar", reason: str | None = None) -> Provenance:
    return Provenance(actor=actor, source="api", request_id="request-1", reason=reason)


def _memory() -> Path:
    """Return where files are in memory, the disk where there is no room."""
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM else DISK


@contextmanager
def folder(where: Path | None = None) -> Iterator[Path]:
    """Make a folder that the account of the server can enter; pytest's own are closed to it when root runs the tests.

    The folder is in memory. `DISK` is for tests of what a fault leaves there.
    """
    path = Path(tempfile.mkdtemp(dir=where or _memory()))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def execute(conninfo: str, statement: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statement)


@contextmanager
def fresh_database(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    execute(server.conninfo("postgres"), f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield server.conninfo(name)
    finally:
        execute(server.conninfo("postgres"), f"DROP DATABASE {name} WITH (FORCE)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On another PostgreSQL, leave out each test that does not ask for `binaries`.

    A test may ask through other fixtures. One that does not is the same on every PostgreSQL.
    """
    if OTHER_POSTGRES:
        asking = [item for item in items if "binaries" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=[item for item in items if item not in asking])
        items[:] = asking


@pytest.fixture(scope="session")
def binaries() -> Binaries | None:
    """Return the PostgreSQL to test on, None for the packaged one.

    Only tests that ask for it run on another one.
    """
    return Binaries(Path(OTHER_POSTGRES)) if OTHER_POSTGRES else None


@pytest.fixture(scope="session")
def server(binaries: Binaries | None) -> Iterator[EmbeddedPostgres]:
    with folder() as data:
        postgres = EmbeddedPostgres(data, binaries)
        postgres.start()
        try:
            # Nothing here outlives the machine, and databases are made by the hundred.
            execute(postgres.conninfo("postgres"), "ALTER SYSTEM SET fsync = off")
            execute(postgres.conninfo("postgres"), "SELECT pg_reload_conf()")
            execute(postgres.conninfo("postgres"), f"CREATE DATABASE {TEMPLATE}")
            commands.upgrade(postgres.conninfo(TEMPLATE))
            yield postgres
        finally:
            postgres.stop()


@pytest.fixture
def database(server: EmbeddedPostgres) -> Iterator[str]:
    with fresh_database(server, TEMPLATE) as conninfo:
        yield conninfo


@pytest.fixture
def empty_database(server: EmbeddedPostgres) -> Iterator[str]:
    with fresh_database(server, "template1") as conninfo:
        yield conninfo


@pytest.fixture
def connection(database: str) -> Iterator[Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as opened:
        yield opened


@pytest.fixture
def log(database: str) -> Iterator[PostgresLog]:
    opened = PostgresLog(database)
    yield opened
    opened.close()


@pytest.fixture
def roster(log: PostgresLog) -> Roster:
    return Roster(log)

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

from api.embedded import Binaries, EmbeddedPostgres
from domain.event_store import PostgresLog
from domain.roster import Roster
from domain.values import Provenance
from migrations import commands

TEMPLATE = "template_rosterlog"


def by(actor: str = "registrar", reason: str | None = None) -> Provenance:
    return Provenance(actor=actor, source="api", request_id="request-1", reason=reason)


def binaries() -> Binaries | None:
    folder = os.environ.get("ROSTERLOG_TEST_POSTGRES_BIN")
    return Binaries(Path(folder)) if folder else None


@contextmanager
def folder() -> Iterator[Path]:
    """Make a folder that the account of the server can enter, which pytest's own are not when root runs the tests."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
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


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    with folder() as data:
        postgres = EmbeddedPostgres(data, binaries())
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

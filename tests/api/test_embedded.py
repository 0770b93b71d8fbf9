"""The embedded PostgreSQL: shared, killed, misplaced, too new, hidden in a private folder."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from api.embedded import EmbeddedError, EmbeddedPostgres
from tests.conftest import binaries, execute, folder


@pytest.fixture
def data() -> Iterator[Path]:
    with folder() as path:
        yield path / "data"


def answers(conninfo: str, statement: str) -> object:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(statement).fetchone()
        assert row is not None
        return row[0]


def test_a_second_start_finds_the_data_of_the_first(data: Path) -> None:
    first = EmbeddedPostgres(data, binaries())
    execute(first.start(), "CREATE TABLE kept AS SELECT 7 AS number")
    first.stop()
    second = EmbeddedPostgres(data, binaries())
    try:
        assert answers(second.start(), "SELECT number FROM kept") == 7
    finally:
        second.stop()


def test_two_users_of_a_data_directory_share_a_server_and_the_last_stops_it(data: Path) -> None:
    first, second = EmbeddedPostgres(data, binaries()), EmbeddedPostgres(data, binaries())
    conninfo = first.start()
    assert second.start() == conninfo
    first.stop()
    assert answers(conninfo, "SELECT 1") == 1
    second.stop()
    with pytest.raises(psycopg.OperationalError):
        answers(conninfo, "SELECT 1")


def test_what_was_committed_survives_a_killed_server(data: Path) -> None:
    postgres = EmbeddedPostgres(data, binaries())
    execute(postgres.start(), "CREATE TABLE kept AS SELECT 7 AS number")
    killed = postgres.server_pid
    os.kill(killed, signal.SIGKILL)
    wait_until_gone(killed)
    again = EmbeddedPostgres(data, binaries())
    try:
        assert answers(again.start(), "SELECT number FROM kept") == 7
        assert again.server_pid != killed
    finally:
        postgres.stop()
        again.stop()


def wait_until_gone(process: int) -> None:
    until = time.monotonic() + 30
    while Path(f"/proc/{process}").exists() and time.monotonic() < until:
        time.sleep(0.05)


def test_a_start_that_died_before_the_database_was_whole_is_made_again(data: Path) -> None:
    half = data / "postgres" / "new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("1\n")
    (data / "postgres").chmod(0o700)
    if os.geteuid() == 0:
        shutil.chown(data / "postgres", "rosterlog")
    postgres = EmbeddedPostgres(data, binaries())
    try:
        assert answers(postgres.start(), "SELECT 1") == 1
    finally:
        postgres.stop()


def test_a_data_directory_that_is_a_file_is_named(data: Path) -> None:
    data.write_text("not a folder")
    with pytest.raises(EmbeddedError, match=f"can't use the data directory {data}"):
        EmbeddedPostgres(data, binaries()).start()


def test_a_data_directory_that_can_not_be_written_is_named() -> None:
    with pytest.raises(EmbeddedError, match="can't use the data directory /proc/rosterlog"):
        EmbeddedPostgres(Path("/proc/rosterlog"), binaries()).start()


def test_data_of_another_major_version_is_refused_with_both_versions(data: Path) -> None:
    postgres = EmbeddedPostgres(data, binaries())
    postgres.start()
    postgres.stop()
    (data / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedError, match=r"was made by PostgreSQL 9, this is 1\d"):
        EmbeddedPostgres(data, binaries()).start()


def test_a_private_folder_above_the_data_directory_stays_private_and_works() -> None:
    private = Path(tempfile.mkdtemp(dir="/tmp"))
    postgres = EmbeddedPostgres(private / "data", binaries())
    try:
        assert answers(postgres.start(), "SELECT 1") == 1
        assert private.stat().st_mode & 0o777 == 0o700
    finally:
        postgres.stop()
        cluster = (private / "data" / "postgres").resolve()
        shutil.rmtree(private)
        shutil.rmtree(cluster, ignore_errors=True)


def test_a_path_too_long_for_a_socket_works(data: Path) -> None:
    postgres = EmbeddedPostgres(data / ("long-" * 20), binaries())
    try:
        assert answers(postgres.start(), "SELECT 1") == 1
    finally:
        postgres.stop()

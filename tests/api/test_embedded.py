"""The embedded PostgreSQL: data stays, the last user stops it, and what is wrong is said by name."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import psycopg
import pytest

from api.embedded import EmbeddedError, EmbeddedPostgres
from tests.conftest import binaries, execute, folder
from tests.domain.threads import eventually


@pytest.fixture
def home() -> Iterator[Path]:
    with folder() as path:
        yield path / "data"


def embedded(path: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(path, binaries())


def numbers(conninfo: str) -> list[int]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return [row[0] for row in connection.execute("SELECT number FROM kept ORDER BY 1")]


def refusal(conninfo: str) -> str:
    try:
        psycopg.connect(conninfo).close()
    except psycopg.OperationalError as refused:
        return str(refused)
    return ""


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_second_start_finds_the_data_of_the_first(home: Path) -> None:
    for number in range(3):
        postgres = embedded(home)
        conninfo = postgres.start()
        execute(conninfo, "CREATE TABLE IF NOT EXISTS kept (number int)")
        assert numbers(conninfo) == list(range(number))
        execute(conninfo, f"INSERT INTO kept VALUES ({number})")
        postgres.stop()


def test_users_of_one_directory_share_the_server_and_the_last_one_stops_it(home: Path) -> None:
    first, second = embedded(home), embedded(home)
    conninfo = first.start()
    pid = first.server_pid
    assert second.start() == conninfo
    assert second.server_pid == pid
    first.stop()
    execute(conninfo, "SELECT 1")
    assert alive(pid)
    second.stop()
    eventually(lambda: not alive(pid))
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(conninfo)


def test_stopping_twice_or_before_a_start_does_nothing(home: Path) -> None:
    postgres = embedded(home)
    postgres.stop()
    postgres.start()
    postgres.stop()
    postgres.stop()


def test_what_was_committed_survives_a_kill_of_the_server(home: Path) -> None:
    postgres = embedded(home)
    conninfo = postgres.start()
    execute(conninfo, "CREATE TABLE kept (number int)")
    execute(conninfo, "INSERT INTO kept SELECT generate_series(1, 1000)")
    pid = postgres.server_pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid))
    again = embedded(home)
    assert numbers(again.start()) == list(range(1, 1001))
    assert again.server_pid != pid
    again.stop()
    postgres.stop()


def test_a_start_waits_for_a_server_that_is_shutting_down_and_starts_it_anew(home: Path) -> None:
    postgres, again = embedded(home), embedded(home)
    conninfo = postgres.start()
    pid = postgres.server_pid
    with ThreadPoolExecutor() as threads:
        with psycopg.connect(conninfo):
            os.kill(pid, signal.SIGTERM)
            eventually(lambda: "shutting down" in refusal(conninfo))
            starting = threads.submit(again.start)
            assert wait([starting], 0.5).not_done
        assert starting.result() == conninfo
    execute(conninfo, "SELECT 1")
    assert again.server_pid != pid
    again.stop()
    postgres.stop()


def test_durability_is_left_on(home: Path) -> None:
    postgres = embedded(home)
    with psycopg.connect(postgres.start(), autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {setting}").fetchone() == ("on",)
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert connection.execute("SHOW timezone").fetchone() == ("UTC",)
    postgres.stop()


def test_a_database_without_its_version_was_never_whole_and_is_made_again(home: Path) -> None:
    postgres = embedded(home)
    postgres.start()
    postgres.stop()
    (home / "postgres" / "PG_VERSION").unlink()
    again = embedded(home)
    execute(again.start(), "SELECT 1")
    again.stop()


def test_a_start_that_died_before_the_database_was_whole_is_made_again(home: Path) -> None:
    half = home / "postgres" / "new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("1\n")
    (home / "postgres").chmod(0o700)
    if os.geteuid() == 0:
        shutil.chown(home / "postgres", "rosterlog")
    postgres = embedded(home)
    execute(postgres.start(), "SELECT 1")
    postgres.stop()


def test_a_data_directory_that_is_a_file_is_named(home: Path) -> None:
    home.write_text("not a directory")
    with pytest.raises(EmbeddedError, match=str(home)):
        embedded(home).start()


def test_a_data_directory_below_a_file_is_named(home: Path) -> None:
    home.write_text("not a directory")
    with pytest.raises(EmbeddedError, match=str(home / "data")):
        embedded(home / "data").start()


@pytest.mark.parametrize("path", ["/proc/rosterlog", "/sys/rosterlog"])
def test_a_data_directory_that_cannot_be_written_is_named_with_the_setting_that_helps(path: str) -> None:
    with pytest.raises(EmbeddedError, match=f"{path}.*ROSTERLOG_DATA_DIR"):
        embedded(Path(path)).start()


def test_data_of_another_release_of_postgresql_is_refused_and_both_are_named(home: Path) -> None:
    postgres = embedded(home)
    postgres.start()
    postgres.stop()
    version = home / "postgres" / "PG_VERSION"
    ours = version.read_text().strip()
    version.write_text("9\n")
    with pytest.raises(EmbeddedError, match=rf"PostgreSQL 9, this is {ours}\b"):
        embedded(home).start()
    version.write_text(f"{ours}\n")
    postgres.start()
    postgres.stop()


def test_a_folder_private_to_its_owner_works() -> None:
    parent = Path(tempfile.mkdtemp(dir="/tmp"))
    assert parent.stat().st_mode & 0o777 == 0o700
    home = parent / "data"
    try:
        for _ in range(2):
            postgres = embedded(home)
            execute(postgres.start(), "CREATE TABLE IF NOT EXISTS kept (number int)")
            postgres.stop()
        assert parent.stat().st_mode & 0o777 == 0o700
    finally:
        cluster = (home / "postgres").resolve()
        shutil.rmtree(parent)
        if cluster.exists():
            shutil.rmtree(cluster)
            shutil.rmtree(cluster.with_name(f"{cluster.name}-programs"), ignore_errors=True)


def test_a_path_too_long_for_a_socket_works(home: Path) -> None:
    deep = home.joinpath(*["a-rather-long-name"] * 6)
    for parent in (*deep.parents[:6][::-1], deep):
        parent.mkdir(exist_ok=True)
    postgres = embedded(deep)
    conninfo = postgres.start()
    execute(conninfo, "SELECT 1")
    socket_dir = Path(psycopg.conninfo.conninfo_to_dict(conninfo)["host"] or "")  # type: ignore[arg-type]
    postgres.stop()
    assert len(str(socket_dir)) < 90
    shutil.rmtree(socket_dir)

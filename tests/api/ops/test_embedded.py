"""The embedded PostgreSQL: data stays, and the last user stops the server.

A fault is named.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from rosterlog.api.ops.embedded import EmbeddedError, EmbeddedPostgres
from tests.conftest import execute, folder
from tests.domain.threads import eventually


@pytest.fixture
def home() -> Iterator[Path]:
    with folder() as path:
        yield path / "data"


def embedded(path: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(path)


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
def test_a_data_directory_that_cannot_be_written_is_named_with_the_setting_that_helps(
    path: str,
) -> None:
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


@contextmanager
def private() -> Iterator[Path]:
    """Make a folder that only we can enter: where we are root, its databases are elsewhere."""
    parent = Path(tempfile.mkdtemp(dir="/tmp"))
    assert parent.stat().st_mode & 0o777 == 0o700
    try:
        yield parent
        assert parent.stat().st_mode & 0o777 == 0o700
    finally:
        elsewhere = {link.resolve() for link in parent.glob("*/postgres") if link.is_symlink()}
        shutil.rmtree(parent)
        for cluster in elsewhere:
            shutil.rmtree(cluster, ignore_errors=True)
            shutil.rmtree(cluster.with_name(f"{cluster.name}-programs"), ignore_errors=True)


def deep(home: Path) -> Path:
    """Return a data directory whose path is too long for a socket."""
    folder = home.joinpath(*["a-rather-long-name"] * 5)
    folder.mkdir(parents=True)
    return folder


def keep(path: Path, number: int) -> None:
    """Start on a directory, keep a number in its database, and stop."""
    postgres = embedded(path)
    conninfo = postgres.start()
    execute(conninfo, "CREATE TABLE IF NOT EXISTS kept (number int)")
    execute(conninfo, f"INSERT INTO kept VALUES ({number})")
    postgres.stop()


def kept(path: Path) -> list[int]:
    postgres = embedded(path)
    try:
        return numbers(postgres.start())
    finally:
        postgres.stop()


def copied(path: Path) -> Path:
    """Copy a data directory with everything that is in it: links as links, sockets as sockets."""
    copy = path.with_name("copy")
    subprocess.run(["cp", "-a", str(path), str(copy)], check=True)
    return copy


def test_a_folder_private_to_its_owner_works() -> None:
    with private() as parent:
        for number in range(2):
            keep(parent / "data", number)
        assert kept(parent / "data") == [0, 1]


def test_a_path_too_long_for_a_socket_works_and_leaves_nothing_elsewhere(home: Path) -> None:
    postgres = embedded(deep(home))
    conninfo = postgres.start()
    execute(conninfo, "SELECT 1")
    socket_dir = Path(str(psycopg.conninfo.conninfo_to_dict(conninfo)["host"]))
    postgres.stop()
    assert len(str(socket_dir)) < 90
    assert not socket_dir.exists()


@pytest.mark.parametrize("placed", [deep, lambda home: home], ids=["long path", "short path"])
def test_a_copy_works_on_its_own_database_while_the_original_runs_and_after(
    home: Path, placed: Callable[[Path], Path]
) -> None:
    home.mkdir()
    original = placed(home / "original")
    keep(original, 1)
    copy = copied(original)
    running = embedded(original)
    conninfo = running.start()
    try:
        keep(copy, 2)
        assert numbers(conninfo) == [1]
        execute(conninfo, "INSERT INTO kept VALUES (3)")
        assert kept(copy) == [1, 2]
    finally:
        running.stop()
    # Whichever starts first, and though each may have found the other's socket.
    first = embedded(copy)
    first.start()
    assert kept(original) == [1, 3]
    first.stop()


@pytest.mark.parametrize("placed", [deep, lambda home: home], ids=["long path", "short path"])
def test_a_copy_that_was_made_while_the_server_ran_is_refused(
    home: Path, placed: Callable[[Path], Path]
) -> None:
    home.mkdir()
    original = placed(home / "original")
    running = embedded(original)
    conninfo = running.start()
    pid = running.server_pid
    copy = copied(original)
    for _ in range(2):
        with pytest.raises(
            EmbeddedError,
            match=r"made while its server was not shut down \(in production.*copy again",
        ):
            embedded(copy).start()
    execute(conninfo, "SELECT 1")
    running.stop()
    eventually(lambda: not alive(pid))
    with pytest.raises(EmbeddedError, match="made while its server was not shut down"):
        embedded(copy).start()
    # A snapshot of one moment, says the operator: the crash recovery of PostgreSQL is right for
    # that.
    (copy / "postgres" / "rosterlog.place").unlink()
    (copy / "postgres" / "postmaster.pid").unlink()
    keep(copy, 1)


@pytest.mark.parametrize("placed", [deep, lambda home: home], ids=["long path", "short path"])
def test_a_directory_that_was_moved_works_even_after_a_kill(
    home: Path, placed: Callable[[Path], Path]
) -> None:
    home.mkdir()
    original = placed(home / "original")
    keep(original, 1)
    moved = original.with_name("moved")
    original.rename(moved)
    assert kept(moved) == [1]
    killed = embedded(moved)
    killed.start()
    pid = killed.server_pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid))
    killed.stop()
    moved.rename(original)
    assert kept(original) == [1]


def test_a_directory_that_is_moved_while_it_is_used_has_one_server(home: Path) -> None:
    keep(home, 1)
    running = embedded(home)
    running.start()
    moved = home.rename(home.with_name("moved"))
    joined = embedded(moved)
    assert numbers(joined.start()) == [1]
    assert joined.server_pid == int((moved / "postgres" / "postmaster.pid").read_text().split()[0])
    running.stop()
    execute(joined.conninfo("postgres"), "SELECT 1")
    joined.stop()
    assert not (moved / "postgres" / "postmaster.pid").exists()


def test_a_copied_link_does_not_lead_to_the_database_of_the_original(home: Path) -> None:
    """A folder as root makes it, which the server's account can't enter.

    An operator may link to another disk in the same way.
    """
    home.mkdir()
    original, elsewhere = home / "original", home / "elsewhere"
    keep(original, 1)
    (original / "postgres").rename(elsewhere)
    (original / "postgres").symlink_to(elsewhere)
    keep(original, 2)
    copy = copied(original)
    running = embedded(original)
    conninfo = running.start()
    for _ in range(2):
        with pytest.raises(
            EmbeddedError, match=f"{copy} is a copy of {original}.*copy the folder {elsewhere}"
        ):
            embedded(copy).start()
    assert numbers(conninfo) == [1, 2]
    running.stop()
    with pytest.raises(EmbeddedError, match="is a copy of"):
        embedded(copy).start()
    # What the message says helps.
    shutil.copytree(elsewhere, home / "copied", symlinks=True)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "rosterlog", str(home / "copied")], check=True)
    (copy / "postgres").unlink()
    (copy / "postgres").symlink_to(home / "copied")
    keep(copy, 3)
    assert kept(original) == [1, 2]
    # Two names of one directory are no copy, and one that was moved is none either.
    (home / "name").symlink_to(original)
    assert kept(home / "name") == [1, 2]
    assert kept(original.rename(home / "moved")) == [1, 2]
    assert kept(copy) == [1, 2, 3]

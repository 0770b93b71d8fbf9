"""An embedded PostgreSQL: a server on a data directory of our own.

Several processes may share a data directory. Each holds a shared lock on it while it runs; the last
to go stops the server. A process that is killed gives its lock back, and leaves the server running
for the next one.
"""

import fcntl
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psycopg
from psycopg.conninfo import make_conninfo
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from rosterlog.api.ops.embedded_place import Place
from rosterlog.api.ops.embedded_programs import Binaries, EmbeddedError, Runner, reachable
from rosterlog.domain.log import sessions

__all__ = ["Binaries", "EmbeddedError", "EmbeddedPostgres", "NoDatabase"]

START_SECONDS = 300
"""How long a start may take: recovery after an unclean stop included."""
LEFTOVER_SECONDS = 20
"""How long to wait until the process of a killed server is gone."""

_SOCKET_PATH_LIMIT = 90
_SOCKET = ".s.PGSQL.5432"
_CONFIGURATION = """
listen_addresses = ''
unix_socket_permissions = 0700
unix_socket_directories = {socket_dir}
max_connections = 200
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
"""

logger = logging.getLogger(__name__)


class NoDatabase(EmbeddedError):
    """There is no database yet, and none was to be made."""


class _BetweenStates(EmbeddedError):
    """A server starts, recovers or shuts down, and takes no connections meanwhile."""


class _DeadServerHoldsOn(EmbeddedError):
    """A killed server's process is still listed, as a zombie, and PostgreSQL takes it for alive."""


class EmbeddedPostgres:
    """A server on one data directory, started where it does not run yet."""

    def __init__(self, data_dir: Path, binaries: Binaries | None = None) -> None:
        """Prepare to run on `data_dir`, which is made where it is missing.

        Raises `EmbeddedError`.
        """
        self._home = data_dir.absolute()
        self._binaries = binaries or Binaries.packaged()
        self._use: IO[bytes] | None = None

    def start(self, *, create: bool = True) -> str:
        """Start the server where it does not run, and return the connection string.

        The database is made where there is none.

        With `create` off, a missing database is an error. Raises `EmbeddedError` where the
        directory can't be used; its message is for the operator.
        """
        if not create and not (self._home / "postgres" / "PG_VERSION").exists():
            raise NoDatabase(
                f"there is no database in {self._home} yet: rosterlog serve makes one (or "
                "set ROSTERLOG_DATA_DIR)"
            )
        self._runner = Runner.choose()
        self._make_home()
        with self._locked():
            self._place = Place.of(self._home, self._runner)
            self._cluster = self._place.cluster
            self._programs = reachable(self._binaries, self._runner, self._cluster)
            if not (self._cluster / "PG_VERSION").exists():
                self._initialise()
            self._check_version()
            if not self._comes_to_answer():
                self._place.refuse_torn(self._programs)
                self._start_server()
            self._place.record(self._runner)
            if self._use is None:
                self._use = (self._home / "in-use").open("ab")
                fcntl.flock(self._use, fcntl.LOCK_SH)
        return self.conninfo("postgres")

    def conninfo(self, database: str) -> str:
        """Return the connection string of one of the server's databases."""
        return _conninfo(self._socket_dir, database)

    @property
    def server_pid(self) -> int:
        """The process id of the running server."""
        return int((self._cluster / "postmaster.pid").read_text().split()[0])

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as the account that owns the data.

        Raises `EmbeddedError` where it fails.
        """
        self._runner.run([self._programs[program], *arguments], f"{program} failed")

    def stop(self) -> None:
        """Stop using the server; the last user stops it."""
        if self._use is None:
            return
        try:
            with self._locked():
                self._stop_if_last(self._use)
        except FileNotFoundError:
            logger.warning("leaving PostgreSQL running: %s was moved while we used it", self._home)
        self._use.close()
        self._use = None

    def _stop_if_last(self, use: IO[bytes]) -> None:
        try:
            fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("leaving PostgreSQL running: another process uses %s", self._home)
            return
        if self._is_running():
            self._control("stop", "-m", "fast", failure="PostgreSQL did not stop")
            self._remove_socket_dir()

    def _remove_socket_dir(self) -> None:
        if self._socket_dir != self._cluster:
            with suppress(OSError):
                self._socket_dir.rmdir()

    def _make_home(self) -> None:
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            (self._home / "start-lock").touch()
        except OSError as wrong:
            raise EmbeddedError(
                f"can't use the data directory {self._home}: {wrong.strerror} (set "
                "ROSTERLOG_DATA_DIR)"
            ) from wrong

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._home / "start-lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _socket_dirs(self) -> Iterator[Path]:
        """Yield the folders in which a server on the cluster may have its socket.

        They are the cluster, and the folder that the server wrote down.
        """
        if len(str(self._cluster)) <= _SOCKET_PATH_LIMIT:
            yield self._cluster
        with suppress(OSError, IndexError):
            yield Path((self._cluster / "postmaster.pid").read_text().splitlines()[4])

    def _make_socket_dir(self) -> Path:
        """Return the folder for a server's socket: the cluster, or a new one.

        A new one has a short path; it is for a cluster whose path is too long for a socket.
        """
        if len(str(self._cluster)) <= _SOCKET_PATH_LIMIT:
            return self._cluster
        short = Path(
            tempfile.mkdtemp(prefix="rosterlog-", dir="/tmp")
        )  # random, made exclusively, closed to others
        self._runner.own(short)
        return short

    def _initialise(self) -> None:
        logger.info("making a database in %s", self._cluster)
        for leftover in self._cluster.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        fresh = self._cluster / "new"
        options = [
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
        ]
        self._runner.run(
            [self._programs["initdb"], *options, str(fresh)],
            f"could not make a database in {self._cluster}",
        )
        with (fresh / "postgresql.conf").open("a") as configuration:
            configuration.write("\ninclude 'rosterlog.conf'\n")
        # PG_VERSION last: a start that died halfway is made again from the beginning.
        for path in sorted(fresh.iterdir(), key=lambda path: path.name == "PG_VERSION"):
            path.rename(self._cluster / path.name)
        fresh.rmdir()

    def _check_version(self) -> None:
        made_by = (self._cluster / "PG_VERSION").read_text().strip()
        command = [self._programs["postgres"], "--version"]
        # The program is our own.
        answer = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        ours = answer.stdout.split()[2].partition(".")[0]
        if made_by != ours:
            raise EmbeddedError(
                f"the data in {self._home} was made by PostgreSQL {made_by}, this is {ours}: "
                "dump it with the old release and restore it (docs/operations.md), or choose "
                "another ROSTERLOG_DATA_DIR"
            )

    def _comes_to_answer(self) -> bool:
        """Tell whether a server answers.

        A server that starts, recovers or shuts down is waited for.
        """
        patience = Retrying(
            retry=retry_if_exception_type(_BetweenStates),
            stop=stop_after_delay(START_SECONDS),
            wait=wait_fixed(0.1),
            reraise=True,
        )
        return patience(self._answers)

    def _is_running(self) -> bool:
        try:
            return self._answers()
        except _BetweenStates:
            return True

    def _answers(self) -> bool:
        """Tell whether our server answers.

        A process with the id of a dead server is not ours, nor is the server of another directory.
        """
        for socket_dir in self._socket_dirs():
            if (socket_dir / _SOCKET).exists() and self._answers_in(socket_dir):
                self._socket_dir = socket_dir
                return True
        return False

    def _answers_in(self, socket_dir: Path) -> bool:
        try:
            with sessions.connect(_conninfo(socket_dir, "postgres")) as connection:
                return self._place.holds(connection, self._runner)
        except psycopg.Error as wrong:
            if "the database system is" in str(wrong):
                raise _BetweenStates(
                    f"PostgreSQL on {self._home} runs, but takes no connections: {wrong}"
                ) from None
            return False

    def _start_server(self) -> None:
        self._socket_dir = self._make_socket_dir()
        configuration = self._cluster / "rosterlog.conf"
        configuration.write_text(
            _CONFIGURATION.format(socket_dir=_quoted(self._socket_dir)), encoding="utf-8"
        )
        self._runner.own(configuration)
        patience = Retrying(
            retry=retry_if_exception_type(_DeadServerHoldsOn),
            stop=stop_after_delay(LEFTOVER_SECONDS),
            wait=wait_fixed(0.5),
            reraise=True,
        )
        patience(self._try_to_start)

    def _try_to_start(self) -> None:
        log = self._cluster / "server.log"
        seen = log.stat().st_size if log.exists() else 0
        try:
            self._control(
                "start",
                "-w",
                "-t",
                str(START_SECONDS),
                "-l",
                str(log),
                failure="PostgreSQL did not start",
            )
        except EmbeddedError as wrong:
            said = _from(log, seen)
            kind = (
                _DeadServerHoldsOn
                if 'lock file "postmaster.pid" already exists' in said
                else EmbeddedError
            )
            raise kind(f"{wrong}\n{said}") from None

    def _control(self, *arguments: str, failure: str) -> None:
        self._runner.run(
            [self._programs["pg_ctl"], *arguments, "-D", str(self._cluster)],
            f"{failure} on {self._home}",
        )


def _conninfo(socket_dir: Path, database: str) -> str:
    return make_conninfo(user="postgres", dbname=database, host=str(socket_dir))


def _quoted(path: Path) -> str:
    """Return a path as one item of a list, as PostgreSQL's configuration writes it."""
    item = '"' + str(path).replace('"', '""') + '"'
    return "'" + item.replace("'", "''") + "'"


def _from(log: Path, offset: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace").strip()
    except OSError as wrong:
        return f"(its log can't be read: {wrong.strerror})"

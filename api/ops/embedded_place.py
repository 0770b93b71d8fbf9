"""Where a data directory keeps its database, and whether that is this directory's own.

A data directory that was copied must never work on the original's database: not over a link that
was copied with it, and not on files that were copied while a server wrote them. What a directory is
called may change: it goes on working when it is moved or renamed.
"""

import json
import logging
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import Connection

from rosterlog.api.ops.embedded_programs import Binaries, EmbeddedError, Runner

logger = logging.getLogger(__name__)

_ROOT_HOME = Path("/var/lib/rosterlog")
_STOPPED = ("shut down", "shut down in recovery")
"""States of a cluster that no server wrote to while it was copied.

The words are those of `pg_controldata`.
"""


@dataclass(frozen=True)
class Place:
    """A data directory, `home`, and the folder of its database, `cluster`."""

    home: Path
    cluster: Path

    @classmethod
    def of(cls, home: Path, runner: Runner) -> "Place":
        """Return the place of a database, which is made where there is none.

        The place is in the data directory. Where the account can't enter this directory, because it
        is root's, the place is elsewhere and linked. Raises `EmbeddedError` where the link is a
        copy of another directory's.
        """
        link = home / "postgres"
        if not link.exists():
            if runner.can_enter(home):
                link.mkdir(mode=0o700)
            else:
                elsewhere = _ROOT_HOME / secrets.token_hex(8)
                elsewhere.mkdir(mode=0o700, parents=True)
                link.symlink_to(elsewhere)
                logger.info(
                    "%s is private to root, so PostgreSQL keeps its files in %s", home, elsewhere
                )
            runner.own(link.resolve())
        place = cls(home, link.resolve())
        place._refuse_link_of_another()
        return place

    @property
    def _record(self) -> Path:
        return self.cluster / "rosterlog.place"

    def _recorded(self) -> tuple[Path, Path, int] | None:
        """Return the database's data directory, folder and inode at its last start.

        None before the first start.
        """
        try:
            said = json.loads(self._record.read_text())
            return Path(said["home"]), Path(said["cluster"]), said["inode"]
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def record(self, runner: Runner) -> None:
        """Write down where the database is now."""
        said = {
            "home": str(self.home),
            "cluster": str(self.cluster),
            "inode": self.cluster.stat().st_ino,
        }
        fresh = self._record.with_suffix(".new")
        fresh.write_text(json.dumps(said))
        runner.own(fresh)
        fresh.rename(self._record)

    def _refuse_link_of_another(self) -> None:
        """Raise `EmbeddedError` where another data directory had the same database before."""
        recorded = self._recorded()
        if recorded is None or recorded[0] == self.home:
            return
        owner = recorded[0]
        if (owner / "postgres").resolve() == self.cluster and not owner.samefile(self.home):
            raise EmbeddedError(
                f"{self.home} is a copy of {owner}, and its link postgres still leads to the "
                f"database of {owner}, in {self.cluster}. Stop every rosterlog process on "
                f"{owner}, copy the folder {self.cluster} as well, and let the link lead to its "
                f"copy; or choose another ROSTERLOG_DATA_DIR. (Where {owner} is the copy, delete "
                f"{owner}/postgres.)"
            )

    def refuse_torn(self, programs: Binaries) -> None:
        """Raise `EmbeddedError` where a server wrote to the database while it was copied.

        The files of such a copy may contradict each other.
        """
        recorded = self._recorded()
        if (
            recorded is None
            or recorded[1] == self.cluster
            or recorded[2] == self.cluster.stat().st_ino
        ):
            return
        if (self.cluster / "backup_label").exists():
            # Of pg_basebackup: recovery makes it whole. No server keeps this file in a folder that
            # it works on.
            return
        state = _state(programs, self.cluster)
        if state not in _STOPPED:
            raise EmbeddedError(
                f"the database in {self.home} is a copy of {recorded[1]}, made while its server "
                f"was not shut down ({state}): its files may contradict each other. Stop every "
                "rosterlog process there and copy again, or restore a dump "
                "(docs/operations.md). Where the copy surely is of one moment (a snapshot of the "
                f"disk, or a copy after a crash), delete {self._record} and "
                "postmaster.pid beside it"
            )

    def holds(self, connection: Connection[Any], runner: Runner) -> bool:
        """Tell whether the server that answers over `connection` works on this very folder.

        Such a server can read a file that we just wrote there.
        """
        proof, file = secrets.token_hex(16), self.cluster / "rosterlog.proof"
        file.write_text(proof)
        try:
            runner.own(file)
            return connection.execute(
                "SELECT pg_read_file(%s, 0, 100, true)", [file.name]
            ).fetchone() == (proof,)
        finally:
            file.unlink()


def _state(programs: Binaries, cluster: Path) -> str:
    command = [programs["pg_controldata"], str(cluster)]
    # The program is our own.
    answer = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, env={"LC_ALL": "C"}, check=False
    )
    lines = dict(line.split(":", 1) for line in answer.stdout.splitlines() if ":" in line)
    return lines.get("Database cluster state", "unreadable").strip()

"""A PostgreSQL of the benchmark's own, with its default settings, and databases to measure on."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.domain.log import sessions
from rosterlog.migrations import commands


@contextmanager
def server() -> Iterator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        postgres = EmbeddedPostgres(Path(folder))
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()


def database(postgres: EmbeddedPostgres, *, migrated: bool = True) -> str:
    """Make a database and return its connection string."""
    name = f"benchmark_{uuid4().hex[:12]}"
    with sessions.connect(postgres.conninfo("postgres")) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    conninfo = postgres.conninfo(name)
    if migrated:
        commands.upgrade(conninfo)
    return conninfo


def rate_of(work: Callable[[], object], count: int) -> float:
    """Return how many a second `work` does, which does `count` of them."""
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def say(what: str) -> None:
    print(what, file=sys.stderr)

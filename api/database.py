"""Which database a process works on: the operator's, or the embedded one, started for as long as it is used."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy.exc import DBAPIError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from api.embedded import EmbeddedPostgres
from api.settings import Settings, masked
from migrations import commands as migrations

WAIT_SECONDS = 60
"""How long to wait at start for a database that does not answer yet."""

_OLDEST, _NEWEST = 15, 18
# A server that is gone without a word is noticed within seconds, not within the two hours of the system's defaults.
_PATIENCE = {
    "connect_timeout": "5",
    "tcp_user_timeout": "15000",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "2",
}

logger = logging.getLogger(__name__)


class DatabaseUnusable(Exception):
    """The database can't be used; the message says why."""


@dataclass(frozen=True)
class Databases:
    """Connection strings by what is done over them; all but the replica's lead to the same database."""

    main: str
    write: str
    project: str
    replica: str | None = None

    @classmethod
    def of(cls, main: str, settings: Settings) -> "Databases":
        """Return what is done where: over `main`, where the settings name nothing else."""
        write, project = settings.write_database_url or main, settings.project_database_url or main
        replica = settings.read_database_url
        return cls(patient(main), patient(write), patient(project), replica and patient(replica))


def patient(conninfo: str) -> str:
    """Return a connection string with time-outs where it has none of its own."""
    return make_conninfo(conninfo, **{name: value for name, value in _PATIENCE.items() if name not in conninfo_to_dict(conninfo)})


@contextmanager
def database(settings: Settings, *, create: bool = False) -> Iterator[str]:
    """Yield the connection string of the database, once it answers; an embedded one is made only if `create` says so.

    Raises `DatabaseUnusable`, `EmbeddedError`.
    """
    if settings.database_url is not None:
        _wait_for(settings.database_url)
        yield settings.database_url
        return
    embedded = EmbeddedPostgres(settings.data_dir)
    conninfo = embedded.start(create=create)
    try:
        yield conninfo
    finally:
        embedded.stop()


@contextmanager
def migrated_database(settings: Settings) -> Iterator[str]:
    """Yield the connection string of a database that this release can work on. Raises `DatabaseUnusable`, `EmbeddedError`."""
    with database(settings) as conninfo:
        at, newest = migrations.current(conninfo), migrations.newest()
        if at != newest:
            raise DatabaseUnusable(f"the database is at {at or 'no migration'}, this release needs {newest}: rosterlog migrate")
        yield conninfo


def migrate(conninfo: str) -> None:
    """Bring the database to the migration that this release needs. Raises `DatabaseUnusable` where the account may not."""
    before, newest = migrations.current(conninfo), migrations.newest()
    if before == newest:
        return
    if migrations.is_unknown(before):
        raise DatabaseUnusable(
            f"a newer release has brought the database to {before}; this one knows migrations up to {newest}: start the newer one, or "
            f"go back with its rosterlog migrate --down --to {newest}"
        )
    logger.info("migrating the database from %s to %s", before or "nothing", newest)
    try:
        migrations.upgrade(conninfo)
    except DBAPIError as wrong:
        if not isinstance(wrong.orig, psycopg.errors.InsufficientPrivilege):
            raise
        raise DatabaseUnusable(
            f"the database is at {before or 'no migration'}, this release needs {newest}, and this account may not migrate it "
            f"({str(wrong.orig).partition(chr(10))[0]}): run rosterlog migrate as the migrator"
        ) from None


def _wait_for(conninfo: str) -> None:
    def say(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.warning("waiting for the database %s: %s", masked(conninfo), str(error).strip().splitlines()[0])

    patience = Retrying(
        retry=retry_if_exception_type(psycopg.OperationalError),
        wait=wait_random_exponential(multiplier=0.5, max=5),
        stop=stop_after_delay(WAIT_SECONDS),
        before_sleep=say,
        reraise=True,
    )
    try:
        version = patience(_server_version, conninfo)
    except psycopg.OperationalError as wrong:
        raise DatabaseUnusable(f"the database {masked(conninfo)} did not answer in {WAIT_SECONDS} s: {wrong}") from None
    if not _OLDEST <= version <= _NEWEST:
        raise DatabaseUnusable(f"the database runs PostgreSQL {version}; {_OLDEST} to {_NEWEST} are supported")


def _server_version(conninfo: str) -> int:
    with psycopg.connect(conninfo, connect_timeout=5) as connection:
        return connection.info.server_version // 10_000

"""Which database a process works on: the operator's, or the embedded one.

The embedded one runs for as long as it is used.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from sqlalchemy.exc import DBAPIError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_delay,
    wait_random,
    wait_random_exponential,
)

from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.api.settings import Settings, masked
from rosterlog.domain.log import sessions
from rosterlog.migrations import commands as migrations

WAIT_SECONDS = 60
"""How long to wait at start for a database that does not answer yet."""
MIGRATE_SECONDS = 600
"""Seconds for which a migration tries to lock tables that other sessions use."""

_OLDEST, _NEWEST = 15, 18

# Errors where another program uses the names that the migrations make.
_TAKEN = (
    psycopg.errors.DuplicateSchema,
    psycopg.errors.DuplicateObject,
    psycopg.errors.DuplicateFunction,
    psycopg.errors.DuplicateTable,
)

logger = logging.getLogger(__name__)


class DatabaseUnusable(Exception):
    """The database can't be used; the message says why."""


@dataclass(frozen=True)
class Databases:
    """Connection strings by what is done over them.

    All but the replica's lead to the same database.
    """

    main: str
    write: str
    project: str
    replica: str | None = None

    @classmethod
    def of(cls, main: str, settings: Settings) -> "Databases":
        """Return the connection strings of the settings; `main` where they name none."""
        write, project = settings.write_database_url or main, settings.project_database_url or main
        return cls(main, write, project, settings.read_database_url)


@contextmanager
def database(settings: Settings, *, create: bool = False) -> Iterator[Databases]:
    """Yield how to connect to the database, once it answers.

    An embedded database is made only if `create` says so.

    Raises `DatabaseUnusable`, `EmbeddedError`.
    """
    if settings.database_url is not None:
        _refuse_unsupported(*_answer_of(settings.database_url))
        yield Databases.of(settings.database_url, settings)
        return
    embedded = EmbeddedPostgres(settings.data_dir)
    conninfo = embedded.start(create=create)
    try:
        yield Databases.of(conninfo, settings)
    finally:
        embedded.stop()


@contextmanager
def migrated_database(settings: Settings) -> Iterator[Databases]:
    """Yield how to connect to a database that this release can work on.

    Raises `DatabaseUnusable`, `EmbeddedError`.
    """
    with database(settings) as databases:
        at, newest = known_revision(databases.main), migrations.newest()
        if at != newest:
            raise DatabaseUnusable(
                f"the database is at {at or 'no migration'}, this release needs {newest}: "
                "rosterlog migrate"
            )
        yield databases


def revision_of(conninfo: str) -> str | None:
    """Return the migration that the database is at, None before the first.

    A newer release may have migrated it.

    Raises `DatabaseUnusable` where another program has migrated it.
    """
    at = migrations.current(conninfo)
    if migrations.is_unknown(at):
        with sessions.connect(conninfo) as connection:
            if connection.execute("SELECT to_regclass('log.events')").fetchone() == (None,):
                raise DatabaseUnusable(
                    "the database is another program's: its table alembic_version is at "
                    f"{at}, which is no migration of Rosterlog. "
                    "Make a database for Rosterlog alone, and name it in ROSTERLOG_DATABASE_URL"
                )
    return at


def known_revision(conninfo: str) -> str | None:
    """Return the migration that the database is at, None before the first.

    Raises `DatabaseUnusable` where a newer release or another program has migrated it.
    """
    at, newest = revision_of(conninfo), migrations.newest()
    if migrations.is_unknown(at):
        raise DatabaseUnusable(
            f"a newer release has brought the database to {at}; this one knows migrations up "
            f"to {newest}: start the newer one, or "
            f"go back with its rosterlog migrate --down --to {newest}"
        )
    return at


def migrate(conninfo: str) -> None:
    """Bring the database to the migration that this release needs.

    Raises `DatabaseUnusable` where the account may not.
    """
    before, newest = known_revision(conninfo), migrations.newest()
    if before != newest:
        logger.info("migrating the database from %s to %s", before or "nothing", newest)
        migrate_to(conninfo, newest)


def migrate_to(conninfo: str, revision: str, *, down: bool = False) -> None:
    """Bring the database up, or down, to a revision.

    Raises `DatabaseUnusable` where the account may not, other sessions hold a table for long or the
    database is another program's, `alembic.util.CommandError`.
    """
    before = known_revision(conninfo)
    refuse_wrong_way(before, revision, down=down)
    try:
        _patiently(migrations.downgrade if down else migrations.upgrade, conninfo, revision)
    except DBAPIError as wrong:
        where = (
            f"the database is at {before or 'no migration'}, this release needs "
            f"{migrations.newest()}, and"
        )
        said = str(wrong.orig).partition("\n")[0]
        if isinstance(wrong.orig, psycopg.errors.InsufficientPrivilege):
            raise DatabaseUnusable(
                f"{where} this account may not migrate it ({said}): run rosterlog migrate as "
                "the migrator"
            ) from None
        if isinstance(wrong.orig, _TAKEN):
            raise DatabaseUnusable(
                f"{where} it holds something that Rosterlog did not make ({said}): make a "
                "database for Rosterlog alone, "
                "and name it in ROSTERLOG_DATABASE_URL"
            ) from None
        if _is_in_the_way(wrong):
            raise DatabaseUnusable(
                f"{where} other sessions held what the migration changes for "
                f"{MIGRATE_SECONDS} seconds ({said}): "
                "see in pg_stat_activity which transaction is long, end it, and migrate again"
            ) from None
        raise


def _patiently(migrating: Callable[[str, str], None], conninfo: str, revision: str) -> None:
    """Migrate, and try again while other sessions use a table.

    Commands go on between two tries. A try that fails has changed nothing.
    """

    def say(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.warning(
            "the migration waits for other sessions: %s",
            str(getattr(error, "orig", error)).partition("\n")[0],
        )

    Retrying(
        retry=retry_if_exception(_is_in_the_way),
        wait=wait_random(0.5, 2),
        stop=stop_after_delay(MIGRATE_SECONDS),
        before_sleep=say,
        reraise=True,
    )(migrating, conninfo, revision)


def _is_in_the_way(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and isinstance(error.orig, psycopg.errors.LockNotAvailable)


def refuse_wrong_way(first: str | None, last: str, *, down: bool) -> None:
    """Raise `DatabaseUnusable` where a migration leads in the wrong direction.

    Alembic takes a way in the other direction for no way at all.
    """
    if migrations.is_before(last, first) and not down:
        raise DatabaseUnusable(
            f"{last} comes before {first}: going back is rosterlog migrate --down --to {last}"
        )
    if migrations.is_before(first, last) and down:
        raise DatabaseUnusable(
            f"{last} comes after {first}: going on is rosterlog migrate --to {last}"
        )


def _answer_of(conninfo: str) -> tuple[int, str | None]:
    """Wait until the database answers, and return the server's version and the database's encoding.

    Raises `DatabaseUnusable`.
    """

    def say(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.warning(
            "waiting for the database %s: %s", masked(conninfo), str(error).strip().splitlines()[0]
        )

    patience = Retrying(
        retry=retry_if_exception_type(psycopg.OperationalError),
        wait=wait_random_exponential(multiplier=0.5, max=5),
        stop=stop_after_delay(WAIT_SECONDS),
        before_sleep=say,
        reraise=True,
    )
    try:
        return patience(_about, conninfo)
    except psycopg.errors.InsufficientPrivilege as wrong:
        raise DatabaseUnusable(
            f"a session of {masked(conninfo)} can't be set up "
            f"({str(wrong).partition(chr(10))[0]}): with foreign keys switched off the "
            "read tables would go wrong. A superuser has to RESET session_replication_role "
            "for the database and the account"
        ) from None
    except psycopg.OperationalError as wrong:
        raise DatabaseUnusable(
            f"the database {masked(conninfo)} did not answer in {WAIT_SECONDS} s: {wrong}"
        ) from None


def _about(conninfo: str) -> tuple[int, str | None]:
    with sessions.connect(conninfo) as connection:
        return connection.info.server_version // 10_000, connection.info.parameter_status(
            "server_encoding"
        )


def _refuse_unsupported(version: int, encoding: str | None) -> None:
    if not _OLDEST <= version <= _NEWEST:
        raise DatabaseUnusable(
            f"the database runs PostgreSQL {version}; {_OLDEST} to {_NEWEST} are supported"
        )
    if encoding != "UTF8":
        raise DatabaseUnusable(
            f"the database's encoding is {encoding}, in which not every name can be written; "
            "Rosterlog needs UTF8: "
            "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0 LOCALE 'C'"
        )

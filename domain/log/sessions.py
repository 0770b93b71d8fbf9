"""The one place where a session with the database is opened and set up.

A server, a database, an account, a connection string and the environment of libpq may each set what
a session does. What an answer relies on is set here, for every session there is, so that none of
them counts. `ruff` refuses a connection that is opened elsewhere.

What all supported releases of PostgreSQL know goes with the request for the connection, as
`options`, so that it holds before the first statement. The rest is set by one statement right
after: libpq sends its `PGDATESTYLE` and `PGTZ` after the options, where they would win. What only
makes a statement faster or slower is left to the operator.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from rosterlog.domain.log.silence import heard, heard_by_thread

Pool = ConnectionPool[Connection[Any]]
AsyncPool = AsyncConnectionPool[AsyncConnection[Any]]
Values = Mapping[str, str | int]

SETUP_SECONDS = 5.0
"""How long a new connection may take to be set up, and how long a pool tries to replace a lost one before it waits to be asked again."""

_PINNED: Values = {
    # Names mean what PostgreSQL means by them, whatever somebody made in `public`; a temporary
    # table comes last.
    "search_path": "pg_catalog,pg_temp",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    # How values are read and written.
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": 1,
    "xmlbinary": "base64",
    "xmloption": "content",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "timezone_abbreviations": "Default",
    "quote_all_identifiers": "off",
    # What a statement says.
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "default_text_search_config": "pg_catalog.simple",
    "gin_fuzzy_search_limit": 0,
    # A policy that hides rows from us makes an error, not a short answer.
    "row_security": "off",
    # What we make is made as the migrations say.
    "check_function_bodies": "on",
    "default_table_access_method": "heap",
    # When a session ends, and what it runs.
    "statement_timeout": 0,
    "lock_timeout": 0,
    "idle_in_transaction_session_timeout": 0,
    "idle_session_timeout": 0,
    "exit_on_error": "off",
    "local_preload_libraries": "",
}

# What is acknowledged is on disk; a setting that promises more than that stays. Without the
# triggers of foreign keys, ends would not cascade in the read tables: only a superuser switches
# them off for a session, and only one can take that back, so any other account is refused the
# session.
_AFTERWARDS = """
    SET DateStyle = 'ISO, YMD'; SET TimeZone = 'UTC';
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') <> 'remote_apply';
    SELECT set_config('session_replication_role', 'origin', false) WHERE current_setting('session_replication_role') <> 'origin'
"""
_AFTERWARDS_FROM_17 = f"SET transaction_timeout = 0; {_AFTERWARDS}"

# A server that is gone without a word is noticed within seconds, not within the two hours of the
# system's defaults.
_PATIENT: Values = {
    "connect_timeout": 5,
    "tcp_user_timeout": 15_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}


@dataclass(frozen=True)
class Session:
    """What one kind of work needs of a session.

    `settings` are the server's, `network` those of libpq, for whatever the connection string leaves
    open. A Unix socket ignores TCP's.
    """

    settings: Values = field(default_factory=dict)
    network: Values = field(default_factory=lambda: _PATIENT)


OPERATING = Session()
"""Work of an operator: it takes as long as it takes."""
READING = Session({"statement_timeout": "30s", "idle_in_transaction_session_timeout": "10s"})
"""Reads that somebody waits for."""
APPENDING = Session({**READING.settings, "lock_timeout": "5s"})
"""Appends, which wait for their turn that long at most."""
LOADING = Session(
    {
        "tcp_keepalives_idle": 2,
        "tcp_keepalives_interval": 1,
        "tcp_keepalives_count": 2,
        "tcp_user_timeout": 4_000,
        "client_connection_check_interval": "1s",
        "jit": "off",
    },
    {
        "connect_timeout": 5,
        "tcp_user_timeout": 4_000,
        "keepalives_idle": 2,
        "keepalives_interval": 1,
        "keepalives_count": 2,
    },
)
"""Work that one process at a time does: both ends notice soon that the other is gone, host and network included.

The server also gives up a statement whose client is gone, and none because it takes long. Nothing
is compiled: for the few events of a live range that takes longer than to project them, and the
planner can't know how few they are.
"""
PROJECTING = Session(
    {**LOADING.settings, "idle_in_transaction_session_timeout": "5s"}, LOADING.network
)
"""Projecting live: ends a leader that is frozen in the middle of a transaction."""


def connect(
    conninfo: str, session: Session = OPERATING, *, name: str | None = None, autocommit: bool = True
) -> Connection[Any]:
    """Open a session that commits by itself, unless `autocommit` is off; `name` is what others see of it.

    Raises `psycopg.OperationalError` where the database can't be reached, or says nothing for
    `SETUP_SECONDS`, `psycopg.errors.InsufficientPrivilege` where a superuser switched foreign keys
    off.
    """
    connection: Connection[Any] = psycopg.connect(_pinned(conninfo, session, name), autocommit=True)
    try:
        _set_up(connection)
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


async def connect_async(conninfo: str, session: Session = OPERATING) -> AsyncConnection[Any]:
    """Do the same within an event loop."""
    connection: AsyncConnection[Any] = await AsyncConnection.connect(
        _pinned(conninfo, session), autocommit=True
    )
    try:
        await _set_up_async(connection)
    except BaseException:
        await connection.close()
        raise
    return connection


def conninfo_of(connection: Connection[Any]) -> str:
    """Return how to connect as `connection` is connected, the password included."""
    return make_conninfo(connection.info.dsn, password=connection.info.password or None)


def pool(conninfo: str, session: Session, name: str, *, most: int, seconds: float) -> Pool:
    """Open a pool of at most `most` sessions, made as needed; who waits for one longer than `seconds` gets `PoolTimeout`."""
    return ConnectionPool(
        _pinned(conninfo, session), open=True, configure=_set_up, **_options(name, most, seconds)
    )


def async_pool(
    conninfo: str, session: Session, name: str, *, most: int, seconds: float
) -> AsyncPool:
    """Make the same for an event loop, to be opened there."""
    return AsyncConnectionPool(
        _pinned(conninfo, session),
        open=False,
        configure=_set_up_async,
        **_options(name, most, seconds),
    )


def _options(name: str, most: int, seconds: float) -> dict[str, Any]:
    # By default a pool that lost its connections tries less and less often, and after a long outage
    # not for minutes.
    return {
        "kwargs": {"autocommit": True},
        "min_size": 1,
        "max_size": most,
        "timeout": seconds,
        "reconnect_timeout": SETUP_SECONDS,
        "name": name,
    }


def _pinned(conninfo: str, session: Session, name: str | None = None) -> str:
    """Return a connection string whose own `options` come first, so that ours count."""
    given = conninfo_to_dict(conninfo)
    # libpq leaves PGOPTIONS out where there are `options`, and an operator may say there whom to
    # act as.
    theirs = given.get("options") or os.environ.get("PGOPTIONS", "")
    ours = {**_PINNED, **session.settings}
    options = " ".join(f"-c {setting}={_escaped(str(value))}" for setting, value in ours.items())
    network = {keyword: value for keyword, value in session.network.items() if keyword not in given}
    named = {"application_name": name} if name else {}
    return make_conninfo(
        conninfo, **network, **named, client_encoding="UTF8", options=f"{theirs} {options}".strip()
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _afterwards(connection: Connection[Any] | AsyncConnection[Any]) -> LiteralString:
    return _AFTERWARDS_FROM_17 if connection.info.server_version >= 17_00_00 else _AFTERWARDS  # noqa: PLR2004  # first release with it


def _set_up(connection: Connection[Any]) -> None:
    with heard_by_thread(connection, SETUP_SECONDS):
        connection.execute(_afterwards(connection))


async def _set_up_async(connection: AsyncConnection[Any]) -> None:
    with heard(connection, SETUP_SECONDS):
        await connection.execute(_afterwards(connection))

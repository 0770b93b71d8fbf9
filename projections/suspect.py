"""How a database is read that may have been altered: over a session of our own, in which every name means what PostgreSQL ships.

Who owns a database can put functions, operators and types of their own where unqualified names are looked up first, by the search path
of the database or of an account. Here only `pg_catalog` is searched, which a superuser alone can change. A policy that would hide rows is
an error. Settings that change how values and definitions are written are fixed, because these are compared as texts.
"""

from typing import Any

from psycopg import Connection, Cursor
from psycopg.conninfo import make_conninfo
from psycopg.types.string import ByteaBinaryLoader

PINS = {
    "search_path": "pg_catalog, pg_temp",
    "row_security": "off",
    "client_encoding": "UTF8",
    "statement_timeout": "0",
    "default_transaction_isolation": "'read committed'",
    "default_table_access_method": "heap",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "timezone": "'UTC'",
}
"""Settings of a session, as SQL."""

_RAW_TYPES = ("int8", "uuid", "text", "timestamptz", "bytea")


def pin(connection: Connection[Any]) -> None:
    """Fix what names and values mean in this session."""
    connection.execute("; ".join(f"SET {name} = {value}" for name, value in PINS.items()))


def conninfo_of(connection: Connection[Any]) -> str:
    """Return how to connect as `connection` is connected, the password included."""
    return make_conninfo(connection.info.dsn, password=connection.info.password or None)


def connect(conninfo: str) -> Connection[Any]:
    """Open a session of our own, which commits each statement by itself."""
    connection = Connection.connect(conninfo, autocommit=True, application_name="rosterlog verify")
    pin(connection)
    return connection


def raw(connection: Connection[Any]) -> Cursor[Any]:
    """Return a cursor that gives the values of the log's types as the bytes that PostgreSQL sends: no value is interpreted twice."""
    cursor = connection.cursor(binary=True)
    for name in _RAW_TYPES:
        cursor.adapters.register_loader(name, ByteaBinaryLoader)
    return cursor

"""Shadow tables: the read tables once more, in a schema of their own, made from the models.

Tables, constraints and indexes have the names that the migrations give them: names are a schema's own, so they stay when the tables move.
"""

from typing import Any

from psycopg import Connection
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from domain.errors import DomainError
from projections.tables import SCHEMA, SHADOW, Table

REBUILD_LOCK = 7_316_004
"""Key of the advisory lock of whoever uses the shadow tables: one rebuild or verification at a time."""

TABLES = [table.name for table in Table.metadata.sorted_tables]
"""Names of the read tables, each after those it refers to."""


class ShadowInUse(DomainError):
    """A rebuild or a verification is already running: wait for it, or cancel the rebuild."""


def claim(connection: Connection[Any]) -> None:
    """Take the shadow tables for as long as the connection lives. Raises `ShadowInUse`."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [REBUILD_LOCK]).fetchone()
    if row is None or not row[0]:
        raise ShadowInUse


def create(connection: Connection[Any]) -> None:
    """Make empty shadow tables, in place of those that a crash may have left."""
    drop(connection)
    for statement in _definitions():
        connection.execute(statement)
    connection.execute(f"INSERT INTO {SHADOW}.checkpoint (position) VALUES (0)")


def drop(connection: Connection[Any]) -> None:
    """Drop the shadow tables, if there are any."""
    connection.execute(f"DROP TABLE IF EXISTS {', '.join(f'{SHADOW}.{name}' for name in TABLES)}")


def switch(connection: Connection[Any]) -> None:
    """Put the shadow tables in the place of the read tables. Raises `psycopg.errors.LockNotAvailable` where readers hold them for long.

    The wait is far shorter than PostgreSQL's deadlock detection, so it is always the switch that gives way, never a reader.
    """
    live = ", ".join(f"{SCHEMA}.{name}" for name in TABLES)
    connection.execute("SET LOCAL lock_timeout = '200ms'")
    connection.execute(f"LOCK TABLE {live} IN ACCESS EXCLUSIVE MODE")
    connection.execute(f"DROP TABLE {live}")
    for name in TABLES:
        connection.execute(f"ALTER TABLE {SHADOW}.{name} SET SCHEMA {SCHEMA}")


def _definitions() -> list[str]:
    tables = Table.metadata.sorted_tables
    statements: list[ExecutableDDLElement] = [CreateTable(table) for table in tables]
    statements += [CreateIndex(index) for table in tables for index in sorted(table.indexes, key=lambda index: str(index.name))]
    return [_in_shadow(statement) for statement in statements]


def _in_shadow(statement: ExecutableDDLElement) -> str:
    compiled = statement.compile(
        dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]
        schema_translate_map={SCHEMA: SHADOW},
        render_schema_translate=True,
    )
    return str(compiled)

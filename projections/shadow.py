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

# The privileges on the live tables, as statements that give the same on the shadow tables.
_PRIVILEGES = f"""
    SELECT format('GRANT %s ON {SHADOW}.%I TO %s', privilege_type, relname, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(rolname) END)
    FROM pg_class CROSS JOIN LATERAL aclexplode(relacl) LEFT JOIN pg_roles ON pg_roles.oid = grantee
    WHERE relnamespace = '{SCHEMA}'::regnamespace AND relkind = 'r' AND grantee <> relowner
"""

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


def lock_live(connection: Connection[Any]) -> None:
    """Keep everyone from the live tables for the rest of the transaction.

    Raises `psycopg.errors.LockNotAvailable` where others hold them for long. The wait is far shorter than PostgreSQL's deadlock detection,
    so it is always the switch that gives way, never a reader. The checkpoint comes first, as it does for the projector.
    """
    connection.execute("SET LOCAL lock_timeout = '200ms'")
    connection.execute(f"LOCK TABLE {SCHEMA}.checkpoint, {_live()} IN ACCESS EXCLUSIVE MODE")


def switch(connection: Connection[Any]) -> None:
    """Put the shadow tables in the place of the live ones, with the same privileges; `lock_live` comes first."""
    for (grant,) in connection.execute(_PRIVILEGES).fetchall():
        connection.execute(grant)
    connection.execute(f"DROP TABLE {_live()}")
    for name in TABLES:
        connection.execute(f"ALTER TABLE {SHADOW}.{name} SET SCHEMA {SCHEMA}")


def _live() -> str:
    return ", ".join(f"{SCHEMA}.{name}" for name in TABLES)


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

"""Shadow tables: the read tables once more, in a schema of their own, made from the models.

They are loaded without foreign keys and with the indexes only that a load looks rows up by; the
others are made afterwards, which costs far less. Tables, constraints and indexes have the names
that the migrations give them: names are a schema's own, so they stay when the tables move.
"""

from dataclasses import replace
from typing import Any

from psycopg import Connection
from sqlalchemy import UniqueConstraint
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import (
    AddConstraint,
    CreateIndex,
    CreateTable,
    DropConstraint,
    ExecutableDDLElement,
)

from rosterlog.domain.errors import DomainError
from rosterlog.domain.log import sessions
from rosterlog.projections.rebuild import loading
from rosterlog.projections.tables import SCHEMA, SHADOW, Table

REBUILD_LOCK = 7_316_004
"""Key of the advisory lock of whoever uses the shadow tables: one rebuild or verification at a time."""
BATCH = 250_000
"""Most events in one transaction of a load: larger ranges fold more events into each row that is written."""

# For sorting and hashing a range of BATCH events, and for making indexes; both are memory of the
# database's server. Costs of the planner's: what a range reads in parallel is worth the hand-over,
# which it would not expect of so few events.
LOADING = replace(
    sessions.LOADING,
    settings={
        **sessions.LOADING.settings,
        "work_mem": "128MB",
        "maintenance_work_mem": "128MB",
        "max_parallel_workers_per_gather": 1,
        "parallel_tuple_cost": 0,
        "parallel_setup_cost": 0,
    },
)
"""The session that loads shadow tables."""

_MEMBERS = Table.metadata.tables[f"{SCHEMA}.class_members"]
_KEYS_OF_MEMBERS = [
    _MEMBERS.primary_key,
    *(key for key in _MEMBERS.constraints if isinstance(key, UniqueConstraint)),
]

TABLES = [table.name for table in Table.metadata.sorted_tables]
"""Names of the read tables, each after those it refers to."""


class ShadowInUse(DomainError):
    """A rebuild or a verification is already running: wait for it, or cancel the rebuild."""


def claim(connection: Connection[Any]) -> None:
    """Take the shadow tables for as long as the connection, a `LOADING` session, lives.

    Raises `ShadowInUse`.
    """
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [REBUILD_LOCK]).fetchone()
    if row is None or not row[0]:
        raise ShadowInUse
    # A plan made for the first range, of empty tables, is none for the later ones.
    connection.prepare_threshold = None


def release(connection: Connection[Any]) -> None:
    """Give the shadow tables back now; a session that ends does so a moment after its client has gone on."""
    if not connection.broken:
        connection.execute("SELECT pg_advisory_unlock(%s)", [REBUILD_LOCK])


def create(connection: Connection[Any]) -> None:
    """Make empty shadow tables to load, in place of those that a crash may have left."""
    drop(connection)
    for table in Table.metadata.sorted_tables:
        _run(connection, CreateTable(table, include_foreign_key_constraints=[]))
    for key in _KEYS_OF_MEMBERS:
        _run(connection, DropConstraint(key))
    connection.execute(f"INSERT INTO {SHADOW}.checkpoint (position) VALUES (0)")
    loading.begin(connection, SHADOW)


def complete(connection: Connection[Any]) -> None:
    """Give the loaded tables everything that the migrations give the live ones.

    Raises `psycopg.errors.ForeignKeyViolation` where a row refers to something that there is not.
    """
    tables = Table.metadata.sorted_tables
    for key in _KEYS_OF_MEMBERS:
        _run(connection, AddConstraint(key, isolate_from_table=False))
    for index in sorted(
        (index for table in tables for index in table.indexes), key=lambda index: str(index.name)
    ):
        _run(connection, CreateIndex(index))
    for name in TABLES:
        connection.execute(f"ANALYZE {SHADOW}.{name}")
    for table in tables:
        for key in sorted(table.foreign_key_constraints, key=lambda key: str(key.name)):
            _run(connection, AddConstraint(key, isolate_from_table=False))


def drop(connection: Connection[Any]) -> None:
    """Drop the shadow tables, if there are any."""
    loading.drop(connection, SHADOW)
    connection.execute(f"DROP TABLE IF EXISTS {', '.join(f'{SHADOW}.{name}' for name in TABLES)}")


def _run(connection: Connection[Any], statement: ExecutableDDLElement) -> None:
    compiled = statement.compile(
        dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]
        schema_translate_map={SCHEMA: SHADOW},
        render_schema_translate=True,
    )
    connection.execute(str(compiled))

"""Proof that the read tables say what the log says."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection, IsolationLevel

from projections import shadow
from projections.projector import project
from projections.rebuild import BATCH
from projections.tables import SCHEMA, SHADOW
from projections.verify_log import Progress, refuse_ahead


@dataclass(frozen=True)
class Difference:
    """A row that is not in both: what the table has, and what the log says it should have (None: no such row)."""

    table: str
    found: str | None
    expected: str | None


_DIFFERENCES = """
    SELECT found.whole, expected.whole
    FROM (SELECT {key} AS key, {table}::text AS whole FROM {live}.{table}) AS found
    FULL JOIN (SELECT {key} AS key, {table}::text AS whole FROM {shadow}.{table}) AS expected USING (key)
    WHERE found.whole IS DISTINCT FROM expected.whole ORDER BY key LIMIT %(most)s
"""


def verify_tables(conninfo: str, on_progress: Progress = lambda *_: None, most: int = 1000) -> Iterator[Difference]:
    """Derive the read tables once more and yield every row that differs, at most so many a table.

    One transaction sees the live tables at one moment, projects the log up to their checkpoint into shadow tables, compares, and rolls
    back: nothing waits for it, and nothing stays. Raises `ShadowInUse` while a rebuild runs.
    """
    with psycopg.connect(conninfo, autocommit=True, application_name="rosterlog verify") as connection:
        shadow.claim(connection)
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        with connection.transaction(force_rollback=True):
            row = connection.execute(f"SELECT position FROM {SCHEMA}.checkpoint").fetchone()
            upto = row[0] if row else 0
            row = connection.execute("SELECT coalesce(max(notification_id), 0) FROM log.events").fetchone()
            refuse_ahead(connection, row[0] if row else 0)
            shadow.create(connection)
            while (step := project(connection, SHADOW, limit=BATCH, stop=upto)).events:
                on_progress(step.position, upto)
            for table in shadow.TABLES:
                if table != "checkpoint":
                    yield from _differences(connection, table, most)


def _differences(connection: Connection[Any], table: str, most: int) -> Iterator[Difference]:
    statement = _DIFFERENCES.format(key="id", table=table, live=SCHEMA, shadow=SHADOW)
    for found, expected in connection.execute(statement, {"most": most}):
        yield Difference(table, found, expected)

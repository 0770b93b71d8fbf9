"""Comparing the live tables with shadow tables that reflect the same position, row by row and byte by byte."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from rosterlog.projections.rebuild import shadow
from rosterlog.projections.tables import SCHEMA, SHADOW

COMPARED = [name for name in shadow.TABLES if name != "checkpoint"]


@dataclass(frozen=True)
class Difference:
    """A row that is not in both: what the table has, and what the log says it should have (None: no such row)."""

    table: str
    found: str | None
    expected: str | None


# *<> compares the bytes of rows, not what their types take for equal.
_DIFFERING = f"""
    FROM {SCHEMA}.{{table}} AS found FULL JOIN {SHADOW}.{{table}} AS expected USING (id)
    WHERE found.id IS NULL OR expected.id IS NULL OR found *<> expected
"""
_DIFFERENCES = f"""
    SELECT CASE WHEN found.id IS NOT NULL THEN found::text END, CASE WHEN expected.id IS NOT NULL THEN expected::text END
    {_DIFFERING} ORDER BY id LIMIT %(most)s
"""


def differences(connection: Connection[Any], most: int) -> Iterator[Difference]:
    """Yield every row that differs, at most so many a table."""
    for table in COMPARED:
        for found, expected in connection.execute(_DIFFERENCES.format(table=table), {"most": most}):
            yield Difference(table, found, expected)


def count(connection: Connection[Any]) -> int:
    """Return how many rows differ."""
    return sum(_count(connection, table) for table in COMPARED)


def _count(connection: Connection[Any], table: str) -> int:
    row = connection.execute(f"SELECT count(*) {_DIFFERING.format(table=table)}").fetchone()
    return row[0] if row else 0

"""The indexes of the log: making anew those that are missing, broken or other ones than the migrations make."""

import re
from collections.abc import Iterator
from typing import Any

from psycopg import Connection

from rosterlog.projections.verify import catalog

_LOG = "log."

INDEXES = {
    name.removeprefix(_LOG): definition
    for name, definition in catalog.expected()["index"].items()
    if name.startswith(_LOG)
}
"""Every index of the log by its name, as the statement that makes it."""
CONSTRAINTS = {
    name.rpartition(" ")[2]: kind[0]
    for name, definition in catalog.expected()["constraint"].items()
    if name.startswith(_LOG) and (kind := re.match("UNIQUE|PRIMARY KEY", definition))
}
"""The kinds of the constraints that an index of the same name carries."""

_TABLE = re.compile(r" ON (log\.\w+) ")
_FOUND = """
    SELECT index.relname, pg_get_indexdef(index.oid), indisvalid AND indisready AND indislive,
           EXISTS (SELECT FROM pg_constraint WHERE conindid = index.oid AND contype IN ('p', 'u'))
    FROM pg_index JOIN pg_class AS index ON index.oid = indexrelid WHERE index.relnamespace = to_regnamespace('log')
"""


def broken(connection: Connection[Any]) -> Iterator[str]:
    """Yield the names of the indexes that are missing, invalid or other ones than the migrations make."""
    found = {name: rest for name, *rest in connection.execute(_FOUND)}
    for name, definition in INDEXES.items():
        if found.get(name) != [definition, True, name in CONSTRAINTS]:
            yield name


def make_anew(connection: Connection[Any], name: str) -> None:
    """Make an index anew, over a connection that commits by itself; others read and write meanwhile."""
    definition = INDEXES[name]
    table = _TABLE.search(definition)[1]  # type: ignore[index]  # the catalog holds what matches
    if name in CONSTRAINTS:
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}".encode())
    connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS log.{name}".encode())
    connection.execute(definition.replace(" INDEX ", " INDEX CONCURRENTLY ", 1).encode())
    if name in CONSTRAINTS:
        connection.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT {name} {CONSTRAINTS[name]} USING INDEX {name}".encode()
        )


def rebuild(connection: Connection[Any], name: str) -> None:
    """Write an index anew from the table, over a connection that commits by itself; others read and write meanwhile."""
    connection.execute(f"REINDEX INDEX CONCURRENTLY log.{name}".encode())

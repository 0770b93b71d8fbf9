"""Proof that lookups find what there is: an index that lacks a row, or holds rows in another order than PostgreSQL looks them up in.

Where the extension amcheck is installed, and this account may use it, it is asked. Elsewhere each
index is read from its beginning to its end, and compared with the table, which is read without any
index: as many rows, and each not before the one that the index has before it.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg import Connection

from rosterlog.domain.log import sessions
from rosterlog.projections.verify import catalog
from rosterlog.projections.verify.log_check import Progress

_INDEXES = """
    SELECT pg_class.oid, indexrelid::regclass::text, indrelid::regclass::text,
           ARRAY(SELECT pg_get_indexdef(indexrelid, place, true) FROM generate_series(1, indnkeyatts) AS place),
           coalesce(pg_get_expr(indpred, indrelid), 'true')
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
    WHERE amname = 'btree' ORDER BY 3, 2
"""
_AMCHECK = """
    SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
    JOIN pg_proc ON pronamespace = pg_namespace.oid AND proname = 'bt_index_check' AND pronargs = 2
    WHERE extname = 'amcheck' AND has_function_privilege(pg_proc.oid, 'EXECUTE')
"""
_BY_INDEX = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; SET LOCAL jit = off"
_BY_TABLE = """
    SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_indexscan = off;
    SET LOCAL enable_indexonlyscan = off; SET LOCAL jit = off
"""
# As whole rows: so nulls compare as they do in an index.
_READ = """
    SELECT count(*), count(*) FILTER (WHERE NOT in_order) FROM (
        SELECT ROW({keys}) >= lag(ROW({keys})) OVER (ORDER BY {keys}) AS in_order FROM {table} WHERE {predicate}
    ) AS entry
"""

_COLLATION = """
    SELECT datcollversion, pg_database_collation_actual_version(oid) FROM pg_database
    WHERE datname = current_database() AND datcollversion IS NOT NULL
      AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)
"""


@dataclass(frozen=True)
class WrongIndex:
    """An index that does not find what the table has; `REINDEX` makes it anew."""

    name: str
    what: str

    def __str__(self) -> str:
        return f"the index {self.name}: {self.what}; REINDEX INDEX {self.name} mends it"


class _Index(NamedTuple):
    oid: int
    name: str
    table: str
    keys: list[str]
    predicate: str


@dataclass(frozen=True)
class VerifiedIndexes:
    """What was found: indexes that are wrong, and the names of those that PostgreSQL would not read in their order."""

    wrong: list[WrongIndex]
    unread: list[str]


class _NotRead(Exception):
    """The planner reads another index in place of the one that is asked for."""


def verify_indexes(
    conninfos: Iterable[str], on_progress: Progress = lambda *_: None
) -> VerifiedIndexes:
    """Check each index that the migrations make; `on_progress` is told how many are done, of how many.

    `conninfos` lead to the same database by different accounts: each index is checked by the first
    that may. Raises `CatalogAltered`. Others read and write meanwhile.
    """
    wrong, left = list[WrongIndex](), set(catalog.expected()["index"])
    total = len(left)
    for conninfo in dict.fromkeys(conninfos):
        with sessions.connect(conninfo, name="rosterlog verify") as connection:
            catalog.refuse_altered(connection)
            for index in map(_Index._make, connection.execute(_INDEXES).fetchall()):
                if index.name in left:
                    wrong.extend(_check(connection, index, left))
                    on_progress(total - len(left), total)
    on_progress(total, total)
    return VerifiedIndexes(wrong, sorted(left))


def _check(connection: Connection[Any], index: _Index, left: set[str]) -> Iterator[WrongIndex]:
    """Yield the index where it is wrong, and take it out of those that are left where it could be read."""
    with suppress(_NotRead, psycopg.errors.InsufficientPrivilege):
        amcheck = connection.execute(_AMCHECK).fetchone()
        what = _asked(connection, amcheck[0], index) if amcheck else _counted(connection, index)
        left.remove(index.name)
        if what:
            yield WrongIndex(index.name, what)


def changed_collation(connection: Connection[Any]) -> str | None:
    """Say that the database's order of characters is no longer the one that its indexes were made in, None where it is."""
    row = connection.execute(_COLLATION).fetchone()
    if row is None:
        return None
    made, now = row
    return (
        f"the database's collation was of version {made} when its indexes were made, and is of version {now or 'unknown'}. "
        "Rosterlog orders by bytes and does not mind; other indexes over texts in this database may miss rows: "
        "REINDEX DATABASE, then ALTER DATABASE … REFRESH COLLATION VERSION"
    )


def _asked(connection: Connection[Any], schema: str, index: _Index) -> str | None:
    try:
        connection.execute(
            f"SELECT {schema}.bt_index_check(%s::oid::regclass, true)".encode(), [index.oid]
        )
    except (psycopg.errors.IndexCorrupted, psycopg.errors.DataCorrupted) as found:
        return str(found).partition("\n")[0]
    return None


def _counted(connection: Connection[Any], index: _Index) -> str | None:
    """Read an index and its table. Raises `_NotRead`."""
    read = _READ.format(
        keys=", ".join(index.keys), table=index.table, predicate=index.predicate
    ).encode()
    count = f"SELECT count(*) FROM {index.table} WHERE {index.predicate}".encode()
    with connection.transaction():
        # Both are read as of the same moment.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute(_BY_INDEX)
        plan = connection.execute(b"EXPLAIN " + read).fetchall()
        if not any(f" using {index.name.rpartition('.')[2]} on " in line for (line,) in plan):
            raise _NotRead
        entries, misplaced = connection.execute(read).fetchone() or (0, 0)
        connection.execute(_BY_TABLE)
        (rows,) = connection.execute(count).fetchone() or (0,)
    if entries != rows:
        return f"it has {entries} entries for {rows} rows"
    return f"{misplaced} of its {entries} entries are not in order" if misplaced else None

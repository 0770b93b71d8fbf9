"""Many reads in one statement, each with the answer that it would have got alone.

Those of confined callers are statements of their own, whose last array has the groups of each as
text: the others' cost the same as ever.
"""

from collections.abc import Mapping

from rosterlog.projections.reading.queries import BY_ROLE, CLASS_BY_ID, MEMBER, Thing
from rosterlog.projections.shared_sql import CHECKPOINT

IDS = {
    "group": ("group_id",),
    "user": ("user_id",),
    "class": ("class_id",),
    "member": ("class_id", "user_id"),
}
"""Which ids name a thing of each kind."""


def things(thing: Thing, *, confined: bool) -> str:
    """Return the SELECT of position, version and item of each thing asked for, by arrays of its ids, in order."""
    columns = dict.fromkeys(IDS[thing.kind], "uuid[]")
    return f"""
        SELECT base.position, thing.version, thing.item
        FROM {_asked(columns, confined=confined)}
        CROSS JOIN ({CHECKPOINT}) AS base
        LEFT JOIN LATERAL (SELECT version, {thing.item}::text AS item FROM ({_source(thing, confined=confined)}) AS source) AS thing ON true
        ORDER BY place
    """


def _asked(columns: Mapping[str, str], *, confined: bool) -> str:
    """Return the rows that are asked with, from an array for each column."""
    columns = {**columns, "groups": "text[]"} if confined else columns
    arrays = ", ".join(f"%b::{kind}" for kind in columns.values())
    return f"unnest({arrays}) WITH ORDINALITY AS asked ({', '.join(columns)}, place)"


def _source(thing: Thing, *, confined: bool) -> str:
    return thing.live.select(confined=confined) % {
        name: f"asked.{name}" for name in (*IDS[thing.kind], "groups")
    }


# A class's version and the number of its members tell its roster from any other it had: between two
# events of the class only removed users leave it, and that makes it smaller each time. The tables
# are told from those before a rebuild, which may have mended them. So a roster that the caller
# knows, by all three, is not read again.
def rosters(*, confined: bool) -> str:
    """Return the SELECT of position, version, size, tables and items of each roster asked for; no items where the caller knows them."""
    columns = {
        "class_id": "uuid[]",
        "known_version": "bigint[]",
        "known_size": "bigint[]",
        "known_tables": "bigint[]",
    }
    return f"""
        SELECT base.position, class.version, roster.size, base.tables,
        CASE WHEN (class.version, roster.size, base.tables) IS DISTINCT FROM (known_version, known_size, known_tables) THEN (
            SELECT coalesce(string_agg({MEMBER}::text, ',' ORDER BY {", ".join(BY_ROLE.columns)}), '')
            FROM roster.class_members WHERE class_id = asked.class_id AND roster.size <= %b
        ) END AS items
        FROM {_asked(columns, confined=confined)}
        CROSS JOIN (SELECT position, tableoid::bigint AS tables FROM roster.checkpoint) AS base
        LEFT JOIN LATERAL ({_source(CLASS_BY_ID, confined=confined)}) AS class ON true
        LEFT JOIN LATERAL (SELECT count(*) AS size FROM roster.class_members WHERE class_id = asked.class_id) AS roster ON true
        ORDER BY place
    """

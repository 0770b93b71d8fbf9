"""Many reads in one statement, each with the answer that it would have got alone."""

from projections.queries import BY_ROLE, CLASS_BY_ID, MEMBER, Thing

IDS = {"group": ("group_id",), "user": ("user_id",), "class": ("class_id",), "member": ("class_id", "user_id")}
"""Which ids name a thing of each kind."""


def things(thing: Thing) -> str:
    """Return the SELECT of position, version and item of each thing asked for, by arrays of its ids, in order."""
    names = IDS[thing.kind]
    source = thing.live % {name: f"asked.{name}" for name in names}
    return f"""
        SELECT base.position, thing.version, thing.item
        FROM unnest({", ".join("%b::uuid[]" for _ in names)}) WITH ORDINALITY AS asked ({", ".join(names)}, place)
        CROSS JOIN (SELECT position FROM roster.checkpoint) AS base
        LEFT JOIN LATERAL (SELECT version, {thing.item}::text AS item FROM ({source}) AS source) AS thing ON true
        ORDER BY place
    """


# A class's version and the number of its members tell its roster from any other it had: between two events of the class only removed
# users leave it, and that makes it smaller each time. The tables are told from those before a rebuild, which may have mended them. So a
# roster that the caller knows, by all three, is not read again.
ROSTERS = f"""
    SELECT base.position, class.version, roster.size, base.tables,
    CASE WHEN (class.version, roster.size, base.tables) IS DISTINCT FROM (known_version, known_size, known_tables) THEN (
        SELECT coalesce(string_agg({MEMBER}::text, ',' ORDER BY {", ".join(BY_ROLE.columns)}), '')
        FROM roster.class_members WHERE class_id = asked.class_id AND roster.size <= %b
    ) END AS items
    FROM unnest(%b::uuid[], %b::bigint[], %b::bigint[], %b::bigint[]) WITH ORDINALITY
        AS asked (class_id, known_version, known_size, known_tables, place)
    CROSS JOIN (SELECT position, tableoid::bigint AS tables FROM roster.checkpoint) AS base
    LEFT JOIN LATERAL ({CLASS_BY_ID.live % {"class_id": "asked.class_id"}}) AS class ON true
    LEFT JOIN LATERAL (SELECT count(*) AS size FROM roster.class_members WHERE class_id = asked.class_id) AS roster ON true
    ORDER BY place
"""
"""The SELECT of position, version, size, tables and items of each roster asked for; items are null where the caller knows them."""

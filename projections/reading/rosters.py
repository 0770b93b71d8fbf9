"""The rosters of all classes of a group at a position of the log: count day.

Read class by class, a few at a time, so that a group of any size needs little memory.
"""

from typing import Any

from rosterlog.projections.reading import past

COLUMNS = ("class_id", "class_name", "user_id", "role", "enrolled_at")

CLASSES = f"SELECT id, name FROM ({past.GROUP_CLASSES}) AS class ORDER BY name, id"
"""The SELECT of id and name of the classes of group `group_id` at position `at`."""

ROSTERS = f"""
    SELECT class.id, class.name, member.user_id, member.role, to_json(member.created_at) #>> '{{}}'
    FROM unnest(%(ids)s::uuid[], %(names)s::text[]) WITH ORDINALITY AS class (id, name, place)
    LEFT JOIN LATERAL ({past.MEMBERS.format(whose="class_id = class.id")}) AS member ON true
    ORDER BY class.place, member.role, member.created_at, member.id
"""
"""The SELECT of the rosters of the classes `ids`, called `names`, at position `at`; an empty class has one row."""


def item(row: tuple[Any, ...]) -> dict[str, Any]:
    """Turn a row into what the outside sees of it."""
    return dict(zip(COLUMNS, row, strict=True))

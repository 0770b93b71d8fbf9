"""What differs between two positions of the log, of one class or of all classes of a group.

Both states are derived from the log and compared. What the answer says, applied to the first state, gives the second.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from projections import past
from projections.queries import Source

FIELDS = ("group_id", "name", "settings", "archived")
"""The fields of a class that are compared."""

# Settings as text: in Python, 1 equals true and 1.0.
_STATE = "SELECT id, group_id, name, settings::text, deleted_at IS NOT NULL AS archived FROM ({classes}) AS class"

CLASS = Source(_STATE.format(classes=past.LIVING_CLASS.format(class_id="%(class_id)s")))
"""The class `class_id` at position `at`, no row where there is none."""
GROUP = Source(f"{_STATE.format(classes=past.GROUP_CLASSES)} WHERE NOT {past.ENDED.format(stream='%(group_id)s')}")
"""The classes of group `group_id` at position `at`."""
ELSEWHERE = Source(f"""
    SELECT class.id, class.group_id FROM unnest(%(ids)s::uuid[]) AS wanted (id)
    CROSS JOIN LATERAL ({past.LIVING_CLASS.format(class_id="wanted.id")}) AS class
""")
"""The groups that the classes `ids` are in at position `at`."""

_MEMBERS = f"""
    SELECT member.class_id, member.user_id, member.role FROM unnest(%(ids_{{side}})s::uuid[]) AS class (id)
    CROSS JOIN LATERAL ({past.MEMBERS.format(whose="class_id = class.id")}) AS member
"""
MEMBERS = f"""
    SELECT class_id, user_id, before.role, after.role
    FROM ({_MEMBERS.format(side="from").replace("%(at)s", "%(from)s")}) AS before
    FULL JOIN ({_MEMBERS.format(side="to").replace("%(at)s", "%(to)s")}) AS after USING (class_id, user_id)
    WHERE before.role IS DISTINCT FROM after.role ORDER BY class_id, user_id
"""
"""The SELECT of the memberships that differ: those of the classes `ids_from` at position `from`, of `ids_to` at position `to`."""


@dataclass(frozen=True)
class Classes:
    """The classes that are compared, at one of the two positions, by id; `elsewhere` says where others of them are."""

    fields: Mapping[UUID, Mapping[str, Any]]
    elsewhere: Mapping[UUID, UUID]

    def of(self, class_id: UUID) -> Mapping[str, Any]:
        """Return the fields of a class; of one that is not there, at most its group."""
        return self.fields.get(class_id) or {"group_id": self.elsewhere.get(class_id)}


def fields(rows: Iterable[tuple[Any, ...]]) -> dict[UUID, dict[str, Any]]:
    """Return the fields of the classes in these rows, by id."""
    return {
        id_: {"group_id": group_id, "name": name, "settings": msgspec.Raw(settings.encode()), "archived": archived}
        for id_, group_id, name, settings, archived in rows
    }


def difference(before: Classes, after: Classes, members: Iterable[tuple[UUID, UUID, str | None, str | None]]) -> dict[str, Any]:
    """Return what differs, as the outside sees it."""
    found: dict[str, list[dict[str, Any]]] = {"enrolled": [], "withdrawn": [], "role_changed": [], "classes": []}
    for class_id, user_id, was, is_ in members:
        if was is None:
            found["enrolled"].append({"class_id": class_id, "user_id": user_id, "role": is_})
        elif is_ is None:
            found["withdrawn"].append({"class_id": class_id, "user_id": user_id, "role": was})
        else:
            found["role_changed"].append({"class_id": class_id, "user_id": user_id, "from": was, "to": is_})
    for class_id in sorted(before.fields.keys() | after.fields.keys()):
        changes = _changes(before.of(class_id), after.of(class_id))
        if changes:
            found["classes"].append({"class_id": class_id, "changes": changes})
    return found


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    pairs = {name: (before.get(name), after.get(name)) for name in FIELDS}
    return {name: {"from": was, "to": is_} for name, (was, is_) in pairs.items() if was != is_}

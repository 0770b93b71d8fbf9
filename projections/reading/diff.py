"""What differs between two positions of the log, of one class or of all classes of a group.

Both states are derived from the log and compared, a few classes at a time, so that a difference of
any size needs little memory. What the answer says, applied to the first state, gives the second.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from rosterlog.domain.log.log_sql import ENTRIES
from rosterlog.projections.reading import past
from rosterlog.projections.reading.queries import Source

KINDS = ("enrolled", "withdrawn", "role_changed", "classes")
"""What can differ, in the order of the answer."""
FIELDS = ("group_id", "name", "settings", "archived")
"""The fields of a class that are compared."""

ENTERED = f"""
    SELECT DISTINCT class_id FROM log.events
    WHERE group_id = %(group_id)s AND topic IN ({ENTRIES})
      AND notification_id <= %(at)s ORDER BY class_id
"""
"""The SELECT of the classes that were ever in group `group_id` by position `at`."""

_LIVING = past.LIVING_CLASS.format(class_id="wanted.id")

# Settings as text: in Python, 1 equals true and 1.0.
CLASSES = Source(f"""
    SELECT class.id, group_id, name, settings::text, deleted_at IS NOT NULL AS archived
    FROM unnest(%(ids)s::uuid[]) AS wanted (id) CROSS JOIN LATERAL ({_LIVING}) AS class
    WHERE %(group_id)s::uuid IS NULL OR group_id = %(group_id)s
""")
"""Those of the classes `ids` that are there at position `at`, in group `group_id` where that is not null."""
ELSEWHERE = Source(f"""
    SELECT class.id, class.group_id FROM unnest(%(ids)s::uuid[]) AS wanted (id)
    CROSS JOIN LATERAL ({_LIVING}) AS class
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
        id_: {
            "group_id": group_id,
            "name": name,
            "settings": msgspec.Raw(settings.encode()),
            "archived": archived,
        }
        for id_, group_id, name, settings, archived in rows
    }


def of_members(rows: Iterable[Sequence[Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what rows of `MEMBERS` say: its kind, and the item as the outside sees it."""
    for class_id, user_id, was, is_ in rows:
        member = {"class_id": class_id, "user_id": user_id}
        if was is None:
            yield "enrolled", {**member, "role": is_}
        elif is_ is None:
            yield "withdrawn", {**member, "role": was}
        else:
            yield "role_changed", {**member, "from": was, "to": is_}


def of_classes(before: Classes, after: Classes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what differs of classes, in the order of their ids: its kind, and the item as the outside sees it."""
    for class_id in sorted(before.fields.keys() | after.fields.keys()):
        changes = _changes(before.of(class_id), after.of(class_id))
        if changes:
            yield "classes", {"class_id": class_id, "changes": changes}


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    pairs = {name: (before.get(name), after.get(name)) for name in FIELDS}
    return {name: {"from": was, "to": is_} for name, (was, is_) in pairs.items() if was != is_}

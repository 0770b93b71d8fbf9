"""The audit reading: what happened to a class or a user, read from the log itself.

Removing a user or deleting a class or group is one event. Whoever looks at one class or user sees, besides, an entry for each membership
that it ended. Nothing is recorded about a membership after its end, so a membership that was never withdrawn ended at the first end among
its user, its class and its class's group.
"""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from projections import skips
from projections.queries import MEMBER_TOPICS, Parameters

Order = Literal["asc", "desc"]

_COLUMNS = "notification_id, originator_version, recorded_at, topic, state, class_id, user_id, group_id, actor, source"

_OWN = f"SELECT {_COLUMNS}, NULL::text AS ended_role FROM log.events WHERE {{whose}}"

_OPEN_MEMBERSHIPS = f"""
    SELECT class_id, user_id, role FROM (
        SELECT class_id, user_id, (array_agg(topic ORDER BY notification_id DESC))[1] AS topic,
               (array_agg(convert_from(state, 'UTF8')::json ->> 'role' ORDER BY notification_id DESC))[1] AS role
        FROM log.events WHERE {{whose}} AND topic IN {MEMBER_TOPICS} GROUP BY class_id, user_id
    ) AS membership WHERE topic <> 'MemberWithdrawn'
"""

_LAST_OF = "(SELECT * FROM log.events WHERE originator_id = {stream} ORDER BY originator_version DESC LIMIT 1)"
_GROUP_OF = "(SELECT group_id FROM log.events WHERE originator_id = {class_id} ORDER BY originator_version DESC LIMIT 1)"

_GROUP_THEN = """(
    SELECT group_id FROM log.events WHERE class_id = membership.class_id AND notification_id <= ending.notification_id
    ORDER BY notification_id DESC LIMIT 1
)"""

_ENDED_MEMBERSHIPS = f"""
    SELECT ending.notification_id, ending.originator_version, ending.recorded_at, ending.topic, ending.state,
           membership.class_id, membership.user_id, {_GROUP_THEN} AS group_id,
           ending.actor, ending.source, membership.role AS ended_role
    FROM ({_OPEN_MEMBERSHIPS}) AS membership
    CROSS JOIN LATERAL (
        SELECT * FROM (
            {_LAST_OF.format(stream="membership.user_id")}
            UNION ALL {_LAST_OF.format(stream="membership.class_id")}
            UNION ALL {_LAST_OF.format(stream=_GROUP_OF.format(class_id="membership.class_id"))}
        ) AS last WHERE topic IN ('UserRemoved', 'ClassDeleted', 'GroupDeleted') ORDER BY notification_id LIMIT 1
    ) AS ending
"""

# The class itself ended with its group, members or none.
_ENDED_CLASS = f"""
    SELECT last.notification_id, last.originator_version, last.recorded_at, last.topic, last.state,
           %(class_id)s::uuid, NULL::uuid, last.group_id, last.actor, last.source, NULL::text
    FROM {_LAST_OF.format(stream=_GROUP_OF.format(class_id="%(class_id)s"))} AS last
    WHERE topic = 'GroupDeleted' AND NOT EXISTS (SELECT FROM log.events WHERE class_id = %(class_id)s AND topic = 'ClassDeleted')
"""

CLASS_HISTORY = f"""
    {_OWN.format(whose="class_id = %(class_id)s")}
    UNION ALL {_ENDED_CLASS}
    UNION ALL SELECT * FROM ({_ENDED_MEMBERSHIPS.format(whose="class_id = %(class_id)s")}) AS ended WHERE topic <> 'ClassDeleted'
"""
USER_HISTORY = f"""
    {_OWN.format(whose="user_id = %(user_id)s")}
    UNION ALL {_ENDED_MEMBERSHIPS.format(whose="user_id = %(user_id)s")}
"""

_FILTERS = {
    "type": "topic = %(type)s",
    "actor": "actor = %(actor)s",
    "source": "source = %(source)s",
    "since": "recorded_at >= %(since)s",
    "until": "recorded_at < %(until)s",
}

# Entries of one position: the event itself, then the memberships it ended. `part` tells them apart.
_PART = "CASE WHEN ended_role IS NULL THEN '' ELSE class_id::text || user_id::text END COLLATE \"C\""


# As in the reads, whose JSON PostgreSQL makes.
_WRITTEN = "to_json(recorded_at) #>> '{}' AS recorded_at"

KEY_TYPES = ("bigint", "text")
"""The types of the key that a cursor goes on from."""


@dataclass(frozen=True)
class Entry:
    """One entry of a history, with the key that a cursor goes on from."""

    event: dict[str, Any]
    key: tuple[str, ...]


def statement(history: str, given: Parameters, order: Order, key: tuple[str, ...] | None) -> tuple[str, Parameters]:
    """Return the SELECT of one page of a history, one entry more than its limit, and its further parameters.

    `given` holds the filters that were given: type, actor, source, since (inclusive), until (exclusive).
    """
    conditions = [condition for name, condition in _FILTERS.items() if given.get(name) is not None]
    parameters: Parameters = {}
    if key is not None:
        conditions.append(f"(notification_id, part) {'>' if order == 'asc' else '<'} (%(key_0)s::bigint, %(key_1)s)")
        parameters = {"key_0": key[0], "key_1": key[1]}
    return (
        f"""
        SELECT head.position, entry.* FROM (SELECT coalesce(max(notification_id), 0) AS position FROM log.events) AS head
        LEFT JOIN LATERAL (
            SELECT {_COLUMNS.replace("recorded_at", _WRITTEN)}, ended_role, part, {skips.MARK} AS skipped
            FROM (SELECT *, {_PART} AS part FROM ({history}) AS entry) AS entry
            WHERE {" AND ".join(conditions) or "true"} ORDER BY notification_id {order}, part {order} LIMIT %(limit)s + 1
        ) AS entry ON true ORDER BY notification_id {order}, part {order}
        """,
        parameters,
    )


def entry(row: tuple[Any, ...]) -> Entry:
    """Turn a row of the statement (without the head) into what the outside sees of it."""
    position, version, recorded_at, topic, state, class_id, user_id, group_id, actor, source, ended_role, part, skipped = row
    fields = msgspec.json.decode(state)
    before, after = ({"role": ended_role}, {}) if ended_role else _changes(topic, fields)
    event = {
        "position": position,
        "version": version,
        "recorded_at": recorded_at,
        "type": topic,
        "actor": actor,
        "reason": fields["reason"],
        "source": source,
        "request_id": fields["request_id"],
        "class_id": class_id,
        "user_id": user_id,
        "group_id": group_id,
        "effective_on": fields.get("effective_on"),
        "before": before,
        "after": after,
    }
    if skipped is not None:
        event["skipped"] = skipped
    return Entry(event, (str(position), part))


_NOT_CHANGES = {"actor", "reason", "source", "request_id", "user_id", "effective_on"}
_ARCHIVED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ClassArchived": ({"archived": False}, {"archived": True}),
    "ClassRestored": ({"archived": True}, {"archived": False}),
}


def _changes(topic: str, fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what an event's fields were before and are after, as far as it changed them."""
    if topic in _ARCHIVED:
        return _ARCHIVED[topic]
    own = {name: value for name, value in fields.items() if name not in _NOT_CHANGES}
    before = {name.removeprefix("previous_"): value for name, value in own.items() if name.startswith("previous_")}
    after = {name: value for name, value in own.items() if not name.startswith("previous_")}
    return (after, {}) if topic == "MemberWithdrawn" else (before, after)

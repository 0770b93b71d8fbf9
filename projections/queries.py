"""Every SELECT that the reads need: of the read tables as they are, or of the log as of a position.

A list is a source of rows, an order and an item. The two sources of a list, tables and log, have the same columns, so item, order, filters
and cursors are written once. Each statement carries the position that it reflects: one statement sees one moment.
"""

from dataclasses import dataclass
from typing import Any

from projections.folding import last

MEMBER_TOPICS = "('MemberEnrolled', 'RoleChanged', 'MemberWithdrawn')"

Parameters = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """What a list is sorted by: columns that tell any two rows apart, with their types for reading a cursor back."""

    columns: tuple[str, ...]
    types: tuple[str, ...]

    def after(self, key: tuple[str, ...]) -> tuple[str, Parameters]:
        """Return the condition for what comes after the row with this key."""
        places = ", ".join(f"%(key_{index})s::{kind}" for index, kind in enumerate(self.types))
        condition = f"({', '.join(self.columns)}) > ({places})"
        return condition, {f"key_{index}": value for index, value in enumerate(key)}


BY_NAME = Order(("name", "id"), ("text", "uuid"))
BY_ID = Order(("id",), ("uuid",))
BY_ROLE = Order(("role", "created_at", "id"), ("public.class_role", "timestamptz", "uuid"))
BY_CLASS_NAME = Order(("class_name", "class_id"), ("text", "uuid"))


def _item(*columns: str) -> str:
    return f"(SELECT row_to_json(item) FROM (SELECT {', '.join(columns)}) AS item)"


GROUP = _item("id", "name", "created_at", "updated_at", "version")
USER = _item("id", "created_at", "version")
CLASS = _item("id", "group_id", "name", "settings", "created_at", "updated_at", "deleted_at", "version")
MEMBER = _item("id", "class_id", "user_id", "role", "created_at")
MEMBERSHIP = _item("class_id", "class_name", "group_id", "role", "created_at")

_LIVE_MEMBERSHIPS = """
    SELECT member.user_id, member.class_id, class.name AS class_name, class.group_id, member.role, member.created_at
    FROM roster.class_members AS member JOIN roster.classes AS class ON class.id = member.class_id
"""

# An end is always the last event of its stream.
_ENDED = """
    EXISTS (
        SELECT FROM (
            SELECT topic FROM log.events WHERE originator_id = {stream} AND notification_id <= %(at)s
            ORDER BY originator_version DESC LIMIT 1
        ) AS last WHERE topic IN ('ClassDeleted', 'GroupDeleted', 'UserRemoved')
    )
"""

_STATE = "convert_from(state, 'UTF8')::json"

_GROUP_AT = f"""
    SELECT originator_id AS id, {last(f"{_STATE} ->> 'name'", "GroupCreated", "GroupRenamed")} COLLATE "C" AS name,
           min(recorded_at) AS created_at, max(recorded_at) AS updated_at, max(originator_version) AS version
    FROM log.events WHERE originator_id = %(group_id)s AND topic LIKE 'Group%%' AND notification_id <= %(at)s
    GROUP BY originator_id HAVING bool_and(topic <> 'GroupDeleted')
"""

_CLASS_AT = f"""
    SELECT class_id AS id, (array_agg(group_id ORDER BY notification_id DESC))[1] AS group_id,
           {last(f"{_STATE} ->> 'name'", "ClassCreated", "ClassRenamed")} COLLATE "C" AS name,
           {last(f"({_STATE} -> 'settings')::jsonb", "ClassCreated", "ClassSettingsChanged")} AS settings,
           min(recorded_at) AS created_at, max(recorded_at) FILTER (WHERE user_id IS NULL) AS updated_at,
           CASE {last("topic", "ClassArchived", "ClassRestored")}
               WHEN 'ClassArchived' THEN {last("recorded_at", "ClassArchived")} END AS deleted_at,
           max(originator_version) AS version
    FROM log.events WHERE class_id = {{class_id}} AND notification_id <= %(at)s
    GROUP BY class_id HAVING bool_and(topic <> 'ClassDeleted')
"""

_LIVING_CLASS_AT = f"SELECT * FROM ({_CLASS_AT}) AS class WHERE NOT {_ENDED.format(stream='class.group_id')}"

_USER_AT = f"""
    SELECT originator_id AS id, recorded_at AS created_at, originator_version AS version
    FROM log.events WHERE originator_id = %(user_id)s AND topic = 'UserRegistered' AND notification_id <= %(at)s
      AND NOT {_ENDED.format(stream="%(user_id)s")}
"""

_MEMBERS_AT = f"""
    SELECT public.membership_id(class_id, user_id) AS id, class_id, user_id, role, created_at FROM (
        SELECT class_id, user_id, max(recorded_at) FILTER (WHERE topic = 'MemberEnrolled') AS created_at,
               (array_agg(topic ORDER BY notification_id DESC))[1] AS topic,
               (array_agg({_STATE} ->> 'role' ORDER BY notification_id DESC))[1]::public.class_role AS role
        FROM log.events WHERE {{whose}} AND topic IN {MEMBER_TOPICS} AND notification_id <= %(at)s
        GROUP BY class_id, user_id
    ) AS member WHERE topic <> 'MemberWithdrawn' AND NOT {_ENDED.format(stream="member.user_id")}
"""

_MEMBERSHIPS_AT = f"""
    SELECT member.user_id, member.class_id, class.name AS class_name, class.group_id, member.role, member.created_at
    FROM ({_MEMBERS_AT.format(whose="user_id = %(user_id)s")}) AS member
    CROSS JOIN LATERAL ({_LIVING_CLASS_AT.format(class_id="member.class_id")}) AS class
"""

_GROUP_CLASSES_AT = f"""
    SELECT class.* FROM (
        SELECT DISTINCT class_id FROM log.events
        WHERE group_id = %(group_id)s AND class_id IS NOT NULL AND notification_id <= %(at)s
    ) AS once
    CROSS JOIN LATERAL ({_CLASS_AT.format(class_id="once.class_id")}) AS class
"""


@dataclass(frozen=True)
class Thing:
    """One thing by its id: where to find it now, and at a position of the log (None: the log is not asked)."""

    kind: str
    item: str
    live: str
    at: str | None = None

    def statement(self, *, at: int | None) -> str:
        """Return the SELECT of position, version and item; version and item are null where there is no such thing."""
        source = self.live if at is None else self.at
        return f"""
            SELECT base.position, thing.version, thing.item
            FROM ({_base(at)}) AS base LEFT JOIN (SELECT version, {self.item}::text AS item FROM ({source}) AS source) AS thing ON true
        """


@dataclass(frozen=True)
class Listing:
    """A list: its rows now and at a position, their order, and the thing that it belongs to, if any."""

    name: str
    item: str
    order: Order
    live: str
    at: str | None = None
    parent: Thing | None = None

    def statement(self, *, at: int | None, where: tuple[str, ...]) -> str:
        """Return the SELECT of position, the parent's version, and item and key of each row, one more than the limit."""
        source = self.live if at is None else self.at
        parent = (
            "NULL" if self.parent is None else f"(SELECT version FROM ({self.parent.live if at is None else self.parent.at}) AS parent)"
        )
        keys = ", ".join(self.order.columns)
        conditions = " AND ".join(where) or "true"
        return f"""
            SELECT base.position, base.version, page.item, {", ".join(f"page.{column}" for column in self.order.columns)}
            FROM (SELECT position, {parent} AS version FROM ({_base(at)}) AS base) AS base
            LEFT JOIN LATERAL (
                SELECT {self.item}::text AS item, {keys} FROM ({source}) AS source
                WHERE {conditions} ORDER BY {keys} LIMIT %(limit)s + 1
            ) AS page ON true ORDER BY {keys}
        """


def _base(at: int | None) -> str:
    return "SELECT position FROM roster.checkpoint" if at is None else "SELECT %(at)s::bigint AS position"


GROUP_BY_ID = Thing("group", GROUP, "SELECT * FROM roster.groups WHERE id = %(group_id)s", _GROUP_AT)
USER_BY_ID = Thing("user", USER, "SELECT * FROM roster.users WHERE id = %(user_id)s", _USER_AT)
CLASS_BY_ID = Thing(
    "class", CLASS, "SELECT * FROM roster.classes WHERE id = %(class_id)s", _LIVING_CLASS_AT.format(class_id="%(class_id)s")
)
MEMBER_BY_ID = Thing(
    "member",
    MEMBER,
    """
    SELECT member.*, class.version FROM roster.class_members AS member JOIN roster.classes AS class ON class.id = member.class_id
    WHERE member.class_id = %(class_id)s AND member.user_id = %(user_id)s
    """,
    f"""
    SELECT member.*, class.version FROM ({_MEMBERS_AT.format(whose="class_id = %(class_id)s AND user_id = %(user_id)s")}) AS member
    CROSS JOIN ({CLASS_BY_ID.at}) AS class
    """,
)

GROUPS = Listing("groups", GROUP, BY_NAME, "SELECT * FROM roster.groups")
USERS = Listing("users", USER, BY_ID, "SELECT * FROM roster.users")
CLASSES = Listing("classes", CLASS, BY_NAME, "SELECT * FROM roster.classes")
GROUP_CLASSES = Listing(
    "group-classes",
    CLASS,
    BY_NAME,
    "SELECT * FROM roster.classes WHERE group_id = %(group_id)s",
    f"SELECT * FROM ({_GROUP_CLASSES_AT}) AS class WHERE group_id = %(group_id)s",
    GROUP_BY_ID,
)
MEMBERS = Listing(
    "members",
    MEMBER,
    BY_ROLE,
    "SELECT * FROM roster.class_members WHERE class_id = %(class_id)s",
    _MEMBERS_AT.format(whose="class_id = %(class_id)s"),
    CLASS_BY_ID,
)
MEMBERSHIPS = Listing(
    "memberships",
    MEMBERSHIP,
    BY_CLASS_NAME,
    f"{_LIVE_MEMBERSHIPS} WHERE member.user_id = %(user_id)s",
    _MEMBERSHIPS_AT,
    USER_BY_ID,
)

FILTERS = {
    "group_id": "group_id = %(group_id)s",
    "name": "name = %(name)s",
    "archived": "(deleted_at IS NOT NULL) = %(archived)s",
    "role": "role = %(role)s::public.class_role",
}

HEAD = "SELECT coalesce(max(notification_id), 0), clock_timestamp() FROM log.events"
RECORDED_BY = """
    SELECT coalesce((
        SELECT notification_id FROM log.events WHERE recorded_at <= %(moment)s ORDER BY recorded_at DESC, notification_id DESC LIMIT 1
    ), 0)
"""
WAIT_FOR_APPENDS = "SELECT pg_advisory_xact_lock_shared(%(lock)s)"
FIRST_TOPIC = "SELECT topic FROM log.events WHERE originator_id = %(stream)s AND originator_version = 1 AND notification_id <= %(position)s"
CREATED_AS = {"group": "GroupCreated", "user": "UserRegistered", "class": "ClassCreated"}

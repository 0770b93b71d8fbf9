"""Every SELECT that the reads need: of the read tables as they are, or of the log as of a position.

A list is a source of rows, an order and an item. The two sources of a list, tables and log, have the same columns, so item, order, filters
and cursors are written once. Each statement carries the position that it reflects: one statement sees one moment.
"""

from dataclasses import dataclass
from typing import Any

from projections import past

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


GROUP_BY_ID = Thing("group", GROUP, "SELECT * FROM roster.groups WHERE id = %(group_id)s", past.GROUP)
USER_BY_ID = Thing("user", USER, "SELECT * FROM roster.users WHERE id = %(user_id)s", past.USER)
CLASS_BY_ID = Thing(
    "class", CLASS, "SELECT * FROM roster.classes WHERE id = %(class_id)s", past.LIVING_CLASS.format(class_id="%(class_id)s")
)
MEMBER_BY_ID = Thing(
    "member",
    MEMBER,
    """
    SELECT member.*, class.version FROM roster.class_members AS member JOIN roster.classes AS class ON class.id = member.class_id
    WHERE member.class_id = %(class_id)s AND member.user_id = %(user_id)s
    """,
    f"""
    SELECT member.*, class.version FROM ({past.MEMBERS.format(whose="class_id = %(class_id)s AND user_id = %(user_id)s")}) AS member
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
    past.GROUP_CLASSES,
    GROUP_BY_ID,
)
MEMBERS = Listing(
    "members",
    MEMBER,
    BY_ROLE,
    "SELECT * FROM roster.class_members WHERE class_id = %(class_id)s",
    past.MEMBERS.format(whose="class_id = %(class_id)s"),
    CLASS_BY_ID,
)
MEMBERSHIPS = Listing(
    "memberships",
    MEMBERSHIP,
    BY_CLASS_NAME,
    f"{_LIVE_MEMBERSHIPS} WHERE member.user_id = %(user_id)s",
    past.MEMBERSHIPS,
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

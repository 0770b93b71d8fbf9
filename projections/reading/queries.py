"""Every SELECT that the reads need: of the read tables as they are, or of the log as of a position.

A list is a source of rows, an order and an item. The two sources of a list, tables and log, have
the same columns, so item, order, filters and cursors are written once. Each statement carries the
position that it reflects: one statement sees one moment.

Each source says which of its rows belong to the groups `%(groups)s`. What is asked by somebody who
is confined to these gets no others, and what nobody confined asks is the same statement as if there
were no groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rosterlog.domain.classes import Class
from rosterlog.domain.groups import Group
from rosterlog.domain.log.event_codec import topics_of
from rosterlog.domain.log.log_sql import ENTRIES, HEAD
from rosterlog.domain.users import User
from rosterlog.projections.reading import past
from rosterlog.projections.shared_sql import CHECKPOINT

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
_CLASS = ("id", "group_id", "name", "settings", "created_at", "updated_at", "deleted_at")
CLASS = _item(*_CLASS, "version")
_MEMBER = ("id", "class_id", "user_id", "role", "created_at")
MEMBER = _item(*_MEMBER)
MEMBERSHIP = _item("class_id", "class_name", "group_id", "role", "created_at")

_LIVE_MEMBERSHIPS = """
    SELECT member.user_id, member.class_id, class.name AS class_name, class.group_id, member.role, member.created_at
    FROM roster.class_members AS member JOIN roster.classes AS class ON class.id = member.class_id
"""


GROUPS_GIVEN = "ANY(%(groups)s::uuid[])"

# A stay is the time that a class is in one group, from its creation or a move to it up to the next
# move. Of the last one nothing is taken away: where it is in another group, nobody asks who is
# confined to these.
SEEN_VERSION = f"""({{version}} - coalesce((
    SELECT sum(until - since) FROM (
        SELECT originator_version AS since, group_id, lead(originator_version) OVER (ORDER BY originator_version) AS until
        FROM log.events AS event WHERE event.class_id = source.{{class_id}} AND event.user_id IS NULL
          AND event.topic IN ({ENTRIES}) AND event.originator_version <= {{version}}
    ) AS stay WHERE group_id <> ALL(%(groups)s::uuid[])
), 0))::bigint"""
"""A class's version as who is confined to the groups counts it: without the events of its stays in others."""


@dataclass(frozen=True)
class Source:
    """Where rows come from; `within` is the condition for those that belong to the groups `%(groups)s`.

    Rows that have the version of a class say by which column they name it, `class_id`, and which
    other `columns` they have.
    """

    rows: str
    within: str = f"group_id = {GROUPS_GIVEN}"
    class_id: str | None = None
    columns: tuple[str, ...] = ()

    def select(self, *, confined: bool) -> str:
        """Return the SELECT of the rows; `confined`, of those of the groups, with versions as they are counted there."""
        if not confined:
            return self.rows
        columns = "*"
        if self.class_id is not None:
            columns = f"{', '.join(self.columns)}, {SEEN_VERSION.format(class_id=self.class_id, version='source.version')} AS version"
        return f"SELECT {columns} FROM ({self.rows}) AS source WHERE {self.within}"


def _of_class(rows: str) -> Source:
    return Source(rows, class_id="id", columns=_CLASS)


def _of_member(rows: str) -> Source:
    return Source(rows, class_id="class_id", columns=(*_MEMBER, "group_id"))


@dataclass(frozen=True)
class Thing:
    """One thing by its id: where to find it now, and at a position of the log (None: the log is not asked)."""

    kind: str
    item: str
    live: Source
    at: Source

    def source(self, at: int | None, *, confined: bool) -> str:
        """Return the SELECT of the thing's row."""
        return (self.live if at is None else self.at).select(confined=confined)

    def statement(self, *, at: int | None, confined: bool) -> str:
        """Return the SELECT of position, version and item; version and item are null where there is no such thing."""
        source = self.source(at, confined=confined)
        return f"""
            SELECT base.position, thing.version, thing.item
            FROM ({_base(at)}) AS base LEFT JOIN (SELECT version, {self.item}::text AS item FROM ({source}) AS source) AS thing ON true
        """


@dataclass(frozen=True)
class Listing:
    """A list: its rows now and at a position (None: the log is not asked), their order, and the thing that it belongs to, if any."""

    name: str
    item: str
    order: Order
    live: Source
    at: Source | None = None
    parent: Thing | None = None

    def statement(self, *, at: int | None, where: tuple[str, ...], confined: bool) -> str:
        """Return the SELECT of position, the parent's version, and item and key of each row, one more than the limit."""
        rows = self.live if at is None else self.at
        assert rows is not None, "this list has no past"
        source = rows.select(confined=confined)
        parent = (
            "NULL"
            if self.parent is None
            else f"(SELECT version FROM ({self.parent.source(at, confined=confined)}) AS parent)"
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
    return CHECKPOINT if at is None else "SELECT %(at)s::bigint AS position"


_THE_GROUP = f"id = {GROUPS_GIVEN}"
_HAS_MEMBERSHIP = "EXISTS (SELECT FROM ({memberships}) AS membership WHERE user_id = source.id AND group_id = {groups})"
_LIVE_USER = _HAS_MEMBERSHIP.format(memberships=_LIVE_MEMBERSHIPS, groups=GROUPS_GIVEN)
_PAST_USER = _HAS_MEMBERSHIP.format(memberships=past.MEMBERSHIPS, groups=GROUPS_GIVEN)

GROUP_BY_ID = Thing(
    "group",
    GROUP,
    Source("SELECT * FROM roster.groups WHERE id = %(group_id)s", _THE_GROUP),
    Source(past.GROUP, _THE_GROUP),
)
USER_BY_ID = Thing(
    "user",
    USER,
    Source("SELECT * FROM roster.users WHERE id = %(user_id)s", _LIVE_USER),
    Source(past.USER, _PAST_USER),
)
_PAST_CLASS = past.LIVING_CLASS.format(class_id="%(class_id)s")
CLASS_BY_ID = Thing(
    "class",
    CLASS,
    _of_class("SELECT * FROM roster.classes WHERE id = %(class_id)s"),
    _of_class(_PAST_CLASS),
)
MEMBER_BY_ID = Thing(
    "member",
    MEMBER,
    _of_member(
        """
        SELECT member.*, class.version, class.group_id
        FROM roster.class_members AS member JOIN roster.classes AS class ON class.id = member.class_id
        WHERE member.class_id = %(class_id)s AND member.user_id = %(user_id)s
        """
    ),
    _of_member(
        f"""
        SELECT member.*, class.version, class.group_id
        FROM ({past.MEMBERS.format(whose="class_id = %(class_id)s AND user_id = %(user_id)s")}) AS member
        CROSS JOIN ({_PAST_CLASS}) AS class
        """
    ),
)

GROUPS = Listing("groups", GROUP, BY_NAME, Source("SELECT * FROM roster.groups", _THE_GROUP))
USERS = Listing("users", USER, BY_ID, Source("SELECT * FROM roster.users", _LIVE_USER))
CLASSES = Listing("classes", CLASS, BY_NAME, _of_class("SELECT * FROM roster.classes"))
GROUP_CLASSES = Listing(
    "group-classes",
    CLASS,
    BY_NAME,
    _of_class("SELECT * FROM roster.classes WHERE group_id = %(group_id)s"),
    _of_class(past.GROUP_CLASSES),
    GROUP_BY_ID,
)
# The class is looked at already, as the list's parent.
MEMBERS = Listing(
    "members",
    MEMBER,
    BY_ROLE,
    Source("SELECT * FROM roster.class_members WHERE class_id = %(class_id)s", "true"),
    Source(past.MEMBERS.format(whose="class_id = %(class_id)s"), "true"),
    CLASS_BY_ID,
)
MEMBERSHIPS = Listing(
    "memberships",
    MEMBERSHIP,
    BY_CLASS_NAME,
    Source(f"{_LIVE_MEMBERSHIPS} WHERE member.user_id = %(user_id)s"),
    Source(past.MEMBERSHIPS),
    USER_BY_ID,
)

FILTERS = {
    "group_id": "group_id = %(group_id)s",
    "name": "name = %(name)s",
    "archived": "(deleted_at IS NOT NULL) = %(archived)s",
    "role": "role = %(role)s::public.class_role",
}

HEAD_NOW = f"SELECT ({HEAD}), clock_timestamp()"
RECORDED_BY = """
    SELECT coalesce((
        SELECT notification_id FROM log.events WHERE recorded_at <= %(moment)s ORDER BY recorded_at DESC, notification_id DESC LIMIT 1
    ), 0)
"""
WAIT_FOR_APPENDS = "SELECT pg_advisory_xact_lock_shared(%(lock)s)"
_BORN = """
    SELECT first.topic, (
        SELECT group_id FROM log.events
        WHERE originator_id = %({stream})s AND notification_id <= %(position)s
        ORDER BY originator_version DESC LIMIT 1
    ) AS group_id
    FROM log.events AS first
    WHERE originator_id = %({stream})s AND originator_version = 1
      AND notification_id <= %(position)s
"""


def existence(things: Sequence[Thing], *, at: int | None, confined: bool) -> str:
    """Return the SELECT of a row for each thing, in order, that says whether it is there.

    Beside that it has the first topic of the thing's stream, and the group that the stream is of,
    both by `position`, and null where the stream had not begun.
    """
    looks = [
        f"""
        SELECT {place} AS place,
               EXISTS (SELECT FROM ({thing.source(at, confined=confined)}) AS source) AS is_there,
               born.topic, born.group_id
        FROM (SELECT) AS always
        LEFT JOIN LATERAL ({_BORN.format(stream=f"{thing.kind}_id")}) AS born ON true
        """
        for place, thing in enumerate(things)
    ]
    looked = " UNION ALL ".join(looks)
    return f"SELECT is_there, topic, group_id FROM ({looked}) AS look ORDER BY place"


CREATED_AS = {
    "group": topics_of(Group.Created),
    "user": topics_of(User.Created),
    "class": topics_of(Class.Created),
}

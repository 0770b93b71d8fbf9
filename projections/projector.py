"""The projector: turns a range of positions into rows, with the checkpoint in the same transaction.

Set-based: a handful of statements fold all events of the range at once, so one code path serves the live tables (ranges of a few events)
and a rebuild (ranges of tens of thousands). What makes that right is a rule of the domain: nothing is ever recorded about a thing after
its end. So within a range creations come first, then changes, each folded to its last value by position, and endings last.

Nothing here reads a clock, draws a random number or checks a rule: the same events give the same rows, byte for byte.
"""

from dataclasses import dataclass
from typing import Any

from psycopg import Connection, Cursor

from domain.event_codec import EventCodec
from projections.folding import last

KNOWN_TOPICS = EventCodec().topics


class UnknownEvent(Exception):
    """Position {position} holds a {topic}, which this release does not know: it needs a newer release."""

    def __init__(self, position: int, topic: str) -> None:
        """Name the first event that can't be projected."""
        super().__init__((self.__doc__ or "").format(position=position, topic=topic))
        self.position = position


@dataclass(frozen=True)
class Projected:
    """What one step did: the tables now reflect the log up to `position`, by `events` more than before."""

    position: int
    events: int


# Without a lock, so that looking for work writes nothing while there is none.
_IDLE = """
    SELECT position, NOT EXISTS (
        SELECT FROM log.events WHERE notification_id > position AND notification_id <= coalesce(%(stop)s, 9223372036854775807)
    ) FROM {schema}.checkpoint
"""

# The checkpoint's row lock makes projectors take turns, and each goes on from where the one before it committed.
_RANGE = """
    SELECT checkpoint.position, range.upto, range.topics
    FROM (SELECT position FROM {schema}.checkpoint FOR UPDATE) AS checkpoint
    CROSS JOIN LATERAL (
        SELECT max(notification_id) AS upto, array_agg(DISTINCT topic) AS topics FROM (
            SELECT notification_id, topic FROM log.events
            WHERE notification_id > checkpoint.position AND notification_id <= coalesce(%(stop)s, 9223372036854775807)
            ORDER BY notification_id LIMIT %(limit)s
        ) AS next
    ) AS range
"""

_FIRST_UNKNOWN = """
    SELECT notification_id, topic FROM log.events
    WHERE notification_id > %(after)s AND topic <> ALL(%(known)s) ORDER BY notification_id LIMIT 1
"""

# The range's events with the fields of their state; `last` before a field means: its last value in the range, null where it has none.
_EVENTS = """
    SELECT notification_id, originator_id, originator_version, topic, recorded_at, class_id, user_id, group_id,
           convert_from(state, 'UTF8')::json AS state
    FROM log.events
    WHERE notification_id > %(after)s AND notification_id <= %(upto)s
"""
_CREATE_GROUPS = f"""
    INSERT INTO {{schema}}.groups (id, name, created_at, updated_at, version)
    SELECT originator_id, state ->> 'name', recorded_at, recorded_at, originator_version
    FROM ({_EVENTS} AND topic = 'GroupCreated') AS event
"""

_CHANGE_GROUPS = f"""
    UPDATE {{schema}}.groups SET name = change.name, updated_at = change.updated_at, version = change.version
    FROM (
        SELECT originator_id AS id, {last("state ->> 'name'", "GroupRenamed")} AS name,
               max(recorded_at) AS updated_at, max(originator_version) AS version
        FROM ({_EVENTS} AND topic = 'GroupRenamed') AS event GROUP BY originator_id
    ) AS change
    WHERE groups.id = change.id
"""

_REGISTER_USERS = f"""
    INSERT INTO {{schema}}.users (id, created_at, version)
    SELECT originator_id, recorded_at, originator_version FROM ({_EVENTS} AND topic = 'UserRegistered') AS event
"""

_CREATE_CLASSES = f"""
    INSERT INTO {{schema}}.classes (id, group_id, name, settings, created_at, updated_at, deleted_at, version)
    SELECT originator_id, group_id, state ->> 'name', (state -> 'settings')::jsonb, recorded_at, recorded_at, NULL, originator_version
    FROM ({_EVENTS} AND topic = 'ClassCreated') AS event
"""

# A class's version counts its roster's events, too; its `updated_at` does not follow them.
_CHANGE_CLASSES = f"""
    UPDATE {{schema}}.classes SET
        name = coalesce(change.name, classes.name),
        settings = coalesce(change.settings, classes.settings),
        group_id = coalesce(change.group_id, classes.group_id),
        deleted_at = CASE change.archiving
            WHEN 'ClassArchived' THEN change.archiving_at WHEN 'ClassRestored' THEN NULL ELSE classes.deleted_at END,
        updated_at = coalesce(change.updated_at, classes.updated_at),
        version = change.version
    FROM (
        SELECT class_id AS id,
               {last("state ->> 'name'", "ClassRenamed")} AS name,
               {last("(state -> 'settings')::jsonb", "ClassSettingsChanged")} AS settings,
               {last("group_id", "ClassMoved")} AS group_id,
               {last("topic", "ClassArchived", "ClassRestored")} AS archiving,
               {last("recorded_at", "ClassArchived", "ClassRestored")} AS archiving_at,
               max(recorded_at) FILTER (WHERE user_id IS NULL) AS updated_at,
               max(originator_version) AS version
        FROM ({_EVENTS} AND class_id IS NOT NULL AND topic NOT IN ('ClassCreated', 'ClassDeleted')) AS event GROUP BY class_id
    ) AS change
    WHERE classes.id = change.id
"""

_CHANGE_MEMBERS = f"""
    WITH change AS MATERIALIZED (
        SELECT class_id, user_id,
               (array_agg(topic ORDER BY notification_id DESC))[1] = 'MemberWithdrawn' AS withdrawn,
               (array_agg(state ->> 'role' ORDER BY notification_id DESC))[1]::public.class_role AS role,
               max(recorded_at) FILTER (WHERE topic = 'MemberEnrolled') AS enrolled_at
        FROM ({_EVENTS} AND topic IN ('MemberEnrolled', 'RoleChanged', 'MemberWithdrawn')) AS event GROUP BY class_id, user_id
    ),
    withdrawn AS (
        DELETE FROM {{schema}}.class_members AS member USING change
        WHERE change.withdrawn AND member.class_id = change.class_id AND member.user_id = change.user_id
    ),
    role_changed AS (
        UPDATE {{schema}}.class_members AS member SET role = change.role FROM change
        WHERE NOT change.withdrawn AND change.enrolled_at IS NULL
          AND member.class_id = change.class_id AND member.user_id = change.user_id
    )
    INSERT INTO {{schema}}.class_members AS member (id, class_id, user_id, role, created_at)
    SELECT public.membership_id(class_id, user_id), class_id, user_id, role, enrolled_at FROM change
    WHERE NOT withdrawn AND enrolled_at IS NOT NULL
    ON CONFLICT (class_id, user_id) DO UPDATE SET role = excluded.role, created_at = excluded.created_at
"""

_END = "DELETE FROM {{schema}}.{table} USING ({events} AND topic = '{topic}') AS event WHERE {table}.{column} = event.originator_id"
_REMOVE_USERS = _END.format(table="users", column="id", events=_EVENTS, topic="UserRemoved")
_DELETE_CLASSES = _END.format(table="classes", column="id", events=_EVENTS, topic="ClassDeleted")
_DELETE_GROUPS = _END.format(table="groups", column="id", events=_EVENTS, topic="GroupDeleted")

_MEMBER_CHANGES = {"MemberEnrolled", "RoleChanged", "MemberWithdrawn"}
_CLASS_CHANGES = {"ClassRenamed", "ClassSettingsChanged", "ClassMoved", "ClassArchived", "ClassRestored"} | _MEMBER_CHANGES

# Which topics each statement folds, in the order in which the statements must run. Endings take memberships and classes with them by the
# foreign keys' cascades.
_FOLD: tuple[tuple[set[str], str], ...] = (
    ({"GroupCreated"}, _CREATE_GROUPS),
    ({"GroupRenamed"}, _CHANGE_GROUPS),
    ({"UserRegistered"}, _REGISTER_USERS),
    ({"ClassCreated"}, _CREATE_CLASSES),
    (_CLASS_CHANGES, _CHANGE_CLASSES),
    (_MEMBER_CHANGES, _CHANGE_MEMBERS),
    ({"UserRemoved"}, _REMOVE_USERS),
    ({"ClassDeleted"}, _DELETE_CLASSES),
    ({"GroupDeleted"}, _DELETE_GROUPS),
)

_ADVANCE = """
    UPDATE {schema}.checkpoint
    SET position = %(upto)s, progressed_at = clock_timestamp(), failing_position = NULL, failing_since = NULL, failure = NULL
"""


def project(connection: Connection[Any], schema: str, *, limit: int, stop: int | None = None) -> Projected:
    """Project the next events, at most `limit` and none after position `stop`, into the tables of `schema`, in one transaction.

    Where it raises (`UnknownEvent`, `psycopg.Error`), the tables and their checkpoint are as they were.
    """
    position, idle = connection.execute(_IDLE.format(schema=schema), {"stop": stop}).fetchone() or (0, True)
    if idle:
        return Projected(position, 0)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_RANGE.format(schema=schema), {"stop": stop, "limit": limit})
        after, upto, topics = cursor.fetchone() or (0, None, [])
        if upto is None:
            return Projected(after, 0)
        _refuse_unknown(cursor, after, topics)
        for statement in (*(fold for folded, fold in _FOLD if not folded.isdisjoint(topics)), _ADVANCE):
            cursor.execute(statement.format(schema=schema), {"after": after, "upto": upto})
        return Projected(upto, upto - after)


def _refuse_unknown(cursor: Cursor[Any], after: int, topics: list[str]) -> None:
    if not set(topics).issubset(KNOWN_TOPICS):
        cursor.execute(_FIRST_UNKNOWN, {"after": after, "known": KNOWN_TOPICS})
        raise UnknownEvent(*(cursor.fetchone() or (after, "?")))

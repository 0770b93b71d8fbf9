"""What the events of a range do to the rows: one statement per kind of change, folding all its events at once.

What makes that right is a rule of the domain: nothing is ever recorded about a thing after its end.
So within a range creations come first, then changes, each folded to its last value by position, and
endings last.

Each statement reads its own events from the range after `%(after)s`, up to `%(upto)s`, without
`%(skipped)s`. `%(void)s` holds the ids of things whose creation was skipped: whatever would refer
to them has no effect (see `rosterlog.projections.projector.skips`).
"""

from dataclasses import dataclass
from functools import cached_property

from rosterlog.domain.classes import Class
from rosterlog.domain.events import RosterEvent
from rosterlog.domain.groups import Group
from rosterlog.domain.log.event_codec import topics_of
from rosterlog.domain.log.log_sql import MEMBERSHIP_CHANGES, STATE, topics
from rosterlog.domain.users import User
from rosterlog.projections.shared_sql import last

_CLASS_CHANGES = (
    Class.Renamed,
    Class.SettingsChanged,
    Class.Moved,
    Class.Archived,
    Class.Restored,
)

NOT_BY_TOPIC = " IS TRUE"
"""Keeps the planner from the index by topic, which reads a topic's events of the whole log: right for a large range only."""


def _events(*events: type[RosterEvent], columns: str = f"*, {STATE} AS document") -> str:
    """Return the SELECT of the range's events of these classes."""
    return f"""
        SELECT {columns} FROM log.events
        WHERE notification_id > %(after)s AND notification_id <= %(upto)s AND notification_id <> ALL(%(skipped)s::bigint[])
          AND (topic IN ({topics(*events)})){NOT_BY_TOPIC}
    """


_CREATE_GROUPS = f"""
    INSERT INTO {{schema}}.groups (id, name, created_at, updated_at, version)
    SELECT originator_id, document ->> 'name', recorded_at, recorded_at, originator_version FROM ({_events(Group.Created)}) AS event
"""

# A change whose state lacks the value must fail, also where a later one replaces it: the column
# takes no null.
_CHANGE_GROUPS = f"""
    UPDATE {{schema}}.groups SET
        name = CASE WHEN change.renamed THEN change.name END,
        updated_at = change.updated_at,
        version = change.version
    FROM (
        SELECT originator_id AS id,
               {last("document ->> 'name'", Group.Renamed)} AS name,
               bool_and(document ->> 'name' IS NOT NULL) AS renamed,
               max(recorded_at) AS updated_at, max(originator_version) AS version
        FROM ({_events(Group.Renamed)}) AS event GROUP BY originator_id
    ) AS change
    WHERE groups.id = change.id
"""

_REGISTER_USERS = f"""
    INSERT INTO {{schema}}.users (id, created_at, version)
    SELECT originator_id, recorded_at, originator_version FROM ({_events(User.Created)}) AS event
"""

_SETTINGS = "nullif((document -> 'settings')::jsonb, 'null')"
_NOT_VOID = "(group_id = ANY(%(void)s::uuid[])) IS NOT TRUE"

_CREATE_CLASSES = f"""
    INSERT INTO {{schema}}.classes (id, group_id, name, settings, created_at, updated_at, deleted_at, version)
    SELECT originator_id, group_id, document ->> 'name', {_SETTINGS}, recorded_at, recorded_at, NULL, originator_version
    FROM ({_events(Class.Created)}) AS event WHERE {_NOT_VOID}
"""

# Null where nothing of the kind happened, false where a state lacks the value: see _CHANGE_GROUPS.
_CHANGE_CLASSES = f"""
    UPDATE {{schema}}.classes SET
        name = CASE WHEN change.renamed IS NULL THEN classes.name WHEN change.renamed THEN change.name END,
        settings = CASE WHEN change.reset IS NULL THEN classes.settings WHEN change.reset THEN change.settings END,
        group_id = CASE WHEN change.moved IS NULL THEN classes.group_id WHEN change.moved THEN change.group_id END,
        deleted_at = CASE
            WHEN change.archiving IN ({topics(Class.Archived)}) THEN change.archiving_at
            WHEN change.archiving IN ({topics(Class.Restored)}) THEN NULL
            ELSE classes.deleted_at END,
        updated_at = change.updated_at,
        version = greatest(classes.version, change.version)
    FROM (
        SELECT class_id AS id,
               {last("document ->> 'name'", Class.Renamed)} AS name,
               bool_and(document ->> 'name' IS NOT NULL) FILTER (WHERE topic IN ({topics(Class.Renamed)})) AS renamed,
               {last(_SETTINGS, Class.SettingsChanged)} AS settings,
               bool_and({_SETTINGS} IS NOT NULL) FILTER (WHERE topic IN ({topics(Class.SettingsChanged)})) AS reset,
               {last("group_id", Class.Moved, where=_NOT_VOID)} AS group_id,
               bool_and(group_id IS NOT NULL) FILTER (WHERE topic IN ({topics(Class.Moved)}) AND {_NOT_VOID}) AS moved,
               {last("topic", Class.Archived, Class.Restored)} AS archiving,
               {last("recorded_at", Class.Archived, Class.Restored)} AS archiving_at,
               max(recorded_at) AS updated_at, max(originator_version) AS version
        FROM ({_events(*_CLASS_CHANGES)}) AS event GROUP BY class_id
    ) AS change
    WHERE classes.id = change.id
"""


# Before a membership is made again in the same range: its row is a new one then.
def _make_way(event: type[RosterEvent]) -> str:
    return f"""
        DELETE FROM {{schema}}.class_members AS member
        USING (SELECT DISTINCT class_id, user_id FROM ({_events(event)}) AS event) AS ended
        WHERE member.class_id = ended.class_id AND member.user_id = ended.user_id
    """


# Without a role, or without the columns by which a membership is found, the cast fails.
MEMBER_EVENTS = _events(
    *MEMBERSHIP_CHANGES,
    columns=f"""
        notification_id, class_id, user_id, topic, recorded_at, originator_version,
        coalesce(CASE WHEN num_nulls(class_id, user_id) = 0 THEN {STATE} ->> 'role' END, 'none given')
            ::public.class_role AS role""",
)


# Whether there is a membership, the last enrolment or withdrawal says; in which role, the last
# event that gave one. Position and role are folded as one number, because an aggregate that sorts
# costs as much as all the rest. A class's version counts its roster's events, too.
def change_members(events: str, there: str) -> str:
    """Return the statement that folds the changes of memberships.

    `events` is where it reads them from, `there` the condition for a membership whose class and
    user are there.
    """
    return f"""
        WITH change AS MATERIALIZED (
            SELECT class_id, user_id,
                   max(notification_id) FILTER (WHERE topic IN ({topics(Class.MemberEnrolled)})) AS enrolled,
                   max(notification_id) FILTER (WHERE topic IN ({topics(Class.MemberWithdrawn)})) AS withdrawn,
                   max(recorded_at) FILTER (WHERE topic IN ({topics(Class.MemberEnrolled)})) AS enrolled_at,
                   CASE max(notification_id * 2 + (role = 'teacher')::int) FILTER (WHERE topic NOT IN ({topics(Class.MemberWithdrawn)})) %% 2
                       WHEN 1 THEN 'teacher' WHEN 0 THEN 'student' END::public.class_role AS role,
                   max(originator_version) AS version
            FROM {events} AS event GROUP BY class_id, user_id
        ),
        versions AS (
            UPDATE {{schema}}.classes SET version = greatest(classes.version, latest.version)
            FROM (SELECT class_id, max(version) AS version FROM change GROUP BY class_id) AS latest WHERE classes.id = latest.class_id
        ),
        role_changed AS (
            UPDATE {{schema}}.class_members AS member SET role = change.role FROM change
            WHERE change.enrolled IS NULL AND change.withdrawn IS NULL
              AND member.class_id = change.class_id AND member.user_id = change.user_id
        )
        INSERT INTO {{schema}}.class_members (id, class_id, user_id, role, created_at)
        SELECT public.membership_id(class_id, user_id), class_id, user_id, role, enrolled_at FROM change
        WHERE enrolled > coalesce(withdrawn, 0) AND {there}
        ORDER BY class_id, user_id
"""


# The foreign keys' cascades take what depends on it along; see
# `rosterlog.projections.rebuild.loading` for tables that have none yet.


@dataclass(frozen=True)
class Fold:
    """A statement to run where a range has events of these classes."""

    events: tuple[type[RosterEvent], ...]
    statement: str

    @cached_property
    def topics(self) -> frozenset[str]:
        """The topics that these events are stored under."""
        return frozenset(topic for event in self.events for topic in topics_of(event))


def _end(event: type[RosterEvent], table: str) -> Fold:
    return Fold(
        (event,),
        f"DELETE FROM {{schema}}.{table} USING ({_events(event)}) AS event WHERE {table}.id = originator_id",
    )


THINGS = (
    Fold((Group.Created,), _CREATE_GROUPS),
    Fold((User.Created,), _REGISTER_USERS),
    Fold((Class.Created,), _CREATE_CLASSES),
    Fold((Group.Renamed,), _CHANGE_GROUPS),
    Fold(_CLASS_CHANGES, _CHANGE_CLASSES),
)
_MEMBERS = (
    Fold((Class.MemberWithdrawn,), _make_way(Class.MemberWithdrawn)),
    # OFFSET 0: the role of each event is read, so that one without it fails, also where it does not
    # count in the end.
    Fold(
        MEMBERSHIP_CHANGES,
        change_members(
            f"({MEMBER_EVENTS} OFFSET 0)",
            "class_id <> ALL(%(void)s::uuid[]) AND user_id <> ALL(%(void)s::uuid[])",
        ),
    ),
)
ENDINGS = (
    _end(User.Removed, "users"),
    _end(Class.Deleted, "classes"),
    _end(Group.Deleted, "groups"),
)

FOLDS = (*THINGS, *_MEMBERS, *ENDINGS)
"""In the order in which they must run; a load of empty tables has its own for the members (see `rosterlog.projections.rebuild.loading`)."""

WITHOUT_ROWS: tuple[type[RosterEvent], ...] = ()
"""The events that change no row. Each of them has to be named here, or the projector stops at it."""

# With a skipped withdrawal, an enrolment can meet the membership that was not ended.
MAKE_WAY_FOR_ENROLMENTS = _make_way(Class.MemberEnrolled)
"""To run first where any event is skipped."""

# A skipped event counts in its stream all the same: versions are what commands are compared with
# (`If-Match`).
COUNT_SKIPPED = tuple(
    f"""
    UPDATE {{schema}}.{table} SET version = greatest({table}.version, event.version)
    FROM (SELECT originator_id AS id, max(originator_version) AS version FROM log.events
          WHERE notification_id = ANY(%(skipped)s::bigint[]) GROUP BY originator_id) AS event
    WHERE {table}.id = event.id
    """
    for table in ("groups", "classes")
)
"""To run where the range has skipped events."""

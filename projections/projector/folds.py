"""What the events of a range do to the rows: one statement per kind of change, folding all its events at once.

What makes that right is a rule of the domain: nothing is ever recorded about a thing after its end.
So within a range creations come first, then changes, each folded to its last value by position, and
endings last.

Each statement reads its own events from the range after `%(after)s`, up to `%(upto)s`, without
`%(skipped)s`. `%(void)s` holds the ids of things whose creation was skipped: whatever would refer
to them has no effect (see `rosterlog.projections.projector.skips`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rosterlog.projections.shared_sql import last

MEMBER_CHANGES = ("MemberEnrolled", "RoleChanged", "MemberWithdrawn")
_CLASS_CHANGES = (
    "ClassRenamed",
    "ClassSettingsChanged",
    "ClassMoved",
    "ClassArchived",
    "ClassRestored",
)

NOT_BY_TOPIC = " IS TRUE"
"""Keeps the planner from the index by topic, which reads a topic's events of the whole log: right for a large range only."""


def _events(*topics: str, columns: str = "*, convert_from(state, 'UTF8')::json AS document") -> str:
    """Return the SQL of the events of the range that have these topics."""
    return f"""
        SELECT {columns} FROM log.events
        WHERE notification_id > %(after)s AND notification_id <= %(upto)s AND notification_id <> ALL(%(skipped)s::bigint[])
          AND (topic IN ({", ".join(f"'{topic}'" for topic in topics)})){NOT_BY_TOPIC}
    """


_CREATE_GROUPS = f"""
    INSERT INTO {{schema}}.groups (id, name, created_at, updated_at, version)
    SELECT originator_id, document ->> 'name', recorded_at, recorded_at, originator_version FROM ({_events("GroupCreated")}) AS event
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
               {last("document ->> 'name'", "GroupRenamed")} AS name,
               bool_and(document ->> 'name' IS NOT NULL) AS renamed,
               max(recorded_at) AS updated_at, max(originator_version) AS version
        FROM ({_events("GroupRenamed")}) AS event GROUP BY originator_id
    ) AS change
    WHERE groups.id = change.id
"""

_REGISTER_USERS = f"""
    INSERT INTO {{schema}}.users (id, created_at, version)
    SELECT originator_id, recorded_at, originator_version FROM ({_events("UserRegistered")}) AS event
"""

_SETTINGS = "nullif((document -> 'settings')::jsonb, 'null')"
_NOT_VOID = "(group_id = ANY(%(void)s::uuid[])) IS NOT TRUE"

_CREATE_CLASSES = f"""
    INSERT INTO {{schema}}.classes (id, group_id, name, settings, created_at, updated_at, deleted_at, version)
    SELECT originator_id, group_id, document ->> 'name', {_SETTINGS}, recorded_at, recorded_at, NULL, originator_version
    FROM ({_events("ClassCreated")}) AS event WHERE {_NOT_VOID}
"""

# Null where nothing of the kind happened, false where a state lacks the value: see _CHANGE_GROUPS.
_CHANGE_CLASSES = f"""
    UPDATE {{schema}}.classes SET
        name = CASE WHEN change.renamed IS NULL THEN classes.name WHEN change.renamed THEN change.name END,
        settings = CASE WHEN change.reset IS NULL THEN classes.settings WHEN change.reset THEN change.settings END,
        group_id = CASE WHEN change.moved IS NULL THEN classes.group_id WHEN change.moved THEN change.group_id END,
        deleted_at = CASE change.archiving
            WHEN 'ClassArchived' THEN change.archiving_at WHEN 'ClassRestored' THEN NULL ELSE classes.deleted_at END,
        updated_at = change.updated_at,
        version = greatest(classes.version, change.version)
    FROM (
        SELECT class_id AS id,
               {last("document ->> 'name'", "ClassRenamed")} AS name,
               bool_and(document ->> 'name' IS NOT NULL) FILTER (WHERE topic = 'ClassRenamed') AS renamed,
               {last(_SETTINGS, "ClassSettingsChanged")} AS settings,
               bool_and({_SETTINGS} IS NOT NULL) FILTER (WHERE topic = 'ClassSettingsChanged') AS reset,
               {last("group_id", "ClassMoved", where=_NOT_VOID)} AS group_id,
               bool_and(group_id IS NOT NULL) FILTER (WHERE topic = 'ClassMoved' AND {_NOT_VOID}) AS moved,
               {last("topic", "ClassArchived", "ClassRestored")} AS archiving,
               {last("recorded_at", "ClassArchived", "ClassRestored")} AS archiving_at,
               max(recorded_at) AS updated_at, max(originator_version) AS version
        FROM ({_events(*_CLASS_CHANGES)}) AS event GROUP BY class_id
    ) AS change
    WHERE classes.id = change.id
"""

# Before a membership is made again in the same range: its row is a new one then.
_MAKE_WAY = """
    DELETE FROM {{schema}}.class_members AS member
    USING (SELECT DISTINCT class_id, user_id FROM ({events}) AS event) AS ended
    WHERE member.class_id = ended.class_id AND member.user_id = ended.user_id
"""

# Without a role, or without the columns by which a membership is found, the cast fails.
MEMBER_EVENTS = _events(
    *MEMBER_CHANGES,
    columns="""
        notification_id, class_id, user_id, topic, recorded_at, originator_version,
        coalesce(CASE WHEN num_nulls(class_id, user_id) = 0 THEN convert_from(state, 'UTF8')::json ->> 'role' END, 'none given')
            ::public.class_role AS role""",
)

# Whether there is a membership, the last enrolment or withdrawal says; in which role, the last
# event that gave one. Position and role are folded as one number, because an aggregate that sorts
# costs as much as all the rest. A class's version counts its roster's events, too.
CHANGE_MEMBERS = """
    WITH change AS MATERIALIZED (
        SELECT class_id, user_id,
               max(notification_id) FILTER (WHERE topic = 'MemberEnrolled') AS enrolled,
               max(notification_id) FILTER (WHERE topic = 'MemberWithdrawn') AS withdrawn,
               max(recorded_at) FILTER (WHERE topic = 'MemberEnrolled') AS enrolled_at,
               CASE max(notification_id * 2 + (role = 'teacher')::int) FILTER (WHERE topic <> 'MemberWithdrawn') %% 2
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
_END = "DELETE FROM {{schema}}.{table} USING ({events}) AS event WHERE {table}.id = originator_id"


@dataclass(frozen=True)
class Fold:
    """A statement to run where a range has events of these topics."""

    topics: frozenset[str]
    statement: str

    @classmethod
    def of(cls, topics: Iterable[str], statement: str) -> "Fold":
        """Return the fold of these topics."""
        return cls(frozenset(topics), statement)


def _end(topic: str, table: str) -> Fold:
    return Fold.of([topic], _END.format(table=table, events=_events(topic)))


THINGS = (
    Fold.of(["GroupCreated"], _CREATE_GROUPS),
    Fold.of(["UserRegistered"], _REGISTER_USERS),
    Fold.of(["ClassCreated"], _CREATE_CLASSES),
    Fold.of(["GroupRenamed"], _CHANGE_GROUPS),
    Fold.of(_CLASS_CHANGES, _CHANGE_CLASSES),
)
_MEMBERS = (
    Fold.of(["MemberWithdrawn"], _MAKE_WAY.format(events=_events("MemberWithdrawn"))),
    # OFFSET 0: the role of each event is read, so that one without it fails, also where it does not
    # count in the end.
    Fold.of(
        MEMBER_CHANGES,
        CHANGE_MEMBERS.format(
            events=f"({MEMBER_EVENTS} OFFSET 0)",
            there="class_id <> ALL(%(void)s::uuid[]) AND user_id <> ALL(%(void)s::uuid[])",
        ),
    ),
)
ENDINGS = (
    _end("UserRemoved", "users"),
    _end("ClassDeleted", "classes"),
    _end("GroupDeleted", "groups"),
)

FOLDS = (*THINGS, *_MEMBERS, *ENDINGS)
"""In the order in which they must run; a load of empty tables has its own for the members (see `rosterlog.projections.rebuild.loading`)."""

# With a skipped withdrawal, an enrolment can meet the membership that was not ended.
MAKE_WAY_FOR_ENROLMENTS = _MAKE_WAY.format(events=_events("MemberEnrolled"))
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

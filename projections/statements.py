"""What the events of a range do to the rows: one statement per kind of change, folding all its events at once.

What makes that right is a rule of the domain: nothing is ever recorded about a thing after its end. So within a range creations come
first, then changes, each folded to its last value by position, and endings last.

Each statement reads its own events by their positions, `%(positions)s`. Those of members are the mass of any log: they are read as the
range from `%(after)s` to `%(upto)s`, without `%(skipped)s`. `%(void)s` holds the ids of things whose creation was skipped: whatever
would refer to them has no effect (see `projections.skips`).
"""

from dataclasses import dataclass

from projections.folding import last

MEMBER_CHANGES = frozenset({"MemberEnrolled", "RoleChanged", "MemberWithdrawn"})
_CLASS_CHANGES = frozenset({"ClassRenamed", "ClassSettingsChanged", "ClassMoved", "ClassArchived", "ClassRestored"})

_EVENTS = """
    SELECT notification_id, originator_id, originator_version, topic, recorded_at, class_id, user_id, group_id,
           convert_from(state, 'UTF8')::json AS state
    FROM unnest(%(positions)s::bigint[]) AS position JOIN log.events ON notification_id = position
"""

_CREATE_GROUPS = f"""
    INSERT INTO {{schema}}.groups (id, name, created_at, updated_at, version)
    SELECT originator_id, state ->> 'name', recorded_at, recorded_at, originator_version FROM ({_EVENTS}) AS event
"""

_CHANGE_GROUPS = f"""
    UPDATE {{schema}}.groups SET name = change.name, updated_at = change.updated_at, version = change.version
    FROM (
        SELECT originator_id AS id, {last("state ->> 'name'", "GroupRenamed")} AS name,
               max(recorded_at) AS updated_at, max(originator_version) AS version
        FROM ({_EVENTS}) AS event GROUP BY originator_id
    ) AS change
    WHERE groups.id = change.id
"""

_REGISTER_USERS = f"""
    INSERT INTO {{schema}}.users (id, created_at, version)
    SELECT originator_id, recorded_at, originator_version FROM ({_EVENTS}) AS event
"""

_CREATE_CLASSES = f"""
    INSERT INTO {{schema}}.classes (id, group_id, name, settings, created_at, updated_at, deleted_at, version)
    SELECT originator_id, group_id, state ->> 'name', (state -> 'settings')::jsonb, recorded_at, recorded_at, NULL, originator_version
    FROM ({_EVENTS}) AS event WHERE group_id <> ALL(%(void)s::uuid[])
"""

_CHANGE_CLASSES = f"""
    UPDATE {{schema}}.classes SET
        name = coalesce(change.name, classes.name),
        settings = coalesce(change.settings, classes.settings),
        group_id = coalesce(change.group_id, classes.group_id),
        deleted_at = CASE change.archiving
            WHEN 'ClassArchived' THEN change.archiving_at WHEN 'ClassRestored' THEN NULL ELSE classes.deleted_at END,
        updated_at = change.updated_at,
        version = greatest(classes.version, change.version)
    FROM (
        SELECT class_id AS id,
               {last("state ->> 'name'", "ClassRenamed")} AS name,
               {last("(state -> 'settings')::jsonb", "ClassSettingsChanged")} AS settings,
               {last("group_id", "ClassMoved", where="group_id <> ALL(%(void)s::uuid[])")} AS group_id,
               {last("topic", "ClassArchived", "ClassRestored")} AS archiving,
               {last("recorded_at", "ClassArchived", "ClassRestored")} AS archiving_at,
               max(recorded_at) AS updated_at, max(originator_version) AS version
        FROM ({_EVENTS}) AS event GROUP BY class_id
    ) AS change
    WHERE classes.id = change.id
"""

# Before a membership is made again in the same range: its row is a new one then.
_WITHDRAW_MEMBERS = """
    DELETE FROM {schema}.class_members AS member
    USING (
        SELECT DISTINCT class_id, user_id FROM log.events
        WHERE notification_id > %(after)s AND notification_id <= %(upto)s AND notification_id <> ALL(%(skipped)s::bigint[])
          AND topic = 'MemberWithdrawn'
    ) AS withdrawn
    WHERE member.class_id = withdrawn.class_id AND member.user_id = withdrawn.user_id
"""

# Whether there is a membership, the last enrolment or withdrawal says; in which role, the last event that gave one. Position and role are
# folded as one number, because an aggregate that sorts costs as much as all the rest. A class's version counts its roster's events, too.
_CHANGE_MEMBERS = """
    WITH change AS MATERIALIZED (
        SELECT class_id, user_id,
               max(notification_id) FILTER (WHERE topic = 'MemberEnrolled') AS enrolled,
               max(notification_id) FILTER (WHERE topic = 'MemberWithdrawn') AS withdrawn,
               max(recorded_at) FILTER (WHERE topic = 'MemberEnrolled') AS enrolled_at,
               CASE max(notification_id * 2 + (role = 'teacher')::int) FILTER (WHERE topic <> 'MemberWithdrawn') %% 2
                   WHEN 1 THEN 'teacher' WHEN 0 THEN 'student' END::public.class_role AS role,
               max(originator_version) AS version
        FROM (
            SELECT notification_id, class_id, user_id, topic, recorded_at, originator_version,
                   (convert_from(state, 'UTF8')::json ->> 'role')::public.class_role AS role
            FROM log.events
            WHERE notification_id > %(after)s AND notification_id <= %(upto)s AND notification_id <> ALL(%(skipped)s::bigint[])
              AND topic IN ('MemberEnrolled', 'RoleChanged', 'MemberWithdrawn')
        ) AS event GROUP BY class_id, user_id
    ),
    versions AS (
        UPDATE {schema}.classes SET version = greatest(classes.version, latest.version)
        FROM (SELECT class_id, max(version) AS version FROM change GROUP BY class_id) AS latest WHERE classes.id = latest.class_id
    ),
    role_changed AS (
        UPDATE {schema}.class_members AS member SET role = change.role FROM change
        WHERE change.enrolled IS NULL AND change.withdrawn IS NULL
          AND member.class_id = change.class_id AND member.user_id = change.user_id
    )
    INSERT INTO {schema}.class_members (id, class_id, user_id, role, created_at)
    SELECT public.membership_id(class_id, user_id), class_id, user_id, role, enrolled_at FROM change
    WHERE enrolled > coalesce(withdrawn, 0) AND class_id <> ALL(%(void)s::uuid[]) AND user_id <> ALL(%(void)s::uuid[])
    ORDER BY class_id, user_id
"""

# The foreign keys' cascades take what depends on it along; see CASCADE for tables that have none yet.
_END = f"DELETE FROM {{{{schema}}}}.{{table}} USING ({_EVENTS}) AS event WHERE {{table}}.id = originator_id"

CASCADE = """
    WITH ended AS MATERIALIZED (
        SELECT originator_id AS id FROM log.events
        WHERE topic IN ('UserRemoved', 'ClassDeleted', 'GroupDeleted')
          AND notification_id <= (SELECT position FROM {schema}.checkpoint) AND notification_id <> ALL(%(skipped)s::bigint[])
    ),
    class_ended AS (DELETE FROM {schema}.classes USING ended WHERE classes.group_id = ended.id RETURNING classes.id)
    DELETE FROM {schema}.class_members
    WHERE user_id IN (SELECT id FROM ended) OR class_id IN (SELECT id FROM ended UNION ALL SELECT id FROM class_ended)
"""
"""What the foreign keys' cascades did in live tables, once for all: for tables that were loaded without foreign keys.

Rows that refer to something that never was stay, and are refused when the foreign keys are made.
"""


@dataclass(frozen=True)
class Fold:
    """A statement to run where a range has events of these topics."""

    topics: frozenset[str]
    statement: str


def _fold(topics: str | frozenset[str], statement: str) -> Fold:
    return Fold(frozenset({topics}) if isinstance(topics, str) else topics, statement)


FOLDS = (
    _fold("GroupCreated", _CREATE_GROUPS),
    _fold("UserRegistered", _REGISTER_USERS),
    _fold("ClassCreated", _CREATE_CLASSES),
    _fold("GroupRenamed", _CHANGE_GROUPS),
    _fold(_CLASS_CHANGES, _CHANGE_CLASSES),
    _fold("MemberWithdrawn", _WITHDRAW_MEMBERS),
    _fold(MEMBER_CHANGES, _CHANGE_MEMBERS),
    _fold("UserRemoved", _END.format(table="users")),
    _fold("ClassDeleted", _END.format(table="classes")),
    _fold("GroupDeleted", _END.format(table="groups")),
)
"""In the order in which they must run."""

# With a skipped withdrawal, an enrolment can meet the membership that was not ended.
MAKE_WAY_FOR_ENROLMENTS = _WITHDRAW_MEMBERS.replace("'MemberWithdrawn'", "'MemberEnrolled'")
"""To run first where any event is skipped."""

# A skipped event counts in its stream all the same: versions are what commands are compared with (`If-Match`).
COUNT_SKIPPED = tuple(
    f"""
    UPDATE {{schema}}.{table} SET version = greatest({table}.version, event.version)
    FROM (SELECT originator_id AS id, max(originator_version) AS version FROM log.events
          WHERE notification_id = ANY(%(positions)s::bigint[]) GROUP BY originator_id) AS event
    WHERE {table}.id = event.id
    """
    for table in ("groups", "classes")
)
"""To run with the positions that are skipped."""

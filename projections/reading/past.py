"""The state of the roster at a position of the log, `%(at)s`: what the read tables said then, row by row.

Each is the source of one thing's or one list's rows, with the columns of the read table. A class's
own events are indexed apart from its roster's, so what a class was costs the same however many
members it has.
"""

from rosterlog.domain.classes import Class
from rosterlog.domain.groups import Group
from rosterlog.domain.log.log_sql import ENDS, ENTRIES, MEMBERSHIP_CHANGES, STATE, topics
from rosterlog.domain.users import User
from rosterlog.projections.shared_sql import last

# An end is always the last event of its stream.
ENDED = f"""
    EXISTS (
        SELECT FROM (
            SELECT topic FROM log.events WHERE originator_id = {{stream}} AND notification_id <= %(at)s
            ORDER BY originator_version DESC LIMIT 1
        ) AS last WHERE topic IN ({ENDS})
    )
"""

GROUP = f"""
    SELECT originator_id AS id, {last(f"{STATE} ->> 'name'", Group.Created, Group.Renamed)} COLLATE pg_catalog."C" AS name,
           min(recorded_at) AS created_at, max(recorded_at) AS updated_at, max(originator_version) AS version
    FROM log.events WHERE originator_id = %(group_id)s AND notification_id <= %(at)s
    GROUP BY originator_id
    HAVING bool_or(topic IN ({topics(Group.Created)})) AND bool_and(topic NOT IN ({topics(Group.Deleted)}))
"""

CLASS = f"""
    SELECT class_id AS id, (array_agg(group_id ORDER BY notification_id DESC))[1] AS group_id,
           {last(f"{STATE} ->> 'name'", Class.Created, Class.Renamed)} COLLATE pg_catalog."C" AS name,
           {last(f"({STATE} -> 'settings')::jsonb", Class.Created, Class.SettingsChanged)} AS settings,
           min(recorded_at) AS created_at, max(recorded_at) AS updated_at,
           CASE WHEN {last("topic", Class.Archived, Class.Restored)} IN ({topics(Class.Archived)})
               THEN {last("recorded_at", Class.Archived)} END AS deleted_at,
           (
               SELECT originator_version FROM log.events AS latest
               WHERE latest.class_id = event.class_id AND latest.notification_id <= %(at)s
               ORDER BY latest.notification_id DESC LIMIT 1
           ) AS version
    FROM log.events AS event WHERE class_id = {{class_id}} AND user_id IS NULL AND notification_id <= %(at)s
    GROUP BY class_id HAVING bool_and(topic NOT IN ({topics(Class.Deleted)}))
"""

LIVING_CLASS = f"SELECT * FROM ({CLASS}) AS class WHERE NOT {ENDED.format(stream='class.group_id')}"

USER = f"""
    SELECT originator_id AS id, recorded_at AS created_at, originator_version AS version
    FROM log.events WHERE originator_id = %(user_id)s AND topic IN ({topics(User.Created)}) AND notification_id <= %(at)s
      AND NOT {ENDED.format(stream="%(user_id)s")}
"""

MEMBERS = f"""
    SELECT public.membership_id(class_id, user_id) AS id, class_id, user_id, role, created_at FROM (
        SELECT class_id, user_id, max(recorded_at) FILTER (WHERE topic IN ({topics(Class.MemberEnrolled)})) AS created_at,
               (array_agg(topic ORDER BY notification_id DESC))[1] AS topic,
               (array_agg({STATE} ->> 'role' ORDER BY notification_id DESC))[1]::public.class_role AS role
        FROM log.events WHERE {{whose}} AND topic IN ({topics(*MEMBERSHIP_CHANGES)}) AND notification_id <= %(at)s
        GROUP BY class_id, user_id
    ) AS member WHERE topic NOT IN ({topics(Class.MemberWithdrawn)}) AND NOT {ENDED.format(stream="member.user_id")}
"""

MEMBERSHIPS = f"""
    SELECT member.user_id, member.class_id, class.name AS class_name, class.group_id, member.role, member.created_at
    FROM ({MEMBERS.format(whose="user_id = %(user_id)s")}) AS member
    CROSS JOIN LATERAL ({LIVING_CLASS.format(class_id="member.class_id")}) AS class
"""

GROUP_CLASSES = f"""
    SELECT class.* FROM (
        SELECT DISTINCT class_id FROM log.events
        WHERE group_id = %(group_id)s AND topic IN ({ENTRIES}) AND notification_id <= %(at)s
    ) AS entered
    CROSS JOIN LATERAL ({CLASS.format(class_id="entered.class_id")}) AS class WHERE class.group_id = %(group_id)s
"""

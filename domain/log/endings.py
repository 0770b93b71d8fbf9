"""What an ending ended besides its own stream: an index of the log, so that histories need not work it out at every read.

Removing a user, deleting a class or deleting a group is one event. `log.endings` has, beside that
event, a row for each membership that it ended, and for each class that ended with its group
(without a user and a role). The append fills it in, in its own transaction; everything in it
follows from the log, and `verify --log` derives it once more.
"""

from typing import Any

from psycopg import Connection

from rosterlog.domain.classes import Class
from rosterlog.domain.groups import Group
from rosterlog.domain.log.log_sql import ENDS, ENTRIES, STATE, topics
from rosterlog.domain.users import User

_REMOVED, _WITHDRAWN = topics(User.Removed), topics(Class.MemberWithdrawn)
_CLASS_DELETED, _GROUP_DELETED = topics(Class.Deleted), topics(Group.Deleted)

# Nothing is recorded about a thing after its end. So a class is in the group that its last event
# names, and a membership is open if the last event about it is no withdrawal and neither its user,
# its class nor its class's group ended earlier.
DERIVE = f"""
    WITH ending AS (
        SELECT notification_id, originator_id, topic, user_id, group_id FROM log.events
        WHERE notification_id >= %(first)s AND notification_id <= %(last)s AND topic IN ({ENDS})
    ),
    ended_class AS (
        SELECT notification_id, topic, originator_id AS class_id, group_id FROM ending WHERE topic IN ({_CLASS_DELETED})
        UNION ALL
        SELECT ending.notification_id, ending.topic, entered.class_id, ending.group_id FROM ending
        CROSS JOIN LATERAL (
            SELECT DISTINCT class_id FROM log.events
            WHERE group_id = ending.originator_id AND topic IN ({ENTRIES}) AND notification_id < ending.notification_id
        ) AS entered
        CROSS JOIN LATERAL (
            SELECT topic, group_id FROM log.events
            WHERE class_id = entered.class_id AND user_id IS NULL AND notification_id < ending.notification_id
            ORDER BY notification_id DESC LIMIT 1
        ) AS last
        WHERE ending.topic IN ({_GROUP_DELETED}) AND last.topic NOT IN ({_CLASS_DELETED}) AND last.group_id = ending.originator_id
    ),
    membership AS (
        SELECT ended_class.notification_id, ended_class.topic, ended_class.class_id, member.user_id, ended_class.group_id, member.role
        FROM ended_class
        CROSS JOIN LATERAL (
            SELECT DISTINCT ON (user_id) user_id, topic, {STATE} ->> 'role' AS role FROM log.events
            WHERE class_id = ended_class.class_id AND user_id IS NOT NULL AND notification_id < ended_class.notification_id
            ORDER BY user_id, notification_id DESC
        ) AS member
        WHERE member.topic NOT IN ({_WITHDRAWN}) AND NOT EXISTS (
            SELECT FROM log.events
            WHERE originator_id = member.user_id AND topic IN ({_REMOVED}) AND notification_id < ended_class.notification_id
        )
        UNION ALL
        SELECT ending.notification_id, ending.topic, member.class_id, ending.user_id, class.group_id, member.role FROM ending
        CROSS JOIN LATERAL (
            SELECT DISTINCT ON (class_id) class_id, topic, {STATE} ->> 'role' AS role FROM log.events
            WHERE user_id = ending.originator_id AND class_id IS NOT NULL AND notification_id < ending.notification_id
            ORDER BY class_id, notification_id DESC
        ) AS member
        CROSS JOIN LATERAL (
            SELECT topic, group_id FROM log.events
            WHERE class_id = member.class_id AND user_id IS NULL AND notification_id < ending.notification_id
            ORDER BY notification_id DESC LIMIT 1
        ) AS class
        WHERE ending.topic IN ({_REMOVED}) AND member.topic NOT IN ({_WITHDRAWN}) AND class.topic NOT IN ({_CLASS_DELETED}) AND NOT EXISTS (
            SELECT FROM log.events
            WHERE originator_id = class.group_id AND topic IN ({_GROUP_DELETED}) AND notification_id < ending.notification_id
        )
    )
    SELECT notification_id, topic, class_id, user_id, group_id, role FROM membership
    UNION ALL
    SELECT notification_id, topic, class_id, NULL, group_id, NULL FROM ended_class WHERE topic IN ({_GROUP_DELETED})
"""
"""The SELECT of the rows that belong to the endings from position `first` to position `last`."""

_COLUMNS = "notification_id, topic, class_id, user_id, group_id, role"
_FOUND = f"SELECT {_COLUMNS} FROM log.endings WHERE notification_id BETWEEN %(first)s AND %(last)s"
DIFFERING = f"""
    WITH derived AS MATERIALIZED ({DERIVE}), found AS MATERIALIZED ({_FOUND})
    SELECT DISTINCT notification_id FROM (
        (SELECT * FROM derived EXCEPT ALL SELECT * FROM found) UNION ALL (SELECT * FROM found EXCEPT ALL SELECT * FROM derived)
    ) AS differing
"""
"""The SELECT of the positions from `first` to `last` where the index does not say what follows from the log."""

INSERT = f"INSERT INTO log.endings ({_COLUMNS}) {DERIVE}"
REMOVE = "DELETE FROM log.endings WHERE notification_id BETWEEN %(first)s AND %(last)s"


def index(connection: Connection[Any], first: int, last: int) -> None:
    """Fill in the index for the endings among the events just inserted, from position `first` to `last`, in the same transaction."""
    connection.execute(INSERT, {"first": first, "last": last})

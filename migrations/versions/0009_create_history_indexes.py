"""Create what histories and past states are looked up by: the index of endings, and indexes of the log."""

from alembic import op

revision = "0009_create_history_indexes"
down_revision = "0008_create_idempotency_keys"

CREATE_ENDINGS = """
CREATE TABLE log.endings (
    notification_id  bigint  NOT NULL,
    topic            text    NOT NULL,
    class_id         uuid    NOT NULL,
    user_id          uuid,
    group_id         uuid    NOT NULL,
    role             text,
    CONSTRAINT endings_key UNIQUE NULLS NOT DISTINCT (notification_id, class_id, user_id)
)
"""

INDEXES = {
    "endings_class_id_idx": "endings (class_id, notification_id)",
    "endings_user_id_idx": "endings (user_id, notification_id) WHERE user_id IS NOT NULL",
    "endings_group_id_idx": "endings (group_id, notification_id) WHERE topic = 'UserRemoved'",
    # Of the place in the log as an expression: see projections/reading/history.py.
    "events_topic_idx": "events (topic, (notification_id + 0))",
    "events_source_idx": "events (source, (notification_id + 0))",
    "events_source_topic_idx": "events (source, topic, (notification_id + 0))",
    "events_actor_place_idx": "events (actor, (notification_id + 0))",
    "events_actor_topic_idx": "events (actor, topic, (notification_id + 0))",
    "events_group_id_place_idx": "events (group_id, (notification_id + 0)) WHERE group_id IS NOT NULL",
    "events_group_id_topic_idx": "events (group_id, topic, (notification_id + 0)) WHERE group_id IS NOT NULL",
    # What a class is, apart from its roster, and which classes ever came into a group: few rows,
    # whatever the number of members.
    "events_class_itself_idx": "events (class_id, notification_id) WHERE user_id IS NULL AND class_id IS NOT NULL",
    "events_entered_idx": "events (group_id, notification_id) WHERE topic IN ('ClassCreated', 'ClassMoved')",
}

REPLACED = {
    "events_actor_idx": "events (actor, notification_id)",
    "events_group_id_idx": "events (group_id, notification_id) WHERE group_id IS NOT NULL",
}

REFUSE_TRIGGER = """
CREATE TRIGGER endings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log.endings
FOR EACH STATEMENT EXECUTE FUNCTION log.refuse_change()
"""
REFUSE_ALWAYS = "ALTER TABLE log.endings ENABLE ALWAYS TRIGGER endings_append_only"

# What appends filled in when this migration was made; a later migration that fills in otherwise
# begins the index anew.
FILL_ENDINGS = """
INSERT INTO log.endings (notification_id, topic, class_id, user_id, group_id, role)
    WITH ending AS (
        SELECT notification_id, originator_id, topic, user_id, group_id FROM log.events
        WHERE topic IN ('UserRemoved', 'ClassDeleted', 'GroupDeleted')
    ),
    ended_class AS (
        SELECT notification_id, topic, originator_id AS class_id, group_id FROM ending WHERE topic = 'ClassDeleted'
        UNION ALL
        SELECT ending.notification_id, ending.topic, entered.class_id, ending.group_id FROM ending
        CROSS JOIN LATERAL (
            SELECT DISTINCT class_id FROM log.events
            WHERE group_id = ending.originator_id AND topic IN ('ClassCreated', 'ClassMoved') AND notification_id < ending.notification_id
        ) AS entered
        CROSS JOIN LATERAL (
            SELECT topic, group_id FROM log.events
            WHERE class_id = entered.class_id AND user_id IS NULL AND notification_id < ending.notification_id
            ORDER BY notification_id DESC LIMIT 1
        ) AS last
        WHERE ending.topic = 'GroupDeleted' AND last.topic <> 'ClassDeleted' AND last.group_id = ending.originator_id
    ),
    membership AS (
        SELECT ended_class.notification_id, ended_class.topic, ended_class.class_id, member.user_id, ended_class.group_id, member.role
        FROM ended_class
        CROSS JOIN LATERAL (
            SELECT DISTINCT ON (user_id) user_id, topic, convert_from(state, 'UTF8')::json ->> 'role' AS role FROM log.events
            WHERE class_id = ended_class.class_id AND user_id IS NOT NULL AND notification_id < ended_class.notification_id
            ORDER BY user_id, notification_id DESC
        ) AS member
        WHERE member.topic <> 'MemberWithdrawn' AND NOT EXISTS (
            SELECT FROM log.events
            WHERE originator_id = member.user_id AND topic = 'UserRemoved' AND notification_id < ended_class.notification_id
        )
        UNION ALL
        SELECT ending.notification_id, ending.topic, member.class_id, ending.user_id, class.group_id, member.role FROM ending
        CROSS JOIN LATERAL (
            SELECT DISTINCT ON (class_id) class_id, topic, convert_from(state, 'UTF8')::json ->> 'role' AS role FROM log.events
            WHERE user_id = ending.originator_id AND class_id IS NOT NULL AND notification_id < ending.notification_id
            ORDER BY class_id, notification_id DESC
        ) AS member
        CROSS JOIN LATERAL (
            SELECT topic, group_id FROM log.events
            WHERE class_id = member.class_id AND user_id IS NULL AND notification_id < ending.notification_id
            ORDER BY notification_id DESC LIMIT 1
        ) AS class
        WHERE ending.topic = 'UserRemoved' AND member.topic <> 'MemberWithdrawn' AND class.topic <> 'ClassDeleted' AND NOT EXISTS (
            SELECT FROM log.events
            WHERE originator_id = class.group_id AND topic = 'GroupDeleted' AND notification_id < ending.notification_id
        )
    )
    SELECT notification_id, topic, class_id, user_id, group_id, role FROM membership
    UNION ALL
    SELECT notification_id, topic, class_id, NULL, group_id, NULL FROM ended_class WHERE topic = 'GroupDeleted'
"""


def upgrade() -> None:
    op.execute(CREATE_ENDINGS)
    for name, definition in INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON log.{definition}")
    for name in REPLACED:
        op.execute(f"DROP INDEX log.{name}")
    # A copy, so that no append comes between: the endings so far, before the first that fills them
    # in by itself.
    op.execute("LOCK TABLE log.events IN SHARE ROW EXCLUSIVE MODE")
    op.execute(FILL_ENDINGS)
    op.execute(REFUSE_TRIGGER)
    op.execute(REFUSE_ALWAYS)


def downgrade() -> None:
    op.execute("DROP TABLE log.endings")
    for name, definition in REPLACED.items():
        op.execute(f"CREATE INDEX {name} ON log.{definition}")
    for name in INDEXES:
        if name.startswith("events_"):
            op.execute(f"DROP INDEX log.{name}")

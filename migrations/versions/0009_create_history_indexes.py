"""Create what histories and past states are looked up by: the index of endings, and indexes of the log."""

from alembic import op

from domain import endings

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
    # Of the place in the log as an expression: see projections/history.py.
    "events_topic_idx": "events (topic, (notification_id + 0))",
    "events_source_idx": "events (source, (notification_id + 0))",
    "events_source_topic_idx": "events (source, topic, (notification_id + 0))",
    "events_actor_place_idx": "events (actor, (notification_id + 0))",
    "events_actor_topic_idx": "events (actor, topic, (notification_id + 0))",
    "events_group_id_place_idx": "events (group_id, (notification_id + 0)) WHERE group_id IS NOT NULL",
    "events_group_id_topic_idx": "events (group_id, topic, (notification_id + 0)) WHERE group_id IS NOT NULL",
    # What a class is, apart from its roster, and which classes ever came into a group: few rows, whatever the number of members.
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
EVERYTHING = {"first": "1", "last": "9223372036854775807"}


def upgrade() -> None:
    op.execute(CREATE_ENDINGS)
    for name, definition in INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON log.{definition}")
    for name in REPLACED:
        op.execute(f"DROP INDEX log.{name}")
    # A copy, so that no append comes between: the endings so far, before the first that fills them in by itself.
    op.execute("LOCK TABLE log.events IN SHARE ROW EXCLUSIVE MODE")
    op.execute(endings.INSERT % EVERYTHING)
    op.execute(REFUSE_TRIGGER)
    op.execute(REFUSE_ALWAYS)


def downgrade() -> None:
    op.execute("DROP TABLE log.endings")
    for name, definition in REPLACED.items():
        op.execute(f"CREATE INDEX {name} ON log.{definition}")
    for name in INDEXES:
        if name.startswith("events_"):
            op.execute(f"DROP INDEX log.{name}")

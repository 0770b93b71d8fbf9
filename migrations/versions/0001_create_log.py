"""Create the log: one table, append-only, with what history is asked by."""

from alembic import op

revision = "0001_create_log"
down_revision = None

REFUSE_CHANGE = """
CREATE FUNCTION log.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the log is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$
"""

CREATE_EVENTS = """
CREATE TABLE log.events (
    notification_id     bigint      NOT NULL,
    originator_id       uuid        NOT NULL,
    originator_version  bigint      NOT NULL,
    topic               text        NOT NULL,
    state               bytea       NOT NULL,
    recorded_at         timestamptz NOT NULL,
    digest              bytea       NOT NULL,
    class_id            uuid,
    user_id             uuid,
    group_id            uuid,
    previous_group_id   uuid,
    actor               text        NOT NULL,
    source              text        NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (originator_id, originator_version),
    CONSTRAINT events_notification_id_key UNIQUE (notification_id),
    CONSTRAINT events_digest_check CHECK (octet_length(digest) = 32)
)
"""

INDEXES = {
    "events_class_id_idx": "(class_id, notification_id) WHERE class_id IS NOT NULL",
    "events_user_id_idx": "(user_id, notification_id) WHERE user_id IS NOT NULL",
    "events_group_id_idx": "(group_id, notification_id) WHERE group_id IS NOT NULL",
    "events_previous_group_id_idx": "(previous_group_id, notification_id) WHERE previous_group_id IS NOT NULL",
    "events_actor_idx": "(actor, notification_id)",
    "events_recorded_at_idx": "(recorded_at, notification_id)",
}

# ALWAYS: fires for a session with session_replication_role = replica, too.
REFUSE_TRIGGER = """
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log.events
FOR EACH STATEMENT EXECUTE FUNCTION log.refuse_change()
"""
REFUSE_ALWAYS = "ALTER TABLE log.events ENABLE ALWAYS TRIGGER events_append_only"

REFUSE_WHILE_EVENTS = """
DO $$
BEGIN
    LOCK TABLE log.events IN ACCESS EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM log.events) THEN
        RAISE EXCEPTION 'the log holds events, and nothing else does: refusing to drop it';
    END IF;
END
$$
"""


def upgrade() -> None:
    op.execute("CREATE SCHEMA log")
    op.execute(CREATE_EVENTS)
    for name, definition in INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON log.events {definition}")
    op.execute(REFUSE_CHANGE)
    op.execute(REFUSE_TRIGGER)
    op.execute(REFUSE_ALWAYS)


def downgrade() -> None:
    op.execute(REFUSE_WHILE_EVENTS)
    op.execute("DROP TABLE log.events")
    op.execute("DROP FUNCTION log.refuse_change()")
    op.execute("DROP SCHEMA log")

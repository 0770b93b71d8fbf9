"""Create the fence between releases: only who declares to append in the log's format may insert events.

A migration that makes appends fill in more takes the append's lock as this one does, and replaces
`log.append_format()`.
"""

from alembic import op

revision = "0011_create_fence"
down_revision = "0010_hash_membership_ids_once"

# So that no append is under way: it began before this migration, or it finds what this migration
# made.
LOCK_APPENDS = "SELECT pg_advisory_xact_lock(7316001)"

CREATE_FORMAT = """
CREATE FUNCTION log.append_format() RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT 1'
"""

# A restore of a dump declares nothing; pg_dump's scripts and pg_restore switch
# check_function_bodies off, and no service does.
CREATE_REFUSE = """
CREATE FUNCTION log.refuse_other_formats() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF current_setting('rosterlog.append_format', true) IS DISTINCT FROM log.append_format()::text
        AND current_setting('check_function_bodies') = 'on'
    THEN
        RAISE EXCEPTION 'the log takes events in append format % only, and this session does not declare it', log.append_format()
        USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'A newer release has migrated the database: replace this process by one of that release.';
    END IF;
    RETURN NULL;
END
$$
"""

# Not ALWAYS: a subscriber of logical replication takes what the publisher's fence let pass.
CREATE_TRIGGER = """
CREATE TRIGGER events_append_format BEFORE INSERT ON log.events
FOR EACH STATEMENT EXECUTE FUNCTION log.refuse_other_formats()
"""


def upgrade() -> None:
    op.execute(LOCK_APPENDS)
    op.execute(CREATE_FORMAT)
    op.execute(CREATE_REFUSE)
    op.execute(CREATE_TRIGGER)


def downgrade() -> None:
    op.execute(LOCK_APPENDS)
    op.execute("DROP TRIGGER events_append_format ON log.events")
    op.execute("DROP FUNCTION log.refuse_other_formats()")
    op.execute("DROP FUNCTION log.append_format()")

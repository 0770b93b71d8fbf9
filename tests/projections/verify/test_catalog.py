"""A database that is not as the migrations make it is found to be so, and one that an operator uses in their own way is not."""

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import Connection

from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.api.ops.roles import statements
from rosterlog.domain.log import sessions
from rosterlog.projections.rebuild.rebuilding import Rebuild
from rosterlog.projections.verify import catalog
from rosterlog.projections.verify.catalog import CatalogAltered
from tests.conftest import TEMPLATE, execute, fresh_database
from tests.projections.expected_catalog import catalog_of


@pytest.fixture(scope="module")
def shared(server: EmbeddedPostgres) -> Iterator[Connection[Any]]:
    with fresh_database(server, TEMPLATE) as database, sessions.connect(database) as connection:
        yield connection


@pytest.fixture
def altered(shared: Connection[Any]) -> Iterator[Connection[Any]]:
    """Lend the database for changes that are taken back."""
    with shared.transaction(force_rollback=True):
        shared.execute("DROP ROLE IF EXISTS somebody")
        shared.execute("CREATE ROLE somebody")
        yield shared


def test_what_the_migrations_make_is_what_is_expected(database: str) -> None:
    """Where this fails after a new migration: `.venv/bin/python -m tests.projections.expected_catalog`."""
    assert catalog_of(database) == catalog.expected()


def test_a_database_is_as_expected_after_a_rebuild_and_with_divided_accounts(database: str) -> None:
    Rebuild(database).run()
    for statement in statements():
        execute(database, statement)
    Rebuild(database).run()
    with sessions.connect(database) as connection:
        catalog.refuse_altered(connection)


INSERT_RULE = "CREATE RULE forged AS ON INSERT TO log.events DO INSTEAD NOTHING"
LOG_VIEW = "ALTER TABLE log.events RENAME TO events_kept; CREATE VIEW log.events AS SELECT * FROM log.events_kept WHERE actor <> 'somebody'"
CHILD = "CREATE TABLE public.more () INHERITS (log.events)"
FUNCTION = "CREATE FUNCTION {} LANGUAGE sql IMMUTABLE AS $$ SELECT NULL::{} $$"
MEMBERSHIP_ID = (
    "CREATE OR REPLACE FUNCTION public.membership_id(class_id uuid, user_id uuid) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT "
    "RETURN class_id"
)
UNUSED = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'log.events_actor_place_idx'::regclass"
EMPTIED = "CREATE OR REPLACE FUNCTION log.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
TAMPERING = FUNCTION.format("public.tamper() RETURNS int", "int")
TRIGGER = (
    "CREATE FUNCTION public.tamper() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; "
    "CREATE TRIGGER {0} BEFORE INSERT ON {1} FOR EACH ROW EXECUTE FUNCTION public.tamper()"
)
OPERATOR = (
    "CREATE FUNCTION {0}.never({1}, {1}) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$; "
    "CREATE OPERATOR {0}.= (FUNCTION = {0}.never, LEFTARG = {1}, RIGHTARG = {1})"
)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (LOG_VIEW, "relation log.events: found view"),
        (CHILD, "inheritance log.events"),
        (INSERT_RULE, "rule log.events forged"),
        (
            "CREATE RULE forged AS ON DELETE TO log.skips DO INSTEAD NOTHING",
            "rule log.skips forged",
        ),
        ("ALTER TABLE log.events SET UNLOGGED", "relation log.events: found table, not logged"),
        (
            "ALTER TABLE log.events DISABLE TRIGGER events_append_only",
            "trigger log.events events_append_only: .*enabled: D",
        ),
        (
            "ALTER TABLE log.endings ENABLE TRIGGER endings_append_only",
            "trigger log.endings endings_append_only: .*enabled: O",
        ),
        (
            "DROP TRIGGER events_append_only ON log.events",
            "trigger log.events events_append_only: found none",
        ),
        (EMPTIED, r"function log.refuse_change\(\)"),
        (TRIGGER.format("forged", "log.events"), "trigger log.events forged"),
        (TRIGGER.format("forged", "roster.class_members"), "trigger roster.class_members forged"),
        (
            "ALTER TABLE roster.class_members DISABLE TRIGGER ALL",
            "triggers of foreign keys roster.class_members",
        ),
        (
            "ALTER TABLE log.events ENABLE ROW LEVEL SECURITY",
            "relation log.events: found .*row security",
        ),
        ("CREATE POLICY hides ON roster.users USING (false)", "policy roster.users hides"),
        ("ALTER TABLE log.events OWNER TO somebody", "owner log.events: found somebody"),
        ("ALTER FUNCTION log.refuse_change() OWNER TO somebody", r"owner refuse_change\(\)"),
        (
            "GRANT UPDATE ON log.events TO somebody",
            "privilege to change the log events somebody UPDATE",
        ),
        (
            "GRANT UPDATE (actor) ON log.events TO PUBLIC",
            "privilege to change the log events PUBLIC UPDATE",
        ),
        (
            "GRANT TRIGGER ON log.endings TO somebody",
            "privilege to change the log endings somebody TRIGGER",
        ),
        ("ALTER TABLE log.events ADD COLUMN more text", "column log.events.more"),
        ("ALTER TABLE log.events ALTER COLUMN topic DROP NOT NULL", "column log.events.topic"),
        (
            'ALTER TABLE log.events ALTER COLUMN actor TYPE text COLLATE "POSIX"',
            "column log.events.actor",
        ),
        (
            "ALTER TABLE roster.classes ALTER COLUMN created_at SET DEFAULT '2000-01-01'",
            "column roster.classes.created_at",
        ),
        (
            "ALTER TABLE log.events DROP CONSTRAINT events_digest_check",
            "constraint log.events events_digest_check",
        ),
        (
            "ALTER TABLE roster.class_members DROP CONSTRAINT class_members_user_id_fkey",
            "constraint roster.class_members class_members",
        ),
        ("DROP INDEX log.events_actor_place_idx", "index log.events_actor_place_idx: found none"),
        (
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'log.events_actor_place_idx'::regclass",
            "events_actor_place_idx.*not in use",
        ),
        ("CREATE UNIQUE INDEX one_actor ON log.events (actor)", "index log.one_actor"),
        (
            TAMPERING + "; CREATE INDEX tampers ON log.events ((public.tamper()))",
            "index log.tampers",
        ),
        (MEMBERSHIP_ID, r"function public.membership_id\(class_id uuid, user_id uuid\)"),
        (
            "CREATE OR REPLACE FUNCTION public.membership_id(text) RETURNS text LANGUAGE sql RETURN $1",
            r"function public.membership_id\(text\)",
        ),
        (
            FUNCTION.format("public.convert_to(text, text) RETURNS bytea", "bytea"),
            r"function public.convert_to\(text,text\)",
        ),
        (
            FUNCTION.format("public.sha256(bytea) RETURNS bytea", "bytea"),
            r"function public.sha256\(bytea\)",
        ),
        (
            FUNCTION.format("public.octet_length(varchar) RETURNS int", "int"),
            r"function public.octet_length\(character varying\)",
        ),
        (
            FUNCTION.format("log.clock_timestamp() RETURNS timestamptz", "timestamptz"),
            r"log.clock_timestamp\(\)",
        ),
        (
            FUNCTION.format("public.array_agg(class_role) RETURNS int", "int").replace(
                "(class_role", "(public.class_role"
            ),
            "array_agg",
        ),
        (OPERATOR.format("public", "uuid"), r"operator public.=\(uuid,uuid\)"),
        ("CREATE DOMAIN public.uuid AS pg_catalog.text", "type public.uuid"),
        ("CREATE TABLE public.pg_class (oid int)", "type public.pg_class"),
        ('CREATE COLLATION public."C" FROM "POSIX"', "collation public"),
        (
            FUNCTION.format("public.lie(text) RETURNS public.class_role", "public.class_role")
            + "; CREATE CAST (text AS public.class_role) WITH FUNCTION public.lie(text) AS IMPLICIT",
            "cast text to public.class_role",
        ),
        (
            "ALTER ROLE somebody SET session_replication_role = replica",
            "setting somebody session_replication_role=replica",
        ),
        (
            "ALTER TYPE public.class_role RENAME VALUE 'student' TO 'guest'",
            "type public.class_role: found e teacher, guest",
        ),
        ("CREATE TABLE log.mine (id int)", "relation log.mine"),
        ("CREATE VIEW roster.report AS SELECT 1 AS one", "relation roster.report"),
        (FUNCTION.format("log.mine() RETURNS int", "int"), r"function log.mine\(\)"),
        ("DROP TABLE log.skips", "relation log.skips: found none"),
    ],
)
def test_what_could_change_an_answer_is_found(
    altered: Connection[Any], change: str, named: str | None
) -> None:
    if named is None:
        return
    altered.execute(change.encode())
    with pytest.raises(CatalogAltered, match=named):
        catalog.refuse_altered(altered)


@pytest.mark.parametrize(
    "change",
    [
        "GRANT SELECT ON ALL TABLES IN SCHEMA log, roster TO somebody",
        "GRANT SELECT, INSERT ON log.events TO somebody",
        "CREATE INDEX mine ON log.events (source, actor)",
        "CREATE INDEX mine ON log.events USING brin (recorded_at)",
        "CREATE SCHEMA reports; CREATE VIEW reports.events AS SELECT * FROM log.events",
        "CREATE SCHEMA reports; " + FUNCTION.format("reports.lower(text) RETURNS text", "text"),
        "CREATE TABLE public.students (id int PRIMARY KEY)",
        FUNCTION.format("public.our_own(text) RETURNS text", "text"),
        "CREATE TYPE public.mark AS (value int); "
        + FUNCTION.format("public.round(public.mark) RETURNS int", "int"),
        "ALTER TABLE log.events SET (fillfactor = 100, autovacuum_vacuum_scale_factor = 0.01)",
        "ALTER TABLE log.events REPLICA IDENTITY FULL",
        "CREATE PUBLICATION everything FOR TABLE log.events",
        "CREATE STATISTICS roster.own ON class_id, user_id FROM log.events",
        "COMMENT ON TABLE log.events IS 'the log'",
        "ALTER ROLE somebody SET search_path = reports, public",
        "CREATE EXTENSION citext SCHEMA public; "
        + FUNCTION.format("public.gen_random_uuid() RETURNS uuid", "uuid")
        + "; ALTER EXTENSION citext ADD FUNCTION public.gen_random_uuid()",
        "CREATE EXTENSION pg_stat_statements SCHEMA public",
        "CREATE EXTENSION amcheck SCHEMA public",
    ],
)
def test_what_an_operator_may_do_is_no_error(altered: Connection[Any], change: str) -> None:
    altered.execute(change.encode())
    catalog.refuse_altered(altered)


def test_an_event_trigger_is_a_remark(altered: Connection[Any]) -> None:
    altered.execute(
        "CREATE FUNCTION public.seen() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;"
        "CREATE EVENT TRIGGER watches ON ddl_command_end EXECUTE FUNCTION public.seen()"
    )
    catalog.refuse_altered(altered)
    assert catalog.remarks(altered) == [
        "the event trigger watches runs public.seen() at ddl_command_end; see what it does"
    ]

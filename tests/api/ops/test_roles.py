"""Each database account can do its work, and none can do another's."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from psycopg.conninfo import make_conninfo

from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.api.ops.roles import MIGRATOR, PROJECTOR, READER, TABLES, WRITER, statements
from rosterlog.api.settings import Settings
from rosterlog.migrations import commands
from tests.api.client import done, position, problem
from tests.api.conftest import serving
from tests.api.processes import rosterlog, started, succeeds
from tests.conftest import TEMPLATE, execute, fresh_database
from tests.domain.threads import eventually
from tests.projections.tables import READ_TABLES, checkpoint, record_everything, rows

REBUILD = "/v1/projections/rebuild"
REFUSED = "permission denied|must be owner"
"""By rights, not by the trigger that keeps the log append-only."""


def as_role(database: str, role: str) -> str:
    return make_conninfo(database, user=f"rosterlog_{role}")


def divided(database: str, **others: Any) -> Settings:
    """Return settings that give each kind of work its own account."""
    return Settings(
        database_url=as_role(database, READER),
        write_database_url=as_role(database, WRITER),
        project_database_url=as_role(database, PROJECTOR),
        **others,
    )


@pytest.fixture(scope="module")
def guarded(server: EmbeddedPostgres) -> Iterator[str]:
    with fresh_database(server, TEMPLATE) as database:
        succeeds("roles", "--apply", DATABASE_URL=database)
        yield database


def test_every_table_has_rights(connection: Connection[Any]) -> None:
    """A new table fails here: say in api/ops/roles.py whose it is and who may do what with it."""
    found = connection.execute(
        "SELECT relnamespace::regnamespace || '.' || relname FROM pg_class WHERE relkind IN "
        "('r', 'p') "
        "AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', "
        "'pg_toast')"
    )
    assert {name for (name,) in found} == TABLES.keys()


def test_roles_prints_what_it_would_run_and_needs_no_database() -> None:
    shown = succeeds("roles")
    assert shown.startswith("BEGIN;")
    assert all(statement in shown for statement in statements())


def test_a_service_with_divided_accounts_does_everything(database: str) -> None:
    for _ in range(2):
        succeeds("roles", "--apply", DATABASE_URL=database)
    with serving(as_role(database, READER), divided(database)) as api:
        class_id = api.new_class()
        member = api.enrol(class_id)
        for _ in range(2):
            done(
                api.post("/v1/groups", json={"name": "Once"}, headers={"Idempotency-Key": "once"}),
                201,
            )
        for _ in range(2):
            done(api.post(REBUILD), 202)
            eventually(lambda: api.read(REBUILD)["state"] == "done")
            assert [one["user_id"] for one in api.items(f"/v1/classes/{class_id}/members")] == [
                member
            ]
        done(api.delete(REBUILD), 204)
        left = done(api.delete(f"/v1/classes/{class_id}/members/{member}"), 204)
        assert api.items(f"/v1/classes/{class_id}/members", at_position=position(left) - 1)
        assert len(api.items(f"/v1/classes/{class_id}/history")) == 3
        eventually(lambda: api.get("/readyz").status_code == 200)


def test_a_service_that_may_not_rebuild_says_so(guarded: str) -> None:
    settings = Settings(
        database_url=as_role(guarded, READER),
        write_database_url=as_role(guarded, WRITER),
        project=False,
    )
    with serving(as_role(guarded, READER), settings) as api:
        assert (
            "rosterlog rebuild"
            in problem(api.post(REBUILD), 409, "rebuild-not-permitted")["detail"]
        )


def test_the_projector_projects_rebuilds_and_verifies(
    roster: Any, database: str, connection: Connection[Any]
) -> None:
    head = record_everything(roster)
    succeeds("roles", "--apply", DATABASE_URL=database)
    accounts = {
        "DATABASE_URL": as_role(database, READER),
        "PROJECT_DATABASE_URL": as_role(database, PROJECTOR),
    }
    with started("project", stderr=None, **accounts):
        eventually(lambda: checkpoint(connection) == head)
    before = rows(connection)
    succeeds("rebuild", **accounts)
    assert rows(connection) == before
    succeeds("verify", **accounts)
    owners = connection.execute(
        "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'roster'"
    ).fetchall()
    assert owners == [(f"rosterlog_{PROJECTOR}",)]
    with psycopg.connect(as_role(database, READER)) as reader:
        assert all(
            reader.execute(f"SELECT count(*) FROM roster.{table}").fetchone()
            for table in READ_TABLES
        )


def test_the_migrator_migrates_and_the_accounts_are_made_again(database: str) -> None:
    succeeds("roles", "--apply", DATABASE_URL=database)
    migrator = as_role(database, MIGRATOR)
    succeeds("migrate", "--down", "--to", "0002_create_schemas", DATABASE_URL=migrator)
    assert "0002_create_schemas" in rosterlog("roles", "--apply", DATABASE_URL=database).stderr
    succeeds("migrate", DATABASE_URL=migrator)
    succeeds("roles", "--apply", DATABASE_URL=database)
    with serving(as_role(database, READER), divided(database)) as api:
        api.enrol(api.new_class())


def test_a_service_that_may_not_migrate_says_who_may(database: str) -> None:
    succeeds("roles", "--apply", DATABASE_URL=database)
    commands.downgrade(database, "0005_create_classes")
    ended = rosterlog("serve", DATABASE_URL=as_role(database, READER))
    assert ended.returncode == 1
    assert "run rosterlog migrate as the migrator" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        (role, statement)
        for role in (WRITER, PROJECTOR, READER)
        for statement in (
            "UPDATE log.events SET actor = 'x'",
            "DELETE FROM log.events",
            "TRUNCATE log.events",
            "ALTER TABLE log.events DISABLE TRIGGER ALL",
            "DROP FUNCTION log.refuse_change() CASCADE",
            "DROP TABLE log.events",
            "DELETE FROM log.endings",
            "CREATE TABLE log.mine ()",
            "CREATE TABLE public.mine ()",
            "CREATE SCHEMA mine",
            "CREATE ROLE mine",
            "UPDATE alembic_version SET version_num = 'x'",
            f"SET ROLE rosterlog_{MIGRATOR}",
        )
    ]
    + [
        (role, f"INSERT INTO log.events SELECT * FROM log.events{where}")
        for role in (PROJECTOR, READER)
        for where in ("", " LIMIT 0")
    ]
    + [(WRITER, f"SELECT * FROM roster.{table}") for table in READ_TABLES]
    + [(READER, f"DELETE FROM roster.{table}") for table in READ_TABLES]
    + [
        (WRITER, "UPDATE roster.checkpoint SET position = 0"),
        (READER, "UPDATE roster.checkpoint SET position = 0"),
        (READER, "DROP TABLE roster.class_members"),
        (READER, "UPDATE projections.rebuilds SET cancel_requested = true"),
        (READER, "CREATE TABLE roster_shadow.mine ()"),
    ],
)
def test_no_account_does_the_work_of_another(guarded: str, role: str, statement: str) -> None:
    with (
        psycopg.connect(as_role(guarded, role)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match=REFUSED),
    ):
        connection.execute(statement.encode())


def test_nobody_else_gets_in(guarded: str, server: EmbeddedPostgres) -> None:
    execute(server.conninfo("postgres"), "DROP ROLE IF EXISTS stranger")
    execute(server.conninfo("postgres"), "CREATE ROLE stranger LOGIN")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(make_conninfo(guarded, user="stranger"))


def test_other_databases_need_a_main_one() -> None:
    ended = rosterlog("serve", READ_DATABASE_URL="postgresql://replica/rosterlog")
    assert (ended.returncode, ended.stderr.strip()) == (
        1,
        "ROSTERLOG_READ_DATABASE_URL: needs ROSTERLOG_DATABASE_URL, too",
    )

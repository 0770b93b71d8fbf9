"""Every migration goes up and down, renders as SQL, and ends in the tables that the models describe."""

import subprocess
import sys
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import Connection
from sqlalchemy.exc import DBAPIError

from rosterlog.domain.roster import Roster
from rosterlog.migrations import commands
from rosterlog.projections.rebuild import loading, shadow
from rosterlog.projections.tables import SCHEMA, SHADOW, Table
from tests.conftest import by, execute
from tests.projections.catalog import definitions
from tests.projections.tables import GROUP

SCHEMAS = ("log", "roster", "roster_shadow", "projections", "public")
REVISIONS = [script.revision for script in ScriptDirectory(str(commands._HERE)).walk_revisions()][
    ::-1
]


def schemas(conninfo: str) -> dict[str, Any]:
    """Return everything there is in our schemas, but for Alembic's own table."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        there = {row[0] for row in connection.execute("SELECT nspname FROM pg_namespace")}
        labels = "SELECT typname, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid ORDER BY typname, enumsortorder"
        found: dict[str, Any] = {"enums": connection.execute(labels).fetchall()}
        for schema in SCHEMAS:
            if schema in there:
                kinds = definitions(connection, schema)
                found[schema] = {
                    kind: [row for row in rows if row[0] != "alembic_version"]
                    for kind, rows in kinds.items()
                }
        return found


def test_revisions_are_numbered_in_order_and_classes_are_the_fifth() -> None:
    assert [revision[:5] for revision in REVISIONS] == [
        f"{number:04}_" for number in range(1, len(REVISIONS) + 1)
    ]
    assert REVISIONS[4] == "0005_create_classes"
    assert commands.newest() == REVISIONS[-1]


def test_up_down_to_nothing_and_up_again(empty_database: str) -> None:
    nothing = schemas(empty_database)
    commands.upgrade(empty_database)
    everything = schemas(empty_database)
    assert commands.current(empty_database) == commands.newest()
    commands.downgrade(empty_database, "base")
    assert commands.current(empty_database) is None
    assert schemas(empty_database) == nothing
    commands.upgrade(empty_database)
    assert schemas(empty_database) == everything


def test_each_step_down_undoes_its_step_up(empty_database: str) -> None:
    before = {"base": schemas(empty_database)}
    for revision in REVISIONS:
        commands.upgrade(empty_database, revision)
        before[revision] = schemas(empty_database)
    for revision, below in list(zip(REVISIONS, ["base", *REVISIONS], strict=False))[::-1]:
        assert commands.current(empty_database) == revision
        commands.downgrade(empty_database, below)
        assert schemas(empty_database) == before[below], revision
        commands.upgrade(empty_database, revision)
        assert schemas(empty_database) == before[revision], revision
        commands.downgrade(empty_database, below)


def test_upgrading_what_is_up_to_date_changes_nothing(database: str) -> None:
    before = schemas(database)
    commands.upgrade(database)
    assert schemas(database) == before


def test_the_log_is_not_dropped_while_it_holds_events(
    roster: Roster, database: str, connection: Connection[Any]
) -> None:
    roster.create_group(GROUP, "North", by())
    with pytest.raises(DBAPIError, match="refusing to drop it"):
        commands.downgrade(database, "base")
    assert commands.current(database) == commands.newest()
    assert connection.execute("SELECT notification_id FROM log.events").fetchall() == [(1,)]
    assert connection.execute("SELECT FROM roster.groups").fetchall() == []


def test_the_read_tables_can_go_down_and_up_while_the_log_holds_events(
    roster: Roster, database: str, connection: Connection[Any]
) -> None:
    roster.create_group(GROUP, "North", by())
    commands.downgrade(database, REVISIONS[0])
    commands.upgrade(database)
    assert connection.execute("SELECT notification_id FROM log.events").fetchall() == [(1,)]


def test_what_a_crashed_rebuild_left_is_not_in_the_way_of_going_down(
    database: str, connection: Connection[Any]
) -> None:
    shadow.create(connection)
    commands.downgrade(database, "base")
    assert commands.current(database) is None


def test_models_and_migrations_are_equal(database: str) -> None:
    def ours(name: str | None, kind: str, parents: Any) -> bool:
        return kind != "schema" or name == SCHEMA

    options = {
        "include_schemas": True,
        "include_name": ours,
        "compare_type": True,
        "compare_server_default": True,
    }
    # Types are reflected with their schema only where the search path does not lead to it.
    conninfo = psycopg.conninfo.make_conninfo(database, options="-c search_path=pg_catalog")
    with commands.engine(conninfo).connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Table.metadata) == []


def test_shadow_tables_are_made_as_the_migrations_make_the_read_tables(
    database: str, connection: Connection[Any]
) -> None:
    migrated = definitions(connection, SCHEMA)
    shadow.create(connection)
    loading.finish(connection, SHADOW)
    shadow.complete(connection)
    assert definitions(connection, SHADOW) == migrated
    assert all(migrated[kind] for kind in ("columns", "constraints", "indexes"))


def test_the_rendered_sql_makes_the_same_schema(database: str, empty_database: str) -> None:
    execute(empty_database, commands.render("base:head"))
    assert schemas(empty_database) == schemas(database)
    assert commands.current(empty_database) == commands.newest()


def test_the_rendered_sql_of_going_down_takes_everything_away(empty_database: str) -> None:
    nothing = schemas(empty_database)
    commands.upgrade(empty_database)
    execute(empty_database, commands.render("head:base", down=True))
    assert schemas(empty_database) == nothing


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_single_migration_renders(revision: str) -> None:
    below = ["base", *REVISIONS][REVISIONS.index(revision)]
    assert revision in commands.render(f"{below}:{revision}")
    assert f"downgrade {revision}" in commands.render(f"{revision}:{below}", down=True)


def test_processes_that_upgrade_at_once_wait_for_each_other(
    database: str, empty_database: str
) -> None:
    program = "import sys; from migrations import commands; commands.upgrade(sys.argv[1])"
    upgrades = [subprocess.Popen([sys.executable, "-c", program, empty_database]) for _ in range(3)]
    assert [upgrade.wait() for upgrade in upgrades] == [0, 0, 0]
    assert schemas(empty_database) == schemas(database)


def test_the_schema_is_the_same_on_a_database_with_another_search_path(
    database: str, empty_database: str
) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA elsewhere")
    conninfo = psycopg.conninfo.make_conninfo(
        empty_database, options="-c search_path=elsewhere,public"
    )
    commands.upgrade(conninfo)
    assert schemas(empty_database) == schemas(database)

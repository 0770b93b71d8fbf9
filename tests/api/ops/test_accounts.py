"""Every command works over the accounts that the documentation names.

And as a plain owner of the database.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rosterlog.api.ops import roles
from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.migrations import commands
from tests.api.processes import rosterlog, succeeds
from tests.conftest import execute, fresh_database

CLASS = UUID("22222222-2222-4222-8222-222222222222")
Given = Mapping[str, str]


def made_owner(server: EmbeddedPostgres, *attributes: str) -> str:
    name = f"owner_{uuid4().hex[:8]}"
    execute(
        server.conninfo("postgres"), f"CREATE ROLE {name} LOGIN NOSUPERUSER {' '.join(attributes)}"
    )
    return name


def drop(server: EmbeddedPostgres, *names: str) -> None:
    for name in names:
        execute(server.conninfo("postgres"), f"DROP ROLE IF EXISTS {name}")


def given_to(database: str, owner: str) -> str:
    """Make an empty database the account's, and return how to connect as it."""
    execute(database, f"ALTER DATABASE {conninfo_to_dict(database)['dbname']} OWNER TO {owner}")
    return make_conninfo(database, user=owner)


def divided(database: str, prefix: str) -> Given:
    """Return the settings of a service with an account for each kind of work.

    They are those of docs/operations.md.
    """
    urls = {
        "DATABASE_URL": roles.READER,
        "WRITE_DATABASE_URL": roles.WRITER,
        "PROJECT_DATABASE_URL": roles.PROJECTOR,
    }
    return {name: make_conninfo(database, user=f"{prefix}_{kind}") for name, kind in urls.items()}


@pytest.fixture(
    scope="module", params=["a plain owner", "four accounts", "four accounts made by a plain owner"]
)
def settings(request: pytest.FixtureRequest, server: EmbeddedPostgres) -> Iterator[Given]:
    prefix = f"p{uuid4().hex[:8]}"
    owner = made_owner(server, "CREATEROLE" if request.param.endswith("by a plain owner") else "")
    with fresh_database(server, "template1") as database:
        url = given_to(database, owner)
        succeeds("migrate", DATABASE_URL=url)
        if request.param == "four accounts":
            succeeds("roles", "--apply", "--prefix", prefix, DATABASE_URL=database)
        elif request.param != "a plain owner":
            succeeds("roles", "--apply", "--prefix", prefix, DATABASE_URL=url)
        yield (
            {"DATABASE_URL": url} if request.param == "a plain owner" else divided(database, prefix)
        )
    drop(server, *roles.names(prefix), owner)


def test_every_command_works(settings: Given, tmp_path: Path) -> None:
    assert "is loaded" in succeeds("demo", **settings)
    users, enrolments, roster = (
        tmp_path / name for name in ("users.csv", "enrolments.csv", "roster.csv")
    )
    users.write_text(f"id\n{CLASS}\n")
    assert "registered 1" in succeeds("register", str(users), **settings)
    succeeds("project", "--help", **settings)
    class_id = next(row for row in _classes(settings))
    enrolments.write_text(f"class_id,user_id,role\n{class_id},{CLASS},teacher\n")
    assert "enrolled 1" in succeeds("enrol", str(enrolments), **settings)
    roster.write_text(f"user_id,role\n{CLASS},teacher\n")
    assert "would be enrolled 0" in succeeds(
        "roster", str(class_id), str(roster), "--dry-run", "--allow", **settings
    )
    skip = rosterlog("project", "--skip", "1", "--reason", "a test", **settings)
    assert (skip.returncode, skip.stderr.strip()) == (
        1,
        "rosterlog: Position 1 can't be skipped: no event fails.",
    )
    unskip = rosterlog("project", "--unskip", "1", **settings)
    assert (unskip.returncode, unskip.stderr.strip()) == (
        1,
        "rosterlog: Position 1 is not skipped.",
    )
    assert "rebuild done" in succeeds("rebuild", **settings)
    assert "the read tables say what the log says" in succeeds("verify", **settings)
    assert "head_position" in succeeds("status", "--json", **settings)
    assert "nothing to do" in succeeds("migrate", "--sql", **settings)
    assert "DROP TABLE log.events" in succeeds(
        "migrate", "--sql", "--down", "--to", "base", **settings
    )
    assert commands.newest() in succeeds("migrate", **settings)


def _classes(settings: Given) -> list[UUID]:
    with psycopg.connect(settings["DATABASE_URL"]) as connection:
        return [
            row[0]
            for row in connection.execute(
                "SELECT DISTINCT class_id FROM log.events WHERE topic = 'ClassCreated' LIMIT 1"
            )
        ]


@pytest.mark.parametrize(
    "command",
    [
        ("rebuild",),
        ("demo",),
        ("register", "/dev/null"),
        ("roles", "--apply"),
        ("migrate", "--down", "--to", "base"),
    ],
)
def test_a_command_over_an_account_that_may_not_says_where_to_look(
    server: EmbeddedPostgres, command: tuple[str, ...], tmp_path: Path
) -> None:
    prefix = f"p{uuid4().hex[:8]}"
    with fresh_database(server, "template_rosterlog") as database:
        succeeds("roles", "--apply", "--prefix", prefix, DATABASE_URL=database)
        users = tmp_path / "users.csv"
        users.write_text(f"id\n{CLASS}\n")
        arguments = [str(users) if part == "/dev/null" else part for part in command]
        ended = rosterlog(*arguments, DATABASE_URL=divided(database, prefix)["DATABASE_URL"])
        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr
        assert any(
            said in ended.stderr
            for said in (
                "docs/operations.md",
                "A superuser has to run this first",
                "as the migrator",
            )
        ), ended.stderr
    drop(server, *roles.names(prefix))


def test_an_owner_who_may_not_make_accounts_is_told_what_a_superuser_has_to_run(
    server: EmbeddedPostgres,
) -> None:
    prefix, owner = f"p{uuid4().hex[:8]}", made_owner(server)
    with fresh_database(server, "template1") as database:
        url = given_to(database, owner)
        succeeds("migrate", DATABASE_URL=url)
        refused = rosterlog("roles", "--apply", "--prefix", prefix, DATABASE_URL=url)
        assert refused.returncode == 1
        said = f"ALTER ROLE {owner} CREATEROLE;"
        assert said in refused.stderr
        execute(database, said)
        for _ in range(2):
            succeeds("roles", "--apply", "--prefix", prefix, DATABASE_URL=url)
        # The next migration, by the migrator, and what follows it.
        succeeds(
            "migrate",
            "--down",
            "--to",
            "0005_create_classes",
            DATABASE_URL=make_conninfo(database, user=f"{prefix}_migrator"),
        )
        succeeds("migrate", DATABASE_URL=make_conninfo(database, user=f"{prefix}_migrator"))
        succeeds("roles", "--apply", "--prefix", prefix, DATABASE_URL=url)
        assert "rebuild done" in succeeds("rebuild", **divided(database, prefix))
    drop(server, *roles.names(prefix), owner)


def test_two_databases_of_two_owners_live_on_one_server(server: EmbeddedPostgres) -> None:
    prefixes = [f"p{uuid4().hex[:8]}" for _ in range(2)]
    owners = [made_owner(server, "CREATEROLE") for _ in range(2)]
    with (
        fresh_database(server, "template1") as first,
        fresh_database(server, "template1") as second,
    ):
        urls = [
            given_to(database, owner)
            for database, owner in zip((first, second), owners, strict=True)
        ]
        for url, prefix in zip(urls, prefixes, strict=True):
            succeeds("migrate", DATABASE_URL=url)
            succeeds("roles", "--apply", "--prefix", prefix, DATABASE_URL=url)
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(make_conninfo(second, user=f"{prefixes[0]}_reader"))
        for database, prefix in zip((first, second), prefixes, strict=True):
            assert "head_position" in succeeds("status", **divided(database, prefix))
    drop(server, *roles.names(prefixes[0]), *roles.names(prefixes[1]), *owners)


@pytest.mark.parametrize(
    "prefix",
    ["", "1st", "Caps", "with space", "semi;colon", "quo'te", "x" * 51, "dash-ed", "ümlaut"],
)
def test_a_prefix_that_would_need_quotes_is_refused(prefix: str) -> None:
    ended = rosterlog("roles", "--prefix", prefix)
    assert (ended.returncode, ended.stdout) == (2, "")


def test_another_programs_database_is_refused_by_name(
    server: EmbeddedPostgres, empty_database: str
) -> None:
    execute(
        empty_database,
        "CREATE TABLE public.alembic_version (version_num text); "
        "INSERT INTO alembic_version VALUES ('1a2b3c')",
    )
    for command in ("migrate", "status", "demo", "rebuild"):
        ended = rosterlog(command, DATABASE_URL=empty_database)
        assert (ended.returncode, ended.stdout) == (1, ""), command
        assert "the database is another program's" in ended.stderr


def test_names_that_another_program_took_are_said(empty_database: str) -> None:
    execute(empty_database, "CREATE SCHEMA log")
    ended = rosterlog("migrate", DATABASE_URL=empty_database)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert (
        'it holds something that Rosterlog did not make (schema "log" already exists)'
        in ended.stderr
    )


def test_sql_is_printed_from_where_the_database_is(empty_database: str) -> None:
    everything = succeeds("migrate", "--sql", DATABASE_URL=empty_database)
    assert everything == succeeds("migrate", "--sql", "--from", "base")
    commands.upgrade(empty_database, "0005_create_classes")
    shown = succeeds("migrate", "--sql", DATABASE_URL=empty_database)
    assert "CREATE TABLE roster.classes" not in shown
    assert "CREATE TABLE log.idempotency_keys" in shown
    back = succeeds(
        "migrate", "--sql", "--down", "--to", "0004_create_users", DATABASE_URL=empty_database
    )
    assert "DROP TABLE roster.classes" in back
    assert "log.idempotency_keys" not in back
    assert commands.current(empty_database) == "0005_create_classes"
    execute(empty_database, shown)
    assert commands.current(empty_database) == commands.newest()
    assert "nothing to do" in succeeds("migrate", "--sql", DATABASE_URL=empty_database)
    assert succeeds("migrate", "--sql", "--from", "base", DATABASE_URL=empty_database) == everything


@pytest.mark.parametrize(
    "arguments",
    [
        ("--sql", "--from", "nowhere"),
        ("--sql", "--to", "nowhere"),
        ("--sql", "--from", "0009_create_history_indexes", "--to", "0004_create_users"),
        ("--sql", "--down", "--from", "0004_create_users", "--to", "0005_create_classes"),
    ],
)
def test_a_way_that_there_is_not_is_said(arguments: tuple[str, ...]) -> None:
    ended = rosterlog("migrate", *arguments)
    assert ended.returncode == 1, ended.stdout
    assert ended.stderr
    assert "Traceback" not in ended.stderr

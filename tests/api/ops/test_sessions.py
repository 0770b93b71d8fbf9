"""No setting of others changes an answer.

Others are a server, a database, an account, a connection string and the environment.
"""

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.domain.log import sessions
from rosterlog.migrations import commands
from rosterlog.projections.rebuild import record as rebuild_record
from rosterlog.projections.verify.log_check import verify_log
from rosterlog.projections.verify.tables_check import verify_tables
from tests.api import settings
from tests.api.client import Api, done, position
from tests.api.conftest import serving
from tests.api.processes import rosterlog, succeeds
from tests.conftest import execute, fresh_database
from tests.domain.threads import eventually

KINDS = {
    "operating": sessions.OPERATING,
    "reading": sessions.READING,
    "appending": sessions.APPENDING,
    "loading": sessions.LOADING,
    "projecting": sessions.PROJECTING,
}
GROUP, OTHER_GROUP, CLASS, OTHER_CLASS = (str(UUID(int=number)) for number in range(1, 5))
USERS = [str(UUID(int=number)) for number in range(11, 16)]
ODD = {
    "path": r"C:\new",
    "quote": 'it\'s "so"',
    "text": "Größe 🎓 é",
    "list": [None, "NULL", "", 0.1, 1e-7, 9007199254740991, -0.5],
    "on": True,
}

# Times, request ids and digests are a run's own. A time in another form than ours stays, and
# differs.
OWN = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"
    r"|[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{64}"
)


@pytest.fixture(scope="module")
def owner(server: EmbeddedPostgres) -> Iterator[str]:
    """Make an account that owns databases and is nothing else."""
    name = f"owner_{uuid4().hex[:8]}"
    execute(server.conninfo("postgres"), f"CREATE ROLE {name} LOGIN NOSUPERUSER")
    yield name
    execute(server.conninfo("postgres"), f"DROP ROLE {name}")


@pytest.fixture(scope="module")
def template(server: EmbeddedPostgres, owner: str) -> Iterator[str]:
    """Make a database that the plain account owns and migrated, to be copied."""
    name = f"template_{owner}"
    execute(server.conninfo("postgres"), f"CREATE DATABASE {name} OWNER {owner}")
    commands.upgrade(make_conninfo(server.conninfo(name), user=owner))
    execute(server.conninfo(name), settings.HOSTILE_SCHEMA)
    yield name
    execute(server.conninfo("postgres"), f"DROP DATABASE {name}")


@pytest.fixture
def owned(server: EmbeddedPostgres, owner: str, template: str) -> Iterator[str]:
    with fresh_database(server, template) as database:
        execute(database, f"ALTER DATABASE {conninfo_to_dict(database)['dbname']} OWNER TO {owner}")
        yield make_conninfo(database, user=owner)


@pytest.fixture(scope="module")
def usual(server: EmbeddedPostgres, owner: str, template: str) -> list[str]:
    """Return the answers where nobody set anything."""
    with fresh_database(server, template) as database:
        execute(database, f"ALTER DATABASE {conninfo_to_dict(database)['dbname']} OWNER TO {owner}")
        return answers(make_conninfo(database, user=owner))


def answers(database: str) -> list[str]:
    """Record and read a bit of everything, and return all that was answered."""
    with serving(database) as api:
        said = [*recorded(api), *read(api)]
    with sessions.connect(database) as connection:
        verify_log(connection)
        assert rebuild_record.state(connection).differing == 0
    assert list(verify_tables(database)) == []
    return [OWN.sub("OWN", one) for one in said]


def recorded(api: Api) -> Iterator[str]:
    def give(method: str, path: str, status: int, body: Any = None, **headers: str) -> str:
        answer = done(api.request(method, path, json=body, headers=headers), status)
        return f"{method} {path}: {answer.headers.get('etag')} {position(answer)} {answer.text}"

    for group in (GROUP, OTHER_GROUP):
        yield give(
            "POST",
            "/v1/groups",
            201,
            {"id": group, "name": f"Größe {group[-1]} \\ 'x'"},
            **{"Roster-Reason": "Z%C3%BCge"},
        )
    yield give("POST", "/v1/users/batch", 200, {"items": [{"id": user} for user in USERS]})
    for class_id, group in ((CLASS, GROUP), (OTHER_CLASS, OTHER_GROUP)):
        yield give(
            "POST",
            "/v1/classes",
            201,
            {"id": class_id, "group_id": group, "name": "Maß 7ü", "settings": ODD},
        )
    for day, user in enumerate(USERS, start=1):
        body = {
            "user_id": user,
            "role": "teacher" if day == 1 else "student",
            "effective_on": f"2026-02-0{day}",
        }
        yield give("POST", f"/v1/classes/{CLASS}/members", 201, body)
    many = {
        "items": [
            {
                "class_id": OTHER_CLASS,
                "user_id": user,
                "role": "student",
                "effective_on": "2026-11-10",
            }
            for user in USERS
        ]
    }
    for _ in range(2):
        yield give(
            "POST", "/v1/enrolments", 200, many, **{"Idempotency-Key": "schlüssel".encode().hex()}
        )
    yield give(
        "PATCH",
        f"/v1/classes/{CLASS}/members/{USERS[1]}",
        200,
        {"role": "teacher", "effective_on": "2026-05-06"},
    )
    yield give("DELETE", f"/v1/classes/{CLASS}/members/{USERS[2]}?effective_on=2026-06-05", 204)
    yield give("PATCH", f"/v1/classes/{CLASS}", 200, {"settings": {**ODD, "more": ODD}})
    yield give("DELETE", f"/v1/users/{USERS[3]}", 204)
    yield give("POST", f"/v1/classes/{CLASS}/archive", 200)
    yield give("DELETE", f"/v1/groups/{OTHER_GROUP}", 204)


def read(api: Api) -> Iterator[str]:
    head = api.log_head
    done(api.post("/v1/projections/rebuild"), 202)
    rebuilt = eventually(
        lambda: (state := api.read("/v1/projections/rebuild"))["state"] != "running" and state
    )
    assert rebuilt["state"] == "done", rebuilt
    eventually(lambda: api.read("/v1/projections")["state"] == "following")
    there = api.read(f"/v1/groups/{GROUP}", at_position=1)["created_at"]
    for path in (
        "/v1/groups",
        "/v1/users",
        "/v1/classes?archived=true",
        f"/v1/classes/{CLASS}",
        f"/v1/classes/{CLASS}/members",
        f"/v1/classes/{OTHER_CLASS}/members?at_position={head - 1}",
        f"/v1/classes/{CLASS}/members?at_position=9",
        f"/v1/users/{USERS[1]}/memberships",
        f"/v1/classes/{CLASS}/history",
        f"/v1/users/{USERS[3]}/history",
        f"/v1/groups/{OTHER_GROUP}/history",
        "/v1/history?limit=1000",
        "/v1/history?actor=local&order=desc&type=MemberEnrolled",
        f"/v1/classes/{CLASS}/diff?from_position=5&to_position={head}",
        f"/v1/groups/{OTHER_GROUP}/diff?from_position=0&to_position={head - 1}",
        "/v1/events?after=0&limit=1000",
    ):
        yield f"{path}: {done(api.get(path), 200).text}"
    yield done(api.get(f"/v1/groups/{GROUP}", params={"as_of": there}), 200).text
    for media in ("text/csv", "application/x-ndjson"):
        for path in (f"/v1/groups/{GROUP}/rosters", "/v1/history"):
            yield done(api.get(path, headers={"Accept": media}), 200).text


def give(server: EmbeddedPostgres, database: str, whom: str, given: dict[str, str]) -> None:
    """Set values for a database, or for an account there, as a superuser."""
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        for name, value in given.items():
            if whom == "database":
                of = sql.SQL("DATABASE {}").format(sql.Identifier(database))
            else:
                of = sql.SQL("ROLE {} IN DATABASE {}").format(
                    sql.Identifier(whom), sql.Identifier(database)
                )
            # A list of names is no text.
            shown = sql.SQL(value) if name == "search_path" and value else sql.Literal(value)
            connection.execute(
                sql.SQL("ALTER {} SET {} TO {}").format(of, sql.Identifier(name), shown)
            )


@pytest.mark.parametrize("number", range(settings.ROUNDS))
def test_no_setting_of_a_database_or_an_account_changes_an_answer(
    server: EmbeddedPostgres, owner: str, owned: str, usual: list[str], number: int
) -> None:
    with psycopg.connect(owned) as connection:
        given = settings.round_of(settings.values(connection), number)
    give(server, str(conninfo_to_dict(owned)["dbname"]), owner if number % 2 else "database", given)
    assert answers(owned) == usual, given


def test_nothing_in_the_environment_changes_an_answer(
    owned: str, usual: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGDATESTYLE", "German, DMY")
    monkeypatch.setenv("PGTZ", "Asia/Kathmandu")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=1 -c IntervalStyle=iso_8601")
    assert answers(owned) == usual


def test_no_connection_string_changes_an_answer(owned: str, usual: list[str]) -> None:
    hostile = (
        "-c search_path=hostile,pg_catalog -c default_transaction_read_only=on "
        "-c bytea_output=escape -c statement_timeout=1"
    )
    assert answers(make_conninfo(owned, options=hostile, client_encoding="SQL_ASCII")) == usual


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_session_reads_values_alike_and_has_its_own_time_outs(
    kind: str, database: str
) -> None:
    hostile = make_conninfo(
        database,
        options=(
            "-c search_path=public -c TimeZone=Asia/Kathmandu -c lock_timeout=1 "
            "-c idle_session_timeout=1"
        ),
    )
    with sessions.connect(hostile, KINDS[kind]) as connection:
        shown = {
            name: connection.execute(f"SHOW {name}").fetchone()
            for name in ("search_path", "TimeZone", "DateStyle")
        }
        assert shown == {
            "search_path": ("pg_catalog,pg_temp",),
            "TimeZone": ("UTC",),
            "DateStyle": ("ISO, YMD",),
        }
        for name in (
            "statement_timeout",
            "lock_timeout",
            "idle_in_transaction_session_timeout",
            "jit",
        ):
            if name in KINDS[kind].settings:
                assert connection.execute(f"SHOW {name}").fetchone() == (
                    KINDS[kind].settings[name],
                )
        assert connection.execute("SHOW idle_session_timeout").fetchone() == ("0",)
        assert connection.autocommit


def test_an_operators_own_options_are_kept_where_no_answer_relies_on_them(database: str) -> None:
    with sessions.connect(
        make_conninfo(database, options="-c role=pg_monitor -c work_mem=5MB")
    ) as connection:
        assert connection.execute(
            "SELECT current_user, current_setting('work_mem')"
        ).fetchone() == ("pg_monitor", "5MB")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("off", "on"),
        ("local", "on"),
        ("remote_write", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ],
)
def test_what_is_acknowledged_is_on_disk_whatever_the_setting(
    database: str, given: str, kept: str
) -> None:
    for kind in KINDS.values():
        with sessions.connect(
            make_conninfo(database, options=f"-c synchronous_commit={given}"), kind
        ) as connection:
            assert connection.execute("SHOW synchronous_commit").fetchone() == (kept,)


@pytest.mark.parametrize("role", ["replica", "local"])
def test_no_session_goes_without_foreign_keys(
    server: EmbeddedPostgres, owned: str, role: str
) -> None:
    name = str(conninfo_to_dict(owned)["dbname"])
    give(server, name, "database", {"session_replication_role": role})
    with sessions.connect(server.conninfo(name)) as connection:
        assert connection.execute("SHOW session_replication_role").fetchone() == ("origin",)
    ended = rosterlog("status", DATABASE_URL=owned)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "RESET session_replication_role" in ended.stderr


def test_a_session_that_begins_transactions_keeps_what_was_set_when_one_is_undone(
    database: str,
) -> None:
    with sessions.connect(
        make_conninfo(database, options="-c DateStyle=German"), autocommit=False
    ) as connection:
        connection.rollback()
        assert connection.execute("SHOW DateStyle").fetchone() == ("ISO, YMD",)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
@pytest.mark.parametrize("command", ["migrate", "status"])
def test_a_database_that_is_not_in_utf8_is_refused(
    server: EmbeddedPostgres, encoding: str, command: str
) -> None:
    name = f"test_{uuid4().hex}"
    execute(
        server.conninfo("postgres"),
        f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'",
    )
    try:
        ended = rosterlog(command, DATABASE_URL=server.conninfo(name))
        assert (ended.returncode, ended.stdout) == (1, "")
        assert f"the database's encoding is {encoding}" in ended.stderr
        assert "ENCODING 'UTF8'" in ended.stderr
    finally:
        execute(server.conninfo("postgres"), f"DROP DATABASE {name}")


def test_the_command_line_works_on_a_hostile_database(
    server: EmbeddedPostgres, owner: str, owned: str
) -> None:
    hostile = {
        "DateStyle": "German, DMY",
        "client_encoding": "LATIN1",
        "search_path": "hostile, pg_catalog",
        "statement_timeout": "1",
        "default_transaction_read_only": "on",
    }
    give(server, str(conninfo_to_dict(owned)["dbname"]), owner, hostile)
    succeeds("migrate", DATABASE_URL=owned)
    succeeds("demo", DATABASE_URL=owned)
    succeeds("rebuild", DATABASE_URL=owned)
    assert "the read tables say what the log says" in succeeds("verify", DATABASE_URL=owned)
    assert "migrations" in succeeds("status", DATABASE_URL=owned)

"""Rows that were altered by hand are found and named."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection

from rosterlog.domain.roster import Roster
from rosterlog.projections.rebuild import rebuilding as rebuild
from rosterlog.projections.rebuild import shadow
from rosterlog.projections.rebuild.comparison import Difference
from rosterlog.projections.rebuild.rebuilding import Rebuild
from rosterlog.projections.rebuild.shadow import ShadowInUse
from rosterlog.projections.tables import SHADOW
from rosterlog.projections.verify import tables_check as verifying
from rosterlog.projections.verify.tables_check import verify_tables
from tests.conftest import by
from tests.domain.threads import eventually
from tests.projections.tables import (
    CLASS,
    GROUP,
    USER,
    checkpoint,
    project_all,
    record_everything,
    rows,
)


@pytest.fixture
def head(roster: Roster, connection: Connection[Any]) -> int:
    head = record_everything(roster)
    project_all(connection)
    return head


def test_tables_as_projected_verify_and_nothing_stays_behind(
    head: int, connection: Connection[Any], database: str
) -> None:
    before = rows(connection)
    assert list(verify_tables(database)) == []
    assert rows(connection) == before
    assert (
        connection.execute(
            "SELECT FROM pg_class WHERE relnamespace = %s::regnamespace", [SHADOW]
        ).fetchall()
        == []
    )
    assert connection.execute("SELECT FROM projections.rebuilds").fetchall() == []
    eventually(
        lambda: (
            connection.execute(f"SELECT pg_try_advisory_lock({shadow.REBUILD_LOCK})").fetchone()
            == (True,)
        )
    )


def test_tables_that_lag_behind_the_log_are_no_difference(
    head: int, roster: Roster, connection: Connection[Any], database: str
) -> None:
    roster.rename_group(GROUP, "East", by())
    assert list(verify_tables(database)) == []
    assert checkpoint(connection) == head


def test_a_changed_a_missing_and_an_extra_row_are_found_in_every_table(
    head: int, connection: Connection[Any], database: str
) -> None:
    before = rows(connection)
    connection.execute("UPDATE roster.groups SET name = 'Damaged' WHERE id = %s", [GROUP])
    connection.execute(
        "DELETE FROM roster.class_members WHERE class_id = %s AND user_id = %s", [CLASS, USER]
    )
    extra = uuid4()
    connection.execute(
        "INSERT INTO roster.users (id, created_at, version) VALUES (%s, now(), 1)", [extra]
    )
    connection.execute(
        "UPDATE roster.classes SET settings = settings || '{\"x\": 1}' WHERE id = %s", [CLASS]
    )
    found = {difference.table: difference for difference in verify_tables(database)}
    assert set(found) == {"groups", "users", "classes", "class_members"}
    assert found["groups"].found is not None
    assert "Damaged" in found["groups"].found
    assert found["groups"].expected in before["groups"]
    missing = found["class_members"]
    assert missing == Difference("class_members", None, missing.expected)
    assert missing.expected in before["class_members"]
    assert found["users"].expected is None
    assert str(extra) in str(found["users"].found)
    assert found["classes"].expected in before["classes"]


def test_what_has_the_same_value_in_other_bytes_is_a_difference(
    head: int, connection: Connection[Any], database: str
) -> None:
    changed = connection.execute(
        "UPDATE roster.classes SET settings = jsonb_set(settings, '{ratio}', '0.10') WHERE settings ->> 'ratio' = '0.1'"
    )
    assert changed.rowcount
    assert "0.10" in str(next(verify_tables(database)).found)


def test_no_more_differences_are_named_than_asked_for(
    head: int, connection: Connection[Any], database: str
) -> None:
    for _ in range(5):
        connection.execute(
            "INSERT INTO roster.users (id, created_at, version) VALUES (gen_random_uuid(), now(), 1)"
        )
    assert len(list(verify_tables(database, most=3))) == 3


def test_tables_cannot_be_verified_while_a_rebuild_runs(head: int, database: str) -> None:
    running = Rebuild(database)
    with pytest.raises(ShadowInUse):
        list(verify_tables(database))
    running.run()


def test_verifying_tables_waits_for_nobody_and_nobody_for_it(
    head: int,
    roster: Roster,
    connection: Connection[Any],
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verifying, "BATCH", 10)
    seen = list[int]()

    def meanwhile(done: int, _: int) -> None:
        seen.append(done)
        roster.register_user(uuid4(), by())
        with psycopg.connect(database, autocommit=True) as projector:
            projector.execute("SET lock_timeout = '5s'")
            project_all(projector)

    assert list(verify_tables(database, meanwhile)) == []
    assert seen[-1] == head
    assert checkpoint(connection) == head + len(seen)
    assert rebuild.state(connection) == rebuild.IDLE

"""Whatever is altered around the database's refusals is found, in the log and in the read tables."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection

from domain import digest
from domain.event_codec import EventCodec
from domain.roster import Roster
from projections import rebuild, shadow, verify
from projections.rebuild import Rebuild
from projections.shadow import ShadowInUse
from projections.tables import SHADOW
from projections.verify import Difference, LogAltered, verify_log, verify_tables
from tests.conftest import by
from tests.domain.threads import eventually
from tests.projections.forging import append_unknown, insert_event
from tests.projections.tables import CLASS, GROUP, USER, checkpoint, project_all, record_everything, rows


@pytest.fixture
def head(roster: Roster, connection: Connection[Any]) -> int:
    head = record_everything(roster)
    project_all(connection)
    return head


def forge(connection: Connection[Any], *statements: str) -> None:
    connection.execute("ALTER TABLE log.events DISABLE TRIGGER ALL")
    for statement in statements:
        connection.execute(statement)
    connection.execute("ALTER TABLE log.events ENABLE ALWAYS TRIGGER events_append_only")


def first_bad(connection: Connection[Any]) -> int:
    with pytest.raises(LogAltered) as altered:
        verify_log(connection)
    assert str(altered.value).startswith(f"Position {altered.value.position}: ")
    return altered.value.position


def test_an_untouched_log_verifies_to_its_head(head: int, connection: Connection[Any]) -> None:
    row = connection.execute("SELECT digest FROM log.events WHERE notification_id = %s", [head]).fetchone()
    verified = verify_log(connection)
    assert row is not None
    assert (verified.position, verified.digest) == (head, row[0])
    assert str(verified) == f"{head}:{row[0].hex()}"


def test_an_empty_log_verifies(connection: Connection[Any]) -> None:
    assert str(verify_log(connection)) == digest.written(0, digest.BEFORE_FIRST)


def test_progress_is_told(head: int, connection: Connection[Any]) -> None:
    seen = list[tuple[int, int]]()
    verify_log(connection, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (head, head)


@pytest.mark.parametrize(
    "change",
    [
        "state = convert_to(replace(convert_from(state, 'UTF8'), 'registrar', 'forger'), 'UTF8')",
        "state = state || ' '::bytea",
        "topic = 'ClassArchived'",
        "recorded_at = recorded_at + interval '1 microsecond'",
        "originator_id = gen_random_uuid()",
        "originator_version = 1000",
        "digest = sha256(digest)",
        "class_id = gen_random_uuid()",
        "user_id = gen_random_uuid()",
        "group_id = gen_random_uuid()",
        "previous_group_id = gen_random_uuid()",
        "actor = 'forger'",
        "source = 'forged'",
    ],
)
@pytest.mark.parametrize("position", [1, 12, -1])
def test_any_altered_column_of_any_event_is_found_where_it_is(head: int, connection: Connection[Any], change: str, position: int) -> None:
    position = position if position > 0 else head
    forge(connection, f"UPDATE log.events SET {change} WHERE notification_id = {position}")
    assert first_bad(connection) == position


def test_an_indexed_column_that_was_emptied_is_found(head: int, connection: Connection[Any]) -> None:
    row = connection.execute("SELECT max(notification_id) FROM log.events WHERE class_id IS NOT NULL").fetchone()
    assert row is not None
    forge(connection, f"UPDATE log.events SET group_id = NULL WHERE notification_id = {row[0]}")
    assert first_bad(connection) == row[0]


def test_a_removed_event_is_found_even_next_to_the_last(head: int, connection: Connection[Any]) -> None:
    forge(connection, f"DELETE FROM log.events WHERE notification_id = {head - 1}")
    assert first_bad(connection) == head - 1


def test_a_removed_event_is_found_when_the_others_close_ranks(head: int, connection: Connection[Any]) -> None:
    forge(
        connection,
        f"DELETE FROM log.events WHERE notification_id = {head - 1}",
        f"UPDATE log.events SET notification_id = {head - 1} WHERE notification_id = {head}",
    )
    assert first_bad(connection) == head - 1


def test_a_removed_last_event_is_found_when_it_was_projected(head: int, connection: Connection[Any]) -> None:
    forge(connection, f"DELETE FROM log.events WHERE notification_id = {head}")
    assert first_bad(connection) == head


def test_removing_last_events_not_yet_projected_shows_in_the_head_that_was_kept_elsewhere(
    head: int, roster: Roster, connection: Connection[Any]
) -> None:
    roster.register_user(uuid4(), by())
    kept = str(verify_log(connection))
    forge(connection, f"DELETE FROM log.events WHERE notification_id = {head + 1}")
    assert str(verify_log(connection)) != kept


def test_reordered_events_are_found(head: int, connection: Connection[Any]) -> None:
    forge(
        connection,
        "UPDATE log.events SET notification_id = -5 WHERE notification_id = 5",
        "UPDATE log.events SET notification_id = 5 WHERE notification_id = 6",
        "UPDATE log.events SET notification_id = 6 WHERE notification_id = -5",
    )
    assert first_bad(connection) == 5


def test_an_inserted_event_is_found(head: int, connection: Connection[Any]) -> None:
    columns = "originator_version, topic, state, recorded_at, digest, user_id, actor, source"
    forge(
        connection,
        f"INSERT INTO log.events (notification_id, originator_id, {columns}) "
        f"SELECT {head + 1}, gen_random_uuid(), {columns} FROM log.events WHERE notification_id = 4",
    )
    assert first_bad(connection) == head + 1


def test_an_event_that_cannot_be_read_is_found_even_with_a_right_digest(head: int, connection: Connection[Any]) -> None:
    assert append_unknown(connection) == head + 1
    assert first_bad(connection) == head + 1


def test_a_state_that_cannot_be_read_is_found_even_with_a_right_digest(head: int, connection: Connection[Any]) -> None:
    insert_event(connection, "UserRegistered", EventCodec(), b"{}")
    assert first_bad(connection) == head + 1


def test_tables_as_projected_verify_and_nothing_stays_behind(head: int, connection: Connection[Any], database: str) -> None:
    before = rows(connection)
    assert list(verify_tables(database)) == []
    assert rows(connection) == before
    assert connection.execute("SELECT FROM pg_class WHERE relnamespace = %s::regnamespace", [SHADOW]).fetchall() == []
    assert connection.execute("SELECT FROM projections.rebuilds").fetchall() == []
    eventually(lambda: connection.execute(f"SELECT pg_try_advisory_lock({shadow.REBUILD_LOCK})").fetchone() == (True,))


def test_tables_that_lag_behind_the_log_are_no_difference(head: int, roster: Roster, connection: Connection[Any], database: str) -> None:
    roster.rename_group(GROUP, "East", by())
    assert list(verify_tables(database)) == []
    assert checkpoint(connection) == head


def test_a_changed_a_missing_and_an_extra_row_are_found_in_every_table(head: int, connection: Connection[Any], database: str) -> None:
    before = rows(connection)
    connection.execute("UPDATE roster.groups SET name = 'Damaged' WHERE id = %s", [GROUP])
    connection.execute("DELETE FROM roster.class_members WHERE class_id = %s AND user_id = %s", [CLASS, USER])
    extra = uuid4()
    connection.execute("INSERT INTO roster.users (id, created_at, version) VALUES (%s, now(), 1)", [extra])
    connection.execute("UPDATE roster.classes SET settings = settings || '{\"x\": 1}' WHERE id = %s", [CLASS])
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


def test_no_more_differences_are_named_than_asked_for(head: int, connection: Connection[Any], database: str) -> None:
    for _ in range(5):
        connection.execute("INSERT INTO roster.users (id, created_at, version) VALUES (gen_random_uuid(), now(), 1)")
    assert len(list(verify_tables(database, most=3))) == 3


def test_tables_cannot_be_verified_while_a_rebuild_runs(head: int, database: str) -> None:
    running = Rebuild(database)
    with pytest.raises(ShadowInUse):
        list(verify_tables(database))
    running.run()


def test_verifying_tables_waits_for_nobody_and_nobody_for_it(
    head: int, roster: Roster, connection: Connection[Any], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "BATCH", 10)
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

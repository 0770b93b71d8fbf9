"""Whatever is altered in the log around the database's refusals is found."""

import subprocess
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection

from rosterlog.api.ops.embedded import Binaries
from rosterlog.domain.log import digest
from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from rosterlog.projections.verify import catalog, stretch
from rosterlog.projections.verify import log_check as verification
from rosterlog.projections.verify.catalog import CatalogAltered
from rosterlog.projections.verify.log_check import LogAltered, LogHead, verify_log
from tests.conftest import by
from tests.projections.forging import DECLARED, append_unknown, insert_event
from tests.projections.tables import GROUP, checkpoint, project_all, record_everything


@pytest.fixture
def head(roster: Roster, connection: Connection[Any]) -> int:
    head = record_everything(roster)
    project_all(connection)
    return head


def forge(connection: Connection[Any], *statements: str) -> None:
    connection.execute(DECLARED)
    connection.execute("ALTER TABLE log.events DISABLE TRIGGER ALL")
    for statement in statements:
        connection.execute(statement)
    connection.execute("ALTER TABLE log.events ENABLE TRIGGER ALL")
    connection.execute("ALTER TABLE log.events ENABLE ALWAYS TRIGGER events_append_only")


def first_bad(connection: Connection[Any]) -> int:
    with pytest.raises(LogAltered) as altered:
        verify_log(connection)
    assert str(altered.value).startswith(f"Position {altered.value.position}: ")
    return altered.value.position


def test_an_untouched_log_verifies_to_its_head(head: int, connection: Connection[Any]) -> None:
    row = connection.execute(
        "SELECT digest FROM log.events WHERE notification_id = %s", [head]
    ).fetchone()
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
def test_any_altered_column_of_any_event_is_found_where_it_is(
    head: int, connection: Connection[Any], change: str, position: int
) -> None:
    position = position if position > 0 else head
    forge(connection, f"UPDATE log.events SET {change} WHERE notification_id = {position}")
    assert first_bad(connection) == position


def test_an_indexed_column_that_was_emptied_is_found(
    head: int, connection: Connection[Any]
) -> None:
    row = connection.execute(
        "SELECT max(notification_id) FROM log.events WHERE class_id IS NOT NULL"
    ).fetchone()
    assert row is not None
    forge(connection, f"UPDATE log.events SET group_id = NULL WHERE notification_id = {row[0]}")
    assert first_bad(connection) == row[0]


def test_a_removed_event_is_found_even_next_to_the_last(
    head: int, connection: Connection[Any]
) -> None:
    forge(connection, f"DELETE FROM log.events WHERE notification_id = {head - 1}")
    assert first_bad(connection) == head - 1


def test_a_removed_event_is_found_when_the_others_close_ranks(
    head: int, connection: Connection[Any]
) -> None:
    forge(
        connection,
        f"DELETE FROM log.events WHERE notification_id = {head - 1}",
        f"UPDATE log.events SET notification_id = {head - 1} WHERE notification_id = {head}",
    )
    assert first_bad(connection) == head - 1


def test_a_removed_last_event_is_found_when_it_was_projected(
    head: int, connection: Connection[Any]
) -> None:
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


def test_an_event_that_cannot_be_read_is_found_even_with_a_right_digest(
    head: int, connection: Connection[Any]
) -> None:
    assert append_unknown(connection) == head + 1
    assert first_bad(connection) == head + 1


def test_a_state_that_cannot_be_read_is_found_even_with_a_right_digest(
    head: int, connection: Connection[Any]
) -> None:
    insert_event(connection, "UserRegistered", EventCodec(), b"{}")
    assert first_bad(connection) == head + 1


def test_the_first_of_several_altered_positions_is_named_wherever_the_stretches_end(
    head: int, connection: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for length in (1, 2, 3, 7, head - 1, head):
        monkeypatch.setattr(stretch, "LENGTH", length)
        assert verify_log(connection).position == head
    forge(connection, "UPDATE log.events SET actor = 'forger' WHERE notification_id IN (9, 14)")
    forge(
        connection, "UPDATE log.events SET state = state || ' '::bytea WHERE notification_id = 12"
    )
    for length in (1, 2, 3, 7, head):
        monkeypatch.setattr(stretch, "LENGTH", length)
        assert first_bad(connection) == 9


def test_several_processes_find_what_one_finds(
    head: int, connection: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "ALONE", 0)
    monkeypatch.setattr(stretch, "LENGTH", 7)
    assert verify_log(connection).position == head
    group = "(SELECT group_id FROM log.events WHERE notification_id = 1)"
    row = connection.execute(
        "SELECT max(notification_id) FROM log.events WHERE class_id IS NOT NULL"
    ).fetchone()
    assert row is not None
    forge(connection, f"UPDATE log.events SET group_id = {group} WHERE notification_id = {row[0]}")
    assert first_bad(connection) == row[0]


@pytest.mark.parametrize("position", [0, -1, -(2**63)])
def test_events_before_the_first_position_are_found(
    head: int, connection: Connection[Any], position: int
) -> None:
    columns = "originator_version, topic, state, recorded_at, digest, user_id, actor, source"
    connection.execute(DECLARED)
    connection.execute(
        f"INSERT INTO log.events (notification_id, originator_id, {columns}) "
        f"SELECT {position}, gen_random_uuid(), {columns} FROM log.events WHERE notification_id = 4"
    )
    assert first_bad(connection) == position
    forge(connection, "DELETE FROM log.events WHERE notification_id > 0")
    assert first_bad(connection) == position


@pytest.mark.parametrize(
    "hostile",
    [
        "CREATE FUNCTION public.convert_to(text, text) RETURNS bytea LANGUAGE sql AS $$ SELECT pg_catalog.convert_to('User', 'UTF8') $$",
        "CREATE FUNCTION public.convert_from(bytea, name) RETURNS text LANGUAGE sql AS $$ SELECT '{}'::text $$",
        "CREATE FUNCTION public.always(bytea, bytea) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;"
        "CREATE OPERATOR public.= (FUNCTION = public.always, LEFTARG = bytea, RIGHTARG = bytea)",
    ],
)
def test_an_altered_log_is_found_whatever_the_database_was_taught_to_answer(
    head: int,
    connection: Connection[Any],
    database: str,
    hostile: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection.execute(hostile.encode())
    name = connection.info.dbname
    connection.execute(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog'.encode())
    with psycopg.connect(database, autocommit=True) as again:
        with pytest.raises(CatalogAltered, match="object called as one of PostgreSQL's"):
            verify_log(again)
        monkeypatch.setattr(catalog, "refuse_altered", lambda _: None)
        assert verify_log(again).position == head
        forge(again, "UPDATE log.events SET topic = 'UserRegistered' WHERE notification_id = 12")
        assert first_bad(again) == 12


def test_a_chain_that_was_made_anew_shows_against_a_head_that_was_kept(
    head: int, roster: Roster, connection: Connection[Any]
) -> None:
    kept = verify_log(connection)
    roster.register_user(uuid4(), by())
    assert verify_log(connection, against=kept).position == head + 1
    assert verify_log(connection, against=LogHead.read(str(kept))).position == head + 1
    assert verify_log(connection, against=LogHead(0, digest.BEFORE_FIRST)).position == head + 1
    forge(
        connection,
        "UPDATE log.events SET recorded_at = recorded_at - interval '1 hour' WHERE notification_id = 1",
    )
    make_chain_anew(connection)
    assert verify_log(connection).position == head + 1
    with pytest.raises(LogAltered, match="another one than the one whose head was kept") as altered:
        verify_log(connection, against=kept)
    assert altered.value.position == head


def test_a_log_that_lost_its_end_shows_against_a_head_that_was_kept(
    head: int, roster: Roster, connection: Connection[Any]
) -> None:
    roster.register_user(uuid4(), by())
    kept = verify_log(connection)
    forge(connection, f"DELETE FROM log.events WHERE notification_id = {head + 1}")
    verify_log(connection)
    with pytest.raises(LogAltered, match=f"Position {head + 1}: the event is missing"):
        verify_log(connection, against=kept)


def make_chain_anew(connection: Connection[Any]) -> None:
    """Give every event the digest that it would have, as whoever may write into the database can."""
    columns = "notification_id, originator_id, originator_version, topic, recorded_at, state"
    previous = digest.BEFORE_FIRST
    for row in connection.execute(f"SELECT {columns} FROM log.events ORDER BY 1").fetchall():
        previous = digest.link(previous, *row)
        forge(
            connection,
            f"UPDATE log.events SET digest = '\\x{previous.hex()}' WHERE notification_id = {row[0]}",
        )


@pytest.mark.parametrize(
    "written",
    ["", "7", "7:", "7:ab", ":" + "00" * 32, "-1:" + "00" * 32, "7:" + "zz" * 32, "7:" + "00" * 33],
)
def test_what_is_no_head_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        LogHead.read(written)


@pytest.mark.parametrize(
    "forgery",
    [
        "DELETE FROM log.endings WHERE notification_id = {position}",
        "UPDATE log.endings SET role = 'teacher' WHERE notification_id = {position} AND role = 'student'",
        "UPDATE log.endings SET user_id = gen_random_uuid() WHERE notification_id = {position}",
        "UPDATE log.endings SET class_id = gen_random_uuid() WHERE notification_id = {position}",
        "UPDATE log.endings SET group_id = gen_random_uuid() WHERE notification_id = {position}",
        "UPDATE log.endings SET topic = 'Forged' WHERE notification_id = {position}",
        "INSERT INTO log.endings SELECT notification_id, topic, gen_random_uuid(), user_id, group_id, role "
        "FROM log.endings WHERE notification_id = {position} LIMIT 1",
    ],
)
def test_any_change_of_what_endings_ended_is_found(
    head: int, connection: Connection[Any], forgery: str
) -> None:
    row = connection.execute("SELECT min(notification_id) FROM log.endings").fetchone()
    assert row is not None
    forge_endings(connection, forgery.format(position=row[0]))
    assert first_bad(connection) == row[0]


def test_endings_of_no_event_are_found(head: int, connection: Connection[Any]) -> None:
    forge_endings(
        connection,
        f"INSERT INTO log.endings VALUES ({head + 5}, 'UserRemoved', gen_random_uuid(), NULL, gen_random_uuid(), NULL)",
    )
    assert first_bad(connection) == head + 5


def forge_endings(connection: Connection[Any], statement: str) -> None:
    connection.execute("ALTER TABLE log.endings DISABLE TRIGGER ALL")
    connection.execute(statement)
    connection.execute("ALTER TABLE log.endings ENABLE ALWAYS TRIGGER endings_append_only")


@pytest.mark.parametrize(
    "statement",
    ["UPDATE log.endings SET role = 'teacher'", "DELETE FROM log.endings", "TRUNCATE log.endings"],
)
def test_the_database_refuses_to_change_what_endings_ended(
    head: int, connection: Connection[Any], statement: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute(statement)


def test_a_log_that_was_restored_from_a_backup_verifies(
    head: int,
    database: str,
    connection: Connection[Any],
    empty_database: str,
    binaries: Binaries | None,
) -> None:
    kept = verify_log(connection)
    programs = binaries or Binaries.packaged()
    with psycopg.connect(empty_database, autocommit=True) as restored:
        dump = subprocess.run(
            [programs["pg_dump"], "--format=custom", database], capture_output=True, check=True
        )
        subprocess.run(
            [programs["pg_restore"], "--dbname", empty_database], input=dump.stdout, check=True
        )
        assert verify_log(restored, against=kept) == kept


def test_a_log_that_grows_and_is_projected_meanwhile_verifies(
    head: int, roster: Roster, connection: Connection[Any]
) -> None:
    def meanwhile(*_: int) -> None:
        user, class_id = uuid4(), uuid4()
        roster.register_user(user, by())
        roster.create_class(class_id, GROUP, "Art", {}, by())
        roster.enrol(class_id, user, Role.STUDENT, by())
        roster.remove_user(user, by())
        project_all(connection)

    assert verify_log(connection, meanwhile).position == head
    assert checkpoint(connection) > head

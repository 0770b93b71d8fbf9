"""What each event does to the read tables, in whatever ranges they are projected."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import dict_row

from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from rosterlog.projections.projector import projector
from rosterlog.projections.projector.projector import KNOWN_TOPICS, Projected, UnknownEvent, project
from rosterlog.projections.tables import SCHEMA
from tests.conftest import by
from tests.domain.threads import waiting_backend
from tests.projections.forging import append_unknown, insert_event
from tests.projections.tables import (
    CLASS,
    GROUP,
    OTHER_GROUP,
    OTHER_USER,
    USER,
    checkpoint,
    project_all,
    record_everything,
    rows,
    start_over,
)


class Live:
    """A roster whose every event is projected at once, one by one."""

    def __init__(self, roster: Roster, connection: Connection[Any]) -> None:
        self.roster = roster
        self.connection = connection

    def do(self, command: Callable[[Roster], Any]) -> datetime:
        """Give a command and return when its last event was recorded."""
        command(self.roster)
        project_all(self.connection, 1)
        row = self.connection.execute(
            "SELECT recorded_at FROM log.events ORDER BY notification_id DESC LIMIT 1"
        ).fetchone()
        assert row is not None
        time: datetime = row[0]
        return time

    def one(self, table: str, id_: UUID) -> dict[str, Any] | None:
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(f"SELECT * FROM roster.{table} WHERE id = %s", [id_]).fetchone()

    def changed(
        self, table: str, id_: UUID, command: Callable[[Roster], Any]
    ) -> dict[str, tuple[Any, Any]]:
        """Give a command and return what it changed in a row, each with before and after."""
        before = self.one(table, id_)
        self.do(command)
        after = self.one(table, id_)
        assert before is not None
        assert after is not None
        return {name: (before[name], after[name]) for name in before if before[name] != after[name]}

    def members(self, class_id: UUID = CLASS) -> dict[UUID, str]:
        statement = "SELECT user_id, role::text FROM roster.class_members WHERE class_id = %s"
        return dict(self.connection.execute(statement, [class_id]).fetchall())


@pytest.fixture
def live(roster: Roster, connection: Connection[Any]) -> Live:
    live = Live(roster, connection)
    live.do(lambda r: r.create_group(GROUP, "North", by()))
    live.do(lambda r: r.create_group(OTHER_GROUP, "South", by()))
    live.do(lambda r: r.register_user(USER, by()))
    live.do(lambda r: r.register_user(OTHER_USER, by()))
    live.do(lambda r: r.create_class(CLASS, GROUP, "Maths", {"room": 1}, by()))
    live.do(lambda r: r.enrol(CLASS, USER, Role.STUDENT, by()))
    return live


def membership_id(class_id: UUID, user_id: UUID) -> UUID:
    value = bytearray(sha256(class_id.bytes + user_id.bytes).digest()[:16])
    value[6] = value[6] & 0x0F | 0x80
    value[8] = value[8] & 0x3F | 0x80
    return UUID(bytes=bytes(value))


def test_a_created_group_has_a_row_with_the_times_of_its_event(live: Live) -> None:
    id_ = uuid4()
    time = live.do(lambda r: r.create_group(id_, "West", by()))
    assert live.one("groups", id_) == {
        "id": id_,
        "name": "West",
        "created_at": time,
        "updated_at": time,
        "version": 1,
    }


def test_renaming_a_group_changes_name_time_and_version(live: Live) -> None:
    changes = live.changed("groups", GROUP, lambda r: r.rename_group(GROUP, "West", by()))
    assert set(changes) == {"name", "updated_at", "version"}
    assert (changes["name"][1], changes["version"][1]) == ("West", 2)


def test_a_registered_user_has_a_row(live: Live) -> None:
    id_ = uuid4()
    time = live.do(lambda r: r.register_user(id_, by()))
    assert live.one("users", id_) == {"id": id_, "created_at": time, "version": 1}


def test_a_created_class_has_a_row(live: Live) -> None:
    id_ = uuid4()
    settings = {"b": [1, 2.5, None], "a": {"ü": True}}
    time = live.do(lambda r: r.create_class(id_, GROUP, "Art", settings, by()))
    assert live.one("classes", id_) == {
        "id": id_,
        "group_id": GROUP,
        "name": "Art",
        "settings": settings,
        "created_at": time,
        "updated_at": time,
        "deleted_at": None,
        "version": 1,
    }


@pytest.mark.parametrize(
    ("command", "column", "value"),
    [
        (lambda r: r.change_class(CLASS, by(), name="Art"), "name", "Art"),
        (lambda r: r.change_class(CLASS, by(), settings={}), "settings", {}),
        (lambda r: r.change_class(CLASS, by(), group_id=OTHER_GROUP), "group_id", OTHER_GROUP),
    ],
)
def test_changing_a_class_changes_that_column_time_and_version(
    live: Live, command: Callable[[Roster], Any], column: str, value: Any
) -> None:
    changes = live.changed("classes", CLASS, command)
    assert set(changes) == {column, "updated_at", "version"}
    assert (changes[column][1], changes["version"]) == (value, (2, 3))


def test_archiving_sets_deleted_at_keeps_the_roster_and_restoring_clears_it(live: Live) -> None:
    archived = live.changed("classes", CLASS, lambda r: r.archive_class(CLASS, by()))
    assert set(archived) == {"deleted_at", "updated_at", "version"}
    assert archived["deleted_at"] == (None, archived["updated_at"][1])
    assert live.members() == {USER: "student"}
    restored = live.changed("classes", CLASS, lambda r: r.restore_class(CLASS, by()))
    assert set(restored) == {"deleted_at", "updated_at", "version"}
    assert restored["deleted_at"][1] is None


def test_the_roster_changes_the_version_of_the_class_and_not_its_time(live: Live) -> None:
    for command in (
        lambda r: r.enrol(CLASS, OTHER_USER, Role.TEACHER, by()),
        lambda r: r.change_role(CLASS, OTHER_USER, Role.STUDENT, by()),
        lambda r: r.withdraw(CLASS, OTHER_USER, by()),
    ):
        assert set(live.changed("classes", CLASS, command)) == {"version"}


def test_a_membership_has_the_id_that_class_and_user_give_it(live: Live) -> None:
    time = live.do(lambda r: r.enrol(CLASS, OTHER_USER, Role.TEACHER, by()))
    id_ = membership_id(CLASS, OTHER_USER)
    assert id_.version == 8
    assert live.one("class_members", id_) == {
        "id": id_,
        "class_id": CLASS,
        "user_id": OTHER_USER,
        "role": "teacher",
        "created_at": time,
    }


def test_the_database_computes_membership_ids_as_documented(connection: Connection[Any]) -> None:
    for class_id, user_id in [(uuid4(), uuid4()) for _ in range(50)]:
        row = connection.execute(
            "SELECT public.membership_id(%s, %s)", [class_id, user_id]
        ).fetchone()
        assert row == (membership_id(class_id, user_id),)


def test_postgresql_computes_membership_ids_in_place_with_one_hash(
    connection: Connection[Any],
) -> None:
    plan = connection.execute(
        "EXPLAIN (VERBOSE) SELECT public.membership_id(class_id, user_id) FROM roster.class_members"
    ).fetchall()
    assert str(plan).count("sha256") == 1


def test_a_role_change_is_an_update_of_the_same_membership(live: Live) -> None:
    changes = live.changed(
        "class_members",
        membership_id(CLASS, USER),
        lambda r: r.change_role(CLASS, USER, Role.TEACHER, by()),
    )
    assert changes == {"role": ("student", "teacher")}


def test_withdrawing_removes_the_membership_and_enrolling_again_revives_its_id_with_a_new_time(
    live: Live,
) -> None:
    id_ = membership_id(CLASS, USER)
    live.do(lambda r: r.withdraw(CLASS, USER, by()))
    assert live.one("class_members", id_) is None
    time = live.do(lambda r: r.enrol(CLASS, USER, Role.TEACHER, by()))
    revived = live.one("class_members", id_)
    assert revived is not None
    assert (revived["role"], revived["created_at"]) == ("teacher", time)


def test_deleting_a_class_ends_its_memberships_and_nothing_else(live: Live) -> None:
    live.do(lambda r: r.create_class(UUID(int=77), GROUP, "Art", {}, by()))
    live.do(lambda r: r.enrol(UUID(int=77), USER, Role.STUDENT, by()))
    live.do(lambda r: r.delete_class(CLASS, by()))
    assert live.one("classes", CLASS) is None
    assert (live.members(), live.members(UUID(int=77))) == ({}, {USER: "student"})


def test_deleting_a_group_ends_its_classes_and_their_memberships(live: Live) -> None:
    live.do(lambda r: r.delete_group(GROUP, by()))
    assert (live.one("groups", GROUP), live.one("classes", CLASS), live.members()) == (
        None,
        None,
        {},
    )
    assert live.one("users", USER) is not None


def test_removing_a_user_ends_the_users_memberships(live: Live) -> None:
    live.do(lambda r: r.enrol(CLASS, OTHER_USER, Role.TEACHER, by()))
    live.do(lambda r: r.remove_user(USER, by()))
    assert live.one("users", USER) is None
    assert live.members() == {OTHER_USER: "teacher"}
    assert live.one("classes", CLASS) is not None


def test_one_range_and_ranges_of_every_size_make_identical_tables(
    roster: Roster, connection: Connection[Any]
) -> None:
    head = record_everything(roster)
    assert {row[0] for row in connection.execute("SELECT topic FROM log.events")} == set(
        KNOWN_TOPICS
    )
    assert project(connection, SCHEMA, limit=head) == Projected(head, head)
    whole = rows(connection)
    assert all(whole.values())
    for limit in range(1, head):
        start_over(connection)
        assert project_all(connection, limit) == head
        assert rows(connection) == whole, f"ranges of {limit}"


def test_a_range_holds_at_most_the_limit_and_ends_at_the_stop(
    roster: Roster, connection: Connection[Any]
) -> None:
    for _ in range(10):
        roster.register_user(uuid4(), by())
    assert project(connection, SCHEMA, limit=4) == Projected(4, 4)
    assert project(connection, SCHEMA, limit=4, stop=5) == Projected(5, 1)
    assert project(connection, SCHEMA, limit=4, stop=5) == Projected(5, 0)
    assert project(connection, SCHEMA, limit=100) == Projected(10, 5)
    assert project(connection, SCHEMA, limit=100) == Projected(10, 0)


def test_an_empty_log_projects_to_nothing(connection: Connection[Any]) -> None:
    assert project(connection, SCHEMA, limit=100) == Projected(0, 0)
    assert not any(rows(connection).values())


def test_events_and_checkpoint_commit_together(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    head = record_everything(roster)
    with (
        psycopg.connect(database, autocommit=True) as reader,
        connection.transaction(force_rollback=True),
    ):
        project(connection, SCHEMA, limit=1000)
        assert checkpoint(connection) == head
        assert (checkpoint(reader), rows(reader)["groups"]) == (0, [])
    assert checkpoint(connection) == 0
    assert not any(rows(connection).values())
    assert project_all(connection) == head


def test_an_unknown_event_is_named_with_its_position_and_leaves_tables_and_checkpoint(
    roster: Roster, connection: Connection[Any]
) -> None:
    roster.register_user(USER, by())
    project_all(connection)
    before = rows(connection)
    roster.register_user(OTHER_USER, by())
    append_unknown(connection)
    with pytest.raises(UnknownEvent, match=r"^Position 3 holds a ClassPainted, which") as unknown:
        project(connection, SCHEMA, limit=10)
    assert unknown.value.position == 3
    assert (checkpoint(connection), rows(connection)) == (1, before)
    assert project(connection, SCHEMA, limit=10, stop=2) == Projected(2, 1)


def test_an_event_that_the_database_refuses_leaves_tables_and_checkpoint(
    roster: Roster, connection: Connection[Any]
) -> None:
    roster.register_user(USER, by())
    insert_event(connection, "MemberEnrolled", EventCodec(), class_id=CLASS, user_id=USER)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        project(connection, SCHEMA, limit=10)
    assert checkpoint(connection) == 0
    assert not any(rows(connection).values())


def test_two_projectors_take_turns_and_project_each_event_once(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    head = record_everything(roster)
    with (
        psycopg.connect(database, autocommit=True) as first,
        psycopg.connect(database, autocommit=True) as second,
        ThreadPoolExecutor(1) as threads,
    ):
        with first.transaction():
            assert project(first, SCHEMA, limit=20) == Projected(20, 20)
            late = threads.submit(project, second, SCHEMA, limit=1000)
            waiting_backend(connection)
        assert late.result() == Projected(head, head - 20)
    whole = rows(connection)
    assert len(whole["groups"]) == 2
    assert len(whole["users"]) == 2


def test_projecting_clears_a_recorded_failure(roster: Roster, connection: Connection[Any]) -> None:
    roster.register_user(USER, by())
    connection.execute(
        "UPDATE roster.checkpoint SET failing_position = 1, failing_since = now(), failure = 'x'"
    )
    project_all(connection)
    row = connection.execute(
        "SELECT failing_position, failing_since, failure FROM roster.checkpoint"
    ).fetchone()
    assert row == (None, None, None)


def test_every_event_has_a_fold_or_is_said_to_change_no_row() -> None:
    # An event without either would stop the projector of every installation.
    assert set(EventCodec().readable) == KNOWN_TOPICS


def test_an_event_without_a_fold_stops_the_projector(
    roster: Roster, connection: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = set(KNOWN_TOPICS) - {"UserRegistered"}
    monkeypatch.setattr(projector, "KNOWN_TOPICS", frozenset(forgotten))
    roster.create_group(GROUP, "Lincoln", by())
    roster.register_user(USER, by())
    with pytest.raises(UnknownEvent, match=r"^Position 2 holds a UserRegistered"):
        project(connection, SCHEMA, limit=10)
    assert project(connection, SCHEMA, limit=10, stop=1) == Projected(1, 1)

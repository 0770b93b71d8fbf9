"""The log on PostgreSQL: order, atomicity, what an append checks, and what the database refuses."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.persistence import IntegrityError, OperationalError
from psycopg import Connection

from rosterlog.domain.errors import DomainError
from rosterlog.domain.log import digest
from rosterlog.domain.log.event_codec import EventCodec, RecordedEvent
from rosterlog.domain.log.event_store import (
    APPEND_LOCK,
    RECORDED_CHANNEL,
    NothingRecorded,
    PostgresLog,
)
from rosterlog.domain.roster import Roster
from rosterlog.domain.users import User
from rosterlog.domain.values import Role
from tests.conftest import by, execute
from tests.domain.threads import together, waiting_backend
from tests.projections.forging import DECLARED

GROUP, OTHER_GROUP, CLASS, USER = (UUID(int=number) for number in range(1, 5))

codec = EventCodec()

INSERT = """
    INSERT INTO log.events (notification_id, originator_id, originator_version, topic, state, recorded_at, digest, user_id, actor, source)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


def registered(user_id: UUID) -> Any:
    (event,) = User.register(user_id, by()).collect_events()
    return codec.to_stored_event(event)


def removed(user_id: UUID, version: int = 2) -> Any:
    user = User.register(user_id, by())
    user.remove(by())
    event: Any = list(user.collect_events())[1]
    vars(event)["originator_version"] = version
    return codec.to_stored_event(event)


def insert_by_hand(connection: Connection[Any], recorded_at: datetime) -> None:
    """Insert what an append would have inserted at that time."""
    row = connection.execute(
        "SELECT notification_id, digest FROM log.events ORDER BY 1 DESC LIMIT 1"
    ).fetchone()
    position, previous = row or (0, digest.BEFORE_FIRST)
    event = registered(uuid4())
    stored = (
        position + 1,
        event.originator_id,
        event.originator_version,
        event.topic,
        recorded_at,
        event.state,
    )
    number, stream, version, topic, time, state = stored
    link = digest.link(previous, *stored)
    connection.execute(DECLARED)
    connection.execute(
        INSERT,
        [
            number,
            stream,
            version,
            topic,
            state,
            time,
            link,
            event.user_id,
            event.actor,
            event.source,
        ],
    )


def positions(connection: Connection[Any]) -> list[int]:
    return [
        row[0] for row in connection.execute("SELECT notification_id FROM log.events ORDER BY 1")
    ]


@pytest.fixture
def other_log(database: str) -> Iterator[PostgresLog]:
    opened = PostgresLog(database)
    yield opened
    opened.close()


def test_eight_writers_leave_no_gap_and_a_follower_sees_every_position_in_order(
    log: PostgresLog, other_log: PostgresLog, database: str
) -> None:
    done, seen = Event(), list[int]()

    def follow() -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            last_look = False
            while not last_look:
                last_look = done.is_set()
                statement = "SELECT notification_id FROM log.events WHERE notification_id > %s ORDER BY notification_id"
                seen.extend(
                    row[0] for row in connection.execute(statement, [seen[-1] if seen else 0])
                )

    def write(into: PostgresLog) -> None:
        for number in range(30):
            recorded = into.insert_events([registered(uuid4()) for _ in range(1 + number % 3)])
            assert recorded == list(range(recorded[0], recorded[0] + len(recorded)))

    with ThreadPoolExecutor(1) as follower:
        following = follower.submit(follow)
        writers = together(*[lambda into=into: write(into) for into in [log, other_log] * 4])
        done.set()
        following.result()
    assert writers == [None] * 8
    assert seen == list(range(1, 8 * 60 + 1))


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_an_append_sees_what_the_holder_of_the_lock_committed_whatever_the_default_isolation(
    server: Any, database: str, isolation: str
) -> None:
    execute(
        server.conninfo("postgres"),
        f"ALTER DATABASE {psycopg.conninfo.conninfo_to_dict(database)['dbname']} SET default_transaction_isolation = '{isolation}'",
    )
    with (
        closing(PostgresLog(database)) as log,
        psycopg.connect(database) as holder,
        psycopg.connect(database, autocommit=True) as watcher,
        ThreadPoolExecutor(1) as threads,
    ):
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [APPEND_LOCK])
        insert_by_hand(holder, datetime(2025, 9, 1, tzinfo=UTC))
        append = threads.submit(log.insert_events, [registered(USER)])
        waiting_backend(watcher)
        holder.commit()
        assert append.result() == [2]


def test_recorded_at_is_the_databases_clock_and_one_for_all_events_of_an_append(
    log: PostgresLog, connection: Connection[Any]
) -> None:
    before = connection.execute("SELECT clock_timestamp()").fetchone()
    log.insert_events([registered(uuid4()) for _ in range(3)])
    after = connection.execute("SELECT clock_timestamp()").fetchone()
    rows = connection.execute("SELECT DISTINCT recorded_at FROM log.events").fetchall()
    assert before is not None
    assert after is not None
    assert len(rows) == 1
    assert before[0] <= rows[0][0] <= after[0]


def test_recorded_at_never_goes_back(log: PostgresLog, connection: Connection[Any]) -> None:
    future = datetime.now(UTC) + timedelta(days=1)
    log.insert_events([registered(uuid4())])
    insert_by_hand(connection, future)
    log.insert_events([registered(uuid4()), registered(uuid4())])
    times = [
        row[0]
        for row in connection.execute("SELECT recorded_at FROM log.events ORDER BY notification_id")
    ]
    assert times[0] < future
    assert times[1:] == [future] * 3


def test_a_conflict_in_one_stream_leaves_nothing_of_the_append_recorded(
    log: PostgresLog, connection: Connection[Any]
) -> None:
    log.insert_events([registered(USER)])
    for wrong in (registered(USER), removed(USER, 3), removed(uuid4(), 2)):
        with pytest.raises(IntegrityError, match="not next"):
            log.insert_events([registered(uuid4()), wrong, registered(uuid4())])
        assert positions(connection) == [1]
    assert log.insert_events([removed(USER)]) == [2]


def test_a_stream_appended_to_twice_in_one_append_counts_on(log: PostgresLog) -> None:
    assert log.insert_events([registered(USER), removed(USER)]) == [1, 2]
    with pytest.raises(IntegrityError):
        log.insert_events([registered(CLASS), registered(CLASS)])


def test_nothing_to_append_is_no_append(log: PostgresLog, connection: Connection[Any]) -> None:
    assert log.insert_events([]) == []
    assert (log.max_notification_id(), positions(connection)) == (None, [])


ROUNDS = 25
ENDINGS = ["UserRemoved", "GroupDeleted", "ClassArchived", "ClassDeleted"]
STREAM_OF = {"UserRemoved": "user_id", "GroupDeleted": "group_id"}


@pytest.mark.parametrize("ending", ENDINGS)
def test_nobody_is_enrolled_after_the_ending_whatever_the_interleaving(
    log: PostgresLog, other_log: PostgresLog, connection: Connection[Any], ending: str
) -> None:
    one, other = Roster(log), Roster(other_log)
    enrolled = 0
    for _ in range(ROUNDS):
        group, class_, user, bystander = (uuid4() for _ in range(4))
        one.create_group(group, "North", by())
        one.create_class(class_, group, "Maths", {}, by())
        one.register_user(user, by())
        one.register_user(bystander, by())
        for roster in (one, other):
            roster.enrol(class_, bystander, Role.TEACHER, by())
        end = {
            "UserRemoved": lambda user=user: other.remove_user(user, by()),
            "GroupDeleted": lambda group=group: other.delete_group(group, by()),
            "ClassArchived": lambda class_=class_: other.archive_class(class_, by()),
            "ClassDeleted": lambda class_=class_: other.delete_class(class_, by()),
        }[ending]
        refusal, wrong = together(partial(one.enrol, class_, user, Role.STUDENT, by()), end)
        assert wrong is None
        assert refusal is None or isinstance(refusal, DomainError)
        enrolled += refusal is None
    column = STREAM_OF.get(ending, "class_id")
    late = connection.execute(
        f"""
        SELECT enrolment.notification_id FROM log.events AS enrolment JOIN log.events AS ending USING ({column})
        WHERE enrolment.topic = 'MemberEnrolled' AND ending.topic = %s AND enrolment.notification_id > ending.notification_id
        """,
        [ending],
    ).fetchall()
    counts = dict(
        connection.execute("SELECT topic, count(*) FROM log.events GROUP BY topic").fetchall()
    )
    assert late == []
    assert counts[ending] == ROUNDS
    assert counts["MemberEnrolled"] == ROUNDS + enrolled


def test_nothing_enters_a_group_after_it_was_deleted_whatever_the_interleaving(
    log: PostgresLog, other_log: PostgresLog, connection: Connection[Any]
) -> None:
    one, other = Roster(log), Roster(other_log)
    one.create_group(OTHER_GROUP, "South", by())
    for _ in range(ROUNDS):
        group, class_ = uuid4(), uuid4()
        one.create_group(group, "North", by())
        one.create_class(class_, OTHER_GROUP, "Maths", {}, by())
        for result in together(
            lambda group=group: other.delete_group(group, by()),  # type: ignore[misc]
            lambda group=group: one.create_class(uuid4(), group, "Art", {}, by()),  # type: ignore[misc]
            lambda group=group, class_=class_: one.change_class(class_, by(), group_id=group),  # type: ignore[misc]
        ):
            assert result is None or isinstance(result, DomainError)
    late = connection.execute("""
        SELECT entered.notification_id FROM log.events AS entered JOIN log.events AS ending USING (group_id)
        WHERE entered.topic IN ('ClassCreated', 'ClassMoved') AND ending.topic = 'GroupDeleted'
          AND entered.notification_id > ending.notification_id
    """).fetchall()
    assert late == []


def test_two_processes_that_create_the_same_thing_record_it_once(
    log: PostgresLog, other_log: PostgresLog, connection: Connection[Any]
) -> None:
    one, other = Roster(log), Roster(other_log)
    for _ in range(ROUNDS):
        user = uuid4()
        results = together(
            partial(one.register_user, user, by()), partial(other.register_user, user, by())
        )
        assert results == [None, None]
    assert positions(connection) == list(range(1, ROUNDS + 1))


def test_an_append_does_not_wait_for_maintenance(log: PostgresLog, database: str) -> None:
    log.insert_events([registered(uuid4())])
    with psycopg.connect(database) as maintenance:
        maintenance.execute("LOCK TABLE log.events IN SHARE UPDATE EXCLUSIVE MODE")
        assert log.insert_events([registered(uuid4())]) == [2]


def test_an_append_does_not_wait_for_an_index_build(log: PostgresLog, database: str) -> None:
    log.insert_events([registered(uuid4())])
    with (
        psycopg.connect(database) as reader,
        ThreadPoolExecutor(1) as threads,
        psycopg.connect(database, autocommit=True) as watcher,
    ):
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT FROM log.events")
        build = threads.submit(
            execute,
            database,
            "CREATE INDEX CONCURRENTLY events_built_meanwhile_idx ON log.events (topic)",
        )
        waiting_backend(watcher)
        assert log.insert_events([registered(uuid4())]) == [2]
        assert not build.done()
        reader.commit()
        build.result()


@pytest.mark.parametrize(
    "statement",
    [
        "ANALYZE log.events",
        "VACUUM log.events",
        "CREATE INDEX CONCURRENTLY events_built_meanwhile_idx ON log.events (topic)",
    ],
)
def test_maintenance_and_appends_go_on_side_by_side(
    log: PostgresLog, database: str, statement: str
) -> None:
    def write() -> None:
        for _ in range(20):
            log.insert_events([registered(uuid4())])

    assert together(write, write, lambda: execute(database, statement)) == [None] * 3
    assert log.max_notification_id() == 40


@pytest.mark.parametrize("role", ["origin", "replica", "local"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log.events SET actor = 'x'",
        "UPDATE log.events SET actor = 'x' WHERE false",
        "DELETE FROM log.events",
        "TRUNCATE log.events",
    ],
)
def test_the_database_refuses_to_change_what_was_recorded(
    log: PostgresLog, connection: Connection[Any], statement: str, role: str
) -> None:
    log.insert_events([registered(USER)])
    connection.execute(f"SET session_replication_role = {role}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute(statement)
    assert connection.execute("SELECT actor FROM log.events").fetchall() == [("registrar",)]


def test_history_is_indexed_by_class_user_group_actor_and_source(
    roster: Roster, connection: Connection[Any]
) -> None:
    roster.create_group(GROUP, "North", by("head"))
    roster.create_group(OTHER_GROUP, "South", by())
    roster.register_user(USER, by())
    roster.create_class(CLASS, GROUP, "Maths", {}, by())
    roster.enrol(CLASS, USER, Role.STUDENT, by())
    roster.change_class(CLASS, by(), name="Art", settings={"a": 1}, group_id=OTHER_GROUP)
    roster.withdraw(CLASS, USER, by())
    roster.archive_class(CLASS, by())
    roster.remove_user(USER, by())
    rows = connection.execute(
        "SELECT topic, class_id, user_id, group_id, previous_group_id, actor, source FROM log.events ORDER BY notification_id"
    ).fetchall()
    assert rows == [
        ("GroupCreated", None, None, GROUP, None, "head", "api"),
        ("GroupCreated", None, None, OTHER_GROUP, None, "registrar", "api"),
        ("UserRegistered", None, USER, None, None, "registrar", "api"),
        ("ClassCreated", CLASS, None, GROUP, None, "registrar", "api"),
        ("MemberEnrolled", CLASS, USER, GROUP, None, "registrar", "api"),
        ("ClassRenamed", CLASS, None, GROUP, None, "registrar", "api"),
        ("ClassSettingsChanged", CLASS, None, GROUP, None, "registrar", "api"),
        ("ClassMoved", CLASS, None, OTHER_GROUP, GROUP, "registrar", "api"),
        ("MemberWithdrawn", CLASS, USER, OTHER_GROUP, None, "registrar", "api"),
        ("ClassArchived", CLASS, None, OTHER_GROUP, None, "registrar", "api"),
        ("UserRemoved", None, USER, None, None, "registrar", "api"),
    ]


def test_the_digests_chain_from_the_first_event(
    roster: Roster, connection: Connection[Any]
) -> None:
    roster.create_group(GROUP, "North", by())
    roster.create_class(CLASS, GROUP, "Maths", {}, by())
    roster.change_class(CLASS, by(), name="Art", settings={"a": 1})
    previous = digest.BEFORE_FIRST
    statement = "SELECT notification_id, originator_id, originator_version, topic, recorded_at, state, digest FROM log.events ORDER BY 1"
    for *parts, found in connection.execute(statement):
        previous = digest.link(previous, *parts)
        assert found == previous


def test_a_session_that_is_terminated_in_mid_append_records_nothing_and_the_next_append_works(
    log: PostgresLog, connection: Connection[Any], database: str
) -> None:
    log.insert_events([registered(USER)])
    with psycopg.connect(database) as holder, ThreadPoolExecutor(1) as threads:
        holder.execute("LOCK TABLE log.events IN SHARE MODE")
        append = threads.submit(log.insert_events, [removed(USER)])
        assert connection.execute(
            "SELECT pg_terminate_backend(%s, 5000)", [waiting_backend(connection)]
        ).fetchone() == (True,)
        with pytest.raises(NothingRecorded):
            append.result()
    assert positions(connection) == [1]
    assert log.insert_events([removed(USER)]) == [2]


def test_a_session_killed_while_it_waits_for_its_turn_records_nothing(
    log: PostgresLog, connection: Connection[Any], database: str
) -> None:
    with psycopg.connect(database) as holder, ThreadPoolExecutor(1) as threads:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [APPEND_LOCK])
        append = threads.submit(log.insert_events, [registered(USER)])
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [waiting_backend(connection)])
        with pytest.raises(OperationalError):
            append.result()
    assert log.insert_events([registered(USER)]) == [1]


def test_whoever_listens_is_told_after_the_commit(log: PostgresLog, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as listener:
        listener.execute(f"LISTEN {RECORDED_CHANNEL}")
        log.insert_events([registered(USER)])
        assert [n.channel for n in listener.notifies(timeout=60, stop_after=1)] == [
            RECORDED_CHANNEL
        ]
        assert positions(listener) == [1]


def test_a_stream_is_read_by_version_with_the_time_each_event_was_recorded(
    log: PostgresLog,
) -> None:
    stored = [registered(USER), removed(USER)]
    log.insert_events([stored[0], registered(uuid4()), stored[1]])
    events = log.select_events(USER)
    assert [
        (type(event), event.originator_version, event.topic, event.state) for event in events
    ] == [(RecordedEvent, event.originator_version, event.topic, event.state) for event in stored]
    assert codec.to_domain_event(events[1]).timestamp == vars(events[1])["recorded_at"]
    assert [event.originator_version for event in log.select_events(USER, desc=True, limit=1)] == [
        2
    ]
    assert [event.originator_version for event in log.select_events(USER, gt=1)] == [2]
    assert [event.originator_version for event in log.select_events(USER, lte=1)] == [1]
    assert log.select_events(uuid4()) == []


def test_the_log_is_read_by_position(log: PostgresLog) -> None:
    log.insert_events([registered(USER), registered(uuid4()), removed(USER), registered(uuid4())])

    def read(*args: Any, **options: Any) -> list[int]:
        return [notification.id for notification in log.select_notifications(*args, **options)]

    assert read(None, 10) == [1, 2, 3, 4]
    assert read(2, 2) == [2, 3]
    assert read(2, 10, inclusive_of_start=False) == [3, 4]
    assert read(1, 10, 3) == [1, 2, 3]
    assert read(1, 10, topics=["UserRemoved"]) == [3]
    assert read(5, 10) == []


def test_the_librarys_own_subscription_is_refused(log: PostgresLog) -> None:
    with pytest.raises(NotImplementedError):
        log.subscribe()

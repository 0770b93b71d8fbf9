"""A command that comes with a key is carried out once, whoever repeats it, and wherever."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import Connection

from rosterlog.domain.bulk import outcomes
from rosterlog.domain.deciding.idempotency import Key, Repeatable
from rosterlog.domain.deciding.outcome import Outcome
from rosterlog.domain.errors import GroupUnknown, KeyReused
from rosterlog.domain.items import Items, Registration
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.log.kept_outcomes import CLEAN_UP
from rosterlog.domain.roster import Roster
from tests.conftest import by
from tests.domain.proxy import cutting
from tests.domain.threads import together

GROUP = UUID(int=1)


def once(
    key: str = "k",
    request: bytes = b"one",
    subject: str = "registrar",
    route: str = "POST /v1/users",
) -> Repeatable:
    return Repeatable(Key(subject, route, key), request)


@pytest.fixture
def elsewhere(database: str) -> Iterator[Roster]:
    with closing(PostgresLog(database)) as log, closing(Roster(log)) as roster:
        yield roster


def keys(connection: Connection[Any]) -> int:
    row = connection.execute("SELECT count(*) FROM log.idempotency_keys").fetchone()
    return int(row[0]) if row else 0


def age(connection: Connection[Any], interval: str = "24 hours") -> None:
    connection.execute(
        "UPDATE log.idempotency_keys SET created_at = created_at - %s::interval", [interval]
    )


def test_who_repeats_a_request_gets_its_outcome_in_whatever_process(
    roster: Roster, elsewhere: Roster
) -> None:
    first = roster.register_user.prepared(uuid4(), by()).once(once()).given()
    roster.create_group(GROUP, "North", by())
    for other in (roster, elsewhere):
        again = other.register_user.prepared(uuid4(), by()).once(once()).given()
        assert again == Outcome(
            first.id, first.version, first.position, changed=True, replayed=True
        )
    assert roster.recorder.max_notification_id() == 2


def test_another_request_with_the_key_is_refused(roster: Roster, elsewhere: Roster) -> None:
    roster.register_user.prepared(uuid4(), by()).once(once()).given()
    with pytest.raises(KeyReused):
        elsewhere.register_user.prepared(uuid4(), by()).once(once(request=b"other")).given()


@pytest.mark.parametrize(
    "other", [once(subject="head"), once(route="POST /v1/groups"), once(key="K")]
)
def test_a_key_is_of_one_subject_and_one_route(roster: Roster, other: Repeatable) -> None:
    roster.register_user.prepared(uuid4(), by()).once(once()).given()
    assert roster.register_user.prepared(uuid4(), by()).once(other).given().changed


def test_the_same_key_at_the_same_moment_is_carried_out_once(
    roster: Roster, elsewhere: Roster
) -> None:
    def register(of: Roster, number: int, outcomes: list[Outcome]) -> None:
        outcomes.append(of.register_user.prepared(uuid4(), by()).once(once(str(number))).given())

    for number in range(1, 16):
        outcomes: list[Outcome] = []
        assert (
            together(*[partial(register, of, number, outcomes) for of in (roster, elsewhere) * 3])
            == [None] * 6
        )
        assert {(one.id, one.position) for one in outcomes} == {(outcomes[0].id, number)}
        assert sorted(one.replayed for one in outcomes) == [False] + [True] * 5


def test_a_refusal_is_not_kept(roster: Roster) -> None:
    for _ in range(2):
        with pytest.raises(GroupUnknown):
            roster.rename_group.prepared(GROUP, "North", by()).once(once()).given()
    roster.create_group(GROUP, "South", by())
    assert roster.rename_group.prepared(GROUP, "North", by()).once(once()).given().changed


def test_what_changed_nothing_is_kept_too(roster: Roster) -> None:
    roster.create_group(GROUP, "North", by())
    first = roster.create_group.prepared(GROUP, "North", by()).once(once()).given()
    roster.rename_group(GROUP, "South", by())
    again = roster.create_group.prepared(GROUP, "North", by()).once(once()).given()
    assert (first.changed, again.changed, again.position, again.version) == (
        False,
        False,
        first.position,
        first.version,
    )


def test_the_outcome_of_a_command_about_many_things_is_kept_whole(roster: Roster) -> None:
    items = Items([Registration(uuid4()), Registration(GROUP)])
    roster.create_group(GROUP, "North", by())
    first = roster.register_many.prepared(uuid4(), items, by()).once(once()).given()
    again = roster.register_many.prepared(uuid4(), items, by()).once(once()).given()
    assert first.result is not None
    assert [one["outcome"] for one in outcomes(items, first.result)] == ["registered", "refused"]
    assert (again.result, again.id, again.replayed) == (first.result, first.id, True)


def test_a_request_whose_answer_was_lost_with_the_process_gets_it_from_the_next(
    database: str, log: PostgresLog
) -> None:
    with (
        cutting(database) as proxy,
        closing(PostgresLog(proxy.conninfo)) as doomed_log,
        closing(Roster(doomed_log)) as doomed,
    ):
        proxy.cut_after_commit = True
        first = doomed.register_user.prepared(uuid4(), by()).once(once()).given()
    with closing(Roster(log)) as following:
        again = following.register_user.prepared(uuid4(), by()).once(once()).given()
    assert (again.id, again.position, again.replayed) == (first.id, 1, True)


def test_a_key_is_forgotten_after_a_day(roster: Roster, connection: Connection[Any]) -> None:
    first = roster.register_user.prepared(uuid4(), by()).once(once()).given()
    age(connection, "23 hours 59 minutes")
    assert roster.register_user.prepared(uuid4(), by()).once(once()).given().replayed
    age(connection, "1 minute")
    again = roster.register_user.prepared(uuid4(), by()).once(once(request=b"other")).given()
    assert (again.replayed, again.id == first.id) == (False, False)
    assert (
        roster.register_user.prepared(uuid4(), by()).once(once(request=b"other")).given().id
        == again.id
    )


def test_expired_keys_are_cleaned_up_a_bounded_number_at_a_time(
    roster: Roster, connection: Connection[Any]
) -> None:
    connection.execute(
        "INSERT INTO log.idempotency_keys SELECT 's', 'r', n::text, '', '', '2020-01-01' FROM generate_series(1, %s) AS n",
        [CLEAN_UP + 50],
    )
    roster.register_user.prepared(uuid4(), by()).once(once("1")).given()
    assert keys(connection) == 51
    roster.register_user.prepared(uuid4(), by()).once(once("2")).given()
    assert keys(connection) == 2

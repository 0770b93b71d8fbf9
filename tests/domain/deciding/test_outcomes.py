"""What a command is told agrees with the log, wherever the connection is lost, twice in a row."""

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import closing, contextmanager
from itertools import chain, count
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import Connection
from psycopg_pool.base import AttemptWithBackoff

from rosterlog.domain.deciding.idempotency import Key, Repeatable
from rosterlog.domain.deciding.outcome import Outcome
from rosterlog.domain.errors import DomainError, OutcomeUnknown, StoreUnavailable
from rosterlog.domain.items import Enrolment, Items
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from tests.conftest import by
from tests.domain.proxy import COMMIT, Cut, MessageProxy, cutting_at
from tests.domain.threads import eventually, gathered, waiting_backend

GROUP, CLASS = (UUID(int=number) for number in range(1, 3))

Prepare = Callable[[Roster, str], Callable[[], Outcome]]
"""Makes a command ready to be given, whose reason is the case that it is tried in."""


@pytest.fixture
def proxy(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[MessageProxy]:
    # By default a pool waits a second before it connects again.
    monkeypatch.setattr(AttemptWithBackoff, "INITIAL_DELAY", 0.01)
    with cutting_at(database) as cutting:
        yield cutting


@pytest.fixture
def roster(proxy: MessageProxy) -> Iterator[Roster]:
    with closing(PostgresLog(proxy.conninfo, pool_size=2)) as log, closing(Roster(log)) as opened:
        opened.create_group(GROUP, "North", by())
        opened.create_class(CLASS, GROUP, "Maths", {}, by())
        yield opened


def rename(roster: Roster, case: str) -> Callable[[], Outcome]:
    """Rely on the class's version: decided once more after it was recorded, the command is refused."""
    version = roster.change_class(CLASS, by(), name="Maths").version
    return lambda: roster.change_class(CLASS, by(reason=case), expected=version, name=case)


def register(roster: Roster, case: str) -> Callable[[], Outcome]:
    """Name a new user: decided once more after it was recorded, the command changes nothing."""
    user = uuid4()
    return lambda: roster.register_user(user, by(reason=case))


def enrol_many(roster: Roster, case: str) -> Callable[[], Outcome]:
    users = [uuid4(), uuid4()]
    for user in users:
        roster.register_user(user, by())
    items = Items([Enrolment(CLASS, user, Role.STUDENT) for user in users])
    return lambda: roster.enrol_many(uuid4(), items, by(reason=case), atomic=False)


def with_key(roster: Roster, case: str) -> Callable[[], Outcome]:
    repeatable = Repeatable(Key("anna", "POST /v1/groups", case), b"digest")
    return lambda: (
        roster.create_group.prepared(uuid4(), case, by(reason=case)).once(repeatable).given()
    )


def recorded(connection: Connection[Any], case: str) -> list[int]:
    statement = "SELECT notification_id FROM log.events WHERE convert_from(state, 'UTF8')::json ->> 'reason' = %s ORDER BY 1"
    return [row[0] for row in connection.execute(statement, [case])]


def told(give: Callable[[], Outcome]) -> Outcome | DomainError:
    try:
        return give()
    except DomainError as refusal:
        return refusal


def agrees(answer: Outcome | DomainError, positions: list[int]) -> bool:
    """Tell whether an answer is true: what was recorded is acknowledged, once and as changed; else nothing was."""
    if isinstance(answer, Outcome):
        return (
            answer.changed
            and positions[-1:] == [answer.position]
            and _counts(answer, len(positions))
        )
    return isinstance(answer, StoreUnavailable) and not positions


def _counts(answer: Outcome, events: int) -> bool:
    if answer.result is None:
        return events == 1
    kinds = answer.result["kinds"]
    return [kinds[item][0] for item in answer.result["items"]] == ["enrolled"] * events


@pytest.mark.parametrize("reaches_server", [True, False])
def test_an_answer_is_true_wherever_connections_are_lost_twice_in_a_row(
    proxy: MessageProxy, roster: Roster, connection: Connection[Any], reaches_server: bool
) -> None:
    lost = [cuts_twice(proxy, roster, connection, rename, Cut(1, reaches_server))]
    while lost[-1]:
        lost.append(
            cuts_twice(proxy, roster, connection, rename, Cut(len(lost) + 1, reaches_server))
        )
    assert COMMIT in b"".join(lost)


@pytest.mark.parametrize("prepare", [register, enrol_many, with_key])
def test_no_command_is_decided_twice_once_it_is_recorded(
    proxy: MessageProxy, roster: Roster, connection: Connection[Any], prepare: Prepare
) -> None:
    assert COMMIT in cuts_twice(
        proxy, roster, connection, prepare, Cut(1, reaches_server=True, text=COMMIT)
    )


def cuts_twice(
    proxy: MessageProxy, roster: Roster, connection: Connection[Any], prepare: Prepare, first: Cut
) -> bytes:
    """Cut, and then again at each message that follows; return the messages at which the first cuts were."""
    lost = b""
    for second in count(1):
        case = f"{first.at}/{second}"
        give = prepare(roster, case)
        proxy.expect([first, Cut(second, reaches_server=bool(second % 2))])
        answer = told(give)
        cut = proxy.done
        proxy.expect([])
        assert agrees(answer, positions := recorded(connection, case)), (cut, answer, positions)
        lost += b"".join(cut[:1])
        if len(cut) < 2:
            break
    return lost


@contextmanager
def impatient(roster: Roster) -> Iterator[None]:
    """Wait hardly at all for a log that can't be reached; what prepares a case waits as always."""
    log = roster._log
    patience = log._look_seconds, log._pool.timeout
    log._look_seconds, log._pool.timeout = 0.1, 0.3
    try:
        yield
    finally:
        log._look_seconds, log._pool.timeout = patience


@pytest.mark.parametrize("reaches_server", [True, False])
def test_what_a_lost_commit_came_to_is_told_as_unknown_only_where_nobody_can_tell(
    proxy: MessageProxy, roster: Roster, connection: Connection[Any], reaches_server: bool
) -> None:
    unknown = False
    # The commit by its text: messages of the pool, which replaces what was cut, shift the numbers.
    each = (Cut(at, reaches_server) for at in count(1))
    for number, expected in enumerate(chain([Cut(1, reaches_server, text=COMMIT)], each)):
        case = str(number)
        give = rename(roster, case)
        proxy.expect([expected], gone_after=1)
        with impatient(roster):
            answer = told(give)
        cut = proxy.done
        proxy.expect([])
        positions = recorded(connection, case)
        if not cut and isinstance(answer, Outcome):
            assert agrees(answer, positions)
            break
        if isinstance(answer, OutcomeUnknown):
            unknown |= COMMIT in cut[0] and len(positions) == reaches_server
        else:
            assert agrees(answer, positions)
    assert unknown


def test_of_a_batch_in_doubt_only_what_would_record_something_is_unknown(
    proxy: MessageProxy, roster: Roster, connection: Connection[Any], database: str
) -> None:
    user = uuid4()
    proxy.expect([Cut(1, reaches_server=True, text=COMMIT)], gone_after=1)
    with impatient(roster):
        with gathered(database):
            changes = roster.register_user.submit(user, by())
            waiting_backend(connection)
            changes_nothing = roster.register_user.submit(user, by())
            refused = roster.create_class.submit(uuid4(), uuid4(), "Art", {}, by())
        futures.wait([changes, changes_nothing, refused])
    assert [type(one.exception()) for one in (changes, changes_nothing, refused)] == [
        OutcomeUnknown,
        StoreUnavailable,
        StoreUnavailable,
    ]


def test_what_fails_after_the_commit_makes_no_command_fail_and_none_decided_twice(
    database: str, connection: Connection[Any]
) -> None:
    def fails(_: int) -> None:
        raise OSError("no space left for the metrics")

    with closing(PostgresLog(database, on_append=fails)) as log, closing(Roster(log)) as roster:
        give = register(roster, "counted")
        answer = told(give)
        assert agrees(answer, recorded(connection, "counted"))


def test_a_process_that_ends_does_not_wait_for_a_log_that_is_gone(
    proxy: MessageProxy, roster: Roster
) -> None:
    proxy.expect([Cut(1, reaches_server=True, text=COMMIT)], gone_after=1)
    given = roster.register_user.submit(uuid4(), by())
    eventually(lambda: proxy.done)
    with impatient(roster):
        roster.close()
    assert isinstance(given.exception(timeout=0), OutcomeUnknown)


def test_a_commit_that_comes_to_nothing_is_no_success(
    roster: Roster, connection: Connection[Any]
) -> None:
    """The server takes the events and refuses the commit itself, as a deferred trigger does."""
    connection.execute(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON log.events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
        """
    )
    assert agrees(told(register(roster, "refused")), recorded(connection, "refused"))
    connection.execute("DROP TRIGGER refuse ON log.events")
    assert agrees(told(register(roster, "taken")), recorded(connection, "taken"))

"""Two services on one database: the rules hold across both.

Whatever one has acknowledged outlives its death.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from threading import Thread
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.projections.verify.log_check import verify_log
from tests.api.client import Api, done
from tests.api.processes import started
from tests.conftest import TEMPLATE, fresh_database
from tests.domain.threads import eventually, together
from tests.serving import free_port

ROUNDS = 15


def is_ready(api: Api) -> bool:
    with suppress(httpx.TransportError):
        return api.get("/readyz").status_code == 200
    return False


@contextmanager
def service(database: str) -> Iterator[tuple[Api, Any]]:
    port = free_port()
    with (
        started("serve", DATABASE_URL=database, PORT=str(port)) as process,
        Api(base_url=f"http://127.0.0.1:{port}", timeout=30) as api,
    ):
        eventually(lambda: is_ready(api))
        yield api, process


@pytest.fixture(scope="module")
def database_of_two(server: EmbeddedPostgres) -> Iterator[str]:
    with fresh_database(server, TEMPLATE) as database:
        yield database


@pytest.fixture(scope="module")
def two(database_of_two: str) -> Iterator[tuple[Api, Api]]:
    with ExitStack() as stack:
        one, _ = stack.enter_context(service(database_of_two))
        other, _ = stack.enter_context(service(database_of_two))
        yield one, other


def race(*calls: Callable[[], httpx.Response]) -> list[httpx.Response]:
    answers: dict[int, httpx.Response] = {}

    def run(index: int, call: Callable[[], httpx.Response]) -> None:
        answers[index] = call()

    assert together(*[partial(run, index, call) for index, call in enumerate(calls)]) == [
        None
    ] * len(calls)
    return [answers[index] for index in range(len(calls))]


ENDINGS: dict[str, Callable[[Api, str, str, str], httpx.Response]] = {
    "remove the user": lambda api, group, class_id, user: api.delete(f"/v1/users/{user}"),
    "delete the group": lambda api, group, class_id, user: api.delete(f"/v1/groups/{group}"),
    "archive the class": lambda api, group, class_id, user: api.post(
        f"/v1/classes/{class_id}/archive"
    ),
}
LATE = """
    SELECT enrolment.notification_id FROM log.events AS enrolment JOIN log.events AS ending
    ON ending.originator_id IN (enrolment.user_id, enrolment.group_id, enrolment.class_id)
    WHERE enrolment.topic = 'MemberEnrolled'
      AND ending.topic IN ('UserRemoved', 'GroupDeleted', 'ClassArchived')
      AND enrolment.notification_id > ending.notification_id
"""


@pytest.mark.parametrize("ending", ENDINGS)
def test_nobody_is_enrolled_after_the_end(
    two: tuple[Api, Api], database_of_two: str, ending: str
) -> None:
    one, other = two
    for _ in range(ROUNDS):
        group, user = one.new_group(), one.new_user()
        class_id = one.new_class(group)
        one.enrol(class_id)
        other.enrol(class_id)
        enrolled, ended = race(
            lambda c=class_id, u=user: one.post(
                f"/v1/classes/{c}/members", json={"user_id": u, "role": "student"}
            ),  # type: ignore[misc]
            lambda g=group, c=class_id, u=user: ENDINGS[ending](other, g, c, u),  # type: ignore[misc]
        )
        assert ended.is_success
        # The path's class is deleted with its group: 410. What the body names, and an archived
        # class: 409.
        assert enrolled.status_code in {201, 410 if ending == "delete the group" else 409}
    with psycopg.connect(database_of_two) as connection:
        assert connection.execute(LATE).fetchall() == []


def test_of_two_role_changes_at_once_both_happen_or_with_if_match_one(two: tuple[Api, Api]) -> None:
    one, other = two
    class_id = one.new_class()
    for _ in range(ROUNDS):
        path = f"/v1/classes/{class_id}/members/{one.enrol(class_id)}"
        answers = race(*[partial(of.patch, path, json={"role": "teacher"}) for of in two])
        assert [answer.status_code for answer in answers] == [200, 200]
        version = {"If-Match": done(other.get(path), 200).headers["ETag"]}
        answers = race(
            *[partial(of.patch, path, json={"role": "student"}, headers=version) for of in two]
        )
        assert sorted(answer.status_code for answer in answers) == [200, 412]


def test_the_same_key_in_both_is_carried_out_once(two: tuple[Api, Api]) -> None:
    for number in range(ROUNDS):
        key = {"Idempotency-Key": f"both-{number}"}
        answers = race(*[partial(of.post, "/v1/users", headers=key) for of in two * 2])
        assert {(answer.status_code, answer.content) for answer in answers} == {
            (201, answers[0].content)
        }
        assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 3


def test_what_one_has_acknowledged_is_read_from_the_other_at_once(two: tuple[Api, Api]) -> None:
    one, other = two
    class_id = one.new_class()
    path = f"/v1/classes/{class_id}/members"
    for number in range(1, ROUNDS):
        stayer, leaver = one.enrol(class_id), one.enrol(class_id)
        assert len(other.items(path)) == number + 1
        both = {"If-None-Match": other.get(path).headers["ETag"]}
        assert other.get(path, headers=both).status_code == 304
        # Removing a user changes the roster, and no version of the class.
        done(one.delete(f"/v1/users/{leaver}"), 204)
        left = [
            member["user_id"] for member in done(other.get(path, headers=both), 200).json()["items"]
        ]
        assert (len(left), left[-1]) == (number, stayer)
        assert [member["user_id"] for member in other.items(path)] == left


def _more_than(acknowledged: list[int], count: int) -> bool:
    return len(acknowledged) > count


def test_kill_9_in_mid_append_loses_nothing_acknowledged_and_records_nothing_by_halves(
    database: str,
) -> None:
    acknowledged: list[int] = []
    for _ in range(3):
        with service(database) as (api, process):

            def enrol(url: str) -> None:
                with Api(base_url=url, timeout=30) as mine, suppress(httpx.TransportError):
                    while True:
                        items = [{"id": str(uuid4())} for _ in range(7)]
                        acknowledged.append(
                            done(mine.post("/v1/users/batch", json={"items": items}), 200).json()[
                                "position"
                            ]
                        )

            before = len(acknowledged)
            writers = [Thread(target=enrol, args=[str(api.base_url)]) for _ in range(4)]
            for writer in writers:
                writer.start()
            eventually(partial(_more_than, acknowledged, before + 20))
            process.send_signal(signal.SIGKILL)
            for writer in writers:
                writer.join()
    with psycopg.connect(database, autocommit=True) as connection:
        others = (
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
            "pg_backend_pid()"
        )
        eventually(lambda: not connection.execute(others).fetchall())
        head = verify_log(connection).position
    assert max(acknowledged) <= head
    assert head % 7 == 0
    assert len(set(acknowledged)) == len(acknowledged)

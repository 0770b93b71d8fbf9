"""Every combination of filters goes through an index: PostgreSQL never reads or sorts the whole log for a page of a history."""

import json
from collections.abc import Iterator
from itertools import chain, combinations
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection

from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.domain.classes import Class
from rosterlog.domain.groups import Group
from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.users import User
from rosterlog.domain.values import Provenance, Role
from rosterlog.projections.reading import history
from rosterlog.projections.reading.history import History, Question
from tests.conftest import TEMPLATE, fresh_database

FILTERS = ("type", "actor", "source", "class_id", "user_id", "group_id")
COMBINATIONS = list(
    chain.from_iterable(combinations(FILTERS, count) for count in range(len(FILTERS) + 1))
)
GROUPS, CLASSES, MEMBERS, PAGE = 5, 60, 40, 101


def events() -> Iterator[Any]:
    """Make a log in which types and sources are as unevenly spread as in life: first all users, then everything else."""
    users = [
        User.register(uuid4(), Provenance(f"office-{number % 7}", "import:2026"))
        for number in range(CLASSES * MEMBERS)
    ]
    groups = [Group.create(uuid4(), "North", Provenance("head-1", "api")) for _ in range(GROUPS)]
    for aggregate in (*users, *groups):
        yield from aggregate.collect_events()
    for number in range(CLASSES):
        by = Provenance(f"office-{number % 7}", "api")
        class_ = Class.create(uuid4(), groups[number % GROUPS].id, "Art", {}, by)
        for user in users[number * MEMBERS : (number + 1) * MEMBERS]:
            class_.enrol(user.id, Role.STUDENT, by)
            class_.change_role(user.id, Role.TEACHER, by)
        class_.rename("Music", by)
        yield from class_.collect_events()
    for user in users[::10]:
        user.remove(Provenance("head-1", "api"))
        yield from user.collect_events()


@pytest.fixture(scope="module")
def filled(server: EmbeddedPostgres) -> Iterator[Connection[Any]]:
    with fresh_database(server, TEMPLATE) as database:
        log, codec = PostgresLog(database, pool_size=1), EventCodec()
        log.insert_events([codec.to_stored_event(event) for event in events()])
        log.close()
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("ANALYZE log.events")
            connection.execute("ANALYZE log.endings")
            yield connection


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def check(connection: Connection[Any], question: Question, subject: UUID | None) -> None:
    statement, parameters = question.page(1, 10**9, PAGE, None)
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
    row = connection.execute(explain, {**parameters, "subject": subject}, prepare=False).fetchone()
    assert row is not None
    plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
    for node in nodes(plan[0]["Plan"]):
        # The endings are a handful here; of the log, nothing is ever read but through an index.
        assert (node["Node Type"], node.get("Relation Name")) != ("Seq Scan", "events"), plan
        if node["Node Type"] in {"Sort", "Incremental Sort"}:
            # Of what a class or user, who have few events, or a page of each run, has; never of the
            # log.
            assert node["Actual Rows"] <= 4 * PAGE, plan
        if "Rows Removed by Filter" in node:
            assert node["Rows Removed by Filter"] <= 1500, plan


@pytest.fixture(scope="module")
def sample(filled: Connection[Any]) -> dict[str, Any]:
    columns = "topic, actor, source, class_id, user_id, group_id"
    row = filled.execute(
        f"SELECT {columns} FROM log.events WHERE topic = 'RoleChanged' ORDER BY notification_id LIMIT 1"
    ).fetchone()
    assert row is not None
    return dict(zip(FILTERS, row, strict=True))


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    "asked",
    [history.EVERYTHING, history.CLASS, history.USER, history.GROUP],
    ids=lambda asked: asked.name,
)
def test_every_combination_goes_through_an_index(
    filled: Connection[Any], sample: dict[str, Any], asked: History, order: Any
) -> None:
    subject = sample.get(f"{asked.name.partition('-')[0]}_id")
    for names in COMBINATIONS:
        check(filled, Question(asked, order, {name: sample[name] for name in names}), subject)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    "asked",
    [history.EVERYTHING, history.CLASS, history.USER, history.GROUP],
    ids=lambda asked: asked.name,
)
def test_every_combination_goes_through_an_index_for_who_is_confined_too(
    filled: Connection[Any], sample: dict[str, Any], asked: History, order: Any
) -> None:
    rows = filled.execute(
        "SELECT DISTINCT group_id FROM log.events WHERE group_id <> %(group_id)s ORDER BY group_id LIMIT 2",
        sample,
    )
    groups = frozenset([sample["group_id"], *(group for (group,) in rows)])
    subject = sample.get(f"{asked.name.partition('-')[0]}_id")
    for names in COMBINATIONS:
        check(
            filled, Question(asked, order, {name: sample[name] for name in names}, groups), subject
        )


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_what_comes_late_in_the_log_is_found_without_walking_there(
    filled: Connection[Any], order: Any
) -> None:
    for filters in (
        {"type": "ClassRenamed"},
        {"source": "api"},
        {"type": "RoleChanged", "source": "api"},
        {"actor": "head-1"},
    ):
        check(filled, Question(history.EVERYTHING, order, filters), None)
    for nothing in (
        {"type": "ClassMoved", "source": "api"},
        {"actor": "head-1", "type": "UserRegistered"},
        {"actor": "nobody"},
    ):
        check(filled, Question(history.EVERYTHING, order, nothing), None)


def test_a_time_is_found_through_an_index(filled: Connection[Any]) -> None:
    question = Question(
        history.EVERYTHING,
        "asc",
        {"since": "2026-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"},
    )
    row = filled.execute(
        f"EXPLAIN (FORMAT JSON) {question.span()}", dict(question.filters)
    ).fetchone()
    assert row is not None
    assert {node["Node Type"] for node in nodes(row[0][0]["Plan"])}.isdisjoint({"Seq Scan", "Sort"})

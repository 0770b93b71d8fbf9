"""Projecting a whole log into shadow tables, against copying the same log out of the database."""

import random
import statistics
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import Connection

from benchmarks.server import database, say, server
from domain.classes import Class
from domain.event_codec import EventCodec
from domain.event_store import PostgresLog
from domain.groups import Group
from domain.users import User
from domain.values import Provenance, Role
from projections import shadow
from projections.projector import project
from projections.rebuild import BATCH
from projections.tables import SHADOW

EVENTS, CLASSES, USERS, ROUNDS = 100_000, 1_000, 5_000, 3
BY = Provenance("benchmark", source="api")


def measure() -> dict[str, Any]:
    ours, copies = [], []
    with server() as postgres:
        conninfo = database(postgres)
        _fill(conninfo)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE log.events")
            for number in range(1, ROUNDS + 1):
                ours.append(_project(connection))
                copies.append(_copy_out(connection))
                say(f"round {number} of {ROUNDS}: ours {ours[-1]:,.0f}/s, COPY out {copies[-1]:,.0f}/s")
    rate, baseline = statistics.median(ours), statistics.median(copies)
    return {
        "events": EVENTS,
        "ours_per_s": round(rate),
        "copy_out_per_s": round(baseline),
        "ratio_to_copy_out": round(rate / baseline, 3),
    }


def _fill(conninfo: str) -> None:
    """Record a log of enrolments, role changes and withdrawals, decided by the aggregates themselves."""
    log, codec = PostgresLog(conninfo), EventCodec()
    events = [codec.to_stored_event(event) for event in _events()]
    for start in range(0, len(events), BATCH):
        log.insert_events(events[start : start + BATCH])
    log.close()


def _events() -> Iterator[Any]:
    draw = random.Random(1)
    group = Group.create(uuid4(), "Benchmark", BY)
    users = [User.register(uuid4(), BY) for _ in range(USERS)]
    classes = [Class.create(uuid4(), group.id, "Benchmark", {}, BY) for _ in range(CLASSES)]
    for created in (group, *users, *classes):
        yield from created.collect_events()
    recorded = 1 + USERS + CLASSES
    while recorded < EVENTS:
        class_ = draw.choice(classes)
        _change(class_, draw.choice(users).id, draw)
        decided = class_.collect_events()
        recorded += len(decided)
        yield from decided


def _change(class_: Class, user: UUID, draw: random.Random) -> None:
    if user not in class_.members and (len(class_.members) < 30 or draw.random() < 0.5):
        class_.enrol(user, Role.STUDENT, BY)
    elif class_.members:
        member, role = draw.choice(list(class_.members.items()))
        if draw.random() < 0.5:
            class_.change_role(member, Role.TEACHER if role == Role.STUDENT else Role.STUDENT, BY)
        else:
            class_.withdraw(member, BY)


def _project(connection: Connection[Any]) -> float:
    shadow.create(connection)
    began = time.perf_counter()
    while project(connection, SHADOW, limit=BATCH).events:
        pass
    return EVENTS / (time.perf_counter() - began)


def _copy_out(connection: Connection[Any]) -> float:
    began = time.perf_counter()
    with connection.cursor() as cursor, cursor.copy("COPY (SELECT * FROM log.events ORDER BY notification_id) TO STDOUT") as copy:
        for _ in copy:
            pass
    return EVENTS / (time.perf_counter() - began)

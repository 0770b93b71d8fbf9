"""Enrolments over HTTP with 32 connections, each answer durable and visible, against a route of the same app that does nothing."""

import statistics
from typing import Any
from uuid import UUID, uuid4

from benchmarks.load import Measured, load, request
from benchmarks.server import database, say, server
from benchmarks.serving import EMPTY, serving
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Provenance

CONNECTIONS, ROUNDS, SECONDS, CLASS_SIZE, CLASSES = 32, 3, 5, 30, 3000
BY = Provenance("benchmark", source="api")


def measure() -> dict[str, Any]:
    commands: list[Measured] = []
    empty: list[float] = []
    with server() as postgres:
        conninfo = database(postgres)
        with serving(conninfo) as port:
            for number in range(1, ROUNDS + 1):
                enrolments = _enrolments(conninfo)
                empty.append(
                    load(port, [[request("GET", EMPTY)]] * CONNECTIONS, SECONDS, 204).per_s
                )
                commands.append(load(port, enrolments, SECONDS, 201))
                say(
                    f"round {number} of {ROUNDS}: commands {commands[-1]}, empty route {empty[-1]:,.0f}/s"
                )
    ours, baseline = statistics.median(one.per_s for one in commands), statistics.median(empty)
    return {
        "ours_per_s": round(ours, 1),
        "empty_route_per_s": round(baseline, 1),
        "ratio_to_empty_route": round(ours / baseline, 3),
        "p50_ms": round(statistics.median(one.p50_ms for one in commands), 2),
        "p99_ms": round(statistics.median(one.p99_ms for one in commands), 2),
    }


def _enrolments(conninfo: str) -> list[list[bytes]]:
    """Make classes and users, and return for each connection the requests that fill its classes."""
    log = PostgresLog(conninfo)
    roster = Roster(log)
    group, users, classes = (
        uuid4(),
        [uuid4() for _ in range(CLASS_SIZE)],
        [uuid4() for _ in range(CLASSES)],
    )
    roster.create_group(group, "Benchmark", BY)
    pending = [roster.register_user.submit(user, BY) for user in users]
    pending += [
        roster.create_class.submit(class_id, group, "Benchmark", {}, BY) for class_id in classes
    ]
    for outcome in pending:
        outcome.result()
    roster.close()
    log.close()
    return [
        [
            _enrolment(class_id, user)
            for class_id in classes[connection::CONNECTIONS]
            for user in users
        ]
        for connection in range(CONNECTIONS)
    ]


def _enrolment(class_id: UUID, user: UUID) -> bytes:
    return request(
        "POST", f"/v1/classes/{class_id}/members", {"user_id": str(user), "role": "student"}
    )

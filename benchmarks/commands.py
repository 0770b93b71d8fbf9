"""Enrolments over HTTP with 32 connections, each answer durable and visible.

Against a plain FastAPI application with one INSERT and no history. Beside them a route that does
nothing, of the service and of the plain application.
"""

import statistics
from typing import Any
from uuid import UUID, uuid4

from benchmarks.load import Measured, load, request
from benchmarks.plain import plain
from benchmarks.server import database, say, server
from benchmarks.serving import EMPTY, serving
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Provenance

CONNECTIONS, ROUNDS, SECONDS, CLASS_SIZE, CLASSES = 32, 3, 5, 30, 3000
BY = Provenance("benchmark", source="api")


def measure() -> dict[str, Any]:
    found: dict[str, list[Measured]] = {
        name: [] for name in ("ours", "plain", "empty_route", "plain_empty_route")
    }
    with server() as postgres:
        conninfo = database(postgres)
        with serving(conninfo) as ours, plain(conninfo) as theirs:
            for number in range(1, ROUNDS + 1):
                enrolments = _enrolments(conninfo)
                nothing = [[request("GET", EMPTY)]] * CONNECTIONS
                found["plain_empty_route"].append(load(theirs, nothing, SECONDS, 204))
                found["empty_route"].append(load(ours, nothing, SECONDS, 204))
                found["plain"].append(load(theirs, enrolments, SECONDS, 201))
                found["ours"].append(load(ours, enrolments, SECONDS, 201))
                say(f"round {number} of {ROUNDS}: { ({k: v[-1] for k, v in found.items()}) }")
    rates = {name: statistics.median(one.per_s for one in each) for name, each in found.items()}
    return {
        **{f"{name}_per_s": round(rate, 1) for name, rate in rates.items()},
        "ratio_to_plain": round(rates["ours"] / rates["plain"], 2),
        "ratio_of_empty_routes": round(rates["empty_route"] / rates["plain_empty_route"], 2),
        "ratio_to_empty_route": round(rates["ours"] / rates["empty_route"], 3),
        **{
            f"{name}_{percentile}": round(
                statistics.median(getattr(one, percentile) for one in found[name]), 2
            )
            for name in ("ours", "plain")
            for percentile in ("p50_ms", "p99_ms")
        },
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

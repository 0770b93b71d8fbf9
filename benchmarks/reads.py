"""A roster of 31 over HTTP, against the same through SQLAlchemy rows and a response model, and a route that does nothing."""

import statistics
from typing import Any
from uuid import UUID

import httpx

from benchmarks.load import Measured, load, request
from benchmarks.server import database, say, server
from benchmarks.serving import EMPTY, NAIVE, serving
from rosterlog.domain.log import sessions

CONNECTIONS, ROUNDS, SECONDS = 32, 3, 4
MEMBERS = 31
SMALL, LARGE = 10_000, 1_000_000
SAMPLE = 200
"""How many classes are read, each as often as the others."""

# Rows as the projector leaves them where rosters are set one class after the other, without the
# events: reads of the present don't look at the log.
FILL = """
    INSERT INTO roster.groups (id, name, created_at, updated_at, version) VALUES (md5('group')::uuid, 'Benchmark', now(), now(), 1);
    INSERT INTO roster.users (id, created_at, version) SELECT md5('user' || n)::uuid, now(), 1 FROM generate_series(1, {users}) AS n;
    INSERT INTO roster.classes (id, group_id, name, settings, created_at, updated_at, version)
    SELECT md5('class' || n)::uuid, md5('group')::uuid, 'Class ' || n, '{{}}', now(), now(), 32 FROM generate_series(1, {classes}) AS n;
    INSERT INTO roster.class_members (id, class_id, user_id, role, created_at)
    SELECT public.membership_id(class_id, user_id), class_id, user_id,
           CASE WHEN place = 0 THEN 'teacher' ELSE 'student' END::class_role, now()
    FROM (
        SELECT md5('class' || class)::uuid AS class_id, md5('user' || 1 + (class * 7 + place * 13) % {users})::uuid AS user_id, place
        FROM generate_series(1, {classes}) AS class CROSS JOIN generate_series(0, {members} - 1) AS place
        ORDER BY class, place
    ) AS member;
    ANALYZE
"""


def measure() -> dict[str, Any]:
    with server() as postgres:
        small = _filled(database(postgres), SMALL)
        large = _filled(database(postgres), LARGE)
        rates = _rates(large)
        latencies = _latencies(small, large)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return {
        **{f"{name}_per_s": round(rate, 1) for name, rate in medians.items()},
        "ratio_to_naive": round(medians["roster"] / medians["naive"], 2),
        "ratio_to_empty_route": round(medians["roster"] / medians["empty_route"], 3),
        "ratio_of_not_modified_to_empty_route": round(
            medians["not_modified"] / medians["empty_route"], 3
        ),
        **latencies,
    }


def _rates(conninfo: str) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {
        name: [] for name in ("roster", "naive", "empty_route", "not_modified")
    }
    with serving(conninfo) as port:
        rosters = [f"/v1/classes/{class_id}/members" for class_id in _classes(conninfo)]
        etags = [httpx.get(f"http://127.0.0.1:{port}{path}").headers["ETag"] for path in rosters]
        known = [(f"If-None-Match: {etag}",) for etag in etags]
        plans = {
            "roster": ([request("GET", path) for path in rosters], 200),
            "naive": (
                [request("GET", path.replace("/v1/classes", NAIVE)) for path in rosters],
                200,
            ),
            "empty_route": ([request("GET", EMPTY)], 204),
            "not_modified": (
                [
                    request("GET", path, headers=one)
                    for path, one in zip(rosters, known, strict=True)
                ],
                304,
            ),
        }
        for number in range(1, ROUNDS + 1):
            for name, (requests, expected) in plans.items():
                rates[name].append(_load(port, requests, expected, CONNECTIONS).per_s)
            say(
                f"round {number} of {ROUNDS}: "
                + ", ".join(f"{name} {found[-1]:,.0f}/s" for name, found in rates.items())
            )
    return rates


def _latencies(small: str, large: str) -> dict[str, float]:
    """Return the median latency of a roster, one request at a time, with few memberships in all and with many; in turns."""
    found: dict[str, list[float]] = {small: [], large: []}
    for _ in range(ROUNDS):
        for conninfo, medians in found.items():
            with serving(conninfo) as port:
                requests = [
                    request("GET", f"/v1/classes/{class_id}/members")
                    for class_id in _classes(conninfo)
                ]
                medians.append(_load(port, requests, 200, 1).p50_ms)
    few, many = statistics.median(found[small]), statistics.median(found[large])
    return {
        "p50_ms_at_10_000": round(few, 3),
        "p50_ms_at_1_000_000": round(many, 3),
        "ratio_of_latencies": round(many / few, 2),
    }


def _load(port: int, requests: list[bytes], expected: int, connections: int) -> Measured:
    # Each connection begins elsewhere, so that they do not all ask for the same.
    turned = [
        requests[place:] + requests[:place]
        for place in (number * len(requests) // connections for number in range(connections))
    ]
    return load(port, turned, SECONDS, expected)


def _filled(conninfo: str, memberships: int) -> str:
    classes = memberships // MEMBERS
    with sessions.connect(conninfo) as connection:
        connection.execute(FILL.format(users=max(1000, classes), classes=classes, members=MEMBERS))
    return conninfo


def _classes(conninfo: str) -> list[UUID]:
    with sessions.connect(conninfo, autocommit=False) as connection:
        return [
            row[0]
            for row in connection.execute(
                "SELECT id FROM roster.classes ORDER BY id LIMIT %s", [SAMPLE]
            )
        ]

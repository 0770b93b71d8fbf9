"""A roster of 31 over HTTP, of a few classes and of 20,000.

Against a plain FastAPI application with one statement that makes the JSON, against the same through
SQLAlchemy rows and a response model, and against a route that does nothing.
"""

import statistics
from typing import Any
from uuid import UUID

import httpx

from benchmarks.load import load, request
from benchmarks.plain import plain
from benchmarks.server import database, say, server
from benchmarks.serving import EMPTY, NAIVE, serving
from rosterlog.domain.log import sessions

CONNECTIONS, ROUNDS, SECONDS = 32, 3, 4
MEMBERS = 31
SMALL, LARGE = 10_000, 1_000_000
SAMPLE, MANY = 200, 20_000
"""How many classes are read, each as often as the others: few, and more than a process keeps."""

# Rows as the projector leaves them where rosters are set one class after the other, without the
# events: reads of the present don't look at the log.
FILL = """
    INSERT INTO roster.groups (id, name, created_at, updated_at, version)
    VALUES (md5('group')::uuid, 'Benchmark', now(), now(), 1);
    INSERT INTO roster.users (id, created_at, version)
    SELECT md5('user' || n)::uuid, now(), 1 FROM generate_series(1, {users}) AS n;
    INSERT INTO roster.classes (id, group_id, name, settings, created_at, updated_at, version)
    SELECT md5('class' || n)::uuid, md5('group')::uuid, 'Class ' || n, '{{}}', now(), now(), 32
    FROM generate_series(1, {classes}) AS n;
    INSERT INTO roster.class_members (id, class_id, user_id, role, created_at)
    SELECT public.membership_id(class_id, user_id), class_id, user_id,
           CASE WHEN place = 0 THEN 'teacher' ELSE 'student' END::public.class_role, now()
    FROM (
        SELECT md5('class' || class)::uuid AS class_id,
               md5('user' || 1 + (class * 7 + place * 13) % {users})::uuid AS user_id, place
        FROM generate_series(1, {classes}) AS class
        CROSS JOIN generate_series(0, {members} - 1) AS place
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
        "ratio_to_plain": round(medians["roster"] / medians["plain"], 2),
        "ratio_to_plain_of_many": round(medians["roster_of_many"] / medians["plain_of_many"], 2),
        "ratio_to_naive": round(medians["roster"] / medians["naive"], 2),
        "ratio_to_empty_route": round(medians["roster"] / medians["empty_route"], 3),
        "ratio_of_not_modified_to_empty_route": round(
            medians["not_modified"] / medians["empty_route"], 3
        ),
        **latencies,
    }


def _rates(conninfo: str) -> dict[str, list[float]]:
    with serving(conninfo) as ours, plain(conninfo) as theirs:
        few = [f"/v1/classes/{class_id}/members" for class_id in _classes(conninfo, SAMPLE)]
        many = _asked([f"/v1/classes/{one}/members" for one in _classes(conninfo, MANY)])
        etags = [httpx.get(f"http://127.0.0.1:{ours}{path}").headers["ETag"] for path in few]
        known = [
            request("GET", path, headers=(f"If-None-Match: {etag}",))
            for path, etag in zip(few, etags, strict=True)
        ]
        naive = [path.replace("/v1/classes", NAIVE) for path in few]
        plans = {
            "plain": (theirs, _turned(_asked(few), CONNECTIONS), 200),
            "roster": (ours, _turned(_asked(few), CONNECTIONS), 200),
            "plain_of_many": (theirs, _shared(many, CONNECTIONS), 200),
            "roster_of_many": (ours, _shared(many, CONNECTIONS), 200),
            "naive": (ours, _turned(_asked(naive), CONNECTIONS), 200),
            "empty_route": (ours, [_asked([EMPTY])] * CONNECTIONS, 204),
            "not_modified": (ours, _turned(known, CONNECTIONS), 304),
        }
        rates: dict[str, list[float]] = {name: [] for name in plans}
        for number in range(1, ROUNDS + 1):
            for name, (port, requests, expected) in plans.items():
                rates[name].append(load(port, requests, SECONDS, expected).per_s)
            say(f"round {number} of {ROUNDS}: { ({k: round(v[-1]) for k, v in rates.items()}) }")
    return rates


def _latencies(small: str, large: str) -> dict[str, float]:
    """Return the median latency of a roster, one request at a time.

    With few memberships in all and with many, in turns.
    """
    found: dict[str, list[float]] = {small: [], large: []}
    for _ in range(ROUNDS):
        for conninfo, medians in found.items():
            with serving(conninfo) as port:
                paths = [f"/v1/classes/{one}/members" for one in _classes(conninfo, SAMPLE)]
                medians.append(load(port, [_asked(paths)], SECONDS, 200).p50_ms)
    few, many = statistics.median(found[small]), statistics.median(found[large])
    return {
        "p50_ms_at_10_000": round(few, 3),
        "p50_ms_at_1_000_000": round(many, 3),
        "ratio_of_latencies": round(many / few, 2),
    }


def _asked(paths: list[str]) -> list[bytes]:
    return [request("GET", path) for path in paths]


def _turned(requests: list[bytes], connections: int) -> list[list[bytes]]:
    """Return all requests for each connection; each begins with another one."""
    return [
        requests[place:] + requests[:place]
        for place in (number * len(requests) // connections for number in range(connections))
    ]


def _shared(requests: list[bytes], connections: int) -> list[list[bytes]]:
    """Return for each connection its share of the requests."""
    return [requests[number::connections] for number in range(connections)]


def _filled(conninfo: str, memberships: int) -> str:
    classes = memberships // MEMBERS
    with sessions.connect(conninfo) as connection:
        connection.execute(FILL.format(users=max(1000, classes), classes=classes, members=MEMBERS))
    return conninfo


def _classes(conninfo: str, count: int) -> list[UUID]:
    with sessions.connect(conninfo, autocommit=False) as connection:
        return [
            row[0]
            for row in connection.execute(
                "SELECT id FROM roster.classes ORDER BY id LIMIT %s", [count]
            )
        ]

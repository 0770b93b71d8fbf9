"""Histories, past states and differences over HTTP, in a small and in a large log.

The large log is verified, too.

Each kind of question is asked of both in turns, by one client, about things drawn at random.
`growth` says how much longer the large takes. The baseline of the verification is the chain alone,
in one loop in Python.
"""

import http.client
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import psycopg

from benchmarks.district import FIRST, STEP, District, fill
from benchmarks.server import database, say, server
from rosterlog.domain.log import digest, sessions
from rosterlog.projections.verify.log_check import verify_log
from tests.serving import free_port

SIZES = {"small": 10_000, "large": 2_000_000}
ROUNDS, REQUESTS = 4, 100
WINDOW = 2_000
"""So many events lie in the time that an actor's history is asked for."""

Question = Callable[["Log"], str]


class Log:
    """A filled log that is served, and questions about it drawn at random."""

    def __init__(self, district: District, events: int, port: int) -> None:
        self._events = events
        self._draw = random.Random(7)
        self._client = http.client.HTTPConnection("127.0.0.1", port)
        self._district = district
        self._position = 0
        self._users = [user for user in district.users if user not in district.removed]
        self.took: dict[str, list[float]] = {}

    @property
    def class_id(self) -> UUID:
        return self._draw.choice(self._district.classes)

    @property
    def user_id(self) -> UUID:
        return self._draw.choice(self._users)

    @property
    def group_id(self) -> UUID:
        return self._draw.choice(self._district.groups)

    @property
    def actor(self) -> str:
        return f"office-{self._draw.randrange(200)}"

    def moment(self, *, after: int = 0) -> str:
        """Return a time in the later three quarters of the log, when everything exists.

        After the log's last event it is so many events later.
        """
        self._position = (
            self._position + after
            if after
            else self._draw.randrange(self._events // 4, self._events - WINDOW)
        )
        return quote((FIRST + self._position * STEP).isoformat())

    def ask(self, kind: str, path: str) -> None:
        began = time.perf_counter()
        self._client.request("GET", path)
        answer = self._client.getresponse()
        body = answer.read()
        self.took.setdefault(kind, []).append((time.perf_counter() - began) * 1000)
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {body[:500]!r}")


KINDS: dict[str, Question] = {
    "class_history": lambda log: f"/v1/classes/{log.class_id}/history",
    "user_history": lambda log: f"/v1/users/{log.user_id}/history",
    "group_history": lambda log: f"/v1/groups/{log.group_id}/history",
    "actor_and_time_range": lambda log: (
        f"/v1/history?actor={log.actor}&since={log.moment()}&until={log.moment(after=WINDOW)}"
    ),
    "as_of_roster": lambda log: f"/v1/classes/{log.class_id}/members?as_of={log.moment()}",
    "user_as_of": lambda log: f"/v1/users/{log.user_id}/memberships?as_of={log.moment()}",
    "group_rosters_as_of": lambda log: f"/v1/groups/{log.group_id}/rosters?as_of={log.moment()}",
    "diff": lambda log: (
        f"/v1/classes/{log.class_id}/diff?from={log.moment()}&to={log.moment(after=WINDOW)}"
    ),
    "group_diff": lambda log: (
        f"/v1/groups/{log.group_id}/diff?from={log.moment()}&to={log.moment(after=WINDOW)}"
    ),
}


def measure(sizes: dict[str, int] = SIZES, requests: int = REQUESTS) -> dict[str, Any]:
    with server() as postgres:
        databases = {size: database(postgres) for size in sizes}
        districts = {}
        for size, events in sizes.items():
            began = time.perf_counter()
            districts[size] = fill(databases[size], events)
            say(f"{size}: {events} events filled in in {time.perf_counter() - began:.0f} s")
        with serving(databases["small"]) as small, serving(databases["large"]) as large:
            logs = {
                "small": Log(districts["small"], sizes["small"], small),
                "large": Log(districts["large"], sizes["large"], large),
            }
            _ask(logs, requests)
        found: dict[str, Any] = {"events": sizes} | {kind: _figures(logs, kind) for kind in KINDS}
        return found | {"verify": _verify(databases["large"], sizes["large"])}


def _ask(logs: dict[str, Log], requests: int) -> None:
    for number in range(ROUNDS + 1):
        for kind, question in KINDS.items():
            for log in logs.values():
                for _ in range(requests):
                    log.ask(kind, question(log))
                if number == 0:
                    log.took[kind].clear()
        say(f"round {number} of {ROUNDS}" if number else "warmed up")


def _figures(logs: dict[str, Log], kind: str) -> dict[str, float]:
    figures = {}
    for size, log in logs.items():
        figures[f"p50_ms_{size}"] = round(statistics.median(log.took[kind]), 2)
        figures[f"p99_ms_{size}"] = round(statistics.quantiles(log.took[kind], n=100)[98], 2)
    return figures | {"growth": round(figures["p50_ms_large"] / figures["p50_ms_small"], 2)}


def _verify(conninfo: str, events: int) -> dict[str, float]:
    with sessions.connect(conninfo) as connection:
        ours, baseline = [], []
        for _ in range(2):
            ours.append(_rate(events, lambda: verify_log(connection)))
            baseline.append(_rate(events, lambda: _chain(connection)))
            say(f"verify: ours {ours[-1]:,.0f}/s, the chain alone in Python {baseline[-1]:,.0f}/s")
    rate, alone = statistics.median(ours), statistics.median(baseline)
    return {
        "ours_per_s": round(rate),
        "chain_in_python_per_s": round(alone),
        "ratio": round(rate / alone, 2),
    }


def _rate(events: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return events / (time.perf_counter() - began)


def _chain(connection: psycopg.Connection[Any]) -> None:
    columns = (
        "notification_id, originator_id, originator_version, topic, recorded_at, state, digest"
    )
    previous = digest.BEFORE_FIRST
    with connection.transaction(), connection.cursor("chain", binary=True) as cursor:
        cursor.itersize = 10_000
        for *event, found in cursor.execute(
            f"SELECT {columns} FROM log.events ORDER BY notification_id"
        ):
            previous = digest.link(previous, *event)
            assert previous == found


@contextmanager
def serving(conninfo: str) -> Iterator[int]:
    """Serve a database in a process of its own.

    Histories and past states are read from the log: the read tables stay empty.
    """
    with sessions.connect(conninfo) as connection:
        connection.execute(
            "UPDATE roster.checkpoint SET position = (SELECT max(notification_id) FROM log.events)"
        )
    port = free_port()
    environment = os.environ | {"ROSTERLOG_DATABASE_URL": conninfo, "ROSTERLOG_PORT": str(port)}
    with subprocess.Popen(
        [str(Path(sys.executable).with_name("rosterlog")), "serve"],
        env=environment,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            http.client.HTTPConnection("127.0.0.1", port).request("GET", "/healthz")
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return

"""10,000 enrolments in one request, validated, durable and visible.

And what a command costs in a class with a long history.
"""

import statistics
import time
from typing import Any
from uuid import UUID, uuid4

import httpx

from benchmarks.server import database, say, server
from benchmarks.serving import serving
from rosterlog.domain.items import MOST_ITEMS, Enrolment, Items, Registration
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Provenance, Role

ROUNDS, CLASS_SIZE, SHORT, LONG, COMMANDS = 3, 30, 10, 5_000, 300
BY = Provenance("benchmark", source="api")


def measure() -> dict[str, Any]:
    with server() as postgres:
        conninfo = database(postgres)
        log = PostgresLog(conninfo)
        roster = Roster(log)
        group = uuid4()
        roster.create_group(group, "Benchmark", BY)
        rates = _rates(conninfo, roster, group)
        short, long = _costs(roster, group)
        roster.close()
        log.close()
    return {
        "items": MOST_ITEMS,
        "items_per_s": round(statistics.median(rates)),
        f"command_ms_after_{SHORT}_events": round(short, 3),
        f"command_ms_after_{LONG}_events": round(long, 3),
        "ratio_of_history": round(long / short, 2),
    }


def _rates(conninfo: str, roster: Roster, group: UUID) -> list[float]:
    rates = []
    with serving(conninfo) as port:
        for number in range(1, ROUNDS + 1):
            users, classes = (
                _users(roster, MOST_ITEMS),
                _classes(roster, group, MOST_ITEMS // CLASS_SIZE + 1),
            )
            items = [
                {
                    "class_id": str(classes[index // CLASS_SIZE]),
                    "user_id": str(user),
                    "role": "student",
                }
                for index, user in enumerate(users)
            ]
            began = time.perf_counter()
            answer = httpx.post(
                f"http://127.0.0.1:{port}/v1/enrolments", json={"items": items}, timeout=60
            )
            rates.append(MOST_ITEMS / (time.perf_counter() - began))
            assert (answer.status_code, answer.json()["enrolled"]) == (200, MOST_ITEMS), answer.text
            say(f"round {number} of {ROUNDS}: {rates[-1]:,.0f} items/s")
    return rates


def _costs(roster: Roster, group: UUID) -> tuple[float, float]:
    """Return the median milliseconds of a command in a class with a short and a long history.

    The two are measured in turns.
    """
    users = _users(roster, LONG)
    short, long = _classes(roster, group, 2)
    for class_id, length in ((short, SHORT), (long, LONG)):
        roster.enrol_many(
            uuid4(),
            Items([Enrolment(class_id, user, Role.STUDENT) for user in users[: length - 1]]),
            BY,
        )
    took: dict[UUID, list[float]] = {short: [], long: []}
    for number in range(COMMANDS):
        for class_id, times in took.items():
            began = time.perf_counter()
            roster.change_role(class_id, users[0], Role.STUDENT if number % 2 else Role.TEACHER, BY)
            times.append((time.perf_counter() - began) * 1000)
    return statistics.median(took[short]), statistics.median(took[long])


def _users(roster: Roster, count: int) -> list[UUID]:
    users = [uuid4() for _ in range(count)]
    roster.register_many(uuid4(), Items([Registration(user) for user in users]), BY)
    return users


def _classes(roster: Roster, group: UUID, count: int) -> list[UUID]:
    classes = [uuid4() for _ in range(count)]
    for outcome in [
        roster.create_class.submit(class_id, group, "Benchmark", {}, BY) for class_id in classes
    ]:
        outcome.result()
    return classes

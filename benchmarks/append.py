"""Enrolments through `Roster`, against the same aggregates through the library's own application and recorder with their defaults."""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

from eventsourcing.application import Application
from psycopg.conninfo import conninfo_to_dict

from api.embedded import EmbeddedPostgres
from benchmarks.server import database, say, server
from domain.classes import Class
from domain.event_codec import EventCodec
from domain.event_store import PostgresLog
from domain.roster import Roster
from domain.values import Provenance, Role

WRITERS, ROUNDS, CLASS_SIZE, CLASSES_PER_WRITER = 32, 3, 30, 2
BY = Provenance("benchmark", source="api")


class Stock(Application[UUID]):
    """The library as it comes, but for the codec of our events."""

    def construct_mapper(self) -> EventCodec:
        return EventCodec()


def measure() -> dict[str, Any]:
    ours, library, missed = [], [], 0
    with server() as postgres:
        for number in range(1, ROUNDS + 1):
            rate, lost = _ours(postgres)
            ours.append(rate)
            missed += lost
            library.append(_library(postgres))
            say(f"round {number} of {ROUNDS}: ours {ours[-1]:.0f}/s, library {library[-1]:.0f}/s")
    rate, baseline = statistics.median(ours), statistics.median(library)
    return {
        "writers": WRITERS,
        "ours_per_s": round(rate, 1),
        "library_per_s": round(baseline, 1),
        "ratio_to_library": round(rate / baseline, 2),
        "missed": missed,
    }


def _ours(postgres: EmbeddedPostgres) -> tuple[float, int]:
    """Return enrolments a second, and how many positions the log lacks afterwards."""
    log = PostgresLog(database(postgres), pool_size=WRITERS)
    roster = Roster(log)
    group, users, classes = uuid4(), [uuid4() for _ in range(CLASS_SIZE)], [uuid4() for _ in range(WRITERS * CLASSES_PER_WRITER)]
    roster.create_group(group, "Benchmark", BY)
    for user in users:
        roster.register_user(user, BY)
    for class_id in classes:
        roster.create_class(class_id, group, "Benchmark", {}, BY)
    rate = _rate(classes, lambda class_id: [roster.enrol(class_id, user, Role.STUDENT, BY) for user in users])
    recorded = 1 + len(users) + len(classes) * (1 + CLASS_SIZE)
    missed = recorded - len(log.select_notifications(None, recorded + 1))
    roster.close()
    log.close()
    return rate, missed


def _library(postgres: EmbeddedPostgres) -> float:
    parts = conninfo_to_dict(database(postgres, migrated=False))
    environment = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(parts["dbname"]),
        "POSTGRES_HOST": str(parts["host"]),
        "POSTGRES_PORT": "5432",
        "POSTGRES_USER": "postgres",
        "POSTGRES_PASSWORD": "",
        "POSTGRES_POOL_SIZE": str(WRITERS),
    }
    group, users, classes = uuid4(), [uuid4() for _ in range(CLASS_SIZE)], [uuid4() for _ in range(WRITERS * CLASSES_PER_WRITER)]
    with Stock(environment) as application:
        for class_id in classes:
            application.save(Class.create(class_id, group, "Benchmark", {}, BY))

        def enrol_all(class_id: UUID) -> None:
            for user in users:
                class_: Class = application.repository.get(class_id)
                class_.enrol(user, Role.STUDENT, BY)
                application.save(class_)

        return _rate(classes, enrol_all)


def _rate(classes: list[UUID], fill: Callable[[UUID], object]) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(fill, classes))
    return len(classes) * CLASS_SIZE / (time.perf_counter() - began)

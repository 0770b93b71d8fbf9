"""Enrolments through `Roster` with 32 concurrent writers, and with one.

Against the library as it comes, and against PostgreSQL alone.
"""

import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID, uuid4

from psycopg.conninfo import conninfo_to_dict

from benchmarks.library import StockApplication, environment_of
from benchmarks.server import database, rate_of, say, server
from rosterlog.api.ops.embedded import Binaries, EmbeddedPostgres
from rosterlog.domain.classes import Class
from rosterlog.domain.log import sessions
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Provenance, Role

WRITERS, ROUNDS, CLASS_SIZE = 32, 3, 30
OUR_CLASSES, LIBRARY_CLASSES, ALONE_CLASSES = WRITERS * 20, WRITERS * 2, 50
PGBENCH_SECONDS, FOLLOW_SECONDS = 4, 0.02
BY = Provenance("benchmark", source="api")

# The library's table and statement, with a state as long as that of an enrolment.
TABLE = """
    CREATE TABLE public.stored_events (
        originator_id uuid NOT NULL,
        originator_version bigint NOT NULL,
        topic text,
        state bytea,
        notification_id bigserial,
        PRIMARY KEY (originator_id, originator_version)
    );
    CREATE UNIQUE INDEX stored_events_notification_id_index
        ON public.stored_events (notification_id)
"""
UNLOCKED_INSERT = """
INSERT INTO stored_events (originator_id, originator_version, topic, state) \
VALUES (gen_random_uuid(), 1, 'MemberEnrolled', decode(repeat('7b', 190), 'hex'));
"""
LOCKED_INSERT = f"""
BEGIN;
LOCK TABLE stored_events IN EXCLUSIVE MODE;
NOTIFY stored_events;{UNLOCKED_INSERT}COMMIT;
"""


def measure() -> dict[str, Any]:
    rates: dict[str, list[float]] = {
        name: [] for name in ("ours", "library", "locked_insert", "unlocked_insert")
    }
    alone: dict[str, list[float]] = {"one_caller_ms": [], "one_caller_locked_insert_ms": []}
    missed = 0
    with server() as postgres:
        for number in range(1, ROUNDS + 1):
            ours, lost = _ours(postgres)
            missed += lost
            rates["ours"].append(ours)
            rates["library"].append(_library(postgres))
            rates["locked_insert"].append(_pgbench(postgres, LOCKED_INSERT, WRITERS))
            rates["unlocked_insert"].append(_pgbench(postgres, UNLOCKED_INSERT, WRITERS))
            alone["one_caller_ms"].append(_alone(postgres))
            alone["one_caller_locked_insert_ms"].append(1000 / _pgbench(postgres, LOCKED_INSERT, 1))
            say(f"round {number} of {ROUNDS}: { ({k: v[-1] for k, v in (rates | alone).items()}) }")
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return {
        "writers": WRITERS,
        **{f"{name}_per_s": round(rate, 1) for name, rate in medians.items()},
        **{
            f"ratio_to_{name}": round(medians["ours"] / rate, 2)
            for name, rate in medians.items()
            if name != "ours"
        },
        **{name: round(statistics.median(found), 3) for name, found in alone.items()},
        "missed": missed,
    }


def _ours(postgres: EmbeddedPostgres) -> tuple[float, int]:
    """Return enrolments a second, and how many positions a follower missed.

    The follower reads the log all the while.
    """
    conninfo = database(postgres)
    log = PostgresLog(conninfo)
    roster = Roster(log)
    group, users, classes = (
        uuid4(),
        [uuid4() for _ in range(CLASS_SIZE)],
        [uuid4() for _ in range(OUR_CLASSES)],
    )
    roster.create_group(group, "Benchmark", BY)
    for user in users:
        roster.register_user(user, BY)
    with ThreadPoolExecutor(WRITERS) as writers:
        list(
            writers.map(
                lambda class_id: roster.create_class(class_id, group, "Benchmark", {}, BY), classes
            )
        )
    done = Event()
    with ThreadPoolExecutor(1) as threads:
        seen = threads.submit(_follow, conninfo, done)
        rate = _rate(
            classes,
            lambda class_id: [roster.enrol(class_id, user, Role.STUDENT, BY) for user in users],
        )
        done.set()
        missed = (log.max_notification_id() or 0) - seen.result()
    roster.close()
    log.close()
    return rate, missed


def _alone(postgres: EmbeddedPostgres) -> float:
    """Return the median milliseconds of one enrolment.

    One caller gives one after the other.
    """
    log = PostgresLog(database(postgres))
    roster = Roster(log)
    group, users, classes = (
        uuid4(),
        [uuid4() for _ in range(CLASS_SIZE)],
        [uuid4() for _ in range(ALONE_CLASSES)],
    )
    roster.create_group(group, "Benchmark", BY)
    for user in users:
        roster.register_user(user, BY)
    for class_id in classes:
        roster.create_class(class_id, group, "Benchmark", {}, BY)
    took = []
    for class_id in classes:
        for user in users:
            began = time.perf_counter()
            roster.enrol(class_id, user, Role.STUDENT, BY)
            took.append(time.perf_counter() - began)
    roster.close()
    log.close()
    return statistics.median(took) * 1000


def _follow(conninfo: str, done: Event) -> int:
    """Read the log by position until the writers are done and return how many events were seen."""
    seen = position = 0
    with sessions.connect(conninfo) as connection:
        last_look = False
        while not last_look:
            last_look = done.wait(FOLLOW_SECONDS)
            statement = (
                "SELECT count(*), max(notification_id) FROM log.events WHERE notification_id > %s"
            )
            count, upto = connection.execute(statement, [position]).fetchone() or (0, None)
            seen, position = seen + count, upto or position
    return seen


def _library(postgres: EmbeddedPostgres) -> float:
    environment = environment_of(database(postgres, migrated=False)) | {
        "POSTGRES_POOL_SIZE": str(WRITERS)
    }
    group, users, classes = (
        uuid4(),
        [uuid4() for _ in range(CLASS_SIZE)],
        [uuid4() for _ in range(LIBRARY_CLASSES)],
    )
    with StockApplication(environment) as application:
        for class_id in classes:
            application.save(Class.create(class_id, group, "Benchmark", {}, BY))

        def enrol_all(class_id: UUID) -> None:
            for user in users:
                class_: Class = application.repository.get(class_id)
                class_.enrol(user, Role.STUDENT, BY)
                application.save(class_)

        return _rate(classes, enrol_all)


def _rate(classes: list[UUID], fill: Callable[[UUID], object]) -> float:
    with ThreadPoolExecutor(WRITERS) as writers:
        return rate_of(lambda: list(writers.map(fill, classes)), len(classes) * CLASS_SIZE)


def _pgbench(postgres: EmbeddedPostgres, script: str, clients: int) -> float:
    """Return transactions a second of one script."""
    parts = conninfo_to_dict(database(postgres, migrated=False))
    with sessions.connect(postgres.conninfo(str(parts["dbname"]))) as connection:
        connection.execute(TABLE)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "script.sql"
        file.write_text(script)
        command = [
            Binaries.packaged()["pgbench"], "--no-vacuum", "--protocol=prepared",
            f"--client={clients}", f"--jobs={min(clients, 2)}", f"--time={PGBENCH_SECONDS}",
            f"--file={file}", f"--host={parts['host']}", "--username=postgres",
            str(parts["dbname"]),
        ]  # fmt: skip
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"tps = ([\d.]+)", printed)
    assert found is not None, printed
    return float(found[1])

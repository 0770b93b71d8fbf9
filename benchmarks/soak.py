"""An hour's worth of mixed traffic in minutes, at fixed rates: latencies, errors, memory, and whether the tables are right in the end."""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import uvloop

from benchmarks.open_loop import Answers, Client, offer
from benchmarks.server import database, say, server
from benchmarks.traffic import Traffic
from domain.event_store import PostgresLog
from domain.roster import Roster
from domain.values import Provenance

COMMANDS_PER_S, READS_PER_S, SECONDS = 500, 1_000, 180
CLASSES, USERS, CLASS_SIZE = 200, 2_000, 30
WARM_UP = 1 / 4
"""The share of the time after which memory has to stay flat: pools and caches are filled by then."""
DRAIN_SECONDS = 30
"""How long what is still waiting in the end may take."""
BY = Provenance("benchmark", source="api")
PROGRAM = str(Path(sys.executable).with_name("rosterlog"))


def measure(seconds: float = SECONDS, scale: float = 1.0) -> dict[str, Any]:
    """Offer commands and reads for so many seconds, at the full rates times `scale`."""
    with server() as postgres:
        conninfo = database(postgres)
        traffic = _prepared(conninfo)
        with _serving(conninfo) as (port, pid):
            answers, memory = uvloop.run(_soak(port, pid, traffic, seconds, scale))
        agrees = not answers.errors and not answers.waiting and _tables_hold(conninfo, traffic)
        verified = subprocess.run([PROGRAM, "verify"], env=_environment(conninfo), capture_output=True, check=False).returncode == 0
    reads = [one for kind, some in answers.latencies.items() if kind.startswith("read ") for one in some]
    commands = [one for kind, some in answers.latencies.items() if not kind.startswith("read ") for one in some]
    return {
        "seconds": seconds,
        "offered_commands_per_s": COMMANDS_PER_S * scale,
        "offered_reads_per_s": READS_PER_S * scale,
        "commands_per_s": round(len(commands) / seconds, 1),
        "reads_per_s": round(len(reads) / seconds, 1),
        **_percentiles("commands", commands),
        **_percentiles("reads", reads),
        "kinds": {kind: {"answers": len(some), **_percentiles("", some)} for kind, some in sorted(answers.latencies.items())},
        "errors": dict(answers.errors),
        "unanswered": answers.waiting,
        **_flatness(memory),
        "tables_hold_what_was_acknowledged": agrees,
        "tables_equal_rebuild": verified,
    }


def _prepared(conninfo: str) -> Traffic:
    """Record classes and users, and return the traffic about them."""
    log = PostgresLog(conninfo)
    roster = Roster(log)
    group, classes, users = uuid4(), [uuid4() for _ in range(CLASSES)], [uuid4() for _ in range(USERS)]
    roster.create_group(group, "Benchmark", BY)
    for user in users:
        roster.register_user(user, BY)
    for class_id in classes:
        roster.create_class(class_id, group, "Benchmark", {}, BY)
    roster.close()
    log.close()
    seats = [(class_id, users[(number * 7 + place) % USERS]) for number, class_id in enumerate(classes) for place in range(CLASS_SIZE)]
    return Traffic(group, classes, users, seats)


@contextmanager
def _serving(conninfo: str) -> Iterator[tuple[int, int]]:
    """Serve as an operator does, and yield port and process id."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {**_environment(conninfo), "ROSTERLOG_PORT": str(port)}
    with subprocess.Popen([PROGRAM, "serve"], env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}/readyz", process)
            yield port, process.pid
        finally:
            process.terminate()


def _environment(conninfo: str) -> dict[str, str]:
    return {**os.environ, "ROSTERLOG_DATABASE_URL": conninfo}


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError("the service ended while it started")


async def _soak(port: int, pid: int, traffic: Traffic, seconds: float, scale: float) -> tuple[Answers, list[float]]:
    """Return the answers, and the service's memory in MiB at each second."""
    client = Client(port, Answers())
    await client.connect()
    memory: list[float] = []
    sampling = asyncio.create_task(_sample(pid, client.answers, memory))
    await offer(client, {traffic.command: COMMANDS_PER_S * scale, traffic.read: READS_PER_S * scale}, seconds)
    until = time.monotonic() + DRAIN_SECONDS
    while client.answers.waiting and time.monotonic() < until:
        await asyncio.sleep(0.1)
    sampling.cancel()
    client.close()
    return client.answers, memory


async def _sample(pid: int, answers: Answers, memory: list[float]) -> None:
    while True:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        memory.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        if len(memory) % 10 == 0:
            say(f"{len(memory)} s: {memory[-1]:.0f} MiB, {answers.waiting} waiting, errors {sum(answers.errors.values())}")
        await asyncio.sleep(1)


def _flatness(memory: list[float]) -> dict[str, float]:
    """Return memory after the warm-up and at the end, each as the median of a tenth of the samples."""
    tenth = max(1, len(memory) // 10)
    warm = int(len(memory) * WARM_UP)
    after, end = statistics.median(memory[warm : warm + tenth]), statistics.median(memory[-tenth:])
    return {
        "rss_start_mib": round(memory[0], 1),
        "rss_after_warm_up_mib": round(after, 1),
        "rss_end_mib": round(end, 1),
        "rss_max_mib": round(max(memory), 1),
        "rss_growth_percent": round(100 * (end / after - 1), 1),
    }


def _percentiles(of: str, latencies: list[float]) -> dict[str, float | None]:
    """Return median and 99th percentile in milliseconds, counted from when each request was due."""
    prefix = f"{of}_" if of else ""
    ranked = sorted(latencies)
    return {f"{prefix}p{share}_ms": round(1000 * ranked[len(ranked) * share // 100], 2) if ranked else None for share in (50, 99)}


def _tables_hold(conninfo: str, traffic: Traffic) -> bool:
    with psycopg.connect(conninfo) as connection:
        found = {(row[0], row[1]): row[2] for row in connection.execute("SELECT class_id, user_id, role::text FROM roster.class_members")}
    return found == traffic.roles

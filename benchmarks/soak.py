"""An hour's worth of mixed traffic in minutes, at fixed rates.

Measured are latencies, errors, memory, and whether the tables are right in the end.
"""

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvloop

from benchmarks.open_loop import Answers, Client, offer
from benchmarks.server import database, say, server
from benchmarks.traffic import Traffic
from rosterlog.domain.log import sessions
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Provenance

COMMANDS_PER_S, READS_PER_S, SECONDS = 500, 1_000, 180
CLASSES, USERS, CLASS_SIZE = 200, 2_000, 30
WARM_UP = 1 / 4
"""The share of the time after which memory has to stay flat.

Pools and caches are filled by then.
"""
DRAIN_SECONDS = 30
"""Seconds that requests which still wait in the end may take."""
BY = Provenance("benchmark", source="api")
PROGRAM = str(Path(sys.executable).with_name("rosterlog"))


def measure(seconds: float = SECONDS, scale: float = 1.0) -> dict[str, Any]:
    """Offer commands and reads for so many seconds, at the full rates times `scale`."""
    with server() as postgres:
        conninfo = database(postgres)
        traffic = _prepared(conninfo)
        with _serving(conninfo) as (port, pid):
            soaked = uvloop.run(_soak(port, pid, traffic, seconds, scale))
        known = not soaked.commands.errors and not soaked.commands.waiting
        agrees = _tables_hold(conninfo, traffic) if known else None
        verified = (
            subprocess.run(
                [PROGRAM, "verify"], env=_environment(conninfo), capture_output=True, check=False
            ).returncode
            == 0
        )
    kinds = sorted({**soaked.commands.latencies, **soaked.reads.latencies}.items())
    return {
        "seconds": seconds,
        **_figures("commands", COMMANDS_PER_S * scale, soaked.commands, soaked.seconds),
        **_figures("reads", READS_PER_S * scale, soaked.reads, soaked.seconds),
        "kinds": {kind: {"answers": len(some), **_percentiles(some)} for kind, some in kinds},
        "errors": dict(soaked.commands.errors + soaked.reads.errors),
        "client_cores": round(soaked.client_cpu / soaked.seconds, 2),
        "service_cores": round(soaked.service_cpu / soaked.seconds, 2),
        **_flatness(soaked.memory),
        "tables_hold_what_was_acknowledged": agrees,
        "tables_equal_rebuild": verified,
    }


@dataclass
class _Soaked:
    """The answers, the service's memory, and seconds.

    Memory is in MiB at each second; the seconds are those until the last answer, and of CPU.
    """

    commands: Answers = field(default_factory=Answers)
    reads: Answers = field(default_factory=Answers)
    memory: list[float] = field(default_factory=list)
    seconds: float = 0.0
    client_cpu: float = 0.0
    service_cpu: float = 0.0

    @property
    def waiting(self) -> int:
        return self.commands.waiting + self.reads.waiting


def _prepared(conninfo: str) -> Traffic:
    """Record classes and users, and return the traffic about them."""
    log = PostgresLog(conninfo)
    roster = Roster(log)
    group, classes, users = (
        uuid4(),
        [uuid4() for _ in range(CLASSES)],
        [uuid4() for _ in range(USERS)],
    )
    roster.create_group(group, "Benchmark", BY)
    for user in users:
        roster.register_user(user, BY)
    for class_id in classes:
        roster.create_class(class_id, group, "Benchmark", {}, BY)
    roster.close()
    log.close()
    seats = [
        (class_id, users[(number * 7 + place) % USERS])
        for number, class_id in enumerate(classes)
        for place in range(CLASS_SIZE)
    ]
    return Traffic(group, classes, users, seats)


@contextmanager
def _serving(conninfo: str) -> Iterator[tuple[int, int]]:
    """Serve as an operator does, and yield port and process id."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {**_environment(conninfo), "ROSTERLOG_PORT": str(port)}
    with subprocess.Popen(
        [PROGRAM, "serve"], env=environment, stderr=subprocess.DEVNULL
    ) as process:
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


async def _soak(port: int, pid: int, traffic: Traffic, seconds: float, scale: float) -> _Soaked:
    soaked = _Soaked()
    commands, reads = Client(port, soaked.commands), Client(port, soaked.reads)
    await asyncio.gather(commands.connect(), reads.connect())
    sampling = asyncio.create_task(_sample(pid, soaked))
    began, client, service = time.perf_counter(), time.process_time(), _cpu(pid)
    await asyncio.gather(
        offer(traffic.command, commands, COMMANDS_PER_S * scale, seconds),
        offer(traffic.read, reads, READS_PER_S * scale, seconds),
    )
    while soaked.waiting and time.perf_counter() < began + seconds + DRAIN_SECONDS:
        await asyncio.sleep(0.01)
    soaked.seconds = time.perf_counter() - began
    soaked.client_cpu, soaked.service_cpu = time.process_time() - client, _cpu(pid) - service
    sampling.cancel()
    commands.close()
    reads.close()
    return soaked


def _cpu(pid: int) -> float:
    """Return how many seconds of CPU a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _sample(pid: int, soaked: _Soaked) -> None:
    while True:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        soaked.memory.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        if len(soaked.memory) % 10 == 0:
            waiting = f"{soaked.commands.waiting} commands and {soaked.reads.waiting} reads wait"
            say(f"{len(soaked.memory)} s: {soaked.memory[-1]:.0f} MiB, {waiting}")
        await asyncio.sleep(1)


def _figures(of: str, offered: float, answers: Answers, seconds: float) -> dict[str, float | None]:
    latencies = [one for some in answers.latencies.values() for one in some]
    return {
        f"offered_{of}_per_s": offered,
        f"{of}_per_s": round(len(latencies) / seconds, 1),
        **{f"{of}_{name}": value for name, value in _percentiles(latencies).items()},
        f"{of}_unanswered": answers.waiting,
    }


def _flatness(memory: list[float]) -> dict[str, float]:
    """Return memory after the warm-up and at the end.

    Each is the median of a tenth of the samples.
    """
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


def _percentiles(latencies: list[float]) -> dict[str, float | None]:
    """Return median and 99th percentile in milliseconds, counted from when each request was due."""
    ranked = sorted(latencies)
    return {
        f"p{share}_ms": round(1000 * ranked[len(ranked) * share // 100], 2) if ranked else None
        for share in (50, 99)
    }


def _tables_hold(conninfo: str, traffic: Traffic) -> bool:
    with sessions.connect(conninfo, autocommit=False) as connection:
        found = {
            (row[0], row[1]): row[2]
            for row in connection.execute(
                "SELECT class_id, user_id, role::text FROM roster.class_members"
            )
        }
    return found == traffic.roles

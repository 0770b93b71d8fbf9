"""How long after its commit a change is visible, and how long its own command waits.

Commands come in at a steady rate meanwhile.

The load is open: commands are due at fixed times, whether or not those before them are done.
"""

import asyncio
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.server import database, say, server
from rosterlog.domain.log import sessions
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Provenance, Role
from rosterlog.projections.following.follower import Follower
from rosterlog.projections.shared_sql import PROJECTED_CHANNEL

RATE, SECONDS, WARM_UP, CLASSES, USERS, THREADS = 500, 20, 3, 200, 500, 32
BY = Provenance("benchmark", source="api")
PROGRAM = str(Path(sys.executable).with_name("rosterlog"))


def measure(seconds: float = SECONDS) -> dict[str, Any]:
    with server() as postgres:
        conninfo = database(postgres)
        projector = subprocess.Popen(
            [PROGRAM, "project"], env={**os.environ, "ROSTERLOG_DATABASE_URL": conninfo}
        )
        log = PostgresLog(conninfo, pool_size=THREADS)
        try:
            load = _Load(conninfo, Roster(log))
            load.run(WARM_UP)
            figures = load.run(seconds)
        finally:
            log.close()
            projector.send_signal(signal.SIGTERM)
            projector.wait()
    return figures


class _Load:
    def __init__(self, conninfo: str, roster: Roster) -> None:
        self._conninfo = conninfo
        self._roster = roster
        self._draw = random.Random(1)
        group = uuid4()
        roster.create_group(group, "Benchmark", BY)
        self._users = [uuid4() for _ in range(USERS)]
        self._classes = [uuid4() for _ in range(CLASSES)]
        for user in self._users:
            roster.register_user(user, BY)
        for class_id in self._classes:
            roster.create_class(class_id, group, "Benchmark", {}, BY)
        self._pairs = [(class_id, user) for class_id in self._classes for user in self._users]
        self._draw.shuffle(self._pairs)

    def run(self, seconds: float) -> dict[str, Any]:
        committed, waits, visible = dict[int, float](), list[float](), list[tuple[int, float]]()
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        visibility = Follower.of_tables(self._conninfo)
        loop.call_soon_threadsafe(visibility.start)
        stop = threading.Event()
        watching = threading.Thread(target=self._watch, args=[visible, stop])
        watching.start()

        def command(class_id: Any, user: Any) -> None:
            position = self._roster.enrol(class_id, user, Role.STUDENT, BY).position
            committed[position] = done = time.perf_counter()
            asyncio.run_coroutine_threadsafe(visibility.reached(position, 30), loop).result()
            waits.append(time.perf_counter() - done)

        began = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as threads:
            futures = []
            for number in range(int(RATE * seconds)):
                time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
                futures.append(threads.submit(command, *self._pairs.pop()))
            for future in futures:
                future.result()
        rate = len(committed) / (time.perf_counter() - began)
        stop.set()
        watching.join()
        asyncio.run_coroutine_threadsafe(visibility.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        lags = sorted(_lags(committed, visible))
        say(f"{rate:.0f} commands/s; {len(lags)} of {len(committed)} seen")
        return {
            "commands_per_s": round(rate, 1),
            "p50_ms": round(statistics.median(lags) * 1000, 2),
            "p99_ms": round(lags[int(len(lags) * 0.99)] * 1000, 2),
            "wait_p50_ms": round(statistics.median(waits) * 1000, 2),
        }

    def _watch(self, visible: list[tuple[int, float]], stop: threading.Event) -> None:
        """Note when the read tables reflected which position."""
        with sessions.connect(self._conninfo) as connection:
            connection.execute(f"LISTEN {PROJECTED_CHANNEL}")
            while not stop.is_set():
                visible.extend(
                    (int(hint.payload), time.perf_counter())
                    for hint in connection.notifies(timeout=0.5)
                )


def _lags(committed: dict[int, float], visible: list[tuple[int, float]]) -> list[float]:
    """Return the seconds from each commit until the read tables reflected it."""
    lags, remaining = [], iter(sorted(visible))
    upto, seen = next(remaining, (0, 0.0))
    for position in sorted(committed):
        while upto < position:
            upto, seen = next(remaining, (sys.maxsize, float("nan")))
        if upto != sys.maxsize:
            lags.append(max(0.0, seen - committed[position]))
    return lags

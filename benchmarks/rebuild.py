"""Rebuilding a million events while the API serves readers.

Against copying the same log out, and against the library's runner.

Rebuild and copy run in turns, each beside the same readers. The rebuild counts from its first
statement to its switch, but for the comparison, which is told apart.
"""

import contextlib
import itertools
import multiprocessing
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import httpx
from psycopg import Connection

from benchmarks.library import events_per_second
from benchmarks.rosters import District, record
from benchmarks.server import database, say, server
from rosterlog.domain.events import RosterEvent
from rosterlog.domain.log import sessions
from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.projections.projector.projector import project
from rosterlog.projections.rebuild.rebuilding import Rebuild
from rosterlog.projections.tables import SCHEMA

EVENTS, CLASSES, ROUNDS, READERS, READER_PAUSE = 1_000_000, 20_000, 3, 4, 0.02
LIVE = 500
"""Events that are projected one by one, at each size of the log, to see what that costs."""
LIBRARY_EVENTS, LIBRARY_CLASSES = 8_000, 160
"""How many events the library projects in some ten seconds.

Each class has as many events as in the whole log.
"""

PROGRAM = str(Path(sys.executable).with_name("rosterlog"))


def measure(
    events: int = EVENTS, classes: int = CLASSES, library_events: int = LIBRARY_EVENTS
) -> dict[str, Any]:
    with server() as postgres:
        codec = EventCodec()
        slice_ = [
            codec.to_stored_event(event)
            for event in islice(District(LIBRARY_CLASSES).events(), library_events)
        ]
        library = events_per_second(database(postgres), slice_)
        say(f"the library: {library:,.0f}/s")
        conninfo = database(postgres)
        district = District(classes)
        happening = district.events()
        for size in (events // 10, events):
            _grow(conninfo, happening, size)
        with _readers(conninfo, [str(class_.id) for class_ in district.classes]) as counted:
            rounds = [_round(conninfo, events) for _ in range(ROUNDS)]
        reads, failed = counted
        ours, copies, compare, rss = (
            statistics.median(column) for column in zip(*rounds, strict=True)
        )
    return {
        "events": events,
        "ours_per_s": round(ours),
        "library_per_s": round(library, 1),
        "copy_out_per_s": round(copies),
        "ratio_to_library": round(ours / library, 1),
        "ratio_to_copy_out": round(ours / copies, 3),
        "reads": reads.value,
        "failed_reads": failed.value,
        "peak_rss_mb": round(rss, 1),
        "compare_s": round(compare, 2),
    }


def _grow(conninfo: str, happening: Iterator[RosterEvent], events: int) -> None:
    """Let the log grow to so many events, and say what an event costs then.

    In a rebuild, and one by one in the live tables.
    """
    with sessions.connect(conninfo) as connection:
        record(conninfo, happening, events - LIVE - _head(connection))
        connection.execute("VACUUM ANALYZE log.events")
        state = Rebuild(conninfo).run()
        assert state.started_at is not None
        assert state.updated_at is not None
        rebuilding = (state.updated_at - state.started_at).total_seconds() - (
            state.compare_seconds or 0
        )
        record(conninfo, happening, LIVE)
        began = time.perf_counter()
        while project(connection, SCHEMA, limit=1).events:
            pass
        live = (time.perf_counter() - began) / LIVE
        say(
            f"{events:,} events: {rebuilding / state.done * 1e6:.1f} µs an event in a "
            f"rebuild, {live * 1e3:.2f} ms one by one, live"
        )


def _head(connection: Connection[Any]) -> int:
    row = connection.execute("SELECT coalesce(max(notification_id), 0) FROM log.events").fetchone()
    assert row is not None
    return int(row[0])


def _round(conninfo: str, events: int) -> tuple[float, float, float, float]:
    """Return events a second of a rebuild and of copying out.

    And the seconds of comparing, and the peak memory of the rebuild in MB.
    """
    copied = _copy_out(conninfo, events)
    process = subprocess.Popen(
        [PROGRAM, "rebuild"],
        env={**os.environ, "ROSTERLOG_DATABASE_URL": conninfo},
        stdout=sys.stderr,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, "the rebuild failed"
    with sessions.connect(conninfo, autocommit=False) as connection:
        statement = (
            "SELECT extract(epoch FROM updated_at - started_at)::float8, compare_seconds FROM "
            "projections.rebuilds"
        )
        whole, compare = connection.execute(
            f"{statement} ORDER BY started_at DESC LIMIT 1"
        ).fetchone() or (0, 0)
    ours = events / (whole - compare)
    say(
        f"ours {ours:,.0f}/s, COPY out {copied:,.0f}/s, compared in {compare:.2f} s, "
        f"{usage.ru_maxrss / 1024:.0f} MB"
    )
    return ours, copied, compare, usage.ru_maxrss / 1024


def _copy_out(conninfo: str, events: int) -> float:
    with sessions.connect(conninfo, autocommit=False) as connection, connection.cursor() as cursor:
        began = time.perf_counter()
        with cursor.copy(
            "COPY (SELECT * FROM log.events ORDER BY notification_id) TO STDOUT"
        ) as copy:
            for _ in copy:
                pass
        return events / (time.perf_counter() - began)


@contextlib.contextmanager
def _readers(conninfo: str, classes: list[str]) -> Iterator[tuple[Any, Any]]:
    """Serve the API, and read from it in processes of their own.

    Yield the counts of reads and of those that failed.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "ROSTERLOG_DATABASE_URL": conninfo, "ROSTERLOG_PORT": str(port)}
    serving = subprocess.Popen([PROGRAM, "serve"], env=environment, stdout=sys.stderr)
    counts = (multiprocessing.Value("q", 0), multiprocessing.Value("q", 0))
    readers = [
        multiprocessing.Process(target=_read, args=(url, classes, seed, *counts), daemon=True)
        for seed in range(READERS)
    ]
    try:
        _wait_until_ready(url)
        for reader in readers:
            reader.start()
        yield counts
    finally:
        for reader in readers:
            if reader.pid is not None:
                reader.terminate()
                reader.join()
        serving.send_signal(signal.SIGTERM)
        serving.wait()


def _wait_until_ready(url: str) -> None:
    with httpx.Client() as client:
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                if client.get(f"{url}/readyz").status_code == 200:
                    return
            time.sleep(0.1)
    raise TimeoutError("the service did not become ready")


def _read(
    url: str, classes: list[str], seed: int, reads: "Synchronized[int]", failed: "Synchronized[int]"
) -> None:
    """Read rosters and lists, each of which must be whole.

    A read fails where a class is missing, or a roster is another than before.
    """
    draw, known = random.Random(seed), dict[str, str]()
    own = draw.sample(classes, min(200, len(classes)))
    with httpx.Client(base_url=url, timeout=30) as client:
        for number in itertools.count():
            class_id = draw.choice(own)
            try:
                roster = client.get(f"/v1/classes/{class_id}/members?limit=1000")
                page = client.get("/v1/classes?limit=10") if number % 10 == 0 else roster
                whole = (
                    roster.status_code == page.status_code == 200
                    and known.setdefault(class_id, roster.text) == roster.text
                )
                whole = whole and (page is roster or len(page.json()["items"]) == 10)
            except httpx.HTTPError:
                whole = False
            with reads.get_lock(), failed.get_lock():
                reads.value += 1
                failed.value += not whole
            time.sleep(READER_PAUSE)

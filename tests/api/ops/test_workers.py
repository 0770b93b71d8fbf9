"""A worker that is killed while it starts is replaced at once.

It keeps nobody from ending the service.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.api.processes import SECONDS, environment
from tests.domain.threads import eventually
from tests.serving import free_port

LOOKS_SECONDS = 2.0
"""Longer than the service leaves between two looks at its workers, 0.5 s."""

# For a worker's sign of life it would wait for longer than this test may take.
_SERVE = """
import sys
from rosterlog.api.cli import main as cli
from rosterlog.api.http import server
from rosterlog.api.ops import workers
workers.END_SECONDS = 3.0
server.OPTIONS["timeout_worker_healthcheck"] = 100_000
sys.argv = ["rosterlog", "serve"]
cli.main()
"""


@contextmanager
def serving(database: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    settings = environment(
        {"DATABASE_URL": database, "PORT": str(port), "WORKERS": "2", "ACCESS_LOG": "false"}
    )
    with subprocess.Popen([sys.executable, "-c", _SERVE], env=settings) as process:
        try:
            yield process
        finally:
            process.kill()


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the ids of the workers, as soon as both are there.

    Processes that multiprocessing starts for itself are no workers.
    """
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    found = [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return found if len(found) == 2 else []


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def freeze(process: subprocess.Popen[bytes]) -> list[int]:
    """Stop both workers while they start.

    Then the service waits for a sign of life of one that can't give any.
    """
    starting: list[int] = eventually(lambda: workers(process))
    for worker in starting:
        os.kill(worker, signal.SIGSTOP)
    time.sleep(LOOKS_SECONDS)
    return starting


def test_workers_that_are_killed_while_they_start_are_replaced(database: str) -> None:
    port = free_port()
    with serving(database, port) as process:
        first = freeze(process)
        for worker in first:
            os.kill(worker, signal.SIGKILL)
        eventually(lambda: is_ready(port))
        assert not set(first) & set(workers(process))
        process.terminate()
        assert process.wait(SECONDS) == 0


def test_a_service_whose_workers_do_not_start_ends_when_it_is_told_to(database: str) -> None:
    with serving(database, free_port()) as process:
        killed, frozen = freeze(process)
        os.kill(killed, signal.SIGKILL)
        process.terminate()
        assert process.wait(SECONDS) == 0
        eventually(lambda: not Path(f"/proc/{frozen}").exists())

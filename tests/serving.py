"""`rosterlog serve` as a process of its own, as an operator runs it."""

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 120
# Below those that the system gives to connections and to listeners without a wish; tests in other
# processes begin elsewhere.
_PORTS = itertools.cycle(random.sample(range(20_000, 32_768), 12_768))


@dataclass(frozen=True)
class Serving:
    url: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes]


def free_port() -> int:
    """Return a port that nobody takes before the service does, be it started late: never the same twice, and none of the system's own."""
    for port in _PORTS:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError


PROGRAM = Path(sys.executable).parent / "rosterlog"


@contextmanager
def serving(
    data_dir: Path, program: Path = PROGRAM, start_in: Path | None = None
) -> Iterator[Serving]:
    """Serve on an embedded PostgreSQL in `data_dir` until the context ends, by SIGTERM."""
    port = free_port()
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("ROSTERLOG_")
    }
    environment = {**inherited, "ROSTERLOG_DATA_DIR": str(data_dir), "ROSTERLOG_PORT": str(port)}
    process = subprocess.Popen([str(program), "serve"], env=environment, cwd=start_in)
    try:
        running = Serving(f"http://127.0.0.1:{port}", environment, process)
        _wait_until_ready(running)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_SECONDS)


def _wait_until_ready(running: Serving) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        assert running.process.poll() is None, "the service ended while it started"
        if _is_ready(running.url):
            return
        time.sleep(0.1)
    raise AssertionError("the service did not become ready")


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=30) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return False
    except OSError:
        return False

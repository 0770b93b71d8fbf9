"""The program `rosterlog` as an operator runs it, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 120

PROGRAM = str(Path(sys.executable).with_name("rosterlog"))


def environment(settings: dict[str, str]) -> dict[str, str]:
    """Return our environment with these settings, without the prefix, and no others of Rosterlog's."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("ROSTERLOG_")}
    return ours | {f"ROSTERLOG_{name}": value for name, value in settings.items()}


def rosterlog(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [PROGRAM, *arguments]
    return subprocess.run(command, env=environment(settings), cwd="/", capture_output=True, text=True, timeout=SECONDS, check=False)


def succeeds(*arguments: str, **settings: str) -> str:
    """Run a command that must succeed, and return what it prints."""
    ended = rosterlog(*arguments, **settings)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@contextmanager
def started(*arguments: str, stderr: int | None = None, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command, and kill it if it still runs in the end."""
    with subprocess.Popen([PROGRAM, *arguments], env=environment(settings), cwd="/", stderr=stderr) as process:
        try:
            yield process
        finally:
            process.kill()

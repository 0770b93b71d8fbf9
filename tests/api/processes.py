"""The program `rosterlog` as an operator runs it, in a process of its own.

Importing the program takes most of the time of a start, so the process is forked from one
that has imported the program and done nothing else. `tests/serving.py` starts it from nothing.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from rosterlog.api.cli import main as cli

SECONDS = 120

PROGRAM = str(Path(sys.executable).with_name("rosterlog"))

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload([__name__])


class Program(subprocess.Popen[bytes]):
    """`rosterlog` with arguments, where a `subprocess.Popen` is expected."""

    def __init__(
        self,
        *arguments: str,
        env: dict[str, str],
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        """Start it in `/`. An output is ours or another file; `stderr` may be a pipe, too."""
        command = [PROGRAM, *arguments]
        self.args = command
        self.stdin = self.stdout = self.stderr = None
        self.returncode = None
        pipe = os.pipe() if stderr == subprocess.PIPE else ()
        errors = pipe[1] if pipe else 2 if stderr is None else stderr
        outputs = (1 if stdout is None else stdout, errors)
        self._process = _forking.Process(target=_Main(command, env, outputs))
        self._process.start()
        self.pid = self._process.pid or 0
        if pipe:
            os.close(pipe[1])
            self.stderr = os.fdopen(pipe[0], "rb")

    def poll(self) -> int | None:
        """Return its status once it has ended; minus the number of the signal that ended it."""
        self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its status. Raises `subprocess.TimeoutExpired`."""
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def communicate(
        self,
        input: bytes | None = None,  # noqa: A002
        timeout: float | None = None,
    ) -> tuple[bytes, bytes]:
        """Return what it writes until its end. Raises `subprocess.TimeoutExpired`."""
        assert input is None
        written = self.stderr.read() if self.stderr else b""
        self.wait(timeout)
        return b"", written

    def send_signal(self, sig: int) -> None:
        """Send a signal, where it still runs."""
        if self.poll() is None:
            os.kill(self.pid, sig)


class _Main:
    """What a process does that was forked to be the program."""

    def __init__(
        self, command: Sequence[str], environment: dict[str, str], outputs: tuple[int, int]
    ) -> None:
        self._command = list(command)
        self._environment = environment
        self._outputs = outputs

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_outputs": [DupFd(number) for number in self._outputs]}

    def __call__(self) -> None:
        threads = Path(f"/proc/{os.getppid()}/task")
        assert len(list(threads.iterdir())) == 1, "a lock of another thread would stay locked here"
        outputs = [output.detach() for output in self._outputs]  # type: ignore[attr-defined]
        for number, output in enumerate(outputs, start=1):
            os.dup2(output, number)
            os.close(output)
        # Workers of the program inherit this, and none of the numbers that Python gives it here.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin = os.fdopen(0, closefd=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(self._environment)
        os.chdir("/")
        sys.argv = self._command
        cli.main()


def environment(settings: dict[str, str]) -> dict[str, str]:
    """Return our environment with these settings, without the prefix, and no others of Rosterlog's."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("ROSTERLOG_")}
    return ours | {f"ROSTERLOG_{name}": value for name, value in settings.items()}


def rosterlog(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = Program(
            *arguments, env=environment(settings), stdout=stdout.fileno(), stderr=stderr.fileno()
        )
        try:
            status = process.wait(SECONDS)
        finally:
            process.kill()
        for output in (stdout, stderr):
            output.seek(0)
        return subprocess.CompletedProcess(process.args, status, stdout.read(), stderr.read())


def succeeds(*arguments: str, **settings: str) -> str:
    """Run a command that must succeed, and return what it prints."""
    ended = rosterlog(*arguments, **settings)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@contextmanager
def started(
    *arguments: str, stderr: int | None = None, **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command, and kill it if it still runs in the end."""
    with Program(*arguments, env=environment(settings), stderr=stderr) as process:
        try:
            yield process
        finally:
            process.kill()

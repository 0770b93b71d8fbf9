"""The process that starts several workers on one socket, and keeps as many of them at work."""

import logging
from collections.abc import Sequence
from socket import socket
from time import monotonic
from weakref import WeakKeyDictionary

from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

END_SECONDS = 30.0
"""Seconds that workers may take to end: longer than `rosterlog.api.http.server.GRACE_SECONDS`."""

logger = logging.getLogger(__name__)


class Workers(Multiprocess):
    """Several workers on one socket.

    uvicorn's own class waits for the sign of life of one worker at a time, also of one that was
    killed before it could give any. For so long it replaces no worker and hears no signal. This one
    never waits: it looks whether an answer came, and how long ago it asked.
    """

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        """Serve on `sockets`, with as many workers as `config` says."""
        super().__init__(config, sockets)
        self._asked: WeakKeyDictionary[Process, float] = WeakKeyDictionary()

    def terminate_all(self) -> None:
        """Close the socket, and let the workers end.

        With the socket open, callers would wait in line for nobody, and be cut off.
        """
        for line in self.sockets:
            line.close()
        super().terminate_all()

    def join_all(self) -> None:
        """Wait until the workers have ended; kill those that do not."""
        until = monotonic() + END_SECONDS
        for worker in self.processes:
            worker.process.join(max(0.0, until - monotonic()))
            if worker.process.exitcode is None:
                logger.error("worker %s does not end, so it is killed", worker.pid)
                worker.process.kill()
                worker.process.join()

    def keep_subprocess_alive(self) -> None:
        """Replace each worker that has ended, or gave no sign of life for too long.

        End all where one can't start at all.
        """
        lost = [worker for worker in self.processes if not self._is_well(worker)]
        for worker in lost:
            worker.kill()
            worker.join()
        if any(worker.exitcode == STARTUP_FAILURE for worker in lost):
            logger.error("a worker could not start, so the service ends")
            self.should_exit.set()
            return
        self._replace(lost)

    def _replace(self, lost: Sequence[Process]) -> None:
        for worker in lost:
            logger.warning("worker %s is gone; another one starts", worker.pid)
            another = Process(self.config, self.sockets)
            another.start()
            self.processes[self.processes.index(worker)] = another

    def _is_well(self, worker: Process) -> bool:
        """Tell whether a worker runs and has answered in time, without waiting for it.

        The worker is asked for its next sign of life.
        """
        if not worker.process.is_alive():
            return False
        try:
            while worker.parent_conn.poll():
                worker.parent_conn.recv()
                self._asked.pop(worker, None)
            if worker not in self._asked:
                worker.parent_conn.send(b"ping")
                self._asked[worker] = monotonic()
        except (OSError, EOFError):
            return False
        return monotonic() - self._asked[worker] < self.config.timeout_worker_healthcheck

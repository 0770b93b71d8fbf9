"""Following the log: one leader projects, any number of others stand by.

The leader holds an advisory lock on the very connection it projects over. When that connection
ends, so does its lead, and whatever it had not committed: a leader that lost its lock can't write.
The checkpoint's row lock (see `rosterlog.projections.projector.projector`) would make even two
leaders take turns. A leader that does nothing any more, not even look, is frozen: a stand-by ends
its session.

A notification is a hint that there is something to project. The runner also looks at each poll, and
right after it started to listen.
"""

import logging
import threading
import time
from typing import Any

import psycopg
from psycopg import Connection

from rosterlog.domain.log import sessions
from rosterlog.domain.log.event_store import RECORDED_CHANNEL
from rosterlog.projections.connections import backoff, first_line
from rosterlog.projections.projector.projector import (
    EventFails,
    UnknownEvent,
    project,
    project_up_to_failure,
)
from rosterlog.projections.projector.skips import SKIPPED_CHANNEL
from rosterlog.projections.shared_sql import PROJECTED_CHANNEL
from rosterlog.projections.tables import SCHEMA

PROJECT_LOCK = 7_316_003
"""Key of the advisory lock that the leader holds."""
BATCH = 5_000
"""Most events in one transaction."""
POLL_SECONDS = 0.5
"""How long the leader waits for a hint before it looks anyway."""
STAND_BY_SECONDS = 1.0
"""How often those who stand by ask for the lead."""
FROZEN_SECONDS = 15
"""How long a leader's session may be idle before a stand-by ends it: longer than the longest wait between two tries."""

_RECORD_FAILURE = f"""
    UPDATE {SCHEMA}.checkpoint SET failing_position = %(position)s, failure = %(failure)s,
        failing_since = CASE WHEN failing_position = %(position)s THEN failing_since ELSE clock_timestamp() END
"""

_END_FROZEN = f"""
    SELECT pid, application_name, pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity AS leader USING (pid)
    WHERE locktype = 'advisory' AND objid = {PROJECT_LOCK} AND granted AND leader.datname = current_database()
      AND database = leader.datid AND leader.usename = current_user
      AND state LIKE 'idle%%' AND state_change < clock_timestamp() - make_interval(secs => %(seconds)s)
"""

logger = logging.getLogger(__name__)


class Runner:
    """Projects for as long as it leads, stands by for as long as another does, and comes back from every lost connection."""

    def __init__(self, conninfo: str, name: str) -> None:
        """Follow the log of the database at `conninfo`; `name` is what others see of the leader."""
        self._conninfo = conninfo
        self._name = name
        self._stopping = threading.Event()
        self._failures = 0

    def stop(self) -> None:
        """End `run` after the transaction it is in."""
        self._stopping.set()

    def run(self) -> None:
        """Follow the log until `stop` is called."""
        while not self._stopping.is_set():
            try:
                with sessions.connect(
                    self._conninfo, sessions.PROJECTING, name=self._name
                ) as connection:
                    self._stand_by(connection)
                    self._lead(connection)
            except psycopg.Error as lost:
                logger.warning(
                    "projector can't go on over its connection (%s); reconnecting",
                    first_line(lost),
                )
                self._back_off()

    def _stand_by(self, connection: Connection[Any]) -> None:
        waited = False
        while not self._stopping.is_set() and not _take_lead(connection):
            if not waited:
                logger.info("another process projects; standing by")
            waited = True
            self._stopping.wait(STAND_BY_SECONDS)
            for pid, name, _ in connection.execute(_END_FROZEN, {"seconds": FROZEN_SECONDS}):
                logger.warning(
                    "ended the session of the frozen leader %s (process %s of the database)",
                    name,
                    pid,
                )

    def _lead(self, connection: Connection[Any]) -> None:
        connection.execute(f"LISTEN {RECORDED_CHANNEL}")
        connection.execute(f"LISTEN {SKIPPED_CHANNEL}")
        if not self._stopping.is_set():
            logger.info("projecting as %s", self._name)
        while not self._stopping.is_set():
            try:
                self._catch_up(connection)
            except (psycopg.Error, UnknownEvent):
                if connection.broken:
                    raise
                failing = project_up_to_failure(connection, SCHEMA, limit=BATCH)
                if failing is not None:
                    self._stall(connection, failing)
            else:
                _wait_for_hint(connection)

    def _catch_up(self, connection: Connection[Any]) -> None:
        while (
            not self._stopping.is_set()
            and (step := project(connection, SCHEMA, limit=BATCH)).events
        ):
            connection.execute("SELECT pg_notify(%s, %s)", [PROJECTED_CHANNEL, str(step.position)])
            self._failures = 0

    def _stall(self, connection: Connection[Any], failing: EventFails) -> None:
        logger.error("projector stalled: %s", failing)
        connection.execute(_RECORD_FAILURE, {"position": failing.position, "failure": str(failing)})
        self._failures += 1
        self._wait_for_skip(connection, backoff(self._failures))

    def _wait_for_skip(self, connection: Connection[Any], seconds: float) -> None:
        """Wait before the next try; a skip ends the wait."""
        until = time.monotonic() + seconds
        while not self._stopping.is_set() and time.monotonic() < until:
            for hint in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                if hint.channel == SKIPPED_CHANNEL:
                    return

    def _back_off(self) -> None:
        self._failures += 1
        self._stopping.wait(backoff(self._failures))


def _take_lead(connection: Connection[Any]) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [PROJECT_LOCK]).fetchone()
    return row is not None and row[0]


def _wait_for_hint(connection: Connection[Any]) -> None:
    for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
        pass

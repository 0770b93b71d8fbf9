"""Rebuilding the read tables from position 0, while readers read and commands go on.

The shadow tables are loaded by the same projector, completed, compared with the live ones at the
same position, caught up, and then take their place in one short transaction. A rebuild that dies
leaves the live tables as they were; the next one starts clean.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import Connection, IsolationLevel
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from rosterlog.domain.classes import Class
from rosterlog.domain.log import sessions
from rosterlog.domain.log.log_sql import ENTRIES, HEAD, topics
from rosterlog.projections.projector.folds import FOLDS, Fold
from rosterlog.projections.projector.projector import (
    EventFails,
    Projected,
    UnknownEvent,
    project,
    project_up_to_failure,
)
from rosterlog.projections.rebuild import comparison, loading, record, shadow, switch
from rosterlog.projections.rebuild.record import IDLE, RebuildState, cancel, state
from rosterlog.projections.shared_sql import CHECKPOINT, PROJECTED_CHANNEL, position_of
from rosterlog.projections.tables import SHADOW

__all__ = ["IDLE", "Rebuild", "RebuildState", "cancel", "state"]

BATCH = shadow.BATCH
"""Most events in one transaction of a rebuild."""
SWITCH_SECONDS = 120
"""How long to try for a moment in which no reader holds the tables."""

# The first event of what refers to something that there is not, where foreign keys could not be
# made.
_FIRST_DANGLING = f"""
    SELECT min(notification_id) FROM (
        SELECT notification_id FROM {SHADOW}.class_members AS member JOIN log.events USING (class_id, user_id)
        WHERE topic IN ({topics(Class.MemberEnrolled)}) AND (
            NOT EXISTS (SELECT FROM {SHADOW}.classes WHERE id = member.class_id)
            OR NOT EXISTS (SELECT FROM {SHADOW}.users WHERE id = member.user_id)
        )
        UNION ALL
        SELECT notification_id FROM {SHADOW}.classes JOIN log.events ON originator_id = classes.id AND events.group_id = classes.group_id
        WHERE topic IN ({ENTRIES}) AND NOT EXISTS (SELECT FROM {SHADOW}.groups WHERE id = classes.group_id)
    ) AS dangling
"""

logger = logging.getLogger(__name__)


class _Cancelled(Exception):
    """Somebody asked for the rebuild to end."""


class Rebuild:
    """One rebuild: claimed when made, done when `run` returns."""

    def __init__(self, conninfo: str) -> None:
        """Claim the shadow tables. Raises `ShadowInUse`."""
        self.id = uuid4()
        self._connection = sessions.connect(conninfo, shadow.LOADING, name="rosterlog rebuild")
        try:
            shadow.claim(self._connection)
            record.begin(self._connection, self.id)
        except BaseException:
            self._connection.close()
            raise

    def run(self, on_progress: Callable[[RebuildState], None] = lambda _: None) -> RebuildState:
        """Rebuild, telling `on_progress` after each batch, and return how it ended: done or cancelled.

        Raises `EventFails` where an event can't be projected, `SwitchImpossible`, `psycopg.Error`;
        the record says failed then, and why.
        """
        self._on_progress = on_progress
        with self._connection as connection:
            try:
                self._rebuild(connection)
            except Exception as wrong:
                if not self._was_cancelled(wrong):
                    self._give_up("failed", str(wrong))
                    raise
                self._give_up("cancelled")
            finally:
                shadow.release(connection)
            return state(connection)

    def _rebuild(self, connection: Connection[Any]) -> None:
        switch.refuse_impossible(connection)
        shadow.create(connection)
        self._catch_up(self._comparable(connection), loading.FOLDS)
        self._complete(connection)
        complete_at = switch.moment(connection)
        self._compare(connection)
        self._switch(connection, complete_at)

    def _was_cancelled(self, wrong: Exception) -> bool:
        if isinstance(wrong, psycopg.errors.QueryCanceled):
            return record.is_cancelled(self._connection, self.id)
        return isinstance(wrong, _Cancelled)

    def _give_up(self, how: str, error: str | None = None) -> None:
        if not self._connection.broken:
            shadow.drop(self._connection)
            record.end(self._connection, self.id, how, error)

    def _comparable(self, connection: Connection[Any]) -> int | None:
        """Return how far to load so that the live tables can be compared, None where they are too far behind."""
        live = position_of(connection, CHECKPOINT)
        return live if live and 0 <= position_of(connection, HEAD) - live <= BATCH else None

    def _catch_up(self, stop: int | None = None, folds: Sequence[Fold] = FOLDS) -> None:
        while True:
            step = self._project(stop, folds)
            if record.progress(self._connection, self.id, step.position):
                raise _Cancelled
            self._on_progress(state(self._connection))
            if step.events < BATCH:
                return

    def _project(self, stop: int | None, folds: Sequence[Fold] = FOLDS) -> Projected:
        try:
            return project(self._connection, SHADOW, limit=BATCH, stop=stop, folds=folds)
        except (psycopg.Error, UnknownEvent) as failure:
            if self._connection.broken or isinstance(failure, psycopg.errors.QueryCanceled):
                raise
            failing = project_up_to_failure(
                self._connection, SHADOW, limit=BATCH, stop=stop, folds=folds
            )
            if failing is None:
                raise
            raise failing from failure

    def _complete(self, connection: Connection[Any]) -> None:
        loading.finish(connection, SHADOW)
        try:
            shadow.complete(connection)
        except psycopg.errors.ForeignKeyViolation as dangling:
            row = connection.execute(_FIRST_DANGLING).fetchone()
            if row is None or row[0] is None:
                raise
            raise EventFails(row[0], dangling) from dangling

    def _compare(self, connection: Connection[Any]) -> None:
        """Count the rows in which the live tables differ at the same position; what differs, the switch mends."""
        began = time.monotonic()
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        try:
            with connection.transaction():
                live = position_of(connection, CHECKPOINT)
                while (step := self._project(live)).events:
                    pass
                differing = comparison.count(connection) if step.position == live else None
        finally:
            connection.isolation_level = None
        if differing is None:
            logger.info("the read tables are behind the new ones, so there is nothing to compare")
            return
        record.compared(connection, self.id, differing, time.monotonic() - began)
        if differing:
            logger.warning(
                "%d rows of the read tables did not say what the log says; the rebuild mends them",
                differing,
            )

    def _switch(self, connection: Connection[Any], complete_at: int) -> None:
        patience = Retrying(
            retry=retry_if_exception_type((psycopg.errors.LockNotAvailable, switch.ReaderInTheWay)),
            wait=wait_random_exponential(multiplier=0.05, max=1),
            stop=stop_after_delay(SWITCH_SECONDS),
            reraise=True,
        )
        position = patience(self._try_switch, connection, complete_at)
        connection.execute("SELECT pg_notify(%s, %s)", [PROJECTED_CHANNEL, str(position)])

    def _try_switch(self, connection: Connection[Any], complete_at: int) -> int:
        # Almost all of what came meanwhile, so that the locked transaction below stays short.
        self._catch_up()
        switch.refuse_older_snapshots(connection, complete_at)
        with connection.transaction():
            switch.lock_live(connection)
            # Now the live tables stand still. The shadow tables go at least as far, so that a
            # reader never goes back; and no further, because everybody waits meanwhile, and events
            # may come as fast as they are projected.
            live = position_of(connection, CHECKPOINT)
            while (step := project(connection, SHADOW, limit=BATCH, stop=live)).events:
                pass
            switch.switch(connection)
            record.progress(connection, self.id, step.position)
            record.end(connection, self.id, "done")
        return step.position

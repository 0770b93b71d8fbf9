"""The running service: what it is made of, opened and closed in order."""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, NamedTuple, TypeVar

import psycopg
from anyio.to_thread import run_sync
from psycopg import Connection

from api.database import Databases
from api.feed import Feed
from api.gathering import Gathering, Row
from api.handover import Handover
from api.histories import Histories
from api.metrics import NOTE_SECONDS, Metrics, is_one_of_several
from api.problems import RebuildNotPermitted
from api.reads import Reads
from api.replica import ReplicaReads
from domain import fence, sessions
from domain.errors import StoreUnavailable
from domain.event_store import PostgresLog
from domain.roster import Roster
from domain.sessions import AsyncPool
from domain.silence import heard_by_thread
from migrations import commands as migrations
from projections import rebuild
from projections.head import Head
from projections.rebuild import Rebuild
from projections.replica import ReplicaVisibility
from projections.runner import Runner
from projections.status import ProjectionStatus, projection_status
from projections.visibility import Visibility

Answer = TypeVar("Answer")

ANSWER_SECONDS = 10.0
"""How long the database may take to answer an operator's question."""

logger = logging.getLogger(__name__)


class Standing(NamedTuple):
    """The migration that the database is at and, unless this release lacks one there, the projection's status.

    `is_outdated`: a newer release has migrated the log so that this one must not append to it.
    """

    revision: str | None
    projection: ProjectionStatus | None
    is_outdated: bool = False


class Service:
    """Write side, read side, projector and operations of one process on one database."""

    def __init__(self, databases: Databases, metrics: Metrics, *, project: bool = True) -> None:
        """Serve `databases`, counting with `metrics`; without `project`, leave the projection to other processes."""
        self._databases = databases
        self.metrics = metrics
        self._log = PostgresLog(databases.write, pool_size=16, on_append=metrics.appended)
        self.roster = Roster(self._log)
        self.handover = Handover()
        self.visibility = Visibility(databases.main)
        self._pools = {"reads": _pool(databases.main, "reads")}
        replica = None
        if databases.replica is not None:
            pool = self._pools["replica"] = _pool(databases.replica, "replica")
            replica = ReplicaReads(pool, ReplicaVisibility(pool))
        self.reads = Reads(self._pools["reads"], self.visibility, replica)
        self.histories = Histories(self.reads)
        self._head = Head(databases.main)
        self.feed = Feed(self.reads, self._head)
        self._standing = Gathering(self._ask_standing)
        self._runner = Runner(databases.project, process_name("serve")) if project else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the connections, project and watch for as long as the context lasts."""
        async with AsyncExitStack() as closing:
            closing.callback(self._log.close)
            closing.callback(self.roster.close)
            for pool in self._pools.values():
                closing.push_async_callback(pool.close)
                await pool.open()
            closing.push_async_callback(self.visibility.stop)
            self.visibility.start()
            closing.push_async_callback(self._head.stop)
            self._head.start()
            if is_one_of_several():
                noting = asyncio.create_task(self._keep_noting())
                closing.callback(noting.cancel)
            if self._runner is not None:
                projecting = threading.Thread(target=self._runner.run, name="projector", daemon=True)
                projecting.start()
                closing.push_async_callback(lambda: run_sync(projecting.join))
                closing.callback(self._runner.stop)
            yield

    def note(self) -> None:
        """Note for the metrics what the pools of connections say about themselves."""
        self.metrics.note({"log": self._log.pool_stats()} | {name: pool.get_stats() for name, pool in self._pools.items()})

    async def _keep_noting(self) -> None:
        while True:
            self.note()
            await asyncio.sleep(NOTE_SECONDS)

    async def ask(self, question: Callable[[Connection[Any]], Answer]) -> Answer:
        """Put a synchronous question over a connection of its own. Raises `StoreUnavailable`."""
        return await run_sync(_ask, self._databases.main, question)

    async def standing(self) -> Standing:
        """Return where the database stands. Whoever asks meanwhile shares a connection for it. Raises `StoreUnavailable`."""
        return Standing(*await self._standing.answer())

    async def _ask_standing(self, askers: Sequence[Row]) -> Sequence[Row]:
        return [await self.ask(_standing)] * len(askers)

    async def start_rebuild(self) -> Rebuild:
        """Start a rebuild in the background. Raises `ShadowInUse`, `StoreUnavailable`."""
        started = await run_sync(self._claim_rebuild)
        threading.Thread(target=_run_rebuild, args=[started], name="rebuild", daemon=True).start()
        return started

    async def cancel_rebuild(self) -> bool:
        """Ask the running rebuild to end; tell whether there is one. Raises `StoreUnavailable`."""
        return await run_sync(_ask, self._databases.project, rebuild.cancel)

    def _claim_rebuild(self) -> Rebuild:
        try:
            return Rebuild(self._databases.project)
        except psycopg.OperationalError as lost:
            raise StoreUnavailable from lost
        except psycopg.errors.InsufficientPrivilege:
            raise RebuildNotPermitted from None


@contextmanager
def connected(conninfo: str) -> Iterator[Connection[Any]]:
    """Open a connection that commits by itself. Raises `StoreUnavailable`."""
    try:
        with sessions.connect(conninfo) as connection:
            yield connection
    except psycopg.OperationalError as lost:
        raise StoreUnavailable from lost


def process_name(does: str) -> str:
    """Return what the database shows of this process: what it does, on which host, under which process id."""
    return f"rosterlog {does} {socket.gethostname()[:30]}:{os.getpid()}"


def _ask(conninfo: str, question: Callable[[Connection[Any]], Answer]) -> Answer:
    with connected(conninfo) as connection, heard_by_thread(connection, ANSWER_SECONDS):
        return question(connection)


def _standing(connection: Connection[Any]) -> Standing:
    revision = migrations.revision(connection)
    if migrations.lacks(revision):
        return Standing(revision, None)
    return Standing(revision, projection_status(connection), fence.is_outdated(connection))


def _pool(conninfo: str, name: str) -> AsyncPool:
    return sessions.async_pool(conninfo, sessions.READING, name, most=16, seconds=5)


def _run_rebuild(started: Rebuild) -> None:
    try:
        ended = started.run()
    except Exception:
        logger.exception("rebuild %s failed", started.id)
    else:
        logger.info("rebuild %s is %s: %d events", ended.id, ended.state, ended.done)

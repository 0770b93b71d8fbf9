"""The running service: what it is made of, opened and closed in order."""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import psycopg
from anyio.to_thread import run_sync
from psycopg import Connection

from rosterlog.api.access.keys import Keys
from rosterlog.api.http.handover import Handover
from rosterlog.api.http.problems import RebuildNotPermitted
from rosterlog.api.ops.database import Databases
from rosterlog.api.ops.metrics import NOTE_SECONDS, Metrics, is_one_of_several
from rosterlog.api.ops.probing import Answer, Probing, Question
from rosterlog.api.ops.readiness import Condition, Readiness, standing
from rosterlog.api.reading.connections import Connections
from rosterlog.api.reading.expensive import CONNECTIONS, ExpensiveReads
from rosterlog.api.reading.reads import Reads
from rosterlog.api.reading.replica import Replica, ReplicaConnections, ReplicaWatch
from rosterlog.api.reading.source import Source
from rosterlog.api.rest.answers import moment_of
from rosterlog.api.rest.feed import Feed
from rosterlog.api.rest.histories import Histories
from rosterlog.api.rest.schemas.queries import Reading
from rosterlog.api.settings import Settings
from rosterlog.domain.errors import StoreUnavailable
from rosterlog.domain.log import sessions, silence
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.log.sessions import SETUP_SECONDS, AsyncPool
from rosterlog.domain.roster import Roster
from rosterlog.projections.following.follower import Follower
from rosterlog.projections.following.replayed import ReplicaVisibility
from rosterlog.projections.projector.runner import Runner
from rosterlog.projections.rebuild import rebuilding as rebuild
from rosterlog.projections.rebuild.rebuilding import Rebuild

logger = logging.getLogger(__name__)


class Service:
    """Write side, read side, projector and operations of one process on one database."""

    def __init__(
        self, databases: Databases, metrics: Metrics, settings: Settings, keys: Keys | None = None
    ) -> None:
        """Serve `databases` as `settings` say, counting with `metrics`.

        Tokens are checked with `keys`.
        """
        self._databases = databases
        self.metrics = metrics
        self._log = PostgresLog(databases.write, pool_size=16, on_append=metrics.appended)
        self.roster = Roster(self._log)
        self.handover = Handover()
        self.visibility = Follower.of_tables(databases.main)
        self._pools = {"reads": _pool(databases.main, "reads")}
        self._watch: ReplicaWatch | None = None
        replica = None if databases.replica is None else self._replica(databases.replica, settings)
        primary = Source(Connections(self._pools["reads"]), self.visibility)
        self.reads = Reads(primary, replica)
        self._pools["expensive"] = _pool(databases.main, "expensive", CONNECTIONS)
        self.expensive = ExpensiveReads(self._pools["expensive"], self.visibility)
        self.histories = Histories(self.reads, self.expensive)
        self._head = Follower.of_log(databases.main)
        self.feed = Feed(self.reads, self.expensive, self._head)
        self._probing = Probing(databases.main, "probing")
        self._operating = Probing(databases.main, "operating")
        # With an account of its own for that, the connection is opened when it is needed.
        same = databases.project == databases.main
        self._projecting = self._operating if same else Probing(databases.project, "projecting")
        self._looking = ThreadPoolExecutor(1, "looking")
        self._readiness = Readiness(
            lambda: self._probing.answer(standing, silence.OPERATOR_SECONDS),
            primary.position,
            lambda: asyncio.get_running_loop().run_in_executor(
                self._looking, self._log.max_notification_id
            ),
            {
                "replica-unavailable": lambda: replica is not None and replica.is_gone,
                "keys-unreadable": lambda: keys is not None and keys.unreadable,
            },
        )
        self._runner = (
            Runner(databases.project, process_name("serve")) if settings.project else None
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the connections, project and watch for as long as the context lasts."""
        async with AsyncExitStack() as closing:
            closing.callback(self._log.close)
            closing.callback(self.roster.close)
            for pool in self._pools.values():
                closing.push_async_callback(pool.close)
                await pool.open()
            for probing in {self._probing, self._operating, self._projecting}:
                closing.callback(probing.close)
            for probing in (self._probing, self._operating):
                await probing.open(SETUP_SECONDS)
            closing.callback(self._looking.shutdown, wait=False)
            if self._watch is not None:
                closing.push_async_callback(self._watch.stop)
                await self._watch.start()
            closing.push_async_callback(self.visibility.stop)
            self.visibility.start()
            closing.push_async_callback(self._head.stop)
            self._head.start()
            if is_one_of_several():
                noting = asyncio.create_task(self._keep_noting())
                closing.callback(noting.cancel)
            if self._runner is not None:
                projecting = threading.Thread(
                    target=self._runner.run, name="projector", daemon=True
                )
                projecting.start()
                closing.push_async_callback(lambda: run_sync(projecting.join))
                closing.callback(self._runner.stop)
            yield

    def note(self) -> None:
        """Note for the metrics what the pools of connections say about themselves."""
        self.metrics.note(
            {"log": self._log.pool_stats()}
            | {name: pool.get_stats() for name, pool in self._pools.items()}
        )

    async def _keep_noting(self) -> None:
        while True:
            self.note()
            await asyncio.sleep(NOTE_SECONDS)

    def listings(self, page: Reading) -> Reads:
        """Return what reads a page of a list.

        A list of the past is derived from the log, which may take long.
        """
        return self.expensive if moment_of(page).given else self.reads

    async def ask(self, question: Question[Answer]) -> Answer:
        """Put an operator's question, one after the other, over a kept connection.

        Raises `StoreUnavailable`.
        """
        return await self._operating.answer(question, silence.OPERATOR_SECONDS)

    async def condition(self) -> Condition:
        """Return whether this process can serve, and what is wrong."""
        return await self._readiness.condition()

    async def start_rebuild(self) -> Rebuild:
        """Start a rebuild in the background. Raises `ShadowInUse`, `StoreUnavailable`."""
        started = await run_sync(self._claim_rebuild)
        threading.Thread(target=_run_rebuild, args=[started], name="rebuild", daemon=True).start()
        return started

    async def cancel_rebuild(self) -> bool:
        """Ask the running rebuild to end; tell whether there is one. Raises `StoreUnavailable`."""
        return await self._projecting.answer(rebuild.cancel, silence.OPERATOR_SECONDS)

    def _replica(self, conninfo: str, settings: Settings) -> Replica:
        pool = self._pools["replica"] = _pool(conninfo, "replica")
        connections = ReplicaConnections(pool)
        self._watch = ReplicaWatch(conninfo, connections.give_up)
        source = Source(connections, ReplicaVisibility(pool))
        return Replica(source, self._watch, fallback=settings.replica_fallback)

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
    """Return the name of this process that the database shows.

    It says what the process does, on which host, under which process id.
    """
    return f"rosterlog {does} {socket.gethostname()[:30]}:{os.getpid()}"


def _pool(conninfo: str, name: str, most: int = 16) -> AsyncPool:
    return sessions.async_pool(conninfo, sessions.READING, name, most=most, seconds=5)


def _run_rebuild(started: Rebuild) -> None:
    try:
        ended = started.run()
    except Exception:
        logger.exception("rebuild %s failed", started.id)
    else:
        logger.info("rebuild %s is %s: %d events", ended.id, ended.state, ended.done)

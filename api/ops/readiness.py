"""Whether this process can serve, for orchestrators that ask every few seconds.

A probe needs no connection that the work may have used up: the state comes over a connection of its
own, and each other check borrows from the pool that it checks. Probes that come at once share the
checks.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from psycopg import Connection

from rosterlog.domain.log import fence
from rosterlog.migrations import commands as migrations
from rosterlog.projections.status import projection_status

ABLE_SECONDS = 4.0
"""Seconds that a probe waits until reads or commands prove that they can be served."""
REST_SECONDS = 1.0
"""Seconds that a probe then waits for the other checks; it answers although one of them hangs."""
UNKNOWN = "unknown"
"""The state of the projection where the database did not say it in time."""

DEGRADED: Mapping[str, str] = {
    "reads-unavailable": "Reads of the read tables fail or take seconds; commands go on.",
    "writes-unavailable": "The database takes no commands right now; reads go on.",
    "release-outdated": (
        "A newer release has migrated the log, so this process records nothing any more; reads "
        "go on."
    ),
    "state-unknown": "The projection's state can't be read in time.",
    "projection-stalled": (
        "Events wait to be projected and none is; reads answer as of the checkpoint."
    ),
    "projection-leaderless": "No process projects; commands are recorded and answer 202.",
    "replica-unavailable": (
        "The replica does not answer; its reads go to the primary, or are refused where that is "
        "forbidden."
    ),
    "keys-unreadable": (
        "No key of the identity provider could be read yet; requests with a token are refused."
    ),
}
"""All words that can stand in `degraded`, in the order in which they stand there."""


class Standing(NamedTuple):
    """Whether the database lacks a migration, is a standby, or is a newer release's.

    `state` is that of the projection, unknown where a migration is lacking.
    """

    lacking: bool
    standby: bool
    outdated: bool
    state: str


_NOT_SAID = Standing(lacking=False, standby=False, outdated=False, state=UNKNOWN)


class Condition(NamedTuple):
    """What a probe found: whether the process can serve, and what is degraded.

    `state` is that of the projection; `degraded` holds words of `DEGRADED`.
    """

    migrated: bool
    able: bool
    state: str
    degraded: list[str]


def standing(connection: Connection[Any]) -> Standing:
    """Read where the database stands."""
    lacking = migrations.lacks(migrations.revision(connection))
    standby = connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
    if lacking:
        return Standing(lacking, standby, outdated=False, state=UNKNOWN)
    return Standing(
        lacking, standby, fence.is_outdated(connection), projection_status(connection).state
    )


class Readiness:
    """Checks the state, the reads and the writes at once, each at most once at a time."""

    def __init__(
        self,
        state: Callable[[], Awaitable[Standing]],
        reads: Callable[[], Awaitable[Any]],
        writes: Callable[[], Awaitable[Any]],
        faults: Mapping[str, Callable[[], bool]],
    ) -> None:
        """Check with coroutines, each of which fails where it can't answer.

        `faults` tell what is known without asking.
        """
        self._checks: dict[str, Callable[[], Awaitable[Any]]] = {
            "state": state,
            "reads": reads,
            "writes": writes,
        }
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._faults = faults

    async def condition(self) -> Condition:
        """Return what is so now."""
        tasks = {name: self._task(name) for name in self._checks}
        await _any_passes({tasks["reads"], tasks["writes"]})
        await asyncio.wait(tasks.values(), timeout=REST_SECONDS)
        found: Standing = tasks["state"].result() if _passed(tasks["state"]) else _NOT_SAID
        reads, writes = (
            _passed(tasks["reads"]),
            _passed(tasks["writes"]) and not found.standby and not found.outdated,
        )
        is_so = {
            "reads-unavailable": not reads,
            "writes-unavailable": not writes and not found.outdated,
            "release-outdated": found.outdated,
            "state-unknown": not _passed(tasks["state"]),
            "projection-stalled": found.state == "stalled",
            "projection-leaderless": found.state == "leaderless",
            **{word: fault() for word, fault in self._faults.items()},
        }
        return Condition(
            not found.lacking,
            reads or writes,
            found.state,
            [word for word in DEGRADED if is_so.get(word)],
        )

    def _task(self, name: str) -> asyncio.Task[Any]:
        """Return the check that is under way, or begin one."""
        task = self._running.get(name)
        if task is None or task.done():
            task = self._running[name] = asyncio.create_task(_called(self._checks[name]))
        return task


async def _called(check: Callable[[], Awaitable[Any]]) -> Any:
    return await check()


def _passed(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _any_passes(tasks: set[asyncio.Task[Any]]) -> None:
    """Wait until one of the tasks has passed, or none can any more.

    It waits for `ABLE_SECONDS` at most.
    """
    until = asyncio.get_running_loop().time() + ABLE_SECONDS
    while tasks and (left := until - asyncio.get_running_loop().time()) > 0:
        done, tasks = await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if any(map(_passed, done)):
            return

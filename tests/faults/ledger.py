"""What callers were told, and whether the log and the read tables agree with it."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

from rosterlog.projections.status import projection_status
from tests.api.processes import rosterlog
from tests.domain.threads import eventually


@dataclass
class Command:
    """One change that a caller wants, repeated until it is acknowledged.

    `reason` finds its event in the log.
    """

    reason: str
    method: str
    path: str
    body: dict[str, Any] | None = None
    attempts: int = 0
    position: int | None = None


@dataclass
class Ledger:
    """Every command with what its caller knows about it, and what the tables must hold by what was acknowledged."""

    commands: list[Command] = field(default_factory=list)
    users: set[UUID] = field(default_factory=set)
    members: dict[tuple[UUID, UUID], str] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)
    lies: list[str] = field(default_factory=list)
    acknowledged: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, command: Command) -> None:
        """Note that a command is about to be sent for the first time."""
        with self._lock:
            self.commands.append(command)

    def close(self, command: Command, position: int) -> None:
        """Note that a command was acknowledged."""
        with self._lock:
            command.position = position
            self.acknowledged += 1

    def count(self, answer: str, refusal: str = "") -> None:
        """Note one answer with its refusal, or that none came."""
        with self._lock:
            self.answers[answer] += 1
            self.refusals += [refusal] if refusal else []

    def lie(self, what: str) -> None:
        """Note an answer that must never be given."""
        with self._lock:
            self.lies.append(what)


def settle(ledger: Ledger, database: str) -> None:
    """Hold the log and the tables against the ledger, once everything is projected: nothing lost, nothing twice, nothing untrue."""
    assert not ledger.lies, ledger.lies
    with psycopg.connect(database, autocommit=True) as connection:
        eventually(lambda: projection_status(connection).lag == 0)
        events: dict[str, list[int]] = dict(connection.execute(_EVENTS_BY_REASON).fetchall())
        users = {row[0] for row in connection.execute("SELECT id FROM roster.users")}
        members = {
            (row[0], row[1]): row[2]
            for row in connection.execute(
                "SELECT class_id, user_id, role::text FROM roster.class_members"
            )
        }
    wrong = [
        f"{command}: {events.get(command.reason, [])}"
        for command in ledger.commands
        if not _agree(command, events)
    ]
    assert not wrong, wrong
    assert events.keys() <= {command.reason for command in ledger.commands}
    assert all(command.position is not None for command in ledger.commands)
    assert (users, members) == (ledger.users, ledger.members)
    verified = rosterlog("verify", DATABASE_URL=database)
    assert verified.returncode == 0, verified.stdout + verified.stderr


_EVENTS_BY_REASON = """
    SELECT convert_from(state, 'UTF8')::jsonb ->> 'reason', array_agg(notification_id ORDER BY notification_id)
    FROM log.events GROUP BY 1
"""


def _agree(command: Command, events: dict[str, list[int]]) -> bool:
    """Tell whether a command is in the log exactly once, where its caller was told that it is.

    A repeated one may have been recorded by an earlier attempt; its answer then named the head,
    which lies no earlier.
    """
    recorded = events.get(command.reason, [])
    if command.position is None:
        return len(recorded) <= 1
    return len(recorded) == 1 and (
        recorded[0] == command.position
        if command.attempts == 1
        else recorded[0] <= command.position
    )

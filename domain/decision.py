"""How a command decides: on copies of cached aggregates, with a check at the append that all it read is still so.

A refusal, or a command that changes nothing, appends nothing; it looks whether what it read is current before it answers. Where something
has moved on, nothing is recorded, the cache is brought up to date, and the command decides again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import update_wrapper
from threading import Lock
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError, Application, project_aggregate
from eventsourcing.persistence import ApplicationRecorder, IntegrityError, OperationalError, Recording
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from domain.classes import Class
from domain.errors import (
    AboutThing,
    ClassDeleted,
    ClassUnknown,
    DomainError,
    GroupDeleted,
    GroupUnknown,
    StoreUnavailable,
    TooBusy,
    UserRemoved,
    UserUnknown,
    VersionStale,
)
from domain.event_codec import EventCodec
from domain.events import RosterAggregate
from domain.groups import Group
from domain.users import User

ATTEMPTS = 20
"""How often a command decides again before it gives up as too busy."""

Aggregate = TypeVar("Aggregate", bound=RosterAggregate)
Parameters = ParamSpec("Parameters")
Deciding = TypeVar("Deciding", bound="DecidingApplication")


@dataclass(frozen=True)
class Outcome:
    """What became of a command: the stream it was about, at which version, and the position to wait for.

    `position` is that of the command's own last event; of a command that `changed` nothing, the head when it decided.
    """

    id: UUID
    version: int
    position: int
    changed: bool


class Decision:
    """What one attempt at a command has read, each at a version that must still hold when its events are appended."""

    def __init__(self, roster: "DecidingApplication") -> None:
        self._roster = roster
        self.read: dict[UUID, RosterAggregate] = {}
        self._versions: dict[UUID, int] = {}

    def group(self, group_id: UUID) -> Group:
        """Return a group that is not deleted. Raises `GroupUnknown`, `GroupDeleted`."""
        group = self.ever(Group, group_id, GroupUnknown)
        if group.deleted:
            raise GroupDeleted(group_id)
        return group

    def user(self, user_id: UUID) -> User:
        """Return a user who is not removed. Raises `UserUnknown`, `UserRemoved`."""
        user = self.ever(User, user_id, UserUnknown)
        if user.removed:
            raise UserRemoved(user_id)
        return user

    def class_(self, class_id: UUID, expected: int | None = None) -> Class:
        """Return a class that has not ended, itself or with its group. Raises `ClassUnknown`, `ClassDeleted`, `VersionStale`."""
        class_ = self.ever(Class, class_id, ClassUnknown)
        if class_.deleted or self.ever(Group, class_.group_id, GroupUnknown).deleted:
            raise ClassDeleted(class_id)
        return self.at(class_, expected)

    def ever(self, kind: type[Aggregate], stream: UUID, unknown: type[AboutThing]) -> Aggregate:
        """Return what has the id `stream`, whether or not it has ended. Raises `unknown` for another kind of thing, too."""
        try:
            aggregate = self._read(stream)
        except AggregateNotFoundError:
            raise unknown(stream) from None
        if not isinstance(aggregate, kind):
            raise unknown(stream)
        return aggregate

    def exists(self, stream: UUID) -> bool:
        """Tell whether the id was ever used, for whatever kind of thing."""
        try:
            self._read(stream)
        except AggregateNotFoundError:
            return False
        return True

    def at(self, aggregate: Aggregate, expected: int | None) -> Aggregate:
        """Return the aggregate. Raises `VersionStale` where the caller expects it at another version."""
        if expected is not None and aggregate.version != expected:
            raise VersionStale(aggregate.id, version=aggregate.version, expected=expected)
        return aggregate

    def relied_on(self, appended_to: RosterAggregate) -> dict[UUID, int]:
        """Return the versions of all that was read, but for the stream whose own next version is the check."""
        return {stream: version for stream, version in self._versions.items() if stream != appended_to.id}

    def is_current(self) -> bool:
        """Tell whether all that was read is still so: cached aggregates can lag behind another process's."""
        recorder = self._roster.recorder
        return not any(recorder.select_events(stream, gt=version, limit=1) for stream, version in self._versions.items())

    def refresh(self) -> None:
        """Bring the cache up to date with the log for what was read, so that the next attempt decides on it."""
        for stream in self._versions:
            self._roster.refresh(stream)

    def _read(self, stream: UUID) -> RosterAggregate:
        if stream not in self.read:
            aggregate: RosterAggregate = self._roster.repository.get(stream)
            self.read[stream] = aggregate
            self._versions[stream] = aggregate.version
        return self.read[stream]


class _Stale(Exception):
    """The decision was taken on what is no longer so."""


def command(
    decide: "Callable[Concatenate[Deciding, Decision, Parameters], RosterAggregate]",
) -> "Callable[Concatenate[Deciding, Parameters], Outcome]":
    """Turn a method that decides into a command: attempt, append, and decide again where something read has changed.

    The method's first argument is the id of the stream it appends to. Commands about one stream take turns within a process: they would
    conflict anyway. The command returns an `Outcome` and raises what the method raises, `TooBusy` or `StoreUnavailable`.
    """

    def run(roster: Deciding, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Outcome:
        attempts = Retrying(
            retry=retry_if_exception_type(_Stale),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(0.001, 0.1),
            reraise=True,
        )
        try:
            with roster.turn(args[0]):
                return attempts(attempt, roster, *args, **kwargs)
        except _Stale:
            raise TooBusy from None
        except OperationalError as lost:
            raise StoreUnavailable from lost

    def attempt(roster: Deciding, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Outcome:
        decision = Decision(roster)
        try:
            aggregate = decide(roster, decision, *args, **kwargs)
            return roster.append(decision, aggregate)
        except IntegrityError as conflict:
            decision.refresh()
            raise _Stale from conflict
        except DomainError as refused:
            if decision.is_current():
                raise
            decision.refresh()
            raise _Stale from refused

    update_wrapper(run, decide)
    return run


class DecidingApplication(Application[UUID]):
    """An application whose methods are commands."""

    env = {  # noqa: RUF012
        "AGGREGATE_CACHE_MAXSIZE": "10000",
        "AGGREGATE_CACHE_FASTFORWARD": "n",
    }

    def __init__(self, log: ApplicationRecorder) -> None:
        """Record to and read from `log`."""
        self._log = log
        self._turns = [Lock() for _ in range(1024)]
        super().__init__()

    def construct_mapper(self) -> EventCodec:  # noqa: D102
        return EventCodec()

    def construct_recorder(self) -> ApplicationRecorder:  # noqa: D102
        return self._log

    def append(self, decision: Decision, aggregate: RosterAggregate) -> Outcome:
        """Record what the aggregate decided, if all that the decision read is still so. Raises `IntegrityError` otherwise."""
        if aggregate.pending_events:
            recordings: list[Recording[UUID]] = self.save(aggregate, relied_on=decision.relied_on(aggregate))
            return Outcome(aggregate.id, aggregate.version, recordings[-1].notification.id, changed=True)
        head = self.recorder.max_notification_id() or 0
        if not decision.is_current():
            raise IntegrityError("what the decision relied on has changed")
        return Outcome(aggregate.id, aggregate.version, head, changed=False)

    def turn(self, stream: object) -> Lock:
        """Return the lock of a stream; a few streams share one."""
        return self._turns[hash(stream) % len(self._turns)]

    def refresh(self, stream: UUID) -> None:
        """Apply to a cached aggregate what was appended since it was read."""
        assert self.repository.cache is not None
        known: RosterAggregate = self.repository.get(stream)
        self.repository.cache.put(stream, project_aggregate(known, self.events.get(stream, gt=known.version)))

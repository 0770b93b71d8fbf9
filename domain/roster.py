"""The roster: every command there is.

A command reads aggregates, lets one of them decide, and appends the events in one step. The append checks in its own transaction that all
that was read is still so; if not, the command decides again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
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
    IdTaken,
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
from domain.values import Provenance, Role, Settings

ATTEMPTS = 20
"""How often a command decides again before it gives up as too busy."""

Aggregate = TypeVar("Aggregate", bound=RosterAggregate)
Parameters = ParamSpec("Parameters")


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

    def __init__(self, roster: "Roster") -> None:
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
    decide: "Callable[Concatenate[Roster, Decision, Parameters], RosterAggregate]",
) -> "Callable[Concatenate[Roster, Parameters], Outcome]":
    """Turn a method that decides into a command: attempt, append, and decide again where something read has changed.

    The method's first argument is the id of the stream it appends to. Commands about one stream take turns within a process: they would
    conflict anyway. The command returns an `Outcome` and raises what the method raises, `TooBusy` or `StoreUnavailable`.
    """

    def run(roster: "Roster", /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Outcome:
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

    def attempt(roster: "Roster", *args: Parameters.args, **kwargs: Parameters.kwargs) -> Outcome:
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


class Roster(Application[UUID]):
    """The application: one method per command. `by` says who gives the command and why; `expected` is the version it relies on."""

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

    @command
    def create_group(self, decision: Decision, group_id: UUID, name: str, by: Provenance) -> Group:
        """Create a group. Raises `IdTaken`, `GroupDeleted`; again with the same content it changes nothing."""
        if not decision.exists(group_id):
            return Group.create(group_id, name, by)
        group = decision.ever(Group, group_id, IdTaken)
        if not group.was_created_as(name):
            raise IdTaken(group_id)
        return decision.group(group_id)

    @command
    def rename_group(self, decision: Decision, group_id: UUID, name: str, by: Provenance, *, expected: int | None = None) -> Group:
        """Give a group another name. Raises `GroupUnknown`, `GroupDeleted`, `VersionStale`."""
        group = decision.at(decision.group(group_id), expected)
        group.rename(name, by)
        return group

    @command
    def delete_group(self, decision: Decision, group_id: UUID, by: Provenance, *, expected: int | None = None) -> Group:
        """End a group with its classes and their memberships, in one event. Raises `GroupUnknown`, `VersionStale`."""
        group = decision.ever(Group, group_id, GroupUnknown)
        if not group.deleted:
            decision.at(group, expected).delete(by)
        return group

    @command
    def register_user(self, decision: Decision, user_id: UUID, by: Provenance) -> User:
        """Register a user. Raises `IdTaken`, `UserRemoved`; again it changes nothing."""
        if not decision.exists(user_id):
            return User.register(user_id, by)
        decision.ever(User, user_id, IdTaken)
        return decision.user(user_id)

    @command
    def remove_user(self, decision: Decision, user_id: UUID, by: Provenance, *, expected: int | None = None) -> User:
        """End a user with all memberships, in one event. Raises `UserUnknown`, `VersionStale`."""
        user = decision.ever(User, user_id, UserUnknown)
        if not user.removed:
            decision.at(user, expected).remove(by)
        return user

    @command
    def create_class(self, decision: Decision, class_id: UUID, group_id: UUID, name: str, settings: Settings, by: Provenance) -> Class:
        """Create a class in a group. Raises `GroupUnknown`, `GroupDeleted`, `IdTaken`, `ClassDeleted`."""
        if not decision.exists(class_id):
            decision.group(group_id)
            return Class.create(class_id, group_id, name, settings, by)
        class_ = decision.ever(Class, class_id, IdTaken)
        if not class_.was_created_as(group_id, name, settings):
            raise IdTaken(class_id)
        return decision.class_(class_id)

    @command
    def change_class(
        self,
        decision: Decision,
        class_id: UUID,
        by: Provenance,
        *,
        name: str | None = None,
        settings: Settings | None = None,
        group_id: UUID | None = None,
        expected: int | None = None,
    ) -> Class:
        """Change what is given, in one append. Raises what `create_class` raises, `ClassArchived`, `ClassUnknown`, `VersionStale`."""
        class_ = decision.class_(class_id, expected)
        if name is not None:
            class_.rename(name, by)
        if settings is not None:
            class_.change_settings(settings, by)
        if group_id is not None:
            decision.group(group_id)
            class_.move(group_id, by)
        return class_

    @command
    def archive_class(self, decision: Decision, class_id: UUID, by: Provenance, *, expected: int | None = None) -> Class:
        """Put a class away. Raises `ClassUnknown`, `ClassDeleted`, `VersionStale`."""
        class_ = decision.class_(class_id, expected)
        class_.archive(by)
        return class_

    @command
    def restore_class(self, decision: Decision, class_id: UUID, by: Provenance, *, expected: int | None = None) -> Class:
        """Take a class back into use. Raises `ClassUnknown`, `ClassDeleted`, `VersionStale`."""
        class_ = decision.class_(class_id, expected)
        class_.restore(by)
        return class_

    @command
    def delete_class(self, decision: Decision, class_id: UUID, by: Provenance, *, expected: int | None = None) -> Class:
        """End a class with its memberships. Raises `ClassUnknown`, `VersionStale`."""
        try:
            class_ = decision.class_(class_id, expected)
        except ClassDeleted:
            return decision.ever(Class, class_id, ClassUnknown)
        class_.delete(by)
        return class_

    @command
    def enrol(
        self,
        decision: Decision,
        class_id: UUID,
        user_id: UUID,
        role: Role,
        by: Provenance,
        *,
        effective_on: date | None = None,
        expected: int | None = None,
    ) -> Class:
        """Make a user a member. Raises `ClassUnknown`, `ClassDeleted`, `ClassArchived`, `UserUnknown`, `UserRemoved`,
        `EnrolledInOtherRole`, `VersionStale`.
        """  # noqa: D205
        class_ = decision.class_(class_id, expected)
        decision.user(user_id)
        class_.enrol(user_id, role, by, effective_on)
        return class_

    @command
    def change_role(
        self,
        decision: Decision,
        class_id: UUID,
        user_id: UUID,
        role: Role,
        by: Provenance,
        *,
        effective_on: date | None = None,
        expected: int | None = None,
    ) -> Class:
        """Give a member another role. Raises `ClassUnknown`, `ClassDeleted`, `ClassArchived`, `UserUnknown`, `UserRemoved`,
        `MemberUnknown`, `VersionStale`.
        """  # noqa: D205
        class_ = decision.class_(class_id, expected)
        decision.user(user_id)
        class_.change_role(user_id, role, by, effective_on)
        return class_

    @command
    def withdraw(
        self,
        decision: Decision,
        class_id: UUID,
        user_id: UUID,
        by: Provenance,
        *,
        effective_on: date | None = None,
        expected: int | None = None,
    ) -> Class:
        """End a membership, if there is one. Raises `ClassUnknown`, `ClassDeleted`, `ClassArchived`, `VersionStale`."""
        class_ = decision.class_(class_id, expected)
        if user_id in class_.members and not decision.ever(User, user_id, UserUnknown).removed:
            class_.withdraw(user_id, by, effective_on)
        return class_

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

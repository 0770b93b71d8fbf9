"""The unit of work: what the commands of one append read and decide, one after the other.

Commands are decided while the append's lock is held (see `rosterlog.domain.deciding.writer`), so
what they read is what the log says, and what the commands before them decided. A refusal leaves no
trace: a command changes copies, which the next commands see only once it is kept.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any, TypeVar
from uuid import UUID

from rosterlog.domain.classes import Class
from rosterlog.domain.deciding.cache import AggregateCache
from rosterlog.domain.deciding.outcome import Outcome, Result
from rosterlog.domain.errors import (
    AboutThing,
    ClassDeleted,
    ClassUnknown,
    DomainError,
    GroupDeleted,
    GroupUnknown,
    MemberUnknown,
    UserRemoved,
    UserUnknown,
    VersionStale,
)
from rosterlog.domain.events import RosterAggregate, RosterEvent
from rosterlog.domain.groups import Group
from rosterlog.domain.log.append import Append, Stream
from rosterlog.domain.log.event_codec import IndexedEvent
from rosterlog.domain.users import User
from rosterlog.domain.values import Confinement, Expected

Aggregate = TypeVar("Aggregate", bound=RosterAggregate)
Decided = RosterAggregate | Result
"""What a command decides: the one aggregate that it changed, or a result about many things."""


class UnitOfWork:
    """What commands read and decide, to be recorded in one append."""

    def __init__(
        self,
        append: Append,
        cache: AggregateCache,
        encode: Callable[[RosterEvent], IndexedEvent],
        streams: Iterable[UUID],
    ) -> None:
        """Decide within `append`; read `streams`, which the commands name, and their groups."""
        self._append = append
        self._cache = cache
        self._encode = encode
        cache.follow(append)
        self._read: dict[UUID, RosterAggregate | None] = {}
        self.fetch(streams)
        self.events: list[IndexedEvent] = []
        self.streams: dict[UUID, Stream] = {}
        """Where the streams appended to stood before."""
        self.changed: dict[UUID, RosterAggregate] = {}
        """The aggregates that commands changed, as the events leave them."""
        self._begin(None)

    def decide(
        self,
        decide: Callable[..., Decided],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        groups: Confinement,
    ) -> Outcome | DomainError:
        """Return the outcome of a command, or its refusal, for a caller confined to `groups`.

        `decide` gets this unit of work before its other arguments.
        """
        self._begin(groups)
        try:
            result = self._keep(decide(self, *args, **kwargs))
        except DomainError as refusal:
            return refusal
        changed = bool(self._own_events)
        return Outcome(
            result.id,
            result.version,
            self._append.position + len(self.events),
            changed,
            result.each,
            recorded_at=self._append.recorded_at if changed else None,
        )

    def _begin(self, groups: Confinement) -> None:
        """Begin a command; what the one before did not keep is dropped."""
        self._groups = groups
        self._own: dict[UUID, RosterAggregate] = {}
        self._own_streams: dict[UUID, Stream] = {}
        self._own_events: list[IndexedEvent] = []

    def _keep(self, decided: Decided) -> Result:
        """Keep what the command decided for the append, and for the commands after it."""
        if not isinstance(decided, Result):
            self.record(decided)
            decided = Result(decided.id, self.version(decided))
        for stream, before in self._own_streams.items():
            self.streams.setdefault(stream, before)
            self.changed[stream] = self._own[stream]
        self.events += self._own_events
        return decided

    def fetch(self, streams: Iterable[UUID]) -> None:
        """Read many streams at once, then the groups of the classes among them."""
        read = self._fetch(streams)
        self._fetch({one.group_id for one in read.values() if one and one.group_id})

    def check_group(self, group_id: UUID) -> None:
        """See that there is a group. Raises `GroupUnknown`, `GroupDeleted`."""
        if self.look(Group, group_id, GroupUnknown).deleted:
            raise GroupDeleted(group_id)

    def check_user(self, user_id: UUID) -> None:
        """See that there is a user. Raises `UserUnknown`, `UserRemoved`.

        To a caller who is confined to groups, a removed user is unknown.
        """
        if self.look(User, user_id, UserUnknown).removed:
            raise UserRemoved(user_id) if self._groups is None else UserUnknown(user_id)

    def check_member(self, class_: Class, user_id: UUID) -> None:
        """See that a user who is named as a member of a class can be one.

        Raises as `check_user`; to a caller who is confined to groups, only `MemberUnknown`.
        """
        try:
            self.check_user(user_id)
        except UserUnknown:
            if self._groups is None:
                raise
            raise MemberUnknown(user_id, class_id=class_.id) from None

    def group(self, group_id: UUID) -> Group:
        """Return a group, to be changed. Raises `GroupUnknown`, `GroupDeleted`."""
        self.check_group(group_id)
        return self.take(Group, group_id, GroupUnknown)

    def class_(self, class_id: UUID, expected: Expected = None) -> Class:
        """Return a class that has not ended, itself or with its group, to be changed.

        Raises `ClassUnknown`, `ClassDeleted`, `VersionStale`.
        """
        class_ = self.take(Class, class_id, ClassUnknown)
        if class_.deleted or self.look(Group, class_.group_id, GroupUnknown).deleted:
            raise ClassDeleted(class_id)
        return self.at(class_, expected)

    def exists(self, stream: UUID) -> bool:
        """Tell whether the id was ever used, for whatever kind of thing."""
        return self._see(stream) is not None

    def look(self, kind: type[Aggregate], stream: UUID, unknown: type[AboutThing]) -> Aggregate:
        """Return what has the id `stream`, whether or not it has ended; it must not be changed.

        Raises `unknown` for another kind of thing, too, and for a thing of a group that the caller
        is not confined to.
        """
        aggregate = self._see(stream)
        if not isinstance(aggregate, kind) or self._is_hidden(aggregate):
            raise unknown(stream)
        return aggregate

    def take(self, kind: type[Aggregate], stream: UUID, unknown: type[AboutThing]) -> Aggregate:
        """Return the same, to be changed."""
        aggregate = self.look(kind, stream, unknown)
        if stream not in self._own:
            self._own[stream] = aggregate = copy(aggregate)
        return aggregate

    def at(self, aggregate: Aggregate, expected: Expected) -> Aggregate:
        """Return the aggregate.

        Raises `VersionStale` where the caller expects it at another version.
        """
        if expected is None:
            return aggregate
        version = self.version(aggregate)
        versions = frozenset([expected]) if isinstance(expected, int) else expected
        if version not in versions:
            several = " or ".join(map(str, sorted(versions)[:3]))
            named = expected if isinstance(expected, int) else several
            raise VersionStale(aggregate.id, version=version, expected=named)
        return aggregate

    def version(self, aggregate: RosterAggregate) -> int:
        """Return the aggregate's version as the caller counts it."""
        return aggregate.version if self._groups is None else aggregate.version_in(self._groups)

    def record(self, aggregate: RosterAggregate) -> bool:
        """Take the events that the aggregate has triggered, in this order; tell whether there were any."""
        triggered: Any = aggregate.collect_events()
        if not triggered:
            return False
        stream = aggregate.id
        if stream not in self._own_streams:
            before = self.changed.get(stream) or self._read.get(stream)
            version = triggered[0].originator_version - 1
            self._own_streams[stream] = Stream(version, before.group_id if before else None)
        self._own[stream] = aggregate
        self._own_events += map(self._encode, triggered)
        return True

    def _is_hidden(self, aggregate: RosterAggregate) -> bool:
        """Tell whether the caller is confined to other groups.

        A user is of no group: a caller who has the id may enrol the user.
        """
        return (
            self._groups is not None
            and not isinstance(aggregate, User)
            and (aggregate.group_id or aggregate.id) not in self._groups
        )

    def _see(self, stream: UUID) -> RosterAggregate | None:
        for known in (self._own, self.changed, self._read):
            if stream in known:
                return known[stream]
        return self._fetch([stream])[stream]

    def _fetch(self, streams: Iterable[UUID]) -> dict[UUID, RosterAggregate | None]:
        missing = [stream for stream in streams if stream not in self._read]
        read = self._cache.fetch(missing, self._append) if missing else {}
        self._read |= read
        return read

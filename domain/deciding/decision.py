"""What a command decides on: copies of what this process knows, and what it decided so far.

It is what the log says, because commands are decided while the append's lock is held (see
`rosterlog.domain.deciding.writer`); a refusal and a command that changes nothing are decisions,
too.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from rosterlog.domain.classes import Class
from rosterlog.domain.deciding.known import KnownAggregates
from rosterlog.domain.errors import (
    AboutThing,
    ClassDeleted,
    ClassUnknown,
    GroupDeleted,
    GroupUnknown,
    MemberUnknown,
    UserRemoved,
    UserUnknown,
    VersionStale,
)
from rosterlog.domain.events import RosterAggregate, RosterEvent
from rosterlog.domain.groups import Group
from rosterlog.domain.log.append import Stream
from rosterlog.domain.log.event_codec import IndexedEvent
from rosterlog.domain.users import User
from rosterlog.domain.values import Confinement, Expected

Aggregate = TypeVar("Aggregate", bound=RosterAggregate)


@dataclass(frozen=True)
class Outcome:
    """What became of a command: the stream it was about, at which version, and the position to wait for.

    `position` is that of the command's own last event; of a command that `changed` nothing, the
    head when it decided. A command about many things has a `result`: what became of each, as plain
    JSON. `replayed` tells that an earlier request with the same key came to it. `recorded_at` is
    the time of what the command recorded.
    """

    id: UUID
    version: int
    position: int
    changed: bool
    result: dict[str, Any] | None = None
    replayed: bool = False
    recorded_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Verdict:
    """What a command's decision comes to: the stream it was about, at which version, and its `result`."""

    id: UUID
    version: int
    result: dict[str, Any] | None = None


@dataclass
class Decided:
    """What commands decided one after the other, each on what the ones before it had decided, to be recorded in one append."""

    streams: dict[UUID, Stream] = field(default_factory=dict)
    """Where the streams appended to stood before."""
    changed: dict[UUID, RosterAggregate] = field(default_factory=dict)
    events: list[IndexedEvent] = field(default_factory=list)


class Decision:
    """What one command reads and decides.

    A decision that ends in a refusal is dropped, and leaves no trace but what it read.
    """

    def __init__(
        self,
        known: KnownAggregates,
        before: Decided,
        encode: Callable[[RosterEvent], IndexedEvent],
        groups: Confinement = None,
    ) -> None:
        """Decide on what is known and on what was decided `before` in the same append, for a caller confined to `groups`."""
        self._known = known
        self._before = before
        self._encode = encode
        self._groups = groups
        self._copies: dict[UUID, RosterAggregate | None] = {}
        self._changed: dict[UUID, RosterAggregate] = {}
        self.streams: dict[UUID, Stream] = {}
        self.events: list[IndexedEvent] = []

    def group(self, group_id: UUID) -> Group:
        """Return a group that is not deleted. Raises `GroupUnknown`, `GroupDeleted`."""
        group = self.ever(Group, group_id, GroupUnknown)
        if group.deleted:
            raise GroupDeleted(group_id)
        return group

    def user(self, user_id: UUID) -> User:
        """Return a user who is not removed.

        Raises `UserUnknown`, `UserRemoved`; to who is confined, one who is removed never was.
        """
        user = self.ever(User, user_id, UserUnknown)
        if user.removed:
            raise UserRemoved(user_id) if self._groups is None else UserUnknown(user_id)
        return user

    def member(self, class_: Class, user_id: UUID) -> None:
        """See that a user who is named as a member of a class can be one.

        Raises as `user`; to who is confined, only `MemberUnknown`.
        """
        try:
            self.user(user_id)
        except UserUnknown:
            raise (
                UserUnknown(user_id)
                if self._groups is None
                else MemberUnknown(user_id, class_id=class_.id)
            ) from None

    def class_(self, class_id: UUID, expected: Expected = None) -> Class:
        """Return a class that has not ended, itself or with its group.

        Raises `ClassUnknown`, `ClassDeleted`, `VersionStale`.
        """
        class_ = self.ever(Class, class_id, ClassUnknown)
        if class_.deleted or self.ever(Group, class_.group_id, GroupUnknown).deleted:
            raise ClassDeleted(class_id)
        return self.at(class_, expected)

    def ever(self, kind: type[Aggregate], stream: UUID, unknown: type[AboutThing]) -> Aggregate:
        """Return what has the id `stream`, whether or not it has ended.

        Raises `unknown` for another kind of thing, too, and for a thing of a group that the caller
        is not confined to.
        """
        aggregate = self._read(stream)
        if not isinstance(aggregate, kind) or self._is_hidden(aggregate):
            raise unknown(stream)
        return aggregate

    def exists(self, stream: UUID) -> bool:
        """Tell whether the id was ever used, for whatever kind of thing."""
        return self._read(stream) is not None

    def at(self, aggregate: Aggregate, expected: Expected) -> Aggregate:
        """Return the aggregate.

        Raises `VersionStale` where the caller expects it at another version.
        """
        version = self.version(aggregate)
        versions = frozenset([expected]) if isinstance(expected, int) else expected
        if versions is not None and version not in versions:
            named = (
                expected
                if isinstance(expected, int)
                else " or ".join(map(str, sorted(versions)[:3]))
            )
            raise VersionStale(aggregate.id, version=version, expected=named)
        return aggregate

    def version(self, aggregate: RosterAggregate) -> int:
        """Return the aggregate's version as the caller counts it."""
        return aggregate.version_in(self._groups)

    def prepare(self, streams: set[UUID]) -> None:
        """Read many streams at once, so that asking for each is cheap; then the groups of the classes among them."""
        self._known.load(
            {read.lives_in for read in self._known.load(streams) if read and read.lives_in}
        )

    def record(self, aggregate: RosterAggregate) -> bool:
        """Take the events that the aggregate has triggered, in this order; tell whether there were any."""
        triggered: Any = aggregate.collect_events()
        self.events.extend(map(self._encode, triggered))
        if triggered:
            self._copies[aggregate.id] = self._changed[aggregate.id] = aggregate
            self.streams.setdefault(
                aggregate.id,
                Stream(triggered[0].originator_version - 1, self._lived_in(aggregate.id)),
            )
        return bool(triggered)

    def keep(self) -> None:
        """Let the decisions after this one build on it."""
        for stream, where in self.streams.items():
            self._before.streams.setdefault(stream, where)
        self._before.changed |= self._changed
        self._before.events.extend(self.events)

    def _is_hidden(self, aggregate: RosterAggregate) -> bool:
        """Tell whether the caller is confined to other groups.

        A user is of no group: whoever has the id may enrol them.
        """
        return (
            self._groups is not None
            and not isinstance(aggregate, User)
            and (aggregate.lives_in or aggregate.id) not in self._groups
        )

    def _read(self, stream: UUID) -> RosterAggregate | None:
        if stream not in self._copies:
            self._copies[stream] = copy(self._original(stream))
        return self._copies[stream]

    def _original(self, stream: UUID) -> RosterAggregate | None:
        if stream in self._before.changed:
            return self._before.changed[stream]
        return self._known.get(stream)

    def _lived_in(self, stream: UUID) -> UUID | None:
        original = self._original(stream)
        return original.lives_in if original else None

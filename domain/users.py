"""A user: an opaque id that can be enrolled. Names and addresses of people stay out of the log."""

from typing import Self
from uuid import UUID

from eventsourcing.domain import Aggregate

from rosterlog.domain.events import RosterAggregate, RosterEvent
from rosterlog.domain.values import Provenance


class User(RosterAggregate):
    """Registered once, removed at most once; removing ends all memberships."""

    TOPIC = "User"

    class Event(RosterEvent):
        """An event of a user."""

    class Created(Event, Aggregate.Created):
        """The user exists from here on."""

        TOPIC = "UserRegistered"

    class Removed(Event):
        """The user is gone for good, and so are the user's memberships."""

        TOPIC = "UserRemoved"

        def apply(self, user: "User") -> None:  # noqa: D102
            user.removed = True

    def __init__(self) -> None:
        self.removed = False

    @classmethod
    def register(cls, user_id: UUID, by: Provenance) -> Self:
        """Start the user's stream."""
        return cls._create(cls.Created, id=user_id, **vars(by))

    def remove(self, by: Provenance) -> None:
        """End the user and every membership of theirs; nothing happens where they are removed already."""
        if not self.removed:
            self._record(self.Removed, by)

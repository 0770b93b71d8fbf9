"""A group: the school or department that classes live in."""

from typing import Self
from uuid import UUID

from eventsourcing.domain import Aggregate

from rosterlog.domain import values
from rosterlog.domain.events import RosterAggregate, RosterEvent
from rosterlog.domain.values import Provenance


class Group(RosterAggregate):
    """Created, renamed, and in the end deleted together with its classes and their memberships."""

    TOPIC = "Group"

    class Event(RosterEvent):
        """An event of a group."""

    class Created(Event, Aggregate.Created):
        """The group exists from here on."""

        TOPIC = "GroupCreated"
        name: str

    class Renamed(Event):
        """The group has another name."""

        TOPIC = "GroupRenamed"
        name: str
        previous_name: str

        def apply(self, group: "Group") -> None:  # noqa: D102
            group.name = self.name

    class Deleted(Event):
        """The group is gone for good, with its classes and their memberships."""

        TOPIC = "GroupDeleted"

        def apply(self, group: "Group") -> None:  # noqa: D102
            group.deleted = True

    def __init__(self, name: str) -> None:
        self.created_as = name
        self.name = name
        self.deleted = False

    @classmethod
    def create(cls, group_id: UUID, name: str, by: Provenance) -> Self:
        """Start the group's stream."""
        return cls._create(cls.Created, id=group_id, name=values.name(name), **vars(by))

    def was_created_as(self, name: str) -> bool:
        """Tell whether the group began with this name, whatever became of it."""
        return values.name(name) == self.created_as

    def rename(self, name: str, by: Provenance) -> None:
        """Give the group another name; nothing happens where it has that name already."""
        name = values.name(name)
        if name != self.name:
            self._record(self.Renamed, by, name=name, previous_name=self.name)

    def delete(self, by: Provenance) -> None:
        """End the group, its classes and their memberships; nothing happens where it is deleted already."""
        if not self.deleted:
            self._record(self.Deleted, by)

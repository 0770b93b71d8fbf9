"""A class and its roster."""

from datetime import date
from typing import Any, Self
from uuid import UUID

from eventsourcing.domain import Aggregate

from rosterlog.domain import values
from rosterlog.domain.errors import ClassArchived, EnrolledInOtherRole, MemberUnknown
from rosterlog.domain.events import RosterAggregate, RosterEvent
from rosterlog.domain.values import Confinement, Provenance, Role, Settings


class Class(RosterAggregate):
    """A class of a group, with the role of each member.

    A user who was removed still stands in `members`; whoever asks about a member asks the user, too
    (see `rosterlog.domain.roster`).
    """

    TOPIC = "Class"

    class Event(RosterEvent):
        """An event of a class."""

    class Created(Event, Aggregate.Created):
        """The class exists from here on, in a group."""

        TOPIC = "ClassCreated"
        group_id: UUID
        name: str
        settings: Settings

    class Renamed(Event):
        """The class has another name."""

        TOPIC = "ClassRenamed"
        name: str
        previous_name: str

        def apply(self, class_: "Class") -> None:  # noqa: D102
            class_.name = self.name

    class SettingsChanged(Event):
        """The class has other settings, replaced whole."""

        TOPIC = "ClassSettingsChanged"
        settings: Settings
        previous_settings: Settings

        def apply(self, class_: "Class") -> None:  # noqa: D102
            class_.settings = self.settings

    class Moved(Event):
        """The class lives in another group."""

        TOPIC = "ClassMoved"
        group_id: UUID
        previous_group_id: UUID

        def apply(self, class_: "Class") -> None:  # noqa: D102
            class_.group_id = self.group_id
            class_.stays = (*class_.stays, (self.originator_version, self.group_id))

    class Archived(Event):
        """The class is put away with its roster as it is."""

        TOPIC = "ClassArchived"

        def apply(self, class_: "Class") -> None:  # noqa: D102
            class_.archived = True

    class Restored(Event):
        """The class is in use again."""

        TOPIC = "ClassRestored"

        def apply(self, class_: "Class") -> None:  # noqa: D102
            class_.archived = False

    class Deleted(Event):
        """The class is gone for good, with its memberships."""

        TOPIC = "ClassDeleted"

        def apply(self, class_: "Class") -> None:  # noqa: D102
            class_.deleted = True

    class MemberEnrolled(Event):
        """A user is a member of the class from here on."""

        TOPIC = "MemberEnrolled"
        user_id: UUID
        role: Role
        effective_on: date | None

        def apply(self, class_: "Class") -> None:  # noqa: D102
            class_.members[self.user_id] = self.role

    class RoleChanged(Event):
        """A member has another role; the membership stays the same."""

        TOPIC = "RoleChanged"
        user_id: UUID
        role: Role
        previous_role: Role
        effective_on: date | None

        def apply(self, class_: "Class") -> None:  # noqa: D102
            class_.members[self.user_id] = self.role

    class MemberWithdrawn(Event):
        """A user is no member any more; `role` is the one they had."""

        TOPIC = "MemberWithdrawn"
        user_id: UUID
        role: Role
        effective_on: date | None

        def apply(self, class_: "Class") -> None:  # noqa: D102
            del class_.members[self.user_id]

    def __init__(self, group_id: UUID, name: str, settings: Settings) -> None:
        self.created_as = (group_id, name, settings)
        self.group_id: UUID = group_id
        self.stays: tuple[tuple[int, UUID], ...] = ((1, group_id),)
        self.name = name
        self.settings = settings
        self.archived = False
        self.deleted = False
        self.members: dict[UUID, Role] = {}

    def __copy__(self) -> Self:
        copy = super().__copy__()
        copy.members = self.members.copy()
        return copy

    def version_in(self, groups: Confinement) -> int:
        """Return the version without the events of the class's stays in other groups, if the caller is confined to `groups`."""
        if groups is None:
            return self.version
        ends = [*(since for since, _ in self.stays[1:]), self.version + 1]
        return sum(
            end - since
            for (since, group), end in zip(self.stays, ends, strict=True)
            if group in groups
        )

    @classmethod
    def create(
        cls, class_id: UUID, group_id: UUID, name: str, settings: Settings, by: Provenance
    ) -> Self:
        """Start the class's stream."""
        content = {
            "group_id": group_id,
            "name": values.name(name),
            "settings": values.settings(settings),
        }
        return cls._create(cls.Created, id=class_id, **content, **vars(by))

    def was_created_as(self, group_id: UUID, name: str, settings: Settings) -> bool:
        """Tell whether the class began with this content, whatever became of it."""
        return (group_id, values.name(name)) == self.created_as[:2] and values.same_settings(
            settings, self.created_as[2]
        )

    def rename(self, name: str, by: Provenance) -> None:
        """Give the class another name."""
        name = values.name(name)
        if name != self.name:
            self._record_unarchived(self.Renamed, by, name=name, previous_name=self.name)

    def change_settings(self, settings: Settings, by: Provenance) -> None:
        """Replace the settings."""
        values.settings(settings)
        if not values.same_settings(settings, self.settings):
            self._record_unarchived(
                self.SettingsChanged, by, settings=settings, previous_settings=self.settings
            )

    def move(self, group_id: UUID, by: Provenance) -> None:
        """Put the class into another group."""
        if group_id != self.group_id:
            self._record_unarchived(
                self.Moved, by, group_id=group_id, previous_group_id=self.group_id
            )

    def archive(self, by: Provenance) -> None:
        """Put the class away; its roster stays."""
        if not self.archived:
            self._record(self.Archived, by)

    def restore(self, by: Provenance) -> None:
        """Take the class back into use."""
        if self.archived:
            self._record(self.Restored, by)

    def delete(self, by: Provenance) -> None:
        """End the class and its memberships for good."""
        if not self.deleted:
            self._record(self.Deleted, by)

    def enrol(
        self, user_id: UUID, role: Role, by: Provenance, effective_on: date | None = None
    ) -> None:
        """Make a user a member.

        Raises `EnrolledInOtherRole` where they are a member in another role.
        """
        current = self.members.get(user_id)
        if current == role:
            return
        if current is not None:
            raise EnrolledInOtherRole(user_id, role=current)
        self._record_unarchived(
            self.MemberEnrolled, by, user_id=user_id, role=role, effective_on=effective_on
        )

    def change_role(
        self, user_id: UUID, role: Role, by: Provenance, effective_on: date | None = None
    ) -> None:
        """Give a member another role. Raises `MemberUnknown` where the user is no member."""
        current = self.members.get(user_id)
        if current is None:
            raise MemberUnknown(user_id, class_id=self.id)
        if current != role:
            fields = {
                "user_id": user_id,
                "role": role,
                "previous_role": current,
                "effective_on": effective_on,
            }
            self._record_unarchived(self.RoleChanged, by, **fields)

    def withdraw(self, user_id: UUID, by: Provenance, effective_on: date | None = None) -> None:
        """End a membership; nothing happens where there is none."""
        current = self.members.get(user_id)
        if current is not None:
            self._record_unarchived(
                self.MemberWithdrawn, by, user_id=user_id, role=current, effective_on=effective_on
            )

    def _record_unarchived(self, event: type[RosterEvent], by: Provenance, **fields: Any) -> None:
        if self.archived:
            raise ClassArchived(self.id)
        self._record(event, by, **fields)

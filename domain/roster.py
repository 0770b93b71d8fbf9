"""The roster: every command there is."""

from datetime import date
from uuid import UUID

from rosterlog.domain import bulk
from rosterlog.domain.bulk import RosterRules
from rosterlog.domain.classes import Class
from rosterlog.domain.deciding.command import CommandedApplication, StreamId, command
from rosterlog.domain.deciding.outcome import Result
from rosterlog.domain.deciding.unit_of_work import UnitOfWork
from rosterlog.domain.errors import ClassDeleted, ClassUnknown, GroupUnknown, IdTaken, UserUnknown
from rosterlog.domain.groups import Group
from rosterlog.domain.items import Enrolment, Items, Member, Registration
from rosterlog.domain.users import User
from rosterlog.domain.values import Expected, Provenance, Role, Settings


class Roster(CommandedApplication):
    """The application: one method per command. `by` says who gives the command and why; `expected` is what version it relies on."""

    @command
    def create_group(
        self, work: UnitOfWork, group_id: StreamId, name: str, by: Provenance
    ) -> Group:
        """Create a group. Raises `IdTaken`, `GroupDeleted`; again with the same content it changes nothing."""
        if not work.exists(group_id):
            return Group.create(group_id, name, by)
        group = work.take(Group, group_id, IdTaken)
        if not group.was_created_as(name):
            raise IdTaken(group_id)
        return work.group(group_id)

    @command
    def rename_group(
        self,
        work: UnitOfWork,
        group_id: StreamId,
        name: str,
        by: Provenance,
        *,
        expected: Expected = None,
    ) -> Group:
        """Give a group another name. Raises `GroupUnknown`, `GroupDeleted`, `VersionStale`."""
        group = work.at(work.group(group_id), expected)
        group.rename(name, by)
        return group

    @command
    def delete_group(
        self, work: UnitOfWork, group_id: StreamId, by: Provenance, *, expected: Expected = None
    ) -> Group:
        """End a group with its classes and their memberships, in one event. Raises `GroupUnknown`, `VersionStale`."""
        group = work.take(Group, group_id, GroupUnknown)
        if not group.deleted:
            work.at(group, expected).delete(by)
        return group

    @command
    def register_user(self, work: UnitOfWork, user_id: StreamId, by: Provenance) -> User:
        """Register a user. Raises `IdTaken`, `UserRemoved`; again it changes nothing."""
        if not work.exists(user_id):
            return User.register(user_id, by)
        user = work.take(User, user_id, IdTaken)
        work.check_user(user_id)
        return user

    @command
    def remove_user(
        self, work: UnitOfWork, user_id: StreamId, by: Provenance, *, expected: Expected = None
    ) -> User:
        """End a user with all memberships, in one event. Raises `UserUnknown`, `VersionStale`."""
        user = work.take(User, user_id, UserUnknown)
        if not user.removed:
            work.at(user, expected).remove(by)
        return user

    @command
    def create_class(
        self,
        work: UnitOfWork,
        class_id: StreamId,
        group_id: StreamId,
        name: str,
        settings: Settings,
        by: Provenance,
    ) -> Class:
        """Create a class in a group. Raises `GroupUnknown`, `GroupDeleted`, `IdTaken`, `ClassDeleted`."""
        work.look(Group, group_id, GroupUnknown)
        if not work.exists(class_id):
            work.check_group(group_id)
            return Class.create(class_id, group_id, name, settings, by)
        class_ = work.take(Class, class_id, IdTaken)
        if not class_.was_created_as(group_id, name, settings):
            raise IdTaken(class_id)
        return work.class_(class_id)

    @command
    def change_class(
        self,
        work: UnitOfWork,
        class_id: StreamId,
        by: Provenance,
        *,
        name: str | None = None,
        settings: Settings | None = None,
        group_id: StreamId | None = None,
        expected: Expected = None,
    ) -> Class:
        """Change what is given, in one append. Raises what `create_class` raises, `ClassArchived`, `ClassUnknown`, `VersionStale`."""
        class_ = work.class_(class_id, expected)
        if name is not None:
            class_.rename(name, by)
        if settings is not None:
            class_.change_settings(settings, by)
        if group_id is not None:
            work.check_group(group_id)
            class_.move(group_id, by)
        return class_

    @command
    def archive_class(
        self, work: UnitOfWork, class_id: StreamId, by: Provenance, *, expected: Expected = None
    ) -> Class:
        """Put a class away. Raises `ClassUnknown`, `ClassDeleted`, `VersionStale`."""
        class_ = work.class_(class_id, expected)
        class_.archive(by)
        return class_

    @command
    def restore_class(
        self, work: UnitOfWork, class_id: StreamId, by: Provenance, *, expected: Expected = None
    ) -> Class:
        """Take a class back into use. Raises `ClassUnknown`, `ClassDeleted`, `VersionStale`."""
        class_ = work.class_(class_id, expected)
        class_.restore(by)
        return class_

    @command
    def delete_class(
        self, work: UnitOfWork, class_id: StreamId, by: Provenance, *, expected: Expected = None
    ) -> Class:
        """End a class with its memberships. Raises `ClassUnknown`, `VersionStale`."""
        try:
            class_ = work.class_(class_id, expected)
        except ClassDeleted:
            return work.take(Class, class_id, ClassUnknown)
        class_.delete(by)
        return class_

    @command
    def enrol(
        self,
        work: UnitOfWork,
        class_id: StreamId,
        user_id: StreamId,
        role: Role,
        by: Provenance,
        *,
        effective_on: date | None = None,
        expected: Expected = None,
    ) -> Class:
        """Make a user a member. Raises `ClassUnknown`, `ClassDeleted`, `ClassArchived`, `UserUnknown`, `UserRemoved`,
        `EnrolledInOtherRole`, `VersionStale`.
        """  # noqa: D205
        class_ = work.class_(class_id, expected)
        work.check_user(user_id)
        class_.enrol(user_id, role, by, effective_on)
        return class_

    @command
    def change_role(
        self,
        work: UnitOfWork,
        class_id: StreamId,
        user_id: StreamId,
        role: Role,
        by: Provenance,
        *,
        effective_on: date | None = None,
        expected: Expected = None,
    ) -> Class:
        """Give a member another role. Raises `ClassUnknown`, `ClassDeleted`, `ClassArchived`, `UserUnknown`, `UserRemoved`,
        `MemberUnknown`, `VersionStale`.
        """  # noqa: D205
        class_ = work.class_(class_id, expected)
        work.check_member(class_, user_id)
        class_.change_role(user_id, role, by, effective_on)
        return class_

    @command
    def withdraw(
        self,
        work: UnitOfWork,
        class_id: StreamId,
        user_id: StreamId,
        by: Provenance,
        *,
        effective_on: date | None = None,
        expected: Expected = None,
    ) -> Class:
        """End a membership, if there is one; in a deleted class there is none. Raises `ClassUnknown`, `ClassArchived`, `VersionStale`."""
        try:
            class_ = work.class_(class_id, expected)
        except ClassDeleted:
            return work.take(Class, class_id, ClassUnknown)
        if user_id in class_.members and not work.look(User, user_id, UserUnknown).removed:
            class_.withdraw(user_id, by, effective_on)
        return class_

    @command
    def set_members(
        self,
        work: UnitOfWork,
        class_id: StreamId,
        members: Items[Member],
        by: Provenance,
        *,
        rules: RosterRules = RosterRules(),  # noqa: B008  # frozen
        expected: Expected = None,
    ) -> Result:
        """Set a whole roster by the fewest events that lead there. Raises `ClassUnknown`, `ClassDeleted`, `ClassArchived`,
        `MembersRefused`, `TooManyWithdrawals`, `VersionStale`.
        """  # noqa: D205
        return bulk.set_roster(work, work.class_(class_id, expected), members, by, rules)

    @command
    def enrol_many(
        self,
        work: UnitOfWork,
        batch: UUID,
        enrolments: Items[Enrolment],
        by: Provenance,
        *,
        atomic: bool = False,
    ) -> Result:
        """Enrol in many classes, with an outcome for each item. Raises `ItemsRefused` where `atomic` and one is refused."""
        return bulk.enrol_all(work, batch, enrolments, by, atomic=atomic)

    @command
    def register_many(
        self,
        work: UnitOfWork,
        batch: UUID,
        registrations: Items[Registration],
        by: Provenance,
        *,
        atomic: bool = False,
    ) -> Result:
        """Register many users, with an outcome for each item. Raises `ItemsRefused` where `atomic` and one is refused."""
        return bulk.register_all(work, batch, registrations, by, atomic=atomic)

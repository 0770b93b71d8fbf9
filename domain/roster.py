"""The roster: every command there is."""

from datetime import date
from uuid import UUID

from rosterlog.domain import bulk
from rosterlog.domain.bulk import Enrolment, Items, Member, Registration, RosterRules
from rosterlog.domain.classes import Class
from rosterlog.domain.deciding.commanding import CommandedApplication, command
from rosterlog.domain.deciding.decision import Decision, Verdict
from rosterlog.domain.errors import ClassDeleted, ClassUnknown, GroupUnknown, IdTaken, UserUnknown
from rosterlog.domain.groups import Group
from rosterlog.domain.users import User
from rosterlog.domain.values import Expected, Provenance, Role, Settings


class Roster(CommandedApplication):
    """The application: one method per command. `by` says who gives the command and why; `expected` is what version it relies on."""

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
    def rename_group(
        self,
        decision: Decision,
        group_id: UUID,
        name: str,
        by: Provenance,
        *,
        expected: Expected = None,
    ) -> Group:
        """Give a group another name. Raises `GroupUnknown`, `GroupDeleted`, `VersionStale`."""
        group = decision.at(decision.group(group_id), expected)
        group.rename(name, by)
        return group

    @command
    def delete_group(
        self, decision: Decision, group_id: UUID, by: Provenance, *, expected: Expected = None
    ) -> Group:
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
    def remove_user(
        self, decision: Decision, user_id: UUID, by: Provenance, *, expected: Expected = None
    ) -> User:
        """End a user with all memberships, in one event. Raises `UserUnknown`, `VersionStale`."""
        user = decision.ever(User, user_id, UserUnknown)
        if not user.removed:
            decision.at(user, expected).remove(by)
        return user

    @command
    def create_class(
        self,
        decision: Decision,
        class_id: UUID,
        group_id: UUID,
        name: str,
        settings: Settings,
        by: Provenance,
    ) -> Class:
        """Create a class in a group. Raises `GroupUnknown`, `GroupDeleted`, `IdTaken`, `ClassDeleted`."""
        decision.ever(Group, group_id, GroupUnknown)
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
        expected: Expected = None,
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
    def archive_class(
        self, decision: Decision, class_id: UUID, by: Provenance, *, expected: Expected = None
    ) -> Class:
        """Put a class away. Raises `ClassUnknown`, `ClassDeleted`, `VersionStale`."""
        class_ = decision.class_(class_id, expected)
        class_.archive(by)
        return class_

    @command
    def restore_class(
        self, decision: Decision, class_id: UUID, by: Provenance, *, expected: Expected = None
    ) -> Class:
        """Take a class back into use. Raises `ClassUnknown`, `ClassDeleted`, `VersionStale`."""
        class_ = decision.class_(class_id, expected)
        class_.restore(by)
        return class_

    @command
    def delete_class(
        self, decision: Decision, class_id: UUID, by: Provenance, *, expected: Expected = None
    ) -> Class:
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
        expected: Expected = None,
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
        expected: Expected = None,
    ) -> Class:
        """Give a member another role. Raises `ClassUnknown`, `ClassDeleted`, `ClassArchived`, `UserUnknown`, `UserRemoved`,
        `MemberUnknown`, `VersionStale`.
        """  # noqa: D205
        class_ = decision.class_(class_id, expected)
        decision.member(class_, user_id)
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
        expected: Expected = None,
    ) -> Class:
        """End a membership, if there is one; in a deleted class there is none. Raises `ClassUnknown`, `ClassArchived`, `VersionStale`."""
        try:
            class_ = decision.class_(class_id, expected)
        except ClassDeleted:
            return decision.ever(Class, class_id, ClassUnknown)
        if user_id in class_.members and not decision.ever(User, user_id, UserUnknown).removed:
            class_.withdraw(user_id, by, effective_on)
        return class_

    @command
    def set_members(
        self,
        decision: Decision,
        class_id: UUID,
        members: Items[Member],
        by: Provenance,
        *,
        rules: RosterRules = RosterRules(),  # noqa: B008  # frozen
        expected: Expected = None,
    ) -> Verdict:
        """Set a whole roster by the fewest events that lead there. Raises `ClassUnknown`, `ClassDeleted`, `ClassArchived`,
        `MembersRefused`, `TooManyWithdrawals`, `VersionStale`.
        """  # noqa: D205
        return bulk.set_roster(decision, decision.class_(class_id, expected), members, by, rules)

    @command
    def enrol_many(
        self,
        decision: Decision,
        batch: UUID,
        enrolments: Items[Enrolment],
        by: Provenance,
        *,
        atomic: bool = False,
    ) -> Verdict:
        """Enrol in many classes, with an outcome for each item. Raises `ItemsRefused` where `atomic` and one is refused."""
        return bulk.enrol_all(decision, batch, enrolments, by, atomic=atomic)

    @command
    def register_many(
        self,
        decision: Decision,
        batch: UUID,
        registrations: Items[Registration],
        by: Provenance,
        *,
        atomic: bool = False,
    ) -> Verdict:
        """Register many users, with an outcome for each item. Raises `ItemsRefused` where `atomic` and one is refused."""
        return bulk.register_all(decision, batch, registrations, by, atomic=atomic)

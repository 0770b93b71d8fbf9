"""Every way in which a command can be refused.

The docstring of an error is its message; `rule` is its name in the outside world (`ClassArchived` is `class-archived`).
"""

import re
from typing import Any, ClassVar


class DomainError(Exception):
    """The command was refused."""

    rule: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.rule = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def __init__(self, **facts: object) -> None:
        """Fill the docstring's placeholders with `facts`, which stay readable as attributes."""
        self.facts = facts
        super().__init__(" ".join((self.__doc__ or "").split()).format(**facts))


class InvalidValue(ValueError, DomainError):
    """{detail}."""

    def __init__(self, field: str, rule: str, detail: str) -> None:
        """Name the `field` (nested parts separated by `/`), the `rule` it breaks and the sentence that explains it."""
        DomainError.__init__(self, detail=detail)
        self.field, self.broken_rule, self.detail = field, rule, detail


class AboutThing(DomainError):
    """Something that the command names is not as the command needs it: {id}."""

    def __init__(self, id: object, **facts: object) -> None:  # noqa: A002
        """Name the thing by its `id`."""
        super().__init__(id=str(id), **facts)
        self.id = str(id)


class Unknown(AboutThing):
    """Nothing with the id {id} was ever recorded."""


class Gone(AboutThing):
    """What had the id {id} has ended for good."""


class GroupUnknown(Unknown):
    """There is no group {id}."""


class GroupDeleted(Gone):
    """Group {id} was deleted. Deleting is final."""


class ClassUnknown(Unknown):
    """There is no class {id}."""


class ClassDeleted(Gone):
    """Class {id} was deleted, or its group was. Deleting is final."""


class UserUnknown(Unknown):
    """There is no user {id}."""


class UserRemoved(Gone):
    """User {id} was removed. Removing is final."""


class MemberUnknown(Unknown):
    """User {id} is no member of class {class_id}."""


class ClassArchived(AboutThing):
    """Class {id} is archived and takes no change but restoring and deleting: restore it first."""


class EnrolledInOtherRole(AboutThing):
    """User {id} is already enrolled as {role}: change the role instead of enrolling again."""


class IdTaken(AboutThing):
    """The id {id} is already used, with other content or for another kind of thing. Ids are never used again."""


class VersionStale(AboutThing):
    """{id} is at version {version}, not at {expected}: read it again and decide anew."""


class TooManyWithdrawals(DomainError):
    """The roster given would withdraw {withdrawals} of {members} members where {allowed} are allowed: is it complete? Nothing was recorded.
    If it is complete, allow that many: with max_withdrawals={withdrawals}, on the command line with --allow.
    """  # noqa: D205


class MembersRefused(DomainError):
    """{count} of the members can't be enrolled, so nothing was recorded; `errors` names each."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        """Name each refused member by its `pointer`, with `rule` and `detail`."""
        super().__init__(count=len(errors))
        self.errors = errors


class ItemsRefused(DomainError):
    """{count} of {total} items are refused, so nothing was recorded; `items` says what became of each."""

    def __init__(self, result: dict[str, Any], refused: int, total: int) -> None:
        """Keep what the items came to, of which `refused` are refused."""
        super().__init__(count=refused, total=total)
        self.result = result


class KeyReused(DomainError):
    """The Idempotency-Key {key} was used for another request within the last 24 hours: take a new one."""


class StoreUnavailable(DomainError):
    """The event store can't be reached right now. Nothing was recorded in the log: try again."""


class OutcomeUnknown(DomainError):
    """It is not known whether the command was recorded: repeat it with the same id or Idempotency-Key, or read what it changes."""


class ReleaseOutdated(DomainError):
    """A newer release has migrated the log, so this process records nothing any more: replace it by one of the newer release."""


class NotMigrated(DomainError):
    """The database is not at the migration that this release needs, so nothing was recorded: run rosterlog migrate."""


class ReadTablesBehind(DomainError):
    """The read tables do not reflect position {position} yet. Try again."""


class ExpensiveReadsBusy(DomainError):
    """As many whole histories, rosters and differences are read as can be. Try again."""

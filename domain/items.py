"""The items of a command about many things."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from rosterlog.domain.values import Role

MOST_ITEMS = 10_000
"""Most items of one command (design: up to 10,000)."""


@dataclass(frozen=True)
class Refused:
    """An item that is refused because its form is wrong.

    `errors` says where: all of the `count` errors, or the first ones.
    """

    rule: str
    detail: str
    errors: Sequence[Mapping[str, Any]] = ()
    count: int = 0


class _Item(Protocol):
    @property
    def streams(self) -> tuple[UUID, ...]: ...


@dataclass(frozen=True)
class Enrolment:
    """One item of many enrolments."""

    class_id: UUID
    user_id: UUID
    role: Role
    effective_on: date | None = None

    @property
    def streams(self) -> tuple[UUID, ...]:
        """The ids that it names."""
        return self.class_id, self.user_id


@dataclass(frozen=True)
class Registration:
    """One item of many users to register."""

    user_id: UUID

    @property
    def streams(self) -> tuple[UUID, ...]:
        """The ids that it names."""
        return (self.user_id,)


@dataclass(frozen=True)
class Member:
    """One member of a roster to be."""

    user_id: UUID
    role: Role

    @property
    def streams(self) -> tuple[UUID, ...]:
        """The ids that it names."""
        return (self.user_id,)


Item = TypeVar("Item", bound=_Item)


@dataclass(frozen=True)
class Items(Generic[Item]):
    """The items of one command, in order; those whose form is wrong are refused already."""

    items: Sequence[Item | Refused]

    @cached_property
    def streams(self) -> set[UUID]:
        """The ids that all of them name."""
        return {
            stream
            for item in self.items
            if not isinstance(item, Refused)
            for stream in item.streams
        }

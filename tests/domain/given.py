"""Given an aggregate with a past, when a command is tried, then these are the new events, or the refusal."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pytest

from rosterlog.domain.errors import DomainError
from rosterlog.domain.events import RosterAggregate, RosterEvent

A = TypeVar("A", bound=RosterAggregate)
Error = TypeVar("Error", bound=DomainError)


@dataclass
class Tried(Generic[A]):
    aggregate: A
    command: Callable[[A], None]

    def then(self, event: type[RosterEvent], **fields: Any) -> A:
        """Exactly one event of this class was recorded, with these fields."""
        (recorded,) = self._recorded()
        assert type(recorded) is event
        assert {name: getattr(recorded, name) for name in fields} == fields
        return self.aggregate

    def then_nothing(self) -> A:
        assert self._recorded() == []
        return self.aggregate

    def then_refused(self, error: type[Error]) -> Error:
        with pytest.raises(error) as refused:
            self.command(self.aggregate)
        assert self.aggregate.collect_events() == []
        return refused.value

    def _recorded(self) -> list[Any]:
        self.command(self.aggregate)
        return list(self.aggregate.collect_events())


@dataclass
class Given(Generic[A]):
    aggregate: A

    def when(self, command: Callable[[A], None]) -> Tried[A]:
        return Tried(copy.copy(self.aggregate), command)


def given(aggregate: A, *past: Callable[[A], None]) -> Given[A]:
    """Return the aggregate as its past, given through its own verbs, left it."""
    for command in past:
        command(aggregate)
    aggregate.collect_events()
    return Given(aggregate)

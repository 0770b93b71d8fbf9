"""What makes a method of the roster a command."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from inspect import signature
from typing import (
    Annotated,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    TypeVar,
    get_type_hints,
    overload,
)
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.persistence import ApplicationRecorder

from rosterlog.domain.deciding.outcome import Outcome
from rosterlog.domain.deciding.unit_of_work import Decided, UnitOfWork
from rosterlog.domain.deciding.writer import Prepared, Writer
from rosterlog.domain.items import Items
from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.log.event_store import PostgresLog

Parameters = ParamSpec("Parameters")
Deciding = TypeVar("Deciding", bound="CommandedApplication")
Decide = Callable[Concatenate[Deciding, UnitOfWork, Parameters], Decided]

StreamId = Annotated[UUID, "the id of a stream that a command names"]
"""The type of a command's parameter whose stream is read before the command is decided."""


class Command(Generic[Parameters]):
    """A command of one application: call it to give it, or prepare it and give it later."""

    def __init__(
        self, application: "CommandedApplication", decide: Callable[..., Decided], named: "_Named"
    ) -> None:
        """Give the command that `decide` decides to `application`."""
        self._writer = application.writer
        self._decide = partial(decide, application)
        self._named = named

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Outcome:
        """Give the command and wait until it is recorded.

        Raises its refusal, `StoreUnavailable`, `OutcomeUnknown`.
        """
        return self.prepared(*args, **kwargs).given()

    def prepared(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Prepared:
        """Return the command with its arguments, not yet given."""
        return Prepared(self._writer, self._decide, self._named.streams(args, kwargs), args, kwargs)

    def submit(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Future[Outcome]:
        """Give the command and return its outcome, to come."""
        return self.prepared(*args, **kwargs).submit()


class _Named:
    """Which of a command's parameters name streams, by its annotations: ids, and items that have some."""

    def __init__(self, decide: Callable[..., Decided]) -> None:
        hints = get_type_hints(decide, include_extras=True)
        # The application and the unit of work come before what a caller gives.
        given = list(signature(decide).parameters)[2:]
        self._ids = _places(given, [name for name in given if _is_id(hints[name])])
        self._items = _places(given, [name for name in given if _is_items(hints[name])])

    def streams(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> set[UUID]:
        """Return the streams that a command with these arguments names."""
        streams = set(_values(self._ids, args, kwargs))
        for items in _values(self._items, args, kwargs):
            streams |= items.streams
        return streams


def _is_id(hint: Any) -> bool:
    return hint in (StreamId, StreamId | None)


def _is_items(hint: Any) -> bool:
    return getattr(hint, "__origin__", None) is Items


def _places(given: list[str], names: list[str]) -> list[tuple[int, str]]:
    return [(given.index(name), name) for name in names]


def _values(
    places: list[tuple[int, str]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Any]:
    found = [args[place] if place < len(args) else kwargs.get(name) for place, name in places]
    return [value for value in found if value is not None]


class command(Generic[Deciding, Parameters]):  # noqa: N801  # a decorator
    """Turns a method that decides into a command: it is decided in turn with others, and answered once it is recorded.

    The method reads through its `UnitOfWork` only. It returns the one aggregate that it changed; or,
    where it changed several, it records each and returns a `Result`. It may run more than once for
    one command, so it has no effects of its own.
    """

    def __init__(self, decide: "Decide[Deciding, Parameters]") -> None:
        """Make a command of a method."""
        self._decide = decide
        self._named = _Named(decide)
        self.__doc__ = decide.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the name that the command has in its application."""
        self._name = name

    @overload
    def __get__(
        self, application: None, owner: type[Deciding]
    ) -> "command[Deciding, Parameters]": ...
    @overload
    def __get__(self, application: Deciding, owner: type[Deciding]) -> Command[Parameters]: ...
    def __get__(
        self, application: Deciding | None, owner: type[Deciding]
    ) -> "command[Deciding, Parameters] | Command[Parameters]":
        """Return the command of an application, which keeps it."""
        if application is None:
            return self
        bound: Command[Parameters] = Command(application, self._decide, self._named)
        # Found there from now on, before this descriptor.
        vars(application)[self._name] = bound
        return bound


class CommandedApplication(Application[UUID]):
    """An application whose methods are commands, with one writer."""

    def __init__(self, log: PostgresLog) -> None:
        """Record to and read from `log`."""
        self._log = log
        self._codec = EventCodec()
        super().__init__()
        self.writer = Writer(log, self._codec)

    def construct_mapper(self) -> EventCodec:  # noqa: D102
        return self._codec

    def construct_recorder(self) -> ApplicationRecorder:  # noqa: D102
        return self._log

    def close(self) -> None:
        """Answer what waits, then take no more commands; the log stays open."""
        self.writer.close()
        super().close()

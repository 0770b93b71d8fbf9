"""What makes a method of the roster a command."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.persistence import ApplicationRecorder

from rosterlog.domain.bulk import Items
from rosterlog.domain.deciding.decision import Decision, Outcome, Verdict
from rosterlog.domain.deciding.idempotency import Repeatable
from rosterlog.domain.deciding.writer import Waiting, Writer
from rosterlog.domain.events import RosterAggregate
from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.values import Confinement

Parameters = ParamSpec("Parameters")
Deciding = TypeVar("Deciding", bound="CommandedApplication")
Decide = Callable[Concatenate[Deciding, Decision, Parameters], RosterAggregate | Verdict]


class BoundCommand(Generic[Parameters]):
    """A command of one application, ready to be given."""

    def __init__(
        self,
        application: "CommandedApplication",
        decide: Callable[..., RosterAggregate | Verdict],
        repeatable: Repeatable | None = None,
        groups: Confinement = None,
    ) -> None:
        """Give the command that `decide` decides to `application`."""
        self._application = application
        self._decide = decide
        self._repeatable = repeatable
        self._groups = groups

    @property
    def __name__(self) -> str:
        return self._decide.__name__

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Outcome:
        """Give the command and wait until it is recorded.

        Raises its refusal, `StoreUnavailable`, `OutcomeUnknown`.
        """
        return self.submit(*args, **kwargs).result()

    def submit(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Future[Outcome]:
        """Give the command and return its outcome, to come."""
        streams = {value for value in (*args, *kwargs.values()) if isinstance(value, UUID)}
        streams.update(*(value.streams for value in args if isinstance(value, Items)))
        return self._application.writer.submit(
            Waiting(partial(self._verdict, args, kwargs), streams, self._repeatable, self._groups)
        )

    def once(self, repeatable: Repeatable | None) -> "BoundCommand[Parameters]":
        """Return the command of a request that may come again, and then is to get the same outcome.

        Raises `KeyReused` when given.
        """
        return BoundCommand(self._application, self._decide, repeatable, self._groups)

    def within(self, groups: Confinement) -> "BoundCommand[Parameters]":
        """Return the command as somebody gives it who is confined to `groups`: what is of another group is unknown to it."""
        return BoundCommand(self._application, self._decide, self._repeatable, groups)

    def _verdict(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], decision: Decision
    ) -> Verdict:
        decided = self._decide(self._application, decision, *args, **kwargs)
        if isinstance(decided, Verdict):
            return decided
        decision.record(decided)
        return Verdict(decided.id, decision.version(decided))


class command(Generic[Deciding, Parameters]):  # noqa: N801  # a decorator
    """Turns a method that decides into a command: it is decided in turn with others, and answered once it is recorded.

    The method reads through its `Decision` only, and returns the one aggregate that it changed; or,
    where it changed several, it records each and returns a `Verdict`. It may run more than once for
    one command, so it has no effects of its own.
    """

    def __init__(self, decide: "Decide[Deciding, Parameters]") -> None:
        """Make a command of a method."""
        self._decide = decide
        self.__doc__ = decide.__doc__

    @overload
    def __get__(
        self, application: None, owner: type[Deciding]
    ) -> "command[Deciding, Parameters]": ...
    @overload
    def __get__(self, application: Deciding, owner: type[Deciding]) -> BoundCommand[Parameters]: ...
    def __get__(
        self, application: Deciding | None, owner: type[Deciding]
    ) -> "command[Deciding, Parameters] | BoundCommand[Parameters]":
        """Return the command of an application."""
        return self if application is None else BoundCommand(application, self._decide)


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

"""What every event has in common.

An event's fields are the stored format: once released, a field's name, type and meaning never
change.
"""

from typing import Any, Self
from uuid import UUID

from eventsourcing.domain import Aggregate

from rosterlog.domain.values import Confinement, Provenance


class RosterEvent(Aggregate.Event):
    """A fact about one stream, with its provenance.

    `timestamp` is a placeholder until the event is recorded; read back, it is the log's
    `recorded_at`.
    """

    actor: str
    reason: str | None
    source: str
    request_id: str | None


class RosterAggregate(Aggregate):
    """A stream's state: public verbs check the rules and trigger events, events only mutate."""

    group_id: UUID | None = None
    """The group that an event of this stream is of, where the event does not say so itself."""

    def __copy__(self) -> Self:
        """Copy what events mutate, and nothing else: a command decides on a copy, so a failed one leaves no trace."""
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy._pending_events = []
        return copy

    def version_in(self, groups: Confinement) -> int:  # noqa: ARG002
        """Return the version as a caller counts it who is confined to `groups`."""
        return self.version

    def _record(self, event: type[RosterEvent], by: Provenance, **fields: Any) -> None:
        self.trigger_event(event, **fields, **vars(by))

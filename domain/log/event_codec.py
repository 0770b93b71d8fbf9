"""Between events and what the log stores of them: plain JSON that a person can read without Python.

The state of an event is a JSON object of its own fields and its provenance: ids hyphenated, dates
in ISO 8601, no type wrappers. Stream, version, topic and time stand beside it in the log, not in
it. Decoding validates: a field that is missing, unknown or of another type is an error.
"""

import dataclasses
from collections.abc import Callable, Mapping
from copy import copy
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, get_type_hints
from uuid import UUID

import msgspec
from eventsourcing.domain import CanInitAggregate, DomainEventProtocol
from eventsourcing.persistence import JSONTranscoder, Mapper, StoredEvent
from eventsourcing.utils import get_topic

from rosterlog.domain.classes import Class
from rosterlog.domain.events import RosterAggregate, RosterEvent
from rosterlog.domain.groups import Group
from rosterlog.domain.users import User

AGGREGATES: tuple[type[RosterAggregate], ...] = (Group, User, Class)

_BESIDE_STATE = {"originator_id", "originator_version", "timestamp", "originator_topic"}
INDEX = ("class_id", "user_id", "group_id", "previous_group_id", "actor", "source")
"""The columns of the log that history is asked by."""
_UNRECORDED = datetime.min.replace(tzinfo=UTC)


class UndecodableEvent(Exception):
    """A stored event that this release can't read; it was not written by it, or by a newer one."""


@dataclasses.dataclass(frozen=True)
class IndexedEvent(StoredEvent):
    """An event about to be stored, with what history is asked by.

    A class's event that says no `group_id` is of the group that the class's event before it was of;
    the append fills it in.
    """

    class_id: UUID | None
    user_id: UUID | None
    group_id: UUID | None
    previous_group_id: UUID | None
    actor: str
    source: str


@dataclasses.dataclass(frozen=True)
class RecordedEvent(StoredEvent):
    """A stored event as it stands in the log."""

    recorded_at: datetime


class _Shape:
    """One event class: what its state looks like, and how it becomes an event again."""

    def __init__(self, aggregate: type[RosterAggregate], event: type[RosterEvent]) -> None:
        hints = get_type_hints(event)
        self.event = event
        self.fields = [
            field.name for field in dataclasses.fields(event) if field.name not in _BESIDE_STATE
        ]
        self.extra = (
            {"originator_topic": get_topic(aggregate)}
            if issubclass(event, CanInitAggregate)
            else {}
        )
        self.struct = msgspec.defstruct(
            event.__name__,
            [(name, hints[name]) for name in self.fields],
            forbid_unknown_fields=True,
        )
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(self.struct).decode
        self._columns = [
            (place, attrgetter(name)) for place, name in enumerate(INDEX) if name in self.fields
        ]
        self._own_place = INDEX.index(f"{aggregate.__name__.lower()}_id")

    def state_of(self, event: RosterEvent) -> dict[str, Any]:
        return {name: getattr(event, name) for name in self.fields}

    def index_of(self, stream: UUID | bytes, fields: object) -> list[Any]:
        """Return the indexed columns of an event with these fields, in the order of `INDEX`."""
        index: list[Any] = [None] * len(INDEX)
        for place, column in self._columns:
            index[place] = column(fields)
        index[self._own_place] = stream
        return index


@dataclasses.dataclass(frozen=True)
class Upcaster:
    """How an older version of an event is read: the shape that it was stored in, and what its fields are today."""

    topic: str
    shape: type[msgspec.Struct]
    today: Callable[[Any], dict[str, Any]]

    def upcast(self, shape: _Shape) -> _Shape:
        """Return today's shape of the event, decoding what was stored in the old one."""
        decode = msgspec.json.Decoder(self.shape).decode
        older = copy(shape)
        older.decode = lambda state: msgspec.convert(self.today(decode(state)), shape.struct)
        return older


UPCASTERS: Mapping[str, Upcaster] = {}
"""The older versions of events, by the topic that they are stored under.

There is none yet; see CONTRIBUTING.md.
"""


def topics_of(event: type[RosterEvent]) -> list[str]:
    """Return the topics that events of a class are stored under: today's, and older versions'."""
    topic = get_topic(event)
    return [topic, *(old for old, upcaster in UPCASTERS.items() if upcaster.topic == topic)]


def _shapes() -> dict[str, _Shape]:
    return {
        get_topic(event): _Shape(aggregate, event)
        for aggregate in AGGREGATES
        for event in vars(aggregate).values()
        if isinstance(event, type) and issubclass(event, RosterEvent) and event.__name__ != "Event"
    }


class EventCodec(Mapper[UUID]):
    """The library's mapper with our state format, compiled once per event class."""

    def __init__(self, upcasters: Mapping[str, Upcaster] = UPCASTERS) -> None:
        """Read events of today, and of older versions with their `upcasters`."""
        super().__init__(JSONTranscoder())
        self._shapes = _shapes()
        self._topics = list(self._shapes)
        self._shapes |= {
            topic: upcaster.upcast(self._shapes[upcaster.topic])
            for topic, upcaster in upcasters.items()
        }
        self._encode = msgspec.json.Encoder().encode

    @property
    def topics(self) -> list[str]:
        """The topics of all events that are recorded today, in the order of their definition."""
        return self._topics

    @property
    def readable(self) -> list[str]:
        """The topics of all events that can be read: those of today, and of older versions."""
        return list(self._shapes)

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> IndexedEvent:
        """Encode an event, and prove that it can be read back before it gets near the log."""
        assert isinstance(domain_event, RosterEvent)
        topic = get_topic(type(domain_event))
        shape = self._shapes[topic]
        state = self._encode(shape.state_of(domain_event))
        shape.decode(state)
        stream, version = domain_event.originator_id, domain_event.originator_version
        return IndexedEvent(stream, version, topic, state, *shape.index_of(stream, domain_event))

    def index_of(self, topic: str, stream: UUID | bytes, state: bytes) -> list[Any]:
        """Return the indexed columns of a stored event, in the order of `INDEX`, the stream as it was given. Raises `UndecodableEvent`."""
        shape, fields = self._decoded(topic, state, topic)
        return shape.index_of(stream, fields)

    def to_domain_event(self, stored_event: StoredEvent) -> RosterEvent:
        """Decode an event.

        Raises `UndecodableEvent`, naming the event and what is wrong with it.
        """
        named = f"{stored_event.topic}, version {stored_event.originator_version} of {stored_event.originator_id}"
        shape, state = self._decoded(stored_event.topic, stored_event.state, named)
        event = object.__new__(shape.event)
        vars(event).update(
            originator_id=stored_event.originator_id,
            originator_version=stored_event.originator_version,
            timestamp=stored_event.recorded_at
            if isinstance(stored_event, RecordedEvent)
            else _UNRECORDED,
            **shape.extra,
            **{name: getattr(state, name) for name in shape.fields},
        )
        return event

    def _decoded(self, topic: str, state: bytes, named: str) -> tuple[_Shape, Any]:
        shape = self._shapes.get(topic)
        if shape is None:
            raise UndecodableEvent(f"{named}: this release knows no such event")
        try:
            return shape, shape.decode(state)
        except msgspec.MsgspecError as wrong:
            raise UndecodableEvent(f"{named}: {wrong}") from wrong

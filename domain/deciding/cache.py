"""The aggregates that a process knows, as they stood at one position of the log.

Known aggregates are shared: a command changes copies. The cache may lag behind the log. Under the
append's lock it follows what other processes recorded, before a command is decided on it.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from copy import copy
from uuid import UUID

from rosterlog.domain.events import RosterAggregate, RosterEvent
from rosterlog.domain.log.append import Append, stream_of
from rosterlog.domain.log.event_codec import RecordedEvent
from rosterlog.domain.log.event_store import PostgresLog

SIZE = 50_000
"""Most aggregates to know at once, of about half a kilobyte each: a large district's."""
FEW = 10_000
"""Most events of other processes to follow one by one; after more, reading anew is cheaper."""


class AggregateCache:
    """A cache of aggregates, an id that was never used included.

    `position` is that of the last event that it takes into account.
    """

    def __init__(self, log: PostgresLog, decode: Callable[[RecordedEvent], RosterEvent]) -> None:
        """Know what is read from `log`."""
        self._log = log
        self._decode = decode
        self._known: OrderedDict[UUID, RosterAggregate | None] = OrderedDict()
        self._position: int | None = None

    @property
    def position(self) -> int:
        """The last position taken into account; what is read from now on may be newer, never older."""
        if self._position is None:
            self._position = self._log.max_notification_id() or 0
        return self._position

    def fetch(
        self, streams: Collection[UUID], append: Append | None = None
    ) -> dict[UUID, RosterAggregate | None]:
        """Return aggregates by id, None for an id that was never used.

        Those that are not known yet are read, all in one statement; within an `append`, over its
        own session. Over another session a read could wait behind a migration, which waits for the
        append, which waits for the read: no server sees that circle, because one side of it is a
        process.
        """
        found: dict[UUID, RosterAggregate | None] = {}
        for stream in streams:
            if stream in self._known:
                found[stream] = self._known[stream]
                self._known.move_to_end(stream)
        missing = [stream for stream in streams if stream not in found]
        return found | self._read(missing, append) if missing else found

    def forget(self) -> None:
        """Know nothing, and read everything anew."""
        self._known.clear()
        self._position = None

    def follow(self, append: Append) -> None:
        """Take into account what other processes recorded up to the head of `append`."""
        behind = append.position - (append.position if self._position is None else self._position)
        if 0 < behind <= FEW:
            for event in append.since(self.position):
                self._apply(event)
        elif behind != 0:
            self._known.clear()
        self._position = append.position

    def keep(self, aggregates: Mapping[UUID, RosterAggregate], position: int) -> None:
        """Know aggregates as the events up to `position`, which was just recorded, left them."""
        for stream, aggregate in aggregates.items():
            self._keep(stream, aggregate)
        self._position = position

    def _read(
        self, streams: list[UUID], append: Append | None
    ) -> dict[UUID, RosterAggregate | None]:
        # The position comes first: an event that is recorded in between is applied again, which does
        # nothing to an aggregate that has it.
        assert self.position >= 0
        read: dict[UUID, RosterAggregate | None] = dict.fromkeys(streams)
        for event in (append or self._log).select_streams(streams):
            read[stream_of(event)] = self._decode(event).mutate(read[stream_of(event)])
        for stream, aggregate in read.items():
            self._keep(stream, aggregate)
        return read

    def _apply(self, event: RecordedEvent) -> None:
        stream = stream_of(event)
        if stream not in self._known:
            return
        known = self._known[stream]
        if event.originator_version == (known.version if known else 0) + 1:
            self._keep(stream, self._decode(event).mutate(copy(known)))

    def _keep(self, stream: UUID, aggregate: RosterAggregate | None) -> None:
        """Know an aggregate; forget the one that was not asked for the longest, where there are too many."""
        self._known[stream] = aggregate
        self._known.move_to_end(stream)
        if len(self._known) > SIZE:
            self._known.popitem(last=False)

"""The aggregates that a process knows, as they stood at one position of the log.

Known aggregates are shared: nobody mutates them; a decision works on copies. They are brought up to
date with what other processes recorded before anything that was decided on them is appended, under
the append's lock. So they may lag behind, and are never stale in effect.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from uuid import UUID

from rosterlog.domain.events import RosterAggregate, RosterEvent
from rosterlog.domain.log.append import Append, stream_of
from rosterlog.domain.log.event_codec import RecordedEvent
from rosterlog.domain.log.event_store import PostgresLog

SIZE = 50_000
"""Most aggregates to know at once: the users and classes of a large district, about half a kilobyte each."""
FEW = 10_000
"""Most events of other processes to follow one by one; after more, it is cheaper to know nothing and read anew."""


class KnownAggregates:
    """A cache of aggregates, an id that was never used included.

    `position` is that of the last event that it takes into account.
    """

    def __init__(self, log: PostgresLog, decode: Callable[[RecordedEvent], RosterEvent]) -> None:
        """Know what is read from `log`."""
        self._log = log
        self._source: PostgresLog | Append = log
        self._decode = decode
        self._known: OrderedDict[UUID, RosterAggregate | None] = OrderedDict()
        self._position: int | None = None

    @property
    def position(self) -> int:
        """The last position taken into account; what is read from now on may be newer, never older."""
        if self._position is None:
            self._position = self._log.max_notification_id() or 0
        return self._position

    def get(self, stream: UUID) -> RosterAggregate | None:
        """Return an aggregate, None for an id that was never used."""
        if stream not in self._known:
            return self._read([stream])[stream]
        self._known.move_to_end(stream)
        return self._known[stream]

    def load(self, streams: Iterable[UUID]) -> Iterable[RosterAggregate | None]:
        """Read those that are not known yet, all in one statement, and return what was read."""
        missing = [stream for stream in streams if stream not in self._known]
        return self._read(missing).values() if missing else ()

    def forget(self) -> None:
        """Know nothing, and read everything anew."""
        self._known.clear()
        self._position = None

    @contextmanager
    def within(self, append: Append) -> Iterator[None]:
        """Read over the append's own session, from what other processes recorded up to its head on.

        Over another session a read could wait behind a migration, which waits for the append, which
        waits for the read: no server sees that circle, because one side of it is a process.
        """
        self._catch_up(append)
        self._source = append
        try:
            yield
        finally:
            self._source = self._log

    def _catch_up(self, append: Append) -> None:
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

    def _read(self, streams: list[UUID]) -> dict[UUID, RosterAggregate | None]:
        # The position first: what is recorded in between is applied again, which does nothing to
        # who knows it already.
        assert self.position >= 0
        read: dict[UUID, RosterAggregate | None] = dict.fromkeys(streams)
        for event in self._source.select_streams(streams):
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
        """Know an aggregate, and forget the one that nobody asked for the longest where there are too many."""
        self._known[stream] = aggregate
        self._known.move_to_end(stream)
        if len(self._known) > SIZE:
            self._known.popitem(last=False)

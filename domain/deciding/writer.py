"""The one writer of a process: waiting commands are decided one by one and recorded in one append.

Commands are taken and decided once the append's lock is held, on the log as it is: each on what
those before it decided. So nothing can conflict, and no command is decided twice. While an append
waits for its lock and is on its way to the disk, the next commands gather. No command waits for
company: one that comes alone is recorded alone, at once.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Self
from uuid import UUID

from eventsourcing.persistence import OperationalError

from rosterlog.domain.deciding.cache import AggregateCache
from rosterlog.domain.deciding.idempotency import Kept, Key, Repeatable, keep
from rosterlog.domain.deciding.outcome import Outcome
from rosterlog.domain.deciding.unit_of_work import Decided, UnitOfWork
from rosterlog.domain.errors import DomainError, OutcomeUnknown, StoreUnavailable
from rosterlog.domain.log.append import Append
from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.log.event_store import NothingRecorded, PostgresLog, RecordingUnknown
from rosterlog.domain.values import Confinement

MOST_STREAMS = 2_000
"""Most streams that the commands of one append may name, unless its first command names more.

It bounds how long the others wait.
"""


@dataclass(eq=False)
class Prepared:
    """A command with its arguments, and its outcome to come.

    `decide` decides it, given a unit of work, `args` and `kwargs`; `streams` are the ids that it
    names. A `repeatable` command may come
    again, and gets the same outcome then. To a caller confined to `groups` all else is unknown.
    """

    writer: "Writer"
    decide: Callable[..., Decided]
    streams: set[UUID]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    repeatable: Repeatable | None = None
    groups: Confinement = None
    outcome: Future[Outcome] = field(default_factory=Future)
    came_to: Outcome | DomainError | None = None
    """The outcome or refusal, to be told once the append is durable."""

    @property
    def key(self) -> Key | None:
        """The idempotency key that came with the command."""
        return self.repeatable.key if self.repeatable else None

    def once(self, repeatable: Repeatable | None) -> Self:
        """Make it the command of a request that may come again.

        Raises `KeyReused`, when it is given, where the key came with another request.
        """
        self.repeatable = repeatable
        return self

    def within(self, groups: Confinement) -> Self:
        """Make it the command of a caller who is confined to `groups`."""
        self.groups = groups
        return self

    def submit(self) -> Future[Outcome]:
        """Put the command in line, and return its outcome, to come."""
        self.writer.put(self)
        return self.outcome

    def given(self) -> Outcome:
        """Give the command and wait until it is recorded.

        Raises its refusal, `StoreUnavailable`, `OutcomeUnknown`.
        """
        return self.submit().result()

    def doubt(self, lost: Exception) -> None:
        """Take back what it came to, as it is not known whether the append was recorded.

        A command that would have recorded nothing may just be given again.
        """
        came = self.came_to
        would_record = isinstance(came, Outcome) and came.changed and not came.replayed
        self.came_to = _caused(OutcomeUnknown() if would_record else StoreUnavailable(), lost)

    def tell(self) -> None:
        """Tell what it came to."""
        if isinstance(self.came_to, Outcome):
            self.outcome.set_result(self.came_to)
        else:
            self.outcome.set_exception(self.came_to)


class Writer:
    """Takes commands from any thread, and gives them to the log from a thread of its own."""

    def __init__(self, log: PostgresLog, codec: EventCodec) -> None:
        """Write to `log`. The thread starts with the first command."""
        self._log = log
        self._codec = codec
        self._cache = AggregateCache(log, codec.to_domain_event)
        self._queue: deque[Prepared] = deque()
        self._lock = Lock()
        self._at_work = False
        self._thread = ThreadPoolExecutor(1, "writer")

    def put(self, command: Prepared) -> None:
        """Put a command in line."""
        with self._lock:
            self._queue.append(command)
            if not self._at_work:
                self._thread.submit(self._work)
                self._at_work = True

    def close(self) -> None:
        """End the thread once all that waits is answered."""
        self._log.hurry()
        self._thread.shutdown()

    def _work(self) -> None:
        while self._is_wanted():
            batch: list[Prepared] = []
            try:
                self._record(batch)
            except Exception as wrong:
                # Where all were cancelled meanwhile, nobody waits for the failure.
                if failed := batch or self._next():
                    self._recover(failed, wrong)

    def _is_wanted(self) -> bool:
        with self._lock:
            self._at_work = bool(self._queue)
            return self._at_work

    def _next(self) -> list[Prepared]:
        """Take from the line what one append takes.

        A command that repeats a request of the same append waits until that is recorded.
        """
        batch: list[Prepared] = []
        keys: set[Key | None] = set()
        room = MOST_STREAMS
        with self._lock:
            while self._queue and (
                not batch
                or (len(self._queue[0].streams) <= room and self._queue[0].key not in keys)
            ):
                command = self._queue.popleft()
                if command.outcome.set_running_or_notify_cancel():
                    batch.append(command)
                    room -= len(command.streams)
                    keys |= {command.key} - {None}
        return batch

    def _recover(self, batch: Sequence[Prepared], failure: Exception) -> None:
        """Answer a batch that was not recorded: the fault of one command is not a fault of the others."""
        wrong = self._once_more(batch) if isinstance(failure, NothingRecorded) else failure
        if isinstance(wrong, OperationalError):
            for command in batch:
                command.outcome.set_exception(_caused(StoreUnavailable(), wrong))
        elif wrong and len(batch) == 1:
            batch[0].outcome.set_exception(wrong)
        elif wrong:
            for command in batch:
                try:
                    self._record([command])
                except Exception as its:
                    self._recover([command], its)

    def _once_more(self, batch: Sequence[Prepared]) -> Exception | None:
        """Record again where a connection was lost, such as to a database that was restarted.

        Returns the failure of this time.
        """
        try:
            self._log.reconnect()
            self._record(list(batch))
        except Exception as wrong:
            return wrong
        return None

    def _record(self, batch: list[Prepared]) -> None:
        """Decide and record, and tell the outcomes once all is durable, or in doubt.

        Where `batch` is empty, it takes the commands that wait. After an error nothing of them was
        recorded.
        """
        try:
            # Before the lock, so that no other process waits for what we read.
            self._cache.fetch(self._named(batch))
            with self._log.appending() as append:
                batch += [] if batch else self._next()
                self._write(append, batch)
        except RecordingUnknown as lost:
            self._cache.forget()
            for command in batch:
                command.doubt(lost)
        except Exception:
            # Should what we know contradict the log, it is not for ever.
            self._cache.forget()
            raise
        for command in batch:
            command.tell()

    def _named(self, batch: Sequence[Prepared]) -> set[UUID]:
        """Return the streams that commands name; where `batch` is empty, those that wait."""
        with self._lock:
            return {stream for command in batch or self._queue for stream in command.streams}

    def _write(self, append: Append, batch: Sequence[Prepared]) -> None:
        repeatable = [command.repeatable for command in batch if command.repeatable]
        kept = Kept(append, repeatable) if repeatable else None
        streams = {stream for command in batch for stream in command.streams}
        work = UnitOfWork(append, self._cache, self._codec.to_stored_event, streams)
        for command in batch:
            command.came_to = (kept and kept.found(command.repeatable)) or work.decide(
                command.decide, command.args, command.kwargs, command.groups
            )
        if work.events:
            append.write(work.events, work.streams)
        if new := _new(batch):
            keep(append, new)
        self._cache.keep(work.changed, append.position)


def _new(batch: Sequence[Prepared]) -> dict[Repeatable, Outcome]:
    """Return the outcomes of commands whose key came for the first time; refusals are not kept."""
    return {
        command.repeatable: command.came_to
        for command in batch
        if command.repeatable
        and isinstance(command.came_to, Outcome)
        and not command.came_to.replayed
    }


def _caused(error: DomainError, lost: Exception) -> DomainError:
    error.__cause__ = lost
    return error

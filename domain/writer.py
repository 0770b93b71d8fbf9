"""The one writer of a process: all commands that wait are decided one after the other and recorded in one append.

While an append is on its way to the disk, the next commands gather. Nobody waits for company: a command that comes alone is recorded
alone, at once. Within the process commands can't conflict, because each is decided on what those before it decided. What other processes
recorded meanwhile shows under the append's lock; where it touches what was read, all is decided once more, now for good.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from uuid import UUID

from eventsourcing.persistence import OperationalError

from domain.decision import Decided, Decision, Outcome, Verdict
from domain.errors import DomainError, StoreUnavailable
from domain.event_codec import EventCodec
from domain.event_store import NothingRecorded, PostgresLog
from domain.known import KnownAggregates

MOST_STREAMS = 2_000
"""How many streams the commands of one append may name, unless the first names more: what bounds the time that others wait for it."""


@dataclass
class Waiting:
    """A command that waits for its turn: how it decides, the streams it names, and whoever waits for the outcome."""

    decide: Callable[[Decision], Verdict]
    streams: set[UUID]
    outcome: Future[Outcome] = field(default_factory=Future)


@dataclass
class _Answer:
    """What a waiting command gets once the append is durable: a refusal, or a verdict and how many events up to its own last."""

    waiting: Waiting
    refusal: DomainError | None = None
    verdict: Verdict | None = None
    events: int = 0
    changed: bool = False

    def give(self, position: int) -> None:
        """Answer; `position` is where the log ended before the append."""
        if self.verdict is None:
            self.waiting.outcome.set_exception(self.refusal)
        else:
            found = self.verdict
            self.waiting.outcome.set_result(Outcome(found.id, found.version, position + self.events, self.changed, found.result))


class Writer:
    """Takes commands from any thread, and gives them to the log from a thread of its own."""

    def __init__(self, log: PostgresLog, codec: EventCodec) -> None:
        """Write to `log`. The thread starts with the first command."""
        self._log = log
        self._codec = codec
        self._known = KnownAggregates(log, codec.to_domain_event)
        self._queue: deque[Waiting] = deque()
        self._lock = Lock()
        self._at_work = False
        self._thread = ThreadPoolExecutor(1, "writer")

    def submit(self, waiting: Waiting) -> Future[Outcome]:
        """Put a command in line and return its outcome, to come."""
        with self._lock:
            self._queue.append(waiting)
            if not self._at_work:
                self._thread.submit(self._work)
                self._at_work = True
        return waiting.outcome

    def close(self) -> None:
        """End the thread once all that waits is answered."""
        self._thread.shutdown()

    def _work(self) -> None:
        while batch := self._next():
            self._give(batch)

    def _next(self) -> list[Waiting]:
        """Take from the line what one append takes."""
        batch: list[Waiting] = []
        room = MOST_STREAMS
        with self._lock:
            while self._queue and (not batch or len(self._queue[0].streams) <= room):
                waiting = self._queue.popleft()
                if waiting.outcome.set_running_or_notify_cancel():
                    batch.append(waiting)
                    room -= len(waiting.streams)
            self._at_work = bool(batch)
        return batch

    def _give(self, batch: Sequence[Waiting]) -> None:
        """Record and answer; what one command's fault is, is not the others'."""
        try:
            try:
                answers, position = self._record(batch)
            except NothingRecorded:
                self._log.reconnect()
                answers, position = self._record(batch)
        except OperationalError as lost:
            for waiting in batch:
                waiting.outcome.set_exception(_unavailable(lost))
        except Exception as wrong:
            if len(batch) == 1:
                batch[0].outcome.set_exception(wrong)
            else:
                for waiting in batch:
                    self._give([waiting])
        else:
            for answer in answers:
                answer.give(position)

    def _record(self, batch: Sequence[Waiting]) -> tuple[list[_Answer], int]:
        """Return the answers, and the position before the append, once all that was decided is durable."""
        decided, answers = self._decide(batch)
        with self._log.appending() as append:
            if not self._known.catch_up(append, decided.read):
                decided, answers = self._decide(batch)
            before = append.position
            if decided.events:
                append.write(decided.events, decided.streams)
        self._known.keep(decided.changed, append.position)
        return answers, before

    def _decide(self, batch: Sequence[Waiting]) -> tuple[Decided, list[_Answer]]:
        decided = Decided()
        Decision(self._known, decided, self._codec.to_stored_event).prepare({stream for waiting in batch for stream in waiting.streams})
        return decided, [self._answer(waiting, decided) for waiting in batch]

    def _answer(self, waiting: Waiting, decided: Decided) -> _Answer:
        decision = Decision(self._known, decided, self._codec.to_stored_event)
        try:
            verdict = waiting.decide(decision)
        except DomainError as refusal:
            return _Answer(waiting, refusal=refusal)
        decision.keep()
        return _Answer(waiting, verdict=verdict, events=len(decided.events), changed=bool(decision.events))


def _unavailable(lost: Exception) -> StoreUnavailable:
    error = StoreUnavailable()
    error.__cause__ = lost
    return error

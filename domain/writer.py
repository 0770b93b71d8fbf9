"""The one writer of a process: all commands that wait are decided one after the other and recorded in one append.

While an append is on its way to the disk, the next commands gather. Nobody waits for company: a command that comes alone is recorded
alone, at once. Within the process commands can't conflict, because each is decided on what those before it decided. What other processes
recorded meanwhile shows under the append's lock; where it touches what was read, all is decided once more, now for good.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Lock
from uuid import UUID

from eventsourcing.persistence import OperationalError

from domain.decision import Decided, Decision, Outcome, Verdict
from domain.errors import DomainError, StoreUnavailable
from domain.event_codec import EventCodec
from domain.event_store import NothingRecorded, PostgresLog
from domain.idempotency import Kept, Key, Repeatable, keep
from domain.known import KnownAggregates
from domain.values import Groups

MOST_STREAMS = 2_000
"""How many streams the commands of one append may name, unless the first names more: what bounds the time that others wait for it."""


@dataclass
class Waiting:
    """A command that waits for its turn: how it decides, the streams it names, who gives it, and whoever waits for the outcome."""

    decide: Callable[[Decision], Verdict]
    streams: set[UUID]
    repeatable: Repeatable | None = None
    groups: Groups = None
    outcome: Future[Outcome] = field(default_factory=Future)

    @property
    def key(self) -> Key | None:
        """The idempotency key that came with the command."""
        return self.repeatable.key if self.repeatable else None


@dataclass
class _Answer:
    """What a waiting command gets once the append is durable."""

    waiting: Waiting
    answer: Outcome | DomainError

    def count_from(self, head: int) -> None:
        """Make the position, counted from the head before the append, one of the log."""
        if isinstance(self.answer, Outcome) and not self.answer.replayed:
            self.answer = replace(self.answer, position=head + self.answer.position)

    def give(self) -> None:
        if isinstance(self.answer, Outcome):
            self.waiting.outcome.set_result(self.answer)
        else:
            self.waiting.outcome.set_exception(self.answer)


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
        """Take from the line what one append takes; who repeats a request waits until that is recorded."""
        batch: list[Waiting] = []
        keys: set[Key | None] = set()
        room = MOST_STREAMS
        with self._lock:
            while self._queue and (not batch or (len(self._queue[0].streams) <= room and self._queue[0].key not in keys)):
                waiting = self._queue.popleft()
                if waiting.outcome.set_running_or_notify_cancel():
                    batch.append(waiting)
                    room -= len(waiting.streams)
                    keys |= {waiting.key} - {None}
            self._at_work = bool(batch)
        return batch

    def _give(self, batch: Sequence[Waiting]) -> None:
        """Record and answer; what one command's fault is, is not the others'."""
        try:
            answers = self._record_surely(batch)
        except OperationalError as lost:
            for waiting in batch:
                waiting.outcome.set_exception(_unavailable(lost))
        except Exception as wrong:
            # Should what we know contradict the log, it is not for ever.
            self._known.forget()
            if len(batch) == 1:
                batch[0].outcome.set_exception(wrong)
            else:
                for waiting in batch:
                    self._give([waiting])
        else:
            for answer in answers:
                answer.give()

    def _record_surely(self, batch: Sequence[Waiting]) -> list[_Answer]:
        """Record; once more, where a connection was lost before anything was recorded, such as to a database that was restarted."""
        try:
            return self._record(batch)
        except NothingRecorded:
            self._log.reconnect()
            return self._record(batch)

    def _record(self, batch: Sequence[Waiting]) -> list[_Answer]:
        """Return the answers once all that was decided is durable."""
        # Before the lock: where others recorded nothing that matters meanwhile, they wait for us no longer than it takes to write.
        decided, answers = self._decide(batch)
        repeatable = [waiting.repeatable for waiting in batch if waiting.repeatable]
        with self._log.appending() as append:
            kept = Kept(append, repeatable) if repeatable else None
            if not self._known.catch_up(append, decided.read) or kept:
                decided, answers = self._decide(batch, kept)
            for answer in answers:
                answer.count_from(append.position)
            if decided.events:
                append.write(decided.events, decided.streams)
            if new := _new(answers):
                keep(append, new)
        self._known.keep(decided.changed, append.position)
        return answers

    def _decide(self, batch: Sequence[Waiting], kept: Kept | None = None) -> tuple[Decided, list[_Answer]]:
        decided = Decided()
        Decision(self._known, decided, self._codec.to_stored_event).prepare({stream for waiting in batch for stream in waiting.streams})
        return decided, [_Answer(waiting, self._answer(waiting, decided, kept)) for waiting in batch]

    def _answer(self, waiting: Waiting, decided: Decided, kept: Kept | None) -> Outcome | DomainError:
        decision = Decision(self._known, decided, self._codec.to_stored_event, waiting.groups)
        try:
            if kept and waiting.repeatable and (outcome := kept.outcome(waiting.repeatable)):
                return outcome
            verdict = waiting.decide(decision)
        except DomainError as refusal:
            return refusal
        decision.keep()
        return Outcome(verdict.id, verdict.version, len(decided.events), bool(decision.events), verdict.result)


def _new(answers: Sequence[_Answer]) -> dict[Repeatable, Outcome]:
    """Return what commands with a key came to for the first time; refusals are not kept."""
    return {
        one.waiting.repeatable: one.answer
        for one in answers
        if one.waiting.repeatable and isinstance(one.answer, Outcome) and not one.answer.replayed
    }


def _unavailable(lost: Exception) -> StoreUnavailable:
    error = StoreUnavailable()
    error.__cause__ = lost
    return error

"""The one writer of a process: all commands that wait are decided one after the other and recorded in one append.

Commands are taken and decided once the append's lock is held, on the log as it is: each on what
those before it decided, so nothing can conflict, and nobody has to decide twice. While an append
waits for its lock and is on its way to the disk, the next commands gather. Nobody waits for
company: a command that comes alone is recorded alone, at once.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from uuid import UUID

from eventsourcing.persistence import OperationalError

from rosterlog.domain.deciding.decision import Decided, Decision, Outcome, Verdict
from rosterlog.domain.deciding.idempotency import Kept, Key, Repeatable, keep
from rosterlog.domain.deciding.known import KnownAggregates
from rosterlog.domain.errors import DomainError, OutcomeUnknown, StoreUnavailable
from rosterlog.domain.log.append import Append
from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.log.event_store import NothingRecorded, PostgresLog, RecordingUnknown
from rosterlog.domain.values import Confinement

MOST_STREAMS = 2_000
"""How many streams the commands of one append may name, unless the first names more: what bounds the time that others wait for it."""


@dataclass
class Waiting:
    """A command that waits for its turn: how it decides, the streams it names, who gives it, and whoever waits for the outcome."""

    decide: Callable[[Decision], Verdict]
    streams: set[UUID]
    repeatable: Repeatable | None = None
    groups: Confinement = None
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

    def in_doubt(self, lost: Exception) -> "_Answer":
        """Return the answer where it is not known whether the append was recorded; who recorded nothing may just try again."""
        would_record = (
            isinstance(self.answer, Outcome) and self.answer.changed and not self.answer.replayed
        )
        return _Answer(
            self.waiting, _caused(OutcomeUnknown() if would_record else StoreUnavailable(), lost)
        )

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
        self._log.hurry()
        self._thread.shutdown()

    def _work(self) -> None:
        while self._is_wanted():
            batch: list[Waiting] = []
            try:
                answers = self._record(batch)
            except Exception as wrong:
                # Where all were cancelled meanwhile, nobody waits for what went wrong.
                if failed := batch or self._next():
                    self._recover(failed, wrong)
            else:
                _give(answers)

    def _is_wanted(self) -> bool:
        with self._lock:
            self._at_work = bool(self._queue)
            return self._at_work

    def _next(self) -> list[Waiting]:
        """Take from the line what one append takes; who repeats a request waits until that is recorded."""
        batch: list[Waiting] = []
        keys: set[Key | None] = set()
        room = MOST_STREAMS
        with self._lock:
            while self._queue and (
                not batch
                or (len(self._queue[0].streams) <= room and self._queue[0].key not in keys)
            ):
                waiting = self._queue.popleft()
                if waiting.outcome.set_running_or_notify_cancel():
                    batch.append(waiting)
                    room -= len(waiting.streams)
                    keys |= {waiting.key} - {None}
        return batch

    def _recover(self, batch: Sequence[Waiting], failure: Exception) -> None:
        """Answer a batch that was not recorded; what one command's fault is, is not the others'."""
        wrong = self._once_more(batch) if isinstance(failure, NothingRecorded) else failure
        if isinstance(wrong, OperationalError):
            for waiting in batch:
                waiting.outcome.set_exception(_caused(StoreUnavailable(), wrong))
        elif wrong and len(batch) == 1:
            batch[0].outcome.set_exception(wrong)
        elif wrong:
            for waiting in batch:
                try:
                    _give(self._record([waiting]))
                except Exception as its:
                    self._recover([waiting], its)

    def _once_more(self, batch: Sequence[Waiting]) -> Exception | None:
        """Record again where a connection was lost, such as to a database that was restarted; return what is wrong this time."""
        try:
            self._log.reconnect()
            _give(self._record(list(batch)))
        except Exception as wrong:
            return wrong
        return None

    def _record(self, batch: list[Waiting]) -> Sequence[_Answer]:
        """Return the answers once all that was decided is durable, or in doubt.

        Where `batch` is empty, it takes what waits.

        After an error nothing of it was recorded.
        """
        answers: Sequence[_Answer] = ()
        try:
            # Before the lock, so that nobody waits for what we read.
            self._known.load(self._named(batch))
            with self._log.appending() as append, self._known.within(append):
                batch += [] if batch else self._next()
                answers = self._write(append, batch)
        except RecordingUnknown as lost:
            self._known.forget()
            return [answer.in_doubt(lost) for answer in answers]
        except Exception:
            # Should what we know contradict the log, it is not for ever.
            self._known.forget()
            raise
        return answers

    def _write(self, append: Append, batch: Sequence[Waiting]) -> Sequence[_Answer]:
        decided, answers = self._decide(append, batch)
        if decided.events:
            append.write(decided.events, decided.streams)
        if new := _new(answers):
            keep(append, new)
        self._known.keep(decided.changed, append.position)
        return answers

    def _named(self, batch: Sequence[Waiting]) -> set[UUID]:
        """Return the streams that commands name, where `batch` is empty, those that wait."""
        with self._lock:
            return {stream for waiting in batch or self._queue for stream in waiting.streams}

    def _decide(
        self, append: Append, batch: Sequence[Waiting]
    ) -> tuple[Decided, Sequence[_Answer]]:
        repeatable = [waiting.repeatable for waiting in batch if waiting.repeatable]
        kept = Kept(append, repeatable) if repeatable else None
        decided = Decided()
        Decision(self._known, decided, self._codec.to_stored_event).prepare(
            {stream for waiting in batch for stream in waiting.streams}
        )
        return decided, [
            _Answer(waiting, self._answer(append, waiting, decided, kept)) for waiting in batch
        ]

    def _answer(
        self, append: Append, waiting: Waiting, decided: Decided, kept: Kept | None
    ) -> Outcome | DomainError:
        decision = Decision(self._known, decided, self._codec.to_stored_event, waiting.groups)
        try:
            if kept and waiting.repeatable and (outcome := kept.outcome(waiting.repeatable)):
                return outcome
            verdict = waiting.decide(decision)
        except DomainError as refusal:
            return refusal
        decision.keep()
        position, recorded_at = (
            append.position + len(decided.events),
            append.recorded_at if decision.events else None,
        )
        return Outcome(
            verdict.id,
            verdict.version,
            position,
            bool(decision.events),
            verdict.result,
            recorded_at=recorded_at,
        )


def _give(answers: Sequence[_Answer]) -> None:
    for answer in answers:
        answer.give()


def _new(answers: Sequence[_Answer]) -> dict[Repeatable, Outcome]:
    """Return what commands with a key came to for the first time; refusals are not kept."""
    return {
        one.waiting.repeatable: one.answer
        for one in answers
        if one.waiting.repeatable and isinstance(one.answer, Outcome) and not one.answer.replayed
    }


def _caused(error: DomainError, lost: Exception) -> DomainError:
    error.__cause__ = lost
    return error

"""The feed of all events for other systems: pages of JSON, or server-sent events that stay open.

Both read the log itself, whose positions have no gaps and are in the order of commit: who goes on
after the last position it has seen misses nothing and sees nothing twice. A stream reads the log at
its reader's own pace, over a connection that it gives back after each page; one follower for the
whole process wakes the streams. Who is confined to groups gets the events of these, and passes over
the others.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec
from fastapi import Request
from starlette.responses import Response, StreamingResponse

from rosterlog.api.access.admission import Admission
from rosterlog.api.access.confinement import groups_of
from rosterlog.api.http.negotiation import EVENT_STREAM, media_type_of
from rosterlog.api.http.problems import TooManyStreams
from rosterlog.api.http.protocol import END
from rosterlog.api.http.streams import PAGE
from rosterlog.api.reading.connections import Connections
from rosterlog.api.reading.expensive import CHEAP, ExpensiveReads
from rosterlog.api.reading.reads import Reads
from rosterlog.api.rest import answers
from rosterlog.api.rest.headers import POSITION
from rosterlog.api.rest.schemas.queries import FeedQuery
from rosterlog.domain.errors import InvalidValue
from rosterlog.projections.following.follower import Follower
from rosterlog.projections.reading import history
from rosterlog.projections.reading.history import Entry, Question

COMMENT_SECONDS = 15.0
"""After how long without an event a stream says that it is alive."""
STREAMING = 4
"""How many streams may read news at the same moment: the other connections are for who waits for an answer."""
STREAMS = 1000
"""Most streams of a process at the same time; each takes some memory and a file descriptor."""

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", "Vary": "Accept"}


class Feed:
    """The feed of the service, as its route uses it."""

    def __init__(self, reads: Reads, expensive: ExpensiveReads, head: Follower) -> None:
        """Read news over the connections of `reads`, arrears over those of `expensive`, and wait with `head`."""
        self._reads = reads
        self._expensive = expensive
        self._streaming = asyncio.Semaphore(STREAMING)
        self._head = head
        self._open = 0
        self._closing = asyncio.Event()

    async def answer(
        self, request: Request, query: FeedQuery, last_event_id: str | None
    ) -> Response:
        """Answer with the events after a position.

        Raises `InvalidValue` for one past the head, `TooManyStreams`.
        """
        await self._reads.wait_for(query.min_position)
        streaming = media_type_of(request) == EVENT_STREAM
        last_seen = (last_event_id or "").strip() if streaming else ""
        after = _position(last_seen) if last_seen else query.after
        question = Question(history.EVERYTHING, groups=groups_of(request))
        ((head, _, _),) = await self._reads.rows(question.span(), {})
        if after > head:
            place = "header:Last-Event-ID" if last_seen else "parameter:after"
            raise InvalidValue(
                place, "head", f"position {after} is past the head of the log, {head}"
            )
        if not streaming:
            return await self._page(request, question, after, head, query.limit)
        if self._open >= STREAMS:
            raise TooManyStreams
        request.scope["state"][END] = self._closing.set
        headers = {**_HEADERS, POSITION: str(head)}
        return StreamingResponse(
            self._stream(question, after, Admission(request)),
            headers=headers,
            media_type=EVENT_STREAM,
        )

    async def _page(
        self, request: Request, question: Question, after: int, head: int, limit: int
    ) -> Response:
        reads = self._reads if limit <= CHEAP else self._expensive
        entries, after = await self._read(reads.primary.connections, question, after, head, limit)
        body = {"items": [entry.event for entry in entries], "after": after, "head": head}
        answer = answers.whole(request, msgspec.json.encode(body).decode(), head)
        answer.headers["Vary"] = "Accept"
        return answer

    async def _stream(
        self, question: Question, after: int, admission: Admission
    ) -> AsyncIterator[bytes]:
        """Write what comes after a position, until the process goes down or the caller's token counts no more."""
        self._open += 1
        now = asyncio.get_running_loop().time
        try:
            silent_until = now() + COMMENT_SECONDS
            while not self._closing.is_set() and await admission.counts():
                entries: list[Entry] = []
                if await self._comes_after(after, min(silent_until - now(), admission.seconds)):
                    entries, after = await self._read_next(question, after)
                    if not await admission.counts():
                        return
                if not entries and (now() < silent_until or self._closing.is_set()):
                    continue
                yield b"".join(map(_as_event, entries)) or b":\n\n"
                silent_until = now() + COMMENT_SECONDS
        finally:
            self._open -= 1

    async def _comes_after(self, position: int, seconds: float) -> bool:
        """Wait until there is an event after `position`, so many seconds have passed, or the process goes down."""
        waiting = {
            asyncio.ensure_future(self._head.reached(position + 1, seconds)),
            asyncio.ensure_future(self._closing.wait()),
        }
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return all(task.result() for task in done) and not self._closing.is_set()

    async def _read_next(self, question: Question, after: int) -> tuple[list[Entry], int]:
        """Return the next page of a stream: news at once, arrears when it is their turn."""
        last = self._head.position
        if last - after > CHEAP:
            return await self._read(
                self._expensive.connections.later(), question, after, last, PAGE
            )
        async with self._streaming:
            return await self._read(self._reads.primary.connections, question, after, last, PAGE)

    async def _read(
        self, connections: Connections, question: Question, after: int, last: int, limit: int
    ) -> tuple[list[Entry], int]:
        """Return the next entries up to a position, at most `limit`, and after which one to go on."""
        statement, parameters = question.page(after + 1, last, limit, None)
        entries = question.entries(await connections.rows(statement, parameters))
        return entries, int(entries[-1].event["position"]) if len(entries) == limit else max(
            after, last
        )


def _as_event(entry: Entry) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (entry.event["position"], msgspec.json.encode(entry.event))


def _position(written: str) -> int:
    with suppress(ValueError):
        if written.isascii() and written.isdigit() and int(written) < 2**63:
            return int(written)
    raise InvalidValue(
        "header:Last-Event-ID",
        "position",
        "Last-Event-ID is the position of the last event that was seen",
    )

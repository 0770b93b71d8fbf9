"""Log lines: readable in a terminal, JSON otherwise.

Each names the request and the actor that it belongs to.

A line is one line: no text that a caller sends can end it or colour it. Tracebacks are plain ones,
without the values of variables.
"""

import asyncio
import json
import logging
import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

REQUEST: ContextVar[Mapping[str, Any] | None] = ContextVar("request", default=None)
"""The state of the request that is being answered.

It has `request_id`, and `actor` as soon as that is known.
"""

_PATH_LENGTH = 200
_IDS_AT_ONCE = 256
_QUIET = ("alembic", "psycopg", "psycopg.pool", "uvicorn.access")
_encode = msgspec.json.Encoder(enc_hook=str).encode


def configure() -> None:
    """Send all that is logged to stderr."""
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.ExtraAdder(),
                _plain,
                *_common(),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendered(sys.stderr),
            ],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in _QUIET:
        logging.getLogger(noisy).setLevel(logging.WARNING)


class RequestLines:
    """Writes the line that each request leaves.

    Lines of one turn of the event loop are written together at its end, at most `PIPE_BUF` bytes at
    once, so that the lines of several workers in one pipe do not mix. A process that is killed
    loses the lines of this one turn (decision 36).
    """

    def __init__(self) -> None:
        """Write JSON, or for people where stderr is a terminal."""
        self._stream = sys.stderr
        self._render = _for_terminal() if self._stream.isatty() else _json
        self._waiting: list[str] = []
        self._second, self._time = 0, ""

    def add(self, scope: Mapping[str, Any], route: str, status: int, seconds: float) -> None:
        """Leave the line of one request, in the event loop that answered it."""
        state = scope["state"]
        line = self._render(
            {
                "event": "request",
                "method": scope["method"],
                "route": route,
                "path": scope["path"][:_PATH_LENGTH],
                "status": status,
                "duration_ms": round(seconds * 1000, 2),
                "level": "info",
                "timestamp": self._now(),
                "request_id": state["request_id"],
                "actor": state.get("actor"),
            }
        )
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append(f"{line}\n")

    def flush(self) -> None:
        """Write all lines."""
        lines, self._waiting = self._waiting, []
        for part in _parts(lines):
            self._stream.write(part)
            self._stream.flush()

    def _now(self) -> str:
        """Return the time in UTC to the microsecond, as structlog writes it."""
        second, microsecond = divmod(time.time_ns() // 1000, 1_000_000)
        if second != self._second:
            self._second, self._time = (
                second,
                time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)),
            )
        return f"{self._time}.{microsecond:06d}Z"


def _parts(lines: Sequence[str]) -> Iterator[str]:
    """Yield whole lines, so many at once that they have at most `PIPE_BUF` bytes."""
    part: list[str] = []
    size = 0
    for line in lines:
        length = len(line) if line.isascii() else len(line.encode(errors="replace"))
        if part and size + length > select.PIPE_BUF:
            yield "".join(part)
            part, size = [], 0
        part.append(line)
        size += length
    if part:
        yield "".join(part)


def request_ids() -> Iterator[str]:
    """Yield random UUIDs (version 4) as text, many from one call of the operating system."""
    while True:
        drawn = os.urandom(16 * _IDS_AT_ONCE).hex()
        for place in range(0, len(drawn), 32):
            one = drawn[place : place + 32]
            variant = "89ab"[int(one[16], 16) & 3]
            yield f"{one[:8]}-{one[8:12]}-4{one[13:16]}-{variant}{one[17:20]}-{one[20:]}"


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to the stderr of the moment: a progress bar takes its place while it is drawn."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def _common() -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request,
        structlog.processors.format_exc_info,
    ]


def _plain(_: Any, __: str, event: EventDict) -> EventDict:
    """Leave out the message that uvicorn repeats in colours."""
    event.pop("color_message", None)
    return event


def _rendered(stream: TextIO) -> list[Processor]:
    if stream.isatty():
        return [_escape, _console()]
    return [structlog.processors.JSONRenderer(serializer=_json)]


def _console() -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
    )


def _for_terminal() -> Callable[[EventDict], str]:
    console = _console()
    return lambda event: console(None, "info", _escape(None, "info", event))


def _json(event: EventDict, **_: Any) -> str:
    try:
        return _encode(event).decode()
    except UnicodeEncodeError:
        # Half a character, which UTF-8 can't hold and an escape can.
        return json.dumps(event, default=str)


def _add_request(_: Any, __: str, event: EventDict) -> EventDict:
    request = REQUEST.get()
    if request is not None:
        event.setdefault("request_id", request.get("request_id"))
        event.setdefault("actor", request.get("actor"))
    return event


def _escape(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if name == "exception":
            # Its lines stand indented, so that none passes for a line of the log.
            event[name] = "\n".join(f"    {_printable(line)}" for line in str(value).splitlines())
        elif isinstance(value, str):
            event[name] = _printable(value)
    return event


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )

"""Log lines: readable in a terminal, JSON otherwise, each with the request and the actor it belongs to.

A line is one line: what somebody sends can't end it or colour it. Tracebacks are plain ones,
without the values of variables.
"""

import json
import logging
import sys
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

REQUEST: ContextVar[Mapping[str, Any] | None] = ContextVar("request", default=None)
"""The state of the request that is being answered: `request_id`, and `actor` as soon as it is known."""

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


def access_logger() -> FilteringBoundLogger:
    """Return the logger of the line that each request leaves; past the standard library's, it costs a third (decision 17)."""
    logger = structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[structlog.processors.add_log_level, *_common(), *_rendered(sys.stderr)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    return cast("FilteringBoundLogger", logger.bind())


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at the time: a progress bar takes its place while it is drawn."""

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
    """Leave out what uvicorn says a second time in colours."""
    event.pop("color_message", None)
    return event


def _rendered(stream: TextIO) -> list[Processor]:
    if stream.isatty():
        renderer = structlog.dev.ConsoleRenderer(
            pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
        return [_escape, renderer]
    return [structlog.processors.JSONRenderer(serializer=_json)]


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

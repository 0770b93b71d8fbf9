"""Answers that are streamed whole, as JSON, CSV or NDJSON, a page at a time.

Each page is a query of its own, and a stream holds no connection between two pages: it uses little
memory, and one that is read slowly keeps nobody waiting. All pages are of one position, so what is
streamed is of one moment. Where a page fails, the connection is closed without the end of the body
(RFC 9112, section 7.1): the caller sees that it is incomplete.
"""

import csv
import io
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import StreamingResponse

from rosterlog.api.http.negotiation import CSV, JSON, NDJSON

PAGE = 500
"""How many items a stream reads at once.

Making them into text takes a few milliseconds, in which the process does nothing else.
"""

Items = Sequence[Mapping[str, Any]]
Pages = AsyncIterator[Items]

_encode = msgspec.json.Encoder().encode


def streamed(
    media_type: str,
    columns: Sequence[str],
    pages: Pages,
    headers: Mapping[str, str],
    name: str,
) -> StreamingResponse:
    """Return the response that streams all pages.

    `headers` are those of every read. As CSV it is a file called `name`.
    """
    headers = {**headers, "Vary": "Accept"}
    if media_type == CSV:
        headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    text = _WRITERS[media_type](columns, pages)
    return StreamingResponse(
        text,
        headers=headers,
        media_type=f"{CSV}; charset=utf-8; header=present" if media_type == CSV else media_type,
    )


async def _csv(columns: Sequence[str], pages: Pages) -> AsyncIterator[str]:
    """Write RFC 4180: a row of names, and lines that end in CR LF.

    A cell is empty for null and holds JSON for an object.
    """
    yield _rows([columns])
    async for items in pages:
        yield _rows([[_cell(item.get(column)) for column in columns] for item in items])


def _rows(rows: Sequence[Sequence[Any]]) -> str:
    written = io.StringIO(newline="")
    csv.writer(written).writerows(rows)
    return written.getvalue()


def _cell(value: object) -> object:
    return _encode(value).decode() if isinstance(value, dict) else value


async def _ndjson(_: Sequence[str], pages: Pages) -> AsyncIterator[bytes]:
    async for items in pages:
        yield b"".join(_encode(item) + b"\n" for item in items)


async def _json(_: Sequence[str], pages: Pages) -> AsyncIterator[bytes]:
    yield b'{"items":['
    separator = b""
    async for items in pages:
        yield separator + b",".join(map(_encode, items))
        separator = b"," if items else separator
    yield b'],"next_cursor":null}'


_WRITERS: dict[str, Callable[[Sequence[str], Pages], AsyncIterator[str | bytes]]] = {
    CSV: _csv,
    NDJSON: _ndjson,
    JSON: _json,
}

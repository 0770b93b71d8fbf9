"""The server's HTTP protocol: uvicorn's, with limits.

It answers with a problem where bytes are no HTTP, and it can end endless responses.

Without the limits one caller could fill the memory with a header that never ends, or hold
connections open a byte at a time.
"""

import asyncio
import re

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rosterlog.api.http import problems

HEAD_BYTES = 64 * 1024
"""Most bytes of a request line and headers.

The last read may go beyond by as many bytes as the network delivers at once.
"""
END = "end"
"""The name of the function, in a request's state, that ends a response without end."""
ARRIVAL_SECONDS = 60.0
"""How long a request may take to arrive, its body included."""

_SAYS = {
    400: (
        "malformed-request",
        "This can't be read as HTTP/1.1: the request line, a header or the length of the "
        "body is malformed.",
    ),
    408: ("request-too-slow", f"The request did not arrive within {ARRIVAL_SECONDS:.0f} seconds."),
    431: ("headers-too-large", f"The request line and headers are larger than {HEAD_BYTES} bytes."),
}
_WHOLE_ADDRESS = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#@\\]+)((?:[/?].*)?)", re.DOTALL)
"""A target in absolute form (RFC 9112, section 3.2.2): its host, and its path and query."""


class GuardedProtocol(HttpToolsProtocol):
    """Answers with a problem where a request is no good HTTP, and closes the connection.

    A head that is too large is 431, a request that arrives too slowly 408, bytes that are no HTTP
    400.
    """

    _arriving = False
    _in_head = False
    _counting = False
    _head_bytes = 0
    _plain_head = b""
    """The head of a request that asks for another protocol, without this wish.

    It is kept until it is read again.
    """
    _refused = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request."""
        super().connection_made(transport)
        self._arriving = True
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; most requests arrive whole, and pass without a timer."""
        if self._refused:
            return
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(400)
            return
        if self._counting:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431)
                return
        if self._arriving:
            self._watch()
        else:
            self._unwatch()

    def _parse(self, data: bytes) -> None:
        """Read on as HTTP/1.1 where a request asks for another protocol (RFC 9110, section 7.8).

        The parser stops at the end of such a head: the body would be lost, or be taken for the next
        request.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as asked:
                data = self._plain_head + data[asked.args[0] :]
                self._plain_head = b""
                self.parser = httptools.HttpRequestParser(self)
                # As uvicorn sets its own parser: a last request gets its answer, whatever bytes
                # follow it.
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            else:
                return

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._arriving = self._in_head = self._counting = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header.

        A header behind the body came after all checks, so it is left out (RFC 9110, section 6.5.1).
        """
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End counting the head, and refuse an ambiguous one.

        A proxy may understand such a head in another way than we do.
        """
        self._in_head = self._counting = False
        self._check_head()
        if self.parser.should_upgrade():
            lines = [b"%b %b HTTP/1.1" % (self.parser.get_method(), self.url)]
            lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
            self._plain_head = b"\r\n".join([*lines, b"", b""])
            return
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Count again: behind the last chunk may stand more headers."""
        self._counting = True
        self._head_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, which has limits of its own."""
        self._counting = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See the request whole."""
        if self._plain_head:
            return
        self._arriving = self._counting = False
        super().on_message_complete()

    def _check_head(self) -> None:
        """Raise `ValueError` for a head that RFC 9112 forbids, and for one that wants a tunnel.

        The sections are 2.3, 3.2 and 6.1.
        """
        version, method = self.parser.get_http_version(), self.parser.get_method()
        hosts = [value for name, value in self.headers if name == b"host"]
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if version not in {"1.0", "1.1"} or method == b"CONNECT" or b"#" in self.url:
            raise ValueError
        if len(hosts) > 1 or (not hosts and version == "1.1"):
            raise ValueError
        if codings and (version == "1.0" or [coding.lower() for coding in codings] != [b"chunked"]):
            raise ValueError
        if b"://" in self.url and not self.url.startswith(b"/"):
            self._take_apart()

    def _take_apart(self) -> None:
        """Take host and path from a target that is a whole address.

        The host of the target goes before the header.
        """
        found = _WHOLE_ADDRESS.fullmatch(self.url)
        if found is None:
            raise ValueError
        host, path = found.groups()
        self.headers[:] = [
            *(header for header in self.headers if header[0] != b"host"),
            (b"host", host),
        ]
        self.url = path if path.startswith(b"/") else b"/" + path

    def shutdown(self) -> None:
        """Go down, and end a response that never ends by itself.

        Such a response has left in its request's state how to end it.
        """
        end = self.cycle.scope["state"].get(END) if self.cycle is not None else None
        if end is not None:
            end()
        super().shutdown()

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(ARRIVAL_SECONDS, self._refuse, 408)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int) -> None:
        """Close the connection, with an answer where none has begun.

        The answer to the request before, which is under way, gets its end.
        """
        self._arriving = self._counting = False
        self._refused = True
        self._unwatch()
        if self.transport.is_closing():
            return
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and not self.cycle.more_body:
            # That request has arrived whole: an answer written here would be taken for its own.
            self.cycle.keep_alive = False
            return
        if not answering or not self.cycle.response_started:
            self.transport.write(_answer(status, self.server_state.default_headers))
        self.transport.close()


def _answer(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    rule, detail = _SAYS[status]
    body = msgspec.json.encode(problems.document(rule, status, detail, ()))
    own = [
        (b"content-type", problems.MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    lines = [
        f"HTTP/1.1 {status} {problems.title(rule)}".encode(),
        *(b"%b: %b" % header for header in [*headers, *own]),
    ]
    return b"\r\n".join([*lines, b"", body])

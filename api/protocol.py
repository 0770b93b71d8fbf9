"""The server's HTTP protocol, with what uvicorn's has not: limits, problems for what is no HTTP, and an end for endless responses.

Without the limits one caller could fill the memory with a header that never ends, or hold connections open a byte at a time.
"""

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 * 1024
"""Most bytes of a request line and headers; the last read may go beyond by as much as the network delivers at once."""
END = "end"
"""Where in a request's state stands how to end its response, for one that never ends by itself."""
ARRIVAL_SECONDS = 60.0
"""How long a request may take to arrive, its body included."""

_SAYS = {
    400: ("malformed-request", "This can't be read as HTTP/1.1: the request line, a header or the length of the body is malformed."),
    408: ("request-too-slow", f"The request did not arrive within {ARRIVAL_SECONDS:.0f} seconds."),
    431: ("headers-too-large", f"The request line and headers are larger than {HEAD_BYTES} bytes."),
}


class GuardedProtocol(HttpToolsProtocol):
    """Answers 431 to a head that is too large, 408 to a request that arrives too slowly, 400 to what is no HTTP; then it closes."""

    _arriving = False
    _in_head = False
    _head_bytes = 0
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
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431)
                return
        if self._arriving:
            self._watch()
        else:
            self._unwatch()

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._arriving = self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End counting the head, and refuse one that names its host in no way or in two (RFC 9112, sections 3.2 and 3.2.2)."""
        self._in_head = False
        hosts = [place for place, (name, _) in enumerate(self.headers) if name == b"host"]
        if len(hosts) > 1 or (not hosts and self.parser.get_http_version() == "1.1") or b"#" in self.url:
            raise ValueError
        if b"://" in self.url and not self.url.startswith(b"/"):
            # The target names the host, and goes before the header.
            self.headers[:] = [*(header for header in self.headers if header[0] != b"host"), (b"host", self.url.split(b"/", 3)[2])]
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """See the request whole."""
        self._arriving = False
        super().on_message_complete()

    def shutdown(self) -> None:
        """Go down; a response that never ends by itself has left in its request's state how to end it."""
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

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 uvicorn's words
        """Refuse what can't be read as HTTP."""
        self._refuse(400)

    def _refuse(self, status: int) -> None:
        """Close the connection, with an answer where none has begun; what is under way for the request before gets its end."""
        self._arriving = self._in_head = False
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
    title = rule.replace("-", " ").capitalize()
    problem = {"type": f"/problems/{rule}", "title": title, "status": status, "detail": detail, "request_id": None, "errors": []}
    body = json.dumps(problem).encode()
    own = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    lines = [f"HTTP/1.1 {status} {title}".encode(), *(b"%b: %b" % header for header in [*headers, *own])]
    return b"\r\n".join([*lines, b"", body])

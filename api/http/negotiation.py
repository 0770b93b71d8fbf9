"""Content negotiation: which media type of an operation the caller would rather have.

RFC 9110, section 12.5.1.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from starlette.requests import Request

JSON, CSV, NDJSON, EVENT_STREAM = (
    "application/json",
    "text/csv",
    "application/x-ndjson",
    "text/event-stream",
)
TEXT, HTML = "text/plain", "text/html"

_SENT: Mapping[str, Mapping[str, str]] = {CSV: {"header": "present"}, TEXT: {"version": "0.0.4"}}
"""The parameters of the media types that we send, besides `charset=utf-8`.

A range that asks for other parameters names another media type.
"""
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_RANGE = re.compile(rf"({_WORD})/({_WORD})")
_PARAMETER = re.compile(rf'({_WORD})=({_WORD}|"(?:[^"\\]|\\.)*")')
_WEIGHT = re.compile(r"[01]\.?[0-9]*|\.[0-9]+")
_PARTS = re.compile(r'[^,;"]+|"(?:[^"\\]|\\.)*"|.', re.DOTALL)


@dataclass(frozen=True)
class _Range:
    """What one member of `Accept` is about, and how much the caller wants it, from 0 to 1."""

    kind: str
    subtype: str
    parameters: Mapping[str, str]
    weight: float

    def closeness(self, media_type: str) -> tuple[bool, bool, int] | None:
        """Return how closely the range names a media type, None where it does not."""
        kind, _, subtype = media_type.partition("/")
        sent = {"charset": "utf-8", **_SENT.get(media_type, {})}
        if (
            self.kind not in {kind, "*"}
            or self.subtype not in {subtype, "*"}
            or not self.parameters.items() <= sent.items()
        ):
            return None
        return self.kind != "*", self.subtype != "*", len(self.parameters)


def preferred(accept: Iterable[str], offered: tuple[str, ...]) -> str | None:
    """Return the best of the media types offered for the lines of `Accept`.

    Among equals it is the first; None where the caller takes none.

    A member that can't be read does not count, and without any that counts the caller takes
    everything.
    """
    lines = ", ".join(accept)
    if lines in {"", "*/*", offered[0]}:
        return offered[0]
    return _usual(lines, offered) if len(lines) <= _USUAL_LENGTH else _best(lines, offered)


def _best(lines: str, offered: tuple[str, ...]) -> str | None:
    ranges = list(_ranges(lines))
    if not ranges:
        return offered[0]
    best = max(offered, key=lambda media_type: _weight(media_type, ranges))
    return best if _weight(best, ranges) > 0 else None


_USUAL_LENGTH = 300
"""What a browser sends has some 150 characters; what is longer is not kept."""
_usual = lru_cache(maxsize=1000)(_best)


def media_type_of(request: Request) -> str:
    """Return the media type to answer a request with."""
    media_type: str = request.state.media_type
    return media_type


def _weight(media_type: str, ranges: list[_Range]) -> float:
    """Return the weight of the range that names the media type most closely."""
    found = [
        (closeness, range_.weight)
        for range_ in ranges
        if (closeness := range_.closeness(media_type)) is not None
    ]
    return max(found)[1] if found else 0.0


def _ranges(accept: str) -> Iterator[_Range]:
    for name, *parameters in _members(accept):
        # Java's own client has always sent `*; q=.2` for everything else.
        found = _RANGE.fullmatch("*/*" if name == "*" else name)
        read = [_PARAMETER.fullmatch(parameter) for parameter in parameters if parameter]
        if found is None or not all(read) or (found[1] == "*" != found[2]):
            continue
        given = {parameter[1]: _unquoted(parameter[2]) for parameter in read if parameter}
        weight = given.pop("q", "1")
        if _WEIGHT.fullmatch(weight) and float(weight) <= 1:
            yield _Range(found[1], found[2], given, float(weight))


def _members(accept: str) -> Iterator[list[str]]:
    """Yield each member of the list in pieces; commas and semicolons in quotes are text.

    What follows a quote without end is left out.
    """
    pieces = [""]
    for part in _PARTS.finditer(accept.lower()):
        if part[0] == '"':
            return
        if part[0] == ",":
            yield [piece.strip(" \t") for piece in pieces]
            pieces = [""]
        elif part[0] == ";":
            pieces.append("")
        else:
            pieces[-1] += part[0]
    yield [piece.strip(" \t") for piece in pieces]


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value

"""What request headers say, read by the whole of their definitions: several lines of a list are one list, quotes may hold commas."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import http_sf
from fastapi import Request

from rosterlog.api.reading.live_rosters import RosterState
from rosterlog.domain.errors import InvalidValue

_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_BETWEEN = re.compile(r"[ \t]*(?:,[ \t,]*|$)")
_BEFORE = re.compile(r"[ \t,]*")
# A roster's ETag begins with the version of its class.
_VERSION = re.compile(r"(\d{1,18})(?:-[0-9a-f.]+)?", re.ASCII)
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*"?)+')
_NAMED = re.compile(
    r"""[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*(?:=[ \t]*("(?:\\.|[^"\\])*"|[^ \t;]*))?"""
)
_WELL_ENCODED = re.compile(r"(?:[\x20-\x24\x26-\x7e]|%[0-9A-Fa-f]{2})*")
_BARE_KEY = re.compile(r"[\x21\x23-\x7e]+")
_KEY_LENGTH = 255
_KEY_FIELD_LENGTH = 2000
"""Most characters of the header's value, with quotes, escapes and parameters."""

# The state of a roster: the version of its class, its size, and the tables that it is from.
_ROSTER = re.compile(r"(\d{1,18})-([0-9a-f]{1,8})\.([0-9a-f]{1,8})", re.ASCII)
POSITION = "Roster-Position"
"""The header with the position of the log that an answer reflects."""

Tags = frozenset[str] | None
"""What stands between the quotes of entity tags; None for `*`, which is whatever there is."""


def entity_tags(given: Sequence[str]) -> Tags:
    """Return the entity tags of a header's lines, weak ones included (RFC 9110, sections 8.8.3 and 13.1). Raises `ValueError`."""
    whole = ",".join(given).strip(" \t")
    return None if whole == "*" else frozenset(_tags(whole))


def _tags(whole: str) -> Iterator[str]:
    place = _end(_BEFORE, whole, 0)
    while place < len(whole):
        tag = _TAG.match(whole, place)
        if tag is None:
            raise ValueError(whole)
        yield tag[1]
        place = _end(_BETWEEN, whole, tag.end())


def _end(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    if found is None:
        raise ValueError(text)
    return found.end()


def expected_versions(given: Sequence[str]) -> frozenset[int] | None:
    """Return the versions that `If-Match` names, None for any. Raises `InvalidValue`.

    A tag that is no version of ours can't match; it stands for nothing beside others, and alone it
    is a mistake.
    """
    if not given:
        return None
    try:
        tags = entity_tags(given)
    except ValueError:
        tags = frozenset()
    if tags is None:
        return None
    found = frozenset(int(version[1]) for version in map(_VERSION.fullmatch, tags) if version)
    if not found:
        raise InvalidValue(
            "header:If-Match",
            "version",
            'If-Match is a version in quotes, such as "7", a list of these, or *',
        )
    return found


def answered(position: int, tag: str | None = None) -> dict[str, str]:
    """Return the headers of an answer that reflects a position; `tag` is its entity tag, if any."""
    headers = {POSITION: str(position), "Cache-Control": "private, no-cache"}
    return headers if tag is None else {**headers, "ETag": f'"{tag}"'}


def content_tag(text: str) -> str:
    """Return the entity tag of an answer by its text, or by what it is made of."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def page_tag(version: int | None, text: str) -> str:
    """Return the entity tag of a page; `version` is that of the thing that it belongs to, if any."""
    return content_tag(text) if version is None else f"{version}-{content_tag(text)}"


def roster_tag(state: RosterState) -> str:
    """Return the entity tag of a roster."""
    return f"{state.version}-{state.size:x}.{state.tables:x}"


def known_roster(request: Request) -> RosterState | None:
    """Return the state of the one roster that the caller says to have, None for several or none."""
    tags = known_tags(request)
    found = _ROSTER.fullmatch(next(iter(tags))) if tags is not None and len(tags) == 1 else None
    return RosterState(int(found[1]), int(found[2], 16), int(found[3], 16)) if found else None


def is_known(request: Request, tag: str) -> bool:
    """Tell whether the caller says to have the answer that an entity tag stands for."""
    known = known_tags(request)
    return known is None or tag in known


def known_tags(request: Request) -> Tags:
    """Return what the caller has by `If-None-Match`; lines that can't be read name nothing."""
    try:
        return entity_tags(request.headers.getlist("if-none-match"))
    except ValueError:
        return frozenset()


def prefers(given: Sequence[str], preference: str) -> bool:
    """Tell whether `Prefer` states a preference that has no value (RFC 7240, section 2); the first of its name counts."""
    for part in _PREFERENCE.findall(",".join(given)):
        named = _NAMED.match(part)
        if named and named[1].lower() == preference:
            return named[2] in {None, "", '""'}
    return False


def idempotency_key(given: str) -> str:
    """Return an idempotency key: a string of structured fields (RFC 9651, section 3.3.3), or bare, as most clients send it.

    Raises `InvalidValue`.
    """
    key = _string(given) if given.startswith('"') else given
    if (
        key is None
        or not 1 <= len(key) <= _KEY_LENGTH
        or not (given.startswith('"') or _BARE_KEY.fullmatch(key))
    ):
        raise InvalidValue(
            "header:Idempotency-Key",
            "key",
            f"Idempotency-Key is 1 to {_KEY_LENGTH} ASCII characters, such as a UUID",
        )
    return key


def _string(given: str) -> str | None:
    if len(given) > _KEY_FIELD_LENGTH:
        return None
    try:
        parsed: Any = http_sf.parse(given.encode("latin-1"), tltype="item")
    except ValueError:
        return None
    return str(parsed[0])


def percent_decoded(value: str) -> str:
    """Return a reason from its percent-encoded UTF-8. Raises `InvalidValue`."""
    wrong = InvalidValue("reason", "percent-encoded", "Roster-Reason is UTF-8 in percent-encoding")
    if not _WELL_ENCODED.fullmatch(value):
        raise wrong
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeError:
        raise wrong from None

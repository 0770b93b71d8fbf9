"""A service without authentication trusts this machine, but no page of another site.

A browser on this machine visits any page. What a page of another site causes is refused.

A page can send requests to loopback addresses, and with a name of its own that leads there (DNS
rebinding) it could read the answers, too. The first shows in `Origin` and, also where a browser
leaves that out, in `Sec-Fetch-Site`; the second in `Host`.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import Response

from rosterlog.api.http import problems
from rosterlog.api.http.policy import Policy
from rosterlog.api.settings import is_loopback

_HELP = "Without authentication the service is for this machine only; see ROSTERLOG_AUTH_KEYS."


async def local_only(request: Request, _: Policy) -> Response | None:
    """Refuse a request for another host, or from a page of another site."""
    wrong = _foreign(request.scope["given"])
    if wrong is None:
        return None
    detail = f"{wrong} says that it comes from elsewhere. {_HELP}"
    return problems.respond(request, "not-local", 403, detail)


def _foreign(given: Mapping[bytes, bytes]) -> str | None:
    """Return the header that names another machine, None where there is none."""
    host, origin, site = map(given.get, (b"host", b"origin", b"sec-fetch-site"))
    if host is not None and not _is_local(host):
        return "Host"
    if origin is not None:
        scheme, _, place = origin.rpartition(b"://")
        if scheme not in {b"http", b"https"} or not _is_local(place):
            return "Origin"
    # `same-site` is a page on another port of this machine, `none` is somebody who typed the
    # address.
    if site is not None and site not in {b"same-origin", b"same-site", b"none"}:
        return "Sec-Fetch-Site"
    return None


_HOST = re.compile(rb"(?:([^\[\]:/?#@]+)|\[([0-9A-Fa-f:.]+)\])(?::[0-9]*)?")
"""A name or an address, in brackets where it has colons, and a port.

RFC 9110, section 7.2; nothing else is read into it.
"""


def _is_local(value: bytes) -> bool:
    return _is_usual_local(value) if len(value) <= _USUAL_LENGTH else _names_loopback(value)


def _names_loopback(value: bytes) -> bool:
    found = _HOST.fullmatch(value)
    return found is not None and is_loopback((found[1] or found[2]).decode("latin-1").lower())


_USUAL_LENGTH = 100
"""What is longer is not kept: callers make it up."""
_is_usual_local = lru_cache(maxsize=100)(_names_loopback)

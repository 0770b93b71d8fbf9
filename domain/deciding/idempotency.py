"""Idempotency keys: a request that is repeated with its key gets the outcome of the first.

Outcomes are looked up and kept under the append's lock. So a repetition that arrives while the first
request still runs, in whatever process, waits for it and finds its outcome.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace

import msgspec

from rosterlog.domain.deciding.outcome import Outcome
from rosterlog.domain.errors import KeyReused
from rosterlog.domain.log import kept_outcomes
from rosterlog.domain.log.append import Append

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Outcome).decode


@dataclass(frozen=True)
class Key:
    """A key, the caller who gave it, and the route that it was given on."""

    subject: str
    route: str
    key: str


@dataclass(frozen=True)
class Repeatable:
    """A request with a key; `request` is the digest of all that a repetition must have in common."""

    key: Key
    request: bytes


class Kept:
    """The outcomes of earlier requests with the same keys."""

    def __init__(self, append: Append, asked: list[Repeatable]) -> None:
        """Look the keys up under the lock of `append`."""
        rows = kept_outcomes.recall(append, [astuple(repeatable.key) for repeatable in asked])
        self._found = {Key(*row[:3]): row[3:] for row in rows}

    def found(self, repeatable: Repeatable | None) -> Outcome | KeyReused | None:
        """Return the outcome of the first request, a refusal where that was another request.

        It is None where this is the first, or does not repeat anything.
        """
        if repeatable is None or repeatable.key not in self._found:
            return None
        request, outcome = self._found[repeatable.key]
        if request != repeatable.request:
            return KeyReused(key=repeatable.key.key)
        return replace(_decode(outcome), replayed=True)


def keep(append: Append, outcomes: Mapping[Repeatable, Outcome]) -> None:
    """Keep the outcomes of requests, as a part of the append."""
    kept_outcomes.keep(
        append, [(*astuple(one.key), one.request, _encode(came)) for one, came in outcomes.items()]
    )

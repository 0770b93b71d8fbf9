"""Bearer tokens: JSON Web Tokens of the district's identity provider (RFC 9068).

They are checked against the provider's keys.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from rosterlog.api.access.keys import (
    Keys,
    KeysUnreadable,
    private_key,
    signing_algorithm,
)
from rosterlog.api.settings import ALGORITHMS, Settings
from rosterlog.domain.errors import InvalidValue
from rosterlog.domain.values import Confinement, Provenance

KNOWN_SECONDS = 60
"""For how many seconds a token that was checked is not checked again.

The tokens of a withdrawn key end so much later.
"""
CHECKS = 2
"""How many signatures are checked at the same moment, in threads that no other work can use up."""
_KNOWN = 1000
_LENGTH = 8 * 1024


class Unauthenticated(Exception):
    """The request has no token, or none that counts.

    The message says why, and `token` whether there was one.
    """

    def __init__(self, why: str, *, token: bool = True) -> None:
        """Say why."""
        super().__init__(why)
        self.token = token


@dataclass(frozen=True)
class Principal:
    """The actor that a token speaks for, the scopes that it allows, and in which groups."""

    actor: str
    scopes: frozenset[str]
    expires_at: float
    groups: Confinement = None


class Tokens:
    """Turns the header of a request into a principal."""

    def __init__(self, settings: Settings) -> None:
        """Check tokens as the settings say, which must configure authentication."""
        assert settings.auth_keys is not None
        self._settings = settings
        self.keys = Keys(settings.auth_keys)
        self._checking = CapacityLimiter(CHECKS)
        self._known: dict[str, tuple[Principal, float]] = {}

    async def principal(self, authorization: list[str]) -> Principal:
        """Return the principal that the `Authorization` headers speak for.

        Raises `Unauthenticated`, `KeysUnreadable`.
        """
        token = _bearer(authorization)
        known, until = self._known.get(token, (None, 0.0))
        if known is None or until < time.time():
            head = _head(token)
            key = await self.keys.found(head.get("kid"))
            known = await run_sync(self._check, token, head, key, limiter=self._checking)
            self._remember(token, known)
        return known

    async def still_counts(self, authorization: list[str]) -> bool:
        """Tell whether the headers that a long answer began with would begin it now.

        They would where the keys can't be read.
        """
        try:
            await self.principal(authorization)
        except Unauthenticated:
            return False
        except KeysUnreadable:
            pass
        return True

    def _remember(self, token: str, principal: Principal) -> None:
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[token] = principal, min(principal.expires_at, time.time() + KNOWN_SECONDS)

    def _check(self, token: str, head: dict[str, Any], key: PyJWK | None) -> Principal:
        if key is None:
            raise Unauthenticated("its key is unknown")
        with _readable():
            claims = self._verified(token, key, head)
            expires_at = float(claims["exp"]) + self._settings.auth_clock_skew
        return Principal(
            self._actor(claims), self._scopes(claims), expires_at, self._groups(claims)
        )

    def _verified(self, token: str, key: PyJWK, header: dict[str, Any]) -> dict[str, Any]:
        kind = str(header.get("typ", "")).lower().removeprefix("application/")
        if kind not in {known.lower() for known in self._settings.auth_token_types}:
            raise Unauthenticated(
                f"its type is {kind or 'not given'}, not "
                f"{' or '.join(self._settings.auth_token_types)}"
            )
        allowed = ALGORITHMS[str(key.key_type)].intersection(self._settings.auth_algorithms)
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=sorted(allowed),
            issuer=self._settings.auth_issuer,
            audience=self._settings.auth_audience,
            leeway=self._settings.auth_clock_skew,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
        return claims

    def _actor(self, claims: dict[str, Any]) -> str:
        name = self._settings.auth_actor_claim
        actor = claims.get(name)
        if not isinstance(actor, str) or not (actor.isascii() and actor.isprintable()):
            raise Unauthenticated(
                f"its claim {name}, which names the actor, is no printable ASCII text"
            )
        try:
            return Provenance(actor, source="api").actor
        except InvalidValue as wrong:
            raise Unauthenticated(f"its claim {name} can't be an actor: {wrong.detail}") from wrong

    def _scopes(self, claims: dict[str, Any]) -> frozenset[str]:
        scopes = claims.get(self._settings.auth_scope_claim)
        if isinstance(scopes, str):
            return frozenset(scopes.split())
        return (
            frozenset(one for one in scopes if isinstance(one, str))
            if isinstance(scopes, list)
            else frozenset()
        )

    def _groups(self, claims: dict[str, Any]) -> Confinement:
        """Return the groups that the token is confined to.

        A claim that can't be read is no reason to show everything.
        """
        name = self._settings.auth_groups_claim
        if name not in claims:
            return None
        given = claims[name]
        try:
            if isinstance(given, list):
                return frozenset(map(UUID, given))
        except (ValueError, TypeError, AttributeError):
            given = None
        raise Unauthenticated(f"its claim {name}, which confines it to groups, is no list of ids")


@contextmanager
def _readable() -> Iterator[None]:
    """Let the block read a token. Raises `Unauthenticated` where it can't."""
    try:
        yield
    except PyJWTError as wrong:
        raise Unauthenticated(str(wrong)) from wrong
    except (ValueError, TypeError, ArithmeticError, RecursionError) as wrong:
        # The library does not expect such claims: JSON without end, a time that is none.
        raise Unauthenticated("it can't be read") from wrong


def _head(token: str) -> dict[str, Any]:
    with _readable():
        head: dict[str, Any] = jwt.get_unverified_header(token)
    return head


def _bearer(authorization: list[str]) -> str:
    if not authorization:
        raise Unauthenticated(
            "the request has no token: send Authorization: Bearer <token>", token=False
        )
    scheme, _, token = authorization[0].partition(" ")
    if len(authorization) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("the Authorization header is not Bearer <token>", token=False)
    if len(token) > _LENGTH:
        raise Unauthenticated(f"it is longer than {_LENGTH} bytes")
    return token.strip()


def make(
    settings: Settings,
    key: Path,
    subject: str,
    scopes: list[str],
    lifetime: timedelta,
    groups: Confinement = None,
) -> str:
    """Return a token signed with a local key, for trying and for scripts, confined to `groups`.

    Raises `KeysUnreadable`.
    """
    try:
        private = private_key(key.read_bytes())
    except OSError as wrong:
        raise KeysUnreadable(f"{key}: {wrong.strerror}") from wrong
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": settings.auth_issuer,
        "aud": settings.auth_audience,
        "sub": subject,
        "client_id": "rosterlog",
        "iat": now,
        "exp": now + int(lifetime.total_seconds()),
        "jti": str(uuid4()),
        settings.auth_scope_claim: " ".join(scopes),
    }
    if groups is not None:
        claims[settings.auth_groups_claim] = sorted(map(str, groups))
    return jwt.encode(claims, private, signing_algorithm(private), headers={"typ": "at+jwt"})

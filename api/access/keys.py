"""The keys that tokens are checked with, rotated without a restart.

They come from an address or a file: a JWK set, or one key as PEM.
"""

import asyncio
import json
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import (
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from httpx import AsyncClient, HTTPError, InvalidURL
from jwt import PyJWK, PyJWKSet
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from rosterlog.api.settings import ALGORITHMS

FETCH_SECONDS = 3.0
"""Seconds that the identity provider may take for its whole answer."""
PATIENCE_SECONDS = 1.0
"""How long a token with a known key waits for the keys to be read again.

Then the known keys go on.
"""
RETRY_SECONDS = 1.0
"""Seconds without another try after a failure; each further failure in a row doubles them."""
DOCUMENT_BYTES = 1024 * 1024
"""Most bytes of a key set; those of large providers have some 20 kB."""
ADDRESS_AGE, FILE_AGE = 300.0, 5.0
"""Seconds after which keys are read again: from an address, from a file."""
COOLDOWN_SECONDS = 10.0
"""Seconds after a reading in which a token with an unknown key causes no other reading."""

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey

logger = logging.getLogger(__name__)


class KeysUnreadable(Exception):
    """The keys can't be read; the message says why."""


class Keys:
    """Keeps keys, and reads them again where they are old or one is missing.

    Where reading fails, the keys that are known stay in use.

    One thread reads for all callers that wait, one reading at a time. A failure is remembered, so
    that no caller waits for a place that has just failed.
    """

    def __init__(self, place: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Read from `place`, an https address or a file.

        Nothing is read before the first key is asked for.
        """
        self._load = _from_address(place) if is_address(place) else lambda: _from_file(Path(place))
        # A file that was missing is there a moment later, and looking costs nothing.
        self._age, self._retry = (
            (ADDRESS_AGE, RETRY_SECONDS) if is_address(place) else (FILE_AGE, 0.0)
        )
        self._place = place
        self._clock = clock
        self._keys: list[PyJWK] = []
        self._tried_at: float | None = None
        self._failures = 0
        self._reading: _Reading | None = None
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "keys")

    @property
    def unreadable(self) -> bool:
        """Tell whether no key is known, although there was time to read them."""
        reading = self._reading
        return not self._keys and (
            self._failures > 0 or (reading is not None and reading.left(PATIENCE_SECONDS) <= 0)
        )

    def prepare(self) -> None:
        """Begin to read the keys, so that the first request need not wait for them."""
        self._needed(None)

    def find(self, key_id: str | None) -> PyJWK | None:
        """Return the key with this id, or the only key there is; None where there is none.

        Raises `KeysUnreadable`.
        """
        reading, seconds = self._needed(key_id)
        if reading is not None:
            wait([reading.done], seconds)
        return self._found(key_id)

    async def found(self, key_id: str | None) -> PyJWK | None:
        """Return what `find` returns, from an event loop."""
        reading, seconds = self._needed(key_id)
        if reading is not None and seconds > 0:
            await asyncio.wait([asyncio.wrap_future(reading.done)], timeout=seconds)
        return self._found(key_id)

    def _found(self, key_id: str | None) -> PyJWK | None:
        if not self._keys:
            raise KeysUnreadable(f"no key of {self._place} is known yet")
        return self._match(key_id)

    def _match(self, key_id: str | None) -> PyJWK | None:
        if len(self._keys) == 1 and (key_id is None or self._keys[0].key_id is None):
            return self._keys[0]
        return next(
            (key for key in self._keys if key_id is not None and key.key_id == key_id), None
        )

    def _needed(self, key_id: str | None) -> tuple["_Reading | None", float]:
        """Return the reading to wait for, and for how many seconds to wait.

        A reading that is due is begun.
        """
        with self._lock:
            is_known = self._match(key_id) is not None
            if self._reading is None and self._is_due(is_known=is_known):
                self._tried_at = self._clock()
                self._reading = _Reading(time.monotonic(), self._thread.submit(self._read))
            reading = self._reading
        if reading is None:
            return None, 0.0
        return reading, max(
            0.0, reading.left(PATIENCE_SECONDS if is_known else FETCH_SECONDS + PATIENCE_SECONDS)
        )

    def _is_due(self, *, is_known: bool) -> bool:
        if self._tried_at is None:
            return True
        usual = self._age if is_known else COOLDOWN_SECONDS
        again = min(usual, self._retry * 2.0 ** min(self._failures - 1, 10))
        return self._clock() - self._tried_at >= (again if self._failures else usual)

    def _read(self) -> None:
        try:
            keys = self._load()
        except Exception as wrong:
            # The place may hold anything, and nobody must wait for a reading that has ended.
            logger.log(
                logging.WARNING if isinstance(wrong, KeysUnreadable) else logging.ERROR,
                "%s: %s",
                "keeping the keys that are known" if self._keys else "no key can be read",
                wrong,
            )
            with self._lock:
                self._failures += 1
                self._reading = None
        else:
            with self._lock:
                self._keys, self._failures, self._reading = keys, 0, None


class _Reading(NamedTuple):
    """A reading of the keys that is under way."""

    began: float
    done: "Future[None]"

    def left(self, seconds: float) -> float:
        """Return how much is left of so many seconds since it began."""
        return self.began + seconds - time.monotonic()


def is_address(place: str) -> bool:
    """Tell whether the keys are at an address, not in a file."""
    return place.startswith(("https://", "http://"))


def private_key(pem: bytes) -> PrivateKey:
    """Return a private key that can sign tokens. Raises `KeysUnreadable`."""
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as wrong:
        raise KeysUnreadable("no private key in PEM without a password") from wrong
    if not isinstance(key, PrivateKey):
        raise KeysUnreadable("the key is not one of RSA, EC or Ed25519")
    return key


def make(path: Path) -> None:
    """Make a private key (Ed25519) in a file that only its owner can read.

    Raises `KeysUnreadable`.
    """
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    try:
        with open(
            path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)
        ) as file:  # the mode from the start
            file.write(pem)
    except OSError as wrong:
        raise KeysUnreadable(f"{path}: {wrong.strerror}") from wrong


def signing_algorithm(key: PrivateKey) -> str:
    """Return the algorithm that a key signs with."""
    if isinstance(key, EllipticCurvePrivateKey):
        return {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size]
    return "RS256" if isinstance(key, RSAPrivateKey) else "EdDSA"


def _from_address(address: str) -> Callable[[], list[PyJWK]]:
    def load() -> list[PyJWK]:
        try:
            return _usable(json.loads(asyncio.run(_fetched(address))))
        except (HTTPError, InvalidURL, OSError, TimeoutError, ValueError, RecursionError) as wrong:
            raise KeysUnreadable(f"{address}: {type(wrong).__name__} {wrong}") from wrong

    return load


async def _fetched(address: str) -> bytes:
    """Fetch a key set, from this address and no other.

    Raises `ValueError`, `TimeoutError` or what httpx raises.
    """
    # The system's certificates, as everything else on this machine uses them.
    client = AsyncClient(
        verify=ssl.create_default_context(), timeout=FETCH_SECONDS, follow_redirects=False
    )
    async with asyncio.timeout(FETCH_SECONDS), client, client.stream("GET", address) as response:
        if response.status_code != HTTPStatus.OK:
            raise ValueError(f"HTTP {response.status_code}, which is not 200")
        document = b""
        async for part in response.aiter_bytes():
            document += part
            if len(document) > DOCUMENT_BYTES:
                raise ValueError(f"a key set of more than {DOCUMENT_BYTES} bytes")
    return document


def _from_file(path: Path) -> list[PyJWK]:
    try:
        content = path.read_bytes()
        return [_of_pem(content)] if b"-----BEGIN" in content else _usable(json.loads(content))
    except (OSError, ValueError, RecursionError) as wrong:
        raise KeysUnreadable(f"{path}: {wrong}") from wrong


def _of_pem(content: bytes) -> PyJWK:
    key = (
        private_key(content).public_key()
        if b"PRIVATE KEY" in content
        else load_pem_public_key(content)
    )
    match key:
        case RSAPublicKey():
            return PyJWK.from_dict(RSAAlgorithm.to_jwk(key, as_dict=True))
        case EllipticCurvePublicKey():
            return PyJWK.from_dict(ECAlgorithm.to_jwk(key, as_dict=True))
        case Ed25519PublicKey():
            return PyJWK.from_dict(OKPAlgorithm.to_jwk(key, as_dict=True))
        case _:
            raise KeysUnreadable("the key is not one of RSA, EC or Ed25519")


def _usable(document: Any) -> list[PyJWK]:
    try:
        keys = PyJWKSet.from_dict(document).keys
    except (PyJWTError, AttributeError, TypeError, ValueError) as wrong:
        raise KeysUnreadable(f"no JWK set: {wrong}") from wrong
    usable = [
        key for key in keys if key.key_type in ALGORITHMS and key.public_key_use in {None, "sig"}
    ]
    if not usable:
        raise KeysUnreadable("no key among them that checks signatures")
    return usable

"""The keys that tokens are checked with: a JWK set from an address or a file, or one key as PEM; rotated without a restart."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key, load_pem_public_key
from jwt import PyJWK, PyJWKClient, PyJWKSet
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWKClientError, PyJWTError

ALGORITHMS: Mapping[str, frozenset[str]] = {
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "EC": frozenset({"ES256", "ES384", "ES512"}),
    "OKP": frozenset({"EdDSA"}),
}
"""What each kind of key signs with. A secret that signs and checks alike is none of them, so no key can be taken for such a secret."""
FETCH_SECONDS = 5
"""How long to wait for the identity provider."""
ADDRESS_AGE, FILE_AGE = 300.0, 5.0
"""Seconds after which keys are read again: from an address, from a file."""
COOLDOWN_SECONDS = 10.0
"""How long after reading the keys a token with an unknown key does not make us read them again."""

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey

logger = logging.getLogger(__name__)


class KeysUnreadable(Exception):
    """The keys can't be read; the message says why."""


class Keys:
    """Keeps keys, and reads them again where they are old or one is missing. Where that fails, it goes on with those it has."""

    def __init__(self, place: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Read from `place`, an https address or a file. Nothing is read before the first key is asked for."""
        self._load = _from_address(place) if is_address(place) else lambda: _from_file(Path(place))
        self._age = ADDRESS_AGE if is_address(place) else FILE_AGE
        self._place = place
        self._clock = clock
        self._keys: list[PyJWK] = []
        self._tried_at: float | None = None
        self._lock = threading.Lock()

    def find(self, key_id: str | None) -> PyJWK | None:
        """Return the key with this id, or the only key there is; None where there is no such key. Raises `KeysUnreadable`."""
        with self._lock:
            self._read_if_older_than(self._age if self._keys else 0)
            found = self._match(key_id)
            if found is None and self._read_if_older_than(COOLDOWN_SECONDS):
                found = self._match(key_id)
            return found

    def _match(self, key_id: str | None) -> PyJWK | None:
        if len(self._keys) == 1 and (key_id is None or self._keys[0].key_id is None):
            return self._keys[0]
        return next((key for key in self._keys if key_id is not None and key.key_id == key_id), None)

    def _read_if_older_than(self, seconds: float) -> bool:
        now = self._clock()
        if self._tried_at is not None and now - self._tried_at < seconds:
            return False
        try:
            self._keys = self._load()
        except KeysUnreadable as wrong:
            if not self._keys:
                raise
            logger.warning("keeping the keys that are known: %s", wrong)
        self._tried_at = now
        return True


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
    """Make a private key (Ed25519) in a file that only its owner can read. Raises `KeysUnreadable`."""
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:  # the mode from the start
            file.write(pem)
    except OSError as wrong:
        raise KeysUnreadable(f"{path}: {wrong.strerror}") from wrong


def signing_algorithm(key: PrivateKey) -> str:
    """Return the algorithm that a key signs with."""
    if isinstance(key, EllipticCurvePrivateKey):
        return {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size]
    return "RS256" if isinstance(key, RSAPrivateKey) else "EdDSA"


def _from_address(address: str) -> Callable[[], list[PyJWK]]:
    client = PyJWKClient(address, cache_jwk_set=False, timeout=FETCH_SECONDS)

    def load() -> list[PyJWK]:
        try:
            return _usable(client.fetch_data())
        except (PyJWKClientError, ValueError) as wrong:
            raise KeysUnreadable(f"{address}: {wrong}") from wrong

    return load


def _from_file(path: Path) -> list[PyJWK]:
    try:
        content = path.read_bytes()
        return [_of_pem(content)] if b"-----BEGIN" in content else _usable(json.loads(content))
    except (OSError, ValueError) as wrong:
        raise KeysUnreadable(f"{path}: {wrong}") from wrong


def _of_pem(content: bytes) -> PyJWK:
    key = private_key(content).public_key() if b"PRIVATE KEY" in content else load_pem_public_key(content)
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
    except (PyJWTError, AttributeError, TypeError) as wrong:
        raise KeysUnreadable(f"no JWK set: {wrong}") from wrong
    usable = [key for key in keys if key.key_type in ALGORITHMS and key.public_key_use in {None, "sig"}]
    if not usable:
        raise KeysUnreadable("no key among them that checks signatures")
    return usable

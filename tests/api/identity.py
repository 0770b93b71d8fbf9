"""An identity provider for tests: keys, tokens of any shape, and a JWK set at an address or in a file."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm

from rosterlog.api.rest.policy import SCOPES
from rosterlog.api.settings import Settings

ISSUER, AUDIENCE = "https://idp.example", "rosterlog"
DROP = object()
"""As the value of a claim: leave it out."""


class Provider:
    """Signs tokens with its current key, and publishes all keys it has."""

    def __init__(self) -> None:
        self.keys: dict[str, Ed25519PrivateKey] = {}
        self.rotate("first")

    def rotate(self, key_id: str) -> None:
        """Sign with a new key from now on."""
        self.keys[key_id] = Ed25519PrivateKey.generate()
        self.current = key_id

    @property
    def jwks(self) -> dict[str, Any]:
        return {
            "keys": [
                {**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": name}
                for name, key in self.keys.items()
            ]
        }

    @property
    def public_pem(self) -> bytes:
        return (
            self.keys[self.current]
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        usual = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "registrar-7",
            "iat": now,
            "exp": now + 600,
            "scope": " ".join(SCOPES),
        }
        return {name: value for name, value in (usual | changes).items() if value is not DROP}

    def token(self, *, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        head = {"typ": "at+jwt", "kid": self.current} | (headers or {})
        return jwt.encode(self.claims(**changes), self.keys[self.current], "EdDSA", headers=head)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.jwks))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def trusting(keys: object, **others: Any) -> Settings:
    """Return settings that trust the provider."""
    return Settings(
        auth_keys=str(keys), auth_issuer=ISSUER, auth_audience=AUDIENCE, access_log=False, **others
    )


class Published(ThreadingHTTPServer):
    """Serves a provider's keys and counts how often they are asked for.

    It answers 500 while it is `broken`, and nothing while it does not `speak`.
    """

    def __init__(self, provider: Provider) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.provider = provider
        self.asked = 0
        self.broken = False
        self.speaks = threading.Event()
        self.speaks.set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/jwks"


class _Handler(BaseHTTPRequestHandler):
    server: Published

    def do_GET(self) -> None:
        self.server.asked += 1
        self.server.speaks.wait()
        body = json.dumps(self.server.provider.jwks).encode()
        with suppress(ConnectionError):
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        self.send_response(500 if self.server.broken else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def published(provider: Provider) -> Iterator[Published]:
    with Published(provider) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield server
        finally:
            server.speaks.set()
            server.shutdown()
            thread.join()

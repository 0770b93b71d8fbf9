"""Who may do what, on every route that there is.

An anonymous caller is 401, the wrong scope 403; no forged token counts.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from rosterlog.api.rest.policy import ADMIN, AUDIT, READ, SCOPES, WRITE
from tests.api.client import Api, done, error, problem, unknown_id
from tests.api.conftest import serving
from tests.api.identity import AUDIENCE, DROP, ISSUER, Provider, bearer, trusting
from tests.api.processes import rosterlog, succeeds

PUBLIC = {"isAlive", "isReady", "getStarted", "explainProblem"}


@pytest.fixture
def anyone(guarded: Api) -> Iterator[Api]:
    """A caller without a token."""
    guarded.headers.pop("Authorization", None)
    yield guarded
    guarded.headers.pop("Authorization", None)


@pytest.fixture
def everyone(anyone: Api, provider: Provider) -> Api:
    """A caller who may do everything."""
    anyone.headers.update(bearer(provider.token()))
    return anyone


def operations(api: Api) -> Iterator[tuple[str, str, str]]:
    """Yield operation id, method and a path of every operation in the OpenAPI document."""
    for path, methods in api.read("/openapi.json")["paths"].items():
        for method, operation in methods.items():
            parts = (unknown_id() if part.startswith("{") else part for part in path.split("/"))
            yield operation["operationId"], method.upper(), "/".join(parts)


def scope_of(operation: str, method: str, path: str) -> str:
    """Return the scope that the contract gives an operation, written down a second time."""
    if path.startswith("/v1/projections") or path == "/metrics":
        return ADMIN
    if "History" in operation or operation.startswith("diff") or operation == "followEvents":
        return AUDIT
    return READ if method == "GET" else WRITE


def test_anonymous_is_401_on_every_route(anyone: Api) -> None:
    walked = set()
    for operation, method, path in operations(anyone):
        walked.add(operation)
        response = anyone.request(method, path, content=b"no json")
        if operation in PUBLIC:
            assert response.status_code != 401, operation
        else:
            problem(response, 401, "unauthenticated")
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="rosterlog"', operation
    assert walked >= PUBLIC | {"createClass", "getClassHistory", "startRebuild", "getMetrics"}


def test_the_wrong_scope_is_403_and_the_right_one_is_not_on_every_route(
    anyone: Api, provider: Provider
) -> None:
    for operation, method, path in operations(anyone):
        if operation in PUBLIC:
            continue
        needed = scope_of(operation, method, path)
        others = provider.token(scope=" ".join({*SCOPES, "openid"} - {needed}))
        refused = anyone.request(method, path, headers=bearer(others))
        assert needed in problem(refused, 403, "scope-missing")["detail"], operation
        assert f'scope="{needed}"' in refused.headers["WWW-Authenticate"]
        if operation != "startRebuild":
            allowed = anyone.request(method, path, headers=bearer(provider.token(scope=needed)))
            assert allowed.status_code not in {401, 403}, operation


def test_the_document_says_what_each_operation_needs(anyone: Api) -> None:
    document = anyone.read("/openapi.json")
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            name = operation["operationId"]
            if name in PUBLIC:
                assert "security" not in operation
            else:
                assert operation["security"] == [{"bearer": [scope_of(name, method.upper(), path)]}]
                assert {"401", "403"} <= operation["responses"].keys()


def test_the_actor_is_the_tokens_subject_and_can_not_be_given(everyone: Api) -> None:
    group = everyone.new_group()
    class_id = everyone.new_class(group)
    (event,) = everyone.items(f"/v1/classes/{class_id}/history")
    assert event["actor"] == "registrar-7"
    refused = error(
        everyone.post("/v1/groups", json={"name": "X"}, headers={"Roster-Actor": "somebody-else"})
    )
    assert (refused["header"], refused["rule"]) == ("Roster-Actor", "authenticated")


def without_signature(provider: Provider) -> str:
    return jwt.encode(
        provider.claims(), "", "none", headers={"typ": "at+jwt", "kid": provider.current}
    )


def signed_with_the_public_key(provider: Provider) -> str:
    """Sign as HMAC with the public key as secret.

    A reader who lets the token choose the algorithm takes such a token.
    """
    parts = [{"alg": "HS256", "typ": "at+jwt", "kid": provider.current}, provider.claims()]
    signed = b".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts
    )
    signature = hmac.new(provider.public_pem, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def of_a_stranger(provider: Provider) -> str:
    return jwt.encode(
        provider.claims(),
        Ed25519PrivateKey.generate(),
        "EdDSA",
        headers={"typ": "at+jwt", "kid": provider.current},
    )


def of_another_kind_of_key(provider: Provider) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode(
        provider.claims(), key, "RS256", headers={"typ": "at+jwt", "kid": provider.current}
    )


def with_its_own_key(provider: Provider) -> str:
    """Carry the key that it is signed with: who takes that, takes anything."""
    key = Ed25519PrivateKey.generate()
    embedded = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return jwt.encode(
        provider.claims(),
        key,
        "EdDSA",
        headers={"typ": "at+jwt", "jwk": embedded, "kid": provider.current},
    )


def altered(provider: Provider) -> str:
    head, _, signature = provider.token().split(".")
    claims = (
        base64.urlsafe_b64encode(json.dumps(provider.claims(sub="somebody")).encode())
        .rstrip(b"=")
        .decode()
    )
    return f"{head}.{claims}.{signature}"


def nested(provider: Provider) -> str:
    return base64.urlsafe_b64encode(b"[" * 5000).decode().rstrip("=") + ".e30.x"


NOW = time.time()
FORGED = {
    "no signature": without_signature,
    "algorithm confusion": signed_with_the_public_key,
    "another key": of_a_stranger,
    "another kind of key": of_another_kind_of_key,
    "its own key": with_its_own_key,
    "altered": altered,
    "an unknown key": lambda provider: provider.token(headers={"kid": "unknown"}),
    "an id token": lambda provider: provider.token(headers={"typ": "JWT"}),
    "no type": lambda provider: provider.token(headers={"typ": None}),
    "a header that is critical": lambda provider: provider.token(headers={"crit": ["x"], "x": 1}),
    "expired": lambda provider: provider.token(exp=int(NOW) - 60),
    "not yet": lambda provider: provider.token(nbf=int(NOW) + 600),
    "no expiry": lambda provider: provider.token(exp=DROP),
    "expiry that is no time": lambda provider: provider.token(exp="soon"),
    "another issuer": lambda provider: provider.token(iss="https://other.example"),
    "no issuer": lambda provider: provider.token(iss=DROP),
    "another audience": lambda provider: provider.token(aud="other"),
    "no audience": lambda provider: provider.token(aud=DROP),
    "no subject": lambda provider: provider.token(sub=DROP),
    "an e-mail address": lambda provider: provider.token(sub="jo@school.example"),
    "a subject that is too long": lambda provider: provider.token(sub="x" * 3000),
    "a subject with a line break": lambda provider: provider.token(sub="a\nb"),
    "too long": lambda provider: provider.token(padding="x" * 10_000),
    "no token": lambda provider: "abc",
    "JSON without end": nested,
    "expiry beyond all times": lambda provider: provider.token(exp=float("inf")),
    "a subject beyond ASCII": lambda provider: provider.token(sub="ü"),
    "nonsense": lambda provider: "a.b.c",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_no_token_counts_that_is_not_whole_current_and_ours(
    anyone: Api, provider: Provider, forge: Any
) -> None:
    response = anyone.get("/v1/groups", headers=bearer(forge(provider)))
    problem(response, 401, "unauthenticated")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="rosterlog", error="invalid_token"'


@pytest.mark.parametrize(
    "headers", [[("Authorization", "Basic eDp5")], [("Authorization", "Bearer")]]
)
def test_a_header_of_another_form_is_no_token(anyone: Api, headers: list[tuple[str, str]]) -> None:
    problem(anyone.get("/v1/groups", headers=headers), 401, "unauthenticated")


def test_two_tokens_are_none(anyone: Api, provider: Provider) -> None:
    twice = [("Authorization", f"Bearer {provider.token()}")] * 2
    assert error(anyone.get("/v1/groups", headers=twice))["header"] == "Authorization"


def test_clocks_may_differ_a_little(anyone: Api, provider: Provider) -> None:
    done(anyone.get("/v1/groups", headers=bearer(provider.token(exp=int(time.time()) - 10))), 200)
    done(anyone.get("/v1/groups", headers=bearer(provider.token(nbf=int(time.time()) + 10))), 200)


def test_a_type_an_audience_and_scopes_come_in_more_than_one_form(
    anyone: Api, provider: Provider
) -> None:
    for token in (
        provider.token(headers={"typ": "application/at+jwt"}),
        provider.token(headers={"typ": "AT+JWT"}),
        provider.token(aud=["other", AUDIENCE]),
        provider.token(scope=[READ, 7]),
    ):
        done(anyone.get("/v1/groups", headers=bearer(token)), 200)
    for scope in (None, 7, [READ.upper()], f"{READ}s", ""):
        assert anyone.get(
            "/v1/groups", headers=bearer(provider.token(scope=scope))
        ).status_code in {401, 403}


def test_a_token_expires_though_it_was_seen_before(anyone: Api, provider: Provider) -> None:
    token = provider.token(exp=int(time.time()) - 29)
    responses = [anyone.get("/v1/groups", headers=bearer(token)).status_code for _ in range(2)]
    assert responses[0] in {200, 401}
    deadline = time.monotonic() + 10
    while anyone.get("/v1/groups", headers=bearer(token)).status_code == 200:
        assert time.monotonic() < deadline
    problem(anyone.get("/v1/groups", headers=bearer(token)), 401, "unauthenticated")


def test_another_claim_can_name_the_actor_and_others_the_scopes(
    database: str, provider: Provider, tmp_path: Path
) -> None:
    provider.write(tmp_path / "keys")
    settings = trusting(
        tmp_path / "keys", auth_actor_claim="employee", auth_scope_claim="scp", metrics_open=True
    )
    with serving(database, settings) as api:
        api.headers.update(
            bearer(
                provider.token(
                    employee="e-4711", sub="jo@school.example", scope=DROP, scp=list(SCOPES)
                )
            )
        )
        (event,) = api.items(f"/v1/classes/{api.new_class()}/history")
        assert event["actor"] == "e-4711"
        problem(
            api.get("/v1/groups", headers=bearer(provider.token(scp=list(SCOPES)))),
            401,
            "unauthenticated",
        )
        del api.headers["Authorization"]
        done(api.get("/metrics"), 200)


PRIVATE = {
    "Ed25519": Ed25519PrivateKey.generate,
    "EC": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RSA": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
}


@pytest.mark.parametrize("generate", PRIVATE.values(), ids=PRIVATE.keys())
def test_a_local_key_makes_tokens_that_count(database: str, tmp_path: Path, generate: Any) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    environment = {"AUTH_KEYS": str(key), "AUTH_ISSUER": ISSUER, "AUTH_AUDIENCE": AUDIENCE}
    token = succeeds(
        "token", "--key", str(key), "--subject", "me", "--scope", READ, **environment
    ).strip()
    with serving(database, trusting(key)) as api:
        done(api.get("/v1/groups", headers=bearer(token)), 200)
        problem(
            api.post("/v1/groups", json={"name": "X"}, headers=bearer(token)), 403, "scope-missing"
        )


def test_token_makes_a_key_where_it_is_asked_to(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    arguments = ["token", "--key", str(key), "--make-key", "--subject", "me", "--scope", READ]
    environment = {"AUTH_KEYS": str(key), "AUTH_ISSUER": ISSUER, "AUTH_AUDIENCE": AUDIENCE}
    assert succeeds(*arguments, **environment).count(".") == 2
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    assert "File exists" in rosterlog(*arguments, **environment).stderr
    assert key.read_bytes() == before
    assert (
        "the scopes are"
        in rosterlog(
            "token", "--key", str(key), "--subject", "me", "--scope", "all", **environment
        ).stderr
    )
    assert (
        "ROSTERLOG_AUTH_KEYS"
        in rosterlog("token", "--key", str(key), "--subject", "me", "--scope", READ).stderr
    )


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("HOST", {"HOST": "0.0.0.0"}),
        ("AUTH_ISSUER", {"AUTH_KEYS": "keys.json", "AUTH_AUDIENCE": "x"}),
        ("AUTH_AUDIENCE", {"AUTH_KEYS": "keys.json", "AUTH_ISSUER": "x"}),
        ("AUTH_ISSUER", {"AUTH_ISSUER": "x"}),
        (
            "AUTH_KEYS",
            {"AUTH_KEYS": "http://idp.example/jwks", "AUTH_ISSUER": "x", "AUTH_AUDIENCE": "x"},
        ),
        ("AUTH_ALGORITHMS", {"AUTH_ALGORITHMS": "HS256"}),
        ("AUTH_ALGORITHMS", {"AUTH_ALGORITHMS": "RS256,none"}),
        ("AUTH_ALGORITHMS", {"AUTH_ALGORITHMS": ","}),
    ],
)
def test_settings_that_would_be_unsafe_end_the_start(name: str, settings: dict[str, str]) -> None:
    ended = rosterlog("serve", **settings)
    assert ended.returncode == 1
    assert f"ROSTERLOG_{name}: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_keys_that_can_not_be_read_are_no_reason_to_let_anyone_in(
    database: str, provider: Provider, tmp_path: Path
) -> None:
    with serving(database, trusting(tmp_path / "missing")) as api:
        response = api.get("/v1/groups", headers=bearer(provider.token()))
        problem(response, 503, "keys-unreadable")
        assert str(tmp_path) not in response.text
        provider.write(tmp_path / "missing")
        done(api.get("/v1/groups", headers=bearer(provider.token())), 200)

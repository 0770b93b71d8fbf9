"""Keys are rotated without a restart, and kept while the provider is down.

They are asked for no more often than needed.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest

from rosterlog.api.access.keys import (
    ADDRESS_AGE,
    COOLDOWN_SECONDS,
    FILE_AGE,
    RETRY_SECONDS,
    Keys,
    KeysUnreadable,
)
from tests.api.client import done, problem
from tests.api.conftest import serving
from tests.api.identity import Provider, Published, bearer, published, trusting
from tests.domain.threads import eventually


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def address() -> Iterator[Published]:
    with published(Provider()) as server:
        yield server


def known(keys: Keys, *key_ids: str) -> list[bool]:
    return [keys.find(key_id) is not None for key_id in key_ids]


def test_a_new_key_counts_without_a_restart(
    database: str, address: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(database, trusting(address.address)) as api:
        old = address.provider.token()
        done(api.get("/v1/groups", headers=bearer(old)), 200)
        address.provider.rotate("second")
        problem(
            api.get("/v1/groups", headers=bearer(address.provider.token())), 401, "unauthenticated"
        )
        assert address.asked == 1, "an unknown key right after reading does not make us read again"
        monkeypatch.setattr("rosterlog.api.access.keys.COOLDOWN_SECONDS", 0)
        done(api.get("/v1/groups", headers=bearer(address.provider.token())), 200)
        done(api.get("/v1/groups", headers=bearer(old)), 200)


def test_keys_are_read_again_for_an_unknown_key_but_not_for_each(
    address: Published, clock: Clock
) -> None:
    keys = Keys(address.address, clock=clock)
    assert known(keys, "first", "first", "second") == [True, True, False]
    assert address.asked == 1
    address.provider.rotate("second")
    clock.now += COOLDOWN_SECONDS
    assert known(keys, "second", "first") == [True, True]
    assert address.asked == 2
    assert known(keys, *map(str, range(100))) == [False] * 100
    assert address.asked == 2


def test_a_withdrawn_key_is_forgotten_in_time(address: Published, clock: Clock) -> None:
    keys = Keys(address.address, clock=clock)
    address.provider.rotate("second")
    assert known(keys, "first", "second") == [True, True]
    del address.provider.keys["first"]
    clock.now += ADDRESS_AGE - 1
    assert known(keys, "first") == [True]
    clock.now += 1
    assert known(keys, "first", "second") == [False, True]


def test_keys_are_kept_while_the_provider_is_down(address: Published, clock: Clock) -> None:
    keys = Keys(address.address, clock=clock)
    assert known(keys, "first") == [True]
    address.broken = True
    clock.now += ADDRESS_AGE
    assert known(keys, "first", "first") == [True, True]
    assert address.asked == 2, "the next try waits, too"
    address.broken = False
    address.provider.rotate("second")
    clock.now += COOLDOWN_SECONDS
    assert known(keys, "second") == [True]


def test_without_any_key_nothing_is_let_in(address: Published, clock: Clock) -> None:
    keys = Keys(address.address, clock=clock)
    address.broken = True
    for _ in range(10):
        with pytest.raises(KeysUnreadable):
            keys.find("first")
    assert (address.asked, keys.unreadable) == (1, True), "a failure is remembered"
    address.broken = False
    clock.now += RETRY_SECONDS
    assert known(keys, "first") == [True]
    assert not keys.unreadable


def test_a_provider_that_is_silent_from_the_start_keeps_nobody_waiting(
    database: str, address: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rosterlog.api.access.keys.FETCH_SECONDS", 1.0)
    monkeypatch.setattr("rosterlog.api.access.keys.PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr("rosterlog.api.access.keys.RETRY_SECONDS", 10_000.0)
    address.speaks.clear()
    token = bearer(address.provider.token())
    with serving(database, trusting(address.address)) as api, ThreadPoolExecutor(20) as callers:
        asked = [callers.submit(api.get, "/v1/groups", headers=token) for _ in range(40)]
        for one in asked:
            problem(one.result(), 503, "keys-unreadable")
        assert address.asked == 1, "one reading for all, and its failure is remembered"
        assert api.read("/readyz")["degraded"] == ["keys-unreadable"]


def test_a_provider_that_falls_silent_keeps_no_good_token_waiting(
    database: str, address: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rosterlog.api.access.keys.FETCH_SECONDS", 60.0)
    monkeypatch.setattr("rosterlog.api.access.keys.PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr("rosterlog.api.access.keys.ADDRESS_AGE", 0.0)
    monkeypatch.setattr("rosterlog.api.access.tokens.KNOWN_SECONDS", 0)
    with serving(database, trusting(address.address)) as api:
        done(api.get("/v1/groups", headers=bearer(address.provider.token())), 200)
        eventually(lambda: api.read("/readyz")["degraded"] == [])
        address.speaks.clear()
        before = address.asked
        for _ in range(20):
            done(api.get("/v1/groups", headers=bearer(address.provider.token())), 200)
        assert api.read("/readyz")["degraded"] == []
        address.speaks.set()
        address.provider.rotate("second")
        done(api.get("/v1/groups", headers=bearer(address.provider.token())), 200)
        assert address.asked <= before + 2, "one reading was under way for all"


def test_a_file_is_read_again_when_it_changes(tmp_path: Path, clock: Clock) -> None:
    provider, path = Provider(), tmp_path / "keys"
    path.write_bytes(provider.public_pem)
    keys = Keys(str(path), clock=clock)
    before = keys.find(None)
    provider.rotate("second")
    path.write_bytes(provider.public_pem)
    clock.now += FILE_AGE
    after = keys.find("whatever")
    assert before is not None
    assert after is not None
    assert (jwt.decode(provider.token(), after.key, ["EdDSA"], audience="rosterlog"))["sub"]
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(provider.token(), before.key, ["EdDSA"], audience="rosterlog")


SECRET = {"kty": "oct", "k": "c2VjcmV0", "kid": "first"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no json",
        "[]",
        '{"keys": []}',
        '{"keys": 7}',
        "-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----",
        json.dumps({"keys": [SECRET]}),
        json.dumps({"keys": [Provider().jwks["keys"][0] | {"use": "enc"}]}),
    ],
)
def test_what_holds_no_key_for_signatures_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(KeysUnreadable):
        Keys(str(path)).find(None)


def test_a_shared_secret_among_the_keys_is_no_key(tmp_path: Path) -> None:
    document: dict[str, Any] = Provider().jwks
    document["keys"].insert(0, SECRET | {"kid": "secret"})
    (tmp_path / "keys").write_text(json.dumps(document))
    assert known(Keys(str(tmp_path / "keys")), "first", "secret") == [True, False]

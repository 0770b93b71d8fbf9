"""The feed for other systems: it never skips, never repeats, and nobody's pace is another's."""

import threading
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from psycopg import Connection

from rosterlog.api.rest import feed
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from tests.api.client import Api, done, error, position, problem
from tests.api.conftest import serving
from tests.api.following import STREAM, following
from tests.api.identity import Provider, bearer, trusting
from tests.api.processes import started
from tests.conftest import by
from tests.domain.threads import eventually, together
from tests.serving import free_port


def register(roster: Roster, count: int) -> None:
    for _ in range(count):
        roster.register_user(uuid4(), by())


def test_pages_lead_from_the_first_event_to_the_head(shared: Api) -> None:
    shared.enrol(shared.new_class())
    history = shared.all("/v1/history", limit=1000)
    seen: list[Any] = []
    after = 0
    while True:
        page = shared.read("/v1/events", after=after, limit=3)
        assert page.keys() == {"items", "after", "head"}
        assert page["head"] == len(history)
        if not page["items"]:
            break
        seen += page["items"]
        assert page["after"] == seen[-1]["position"]
        after = page["after"]
    assert page["after"] == after == len(history)
    assert seen == history
    assert shared.read("/v1/events")["items"] == history[:100]


def test_a_page_of_nothing_new_says_what_to_ask_next(api: Api) -> None:
    assert api.read("/v1/events") == {"items": [], "after": 0, "head": 0}


def test_what_is_past_the_head_is_refused(shared: Api) -> None:
    shared.new_user()
    ahead = shared.log_head + 1
    assert error(shared.get("/v1/events", params={"after": ahead})) | {"detail": ""} == {
        "parameter": "after",
        "rule": "head",
        "detail": "",
    }
    found = error(shared.get("/v1/events", headers={**STREAM, "Last-Event-ID": str(ahead)}))
    assert (found["header"], found["rule"]) == ("Last-Event-ID", "head")
    for nonsense in ("seven", "-1", "1.5", "9" * 30):
        assert (
            error(shared.get("/v1/events", headers={**STREAM, "Last-Event-ID": nonsense}))["rule"]
            == "position"
        )
    for parameters in ({"after": -1}, {"limit": 0}, {"limit": 1001}, {"since": 1}):
        assert error(shared.get("/v1/events", params=parameters))["parameter"] == next(
            iter(parameters)
        )


def test_a_stream_has_the_events_of_the_pages_and_goes_on_with_new_ones(shared: Api) -> None:
    shared.enrol(shared.new_class())
    expected = shared.read("/v1/events", limit=1000)["items"]
    with following(shared) as stream:
        assert list(islice(stream, len(expected))) == expected
        user = shared.new_user()
        assert next(stream)["user_id"] == user


def test_a_stream_resumes_after_the_last_event_that_was_seen(shared: Api) -> None:
    shared.new_user()
    shared.new_user()
    head = shared.log_head
    with following(shared, last_seen=head - 1, after=0) as stream:
        assert next(stream)["position"] == head
    with following(shared, after=head - 2) as stream:
        assert [event["position"] for event in islice(stream, 2)] == [head - 1, head]


def test_an_idle_stream_says_that_it_is_alive(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "COMMENT_SECONDS", 0.05)
    with following(api) as stream:
        assert list(islice(stream, 3)) == [{}, {}, {}]
        api.new_user()
        assert next(event for event in stream if event)["position"] == 1


def test_a_follower_misses_nothing_while_several_write(api: Api, database: str) -> None:
    logs = [PostgresLog(database, pool_size=1) for _ in range(3)]
    with following(api) as stream:
        writers = threading.Thread(
            target=lambda: together(*[lambda log=log: register(Roster(log), 100) for log in logs])
        )
        writers.start()
        positions = [event["position"] for event in islice(stream, 300)]
        writers.join()
    for log in logs:
        log.close()
    assert positions == list(range(1, 301))


def test_readers_that_do_not_read_hold_nobody_up_and_no_connection(
    api: Api, roster: Roster, connection: Connection[Any]
) -> None:
    register(roster, 300)
    stalled = [httpx.Client(base_url=api.base_url, timeout=30) for _ in range(40)]
    responses = [
        client.send(client.build_request("GET", "/v1/events", headers=STREAM), stream=True)
        for client in stalled
    ]
    try:
        with following(api) as stream:
            assert len(list(islice(stream, 300))) == 300
            api.new_user()
            assert next(stream)["position"] == 301
        held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()"
        assert eventually(lambda: connection.execute(held).fetchone() == (0,))
    finally:
        for response, client in zip(responses, stalled, strict=True):
            response.close()
            client.close()


def test_more_streams_than_a_process_serves_are_refused_for_now(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "STREAMS", 1)
    api.new_user()
    with following(api) as stream:
        next(stream)
        refused = api.get("/v1/events", headers=STREAM)
        problem(refused, 503, "too-many-streams")
        assert refused.headers["retry-after"]
        done(api.get("/v1/events"), 200)


def test_a_head_gives_its_place_back(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "STREAMS", 1)
    for _ in range(3):
        eventually(lambda: api.head("/v1/events", headers=STREAM).status_code == 200)


def test_a_stream_ends_when_its_token_expires(database: str, tmp_path: Path) -> None:
    provider, path = Provider(), tmp_path / "keys"
    provider.write(path)
    with serving(database, trusting(path, auth_clock_skew=0)) as api:
        api.headers.update(bearer(provider.token()))
        user_id = api.new_user()
        api.headers.update(bearer(provider.token(exp=int(time.time()) + 4)))
        with following(api) as stream:
            assert next(stream)["user_id"] == user_id
            assert list(islice(stream, 1)) == [], "it ends before the next comment"
        problem(api.get("/v1/events", headers=STREAM), 401, "unauthenticated")


COMMENTS = 600
"""More comments than a stream sends until its key no longer counts, at one each 0.05 s."""


def test_a_stream_ends_when_its_key_is_withdrawn(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rosterlog.api.rest.feed.COMMENT_SECONDS", 0.05)
    monkeypatch.setattr("rosterlog.api.access.keys.FILE_AGE", 0.0)
    monkeypatch.setattr("rosterlog.api.access.tokens.KNOWN_SECONDS", 0)
    provider, path = Provider(), tmp_path / "keys"
    provider.write(path)
    with serving(database, trusting(path)) as api:
        api.headers.update(bearer(provider.token()))
        with following(api) as stream:
            assert next(stream) == {}
            del provider.keys["first"]
            provider.rotate("second")
            provider.write(path)
            assert len(list(islice(stream, COMMENTS))) < COMMENTS


def test_a_server_that_goes_down_ends_its_streams_and_cuts_none_off(database: str) -> None:
    with ExitStack() as server:
        api = server.enter_context(serving(database))
        api.new_user()
        with httpx.Client(base_url=api.base_url, timeout=30) as client, following(client) as stream:
            assert next(stream)["position"] == 1
            server.close()
            assert list(stream) == []


def test_a_follower_misses_nothing_and_sees_nothing_twice_through_kills_and_a_rebuild(
    database: str, roster: Roster
) -> None:
    port, target, seen = free_port(), 400, list[int]()
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

    def follow(until: int) -> None:
        """Follow until a position was seen, and reconnect whenever the connection is lost."""
        while not seen or seen[-1] < until:
            try:
                with following(client, last_seen=seen[-1] if seen else 0) as stream:
                    for event in stream:
                        if event:
                            seen.append(event["position"])
                        if seen[-1] >= until:
                            return
            except httpx.TransportError:
                eventually(lambda: _answers(client))

    with client:
        writing = threading.Thread(target=register, args=[roster, target])
        for number, upto in enumerate((1, 150, target)):
            with started("serve", DATABASE_URL=database, PORT=str(port)) as process:
                eventually(lambda: _answers(client))
                if number == 0:
                    writing.start()
                if number == 1:
                    done(client.post("/v1/projections/rebuild"), 202)
                follow(upto)
                process.kill()
        writing.join()
    assert seen == list(range(1, target + 1))


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_the_feed_waits_for_no_projection(shared: Api) -> None:
    accepted = done(shared.post("/v1/users", headers={"Prefer": "respond-async"}), 202)
    assert shared.read("/v1/events", after=position(accepted) - 1)["items"][0][
        "position"
    ] == position(accepted)

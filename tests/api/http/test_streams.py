"""Whole histories and rosters as CSV and NDJSON: complete, or visibly not."""

import csv
import io
import json
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from psycopg import Connection

from rosterlog.api.http.negotiation import CSV, EVENT_STREAM, JSON, NDJSON, preferred
from rosterlog.api.rest.histories import COLUMNS
from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.users import User
from tests.api.client import Api, done, error, position, problem, unknown_id
from tests.conftest import by
from tests.domain.threads import eventually

MANY = 20_000
"""So many events that no buffer between server and client holds them all."""


def as_csv(api: Api, path: str, **parameters: Any) -> list[dict[str, str]]:
    response = done(api.get(path, params=parameters, headers={"Accept": CSV}), 200)
    assert response.headers["content-type"].startswith("text/csv; charset=utf-8")
    assert response.text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(response.text, newline="")))


def as_ndjson(api: Api, path: str, **parameters: Any) -> list[Any]:
    response = done(api.get(path, params=parameters, headers={"Accept": NDJSON}), 200)
    assert response.headers["content-type"] == NDJSON
    return [json.loads(line) for line in response.text.splitlines()]


def cell(value: Any) -> str:
    return (
        ""
        if value is None
        else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        if isinstance(value, dict)
        else str(value)
    )


@pytest.fixture(scope="module")
def ids(shared: Api) -> dict[str, str]:
    """Return a group, a class and a user that all kinds of things happened to.

    Their texts are hard to write as CSV.
    """
    group = shared.new_group()
    class_id = shared.new_class(group, '=1+1, "Art"', settings={"a": ['"', ",", "ü\n"], "b": {}})
    user = shared.new_user()
    reason = '=HYPERLINK("x"), moved;\r\nlate "☃"'
    headers = {"Roster-Reason": quote(reason)}
    body = {"user_id": user, "role": "student", "effective_on": "2026-09-01"}
    done(shared.post(f"/v1/classes/{class_id}/members", json=body, headers=headers), 201)
    done(shared.delete(f"/v1/users/{user}"), 204)
    return {"groups": group, "classes": class_id, "users": user}


@pytest.mark.parametrize("kind", ["groups", "classes", "users", ""])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_history_is_the_same_in_every_media_type(
    shared: Api, ids: dict[str, str], kind: str, order: str
) -> None:
    path = f"/v1/{kind}/{ids[kind]}/history" if kind else "/v1/history"
    entries = shared.all(path, order=order, limit=1000)
    assert as_ndjson(shared, path, order=order) == entries
    assert as_csv(shared, path, order=order) == [
        {name: cell(entry.get(name)) for name in COLUMNS} for entry in entries
    ]


def test_rosters_are_the_same_in_every_media_type(shared: Api, ids: dict[str, str]) -> None:
    shared.enrol(ids["classes"])
    shared.new_class(ids["groups"])
    path = f"/v1/groups/{ids['groups']}/rosters"
    items = shared.items(path)
    assert as_ndjson(shared, path) == items
    assert as_csv(shared, path) == [
        {name: cell(value) for name, value in item.items()} for item in items
    ]
    assert len(items) == 2


def test_an_empty_history_is_a_row_of_names_or_nothing(shared: Api) -> None:
    assert as_csv(shared, "/v1/history", class_id=unknown_id()) == []
    assert as_ndjson(shared, "/v1/history", class_id=unknown_id()) == []
    response = shared.get("/v1/history", params={"class_id": unknown_id()}, headers={"Accept": CSV})
    assert response.text.startswith("position,version,recorded_at,type,actor,")
    assert position(response) == shared.log_head
    assert response.headers["vary"] == "Accept"


def test_a_whole_has_no_pages_and_refusals_stay_problems(shared: Api) -> None:
    for name, value in (("limit", "10"), ("cursor", "x")):
        assert (
            error(shared.get("/v1/history", params={name: value}, headers={"Accept": CSV}))[
                "parameter"
            ]
            == name
        )
    problem(
        shared.get(f"/v1/classes/{unknown_id()}/history", headers={"Accept": CSV}),
        404,
        "class-unknown",
    )
    problem(
        shared.get(f"/v1/groups/{unknown_id()}/rosters", headers={"Accept": NDJSON}),
        404,
        "group-unknown",
    )


PREFERENCES: list[tuple[list[str], str | None]] = [
    ([], JSON),
    ([""], JSON),
    (["*/*"], JSON),
    (["text/csv"], CSV),
    (["TEXT/CSV;charset=utf-8"], CSV),
    (["text/csv; header=present; Charset=UTF-8"], CSV),
    (['text/csv;header="present"'], CSV),
    (["text/csv;header=absent"], None),
    (["text/*"], CSV),
    (["application/x-ndjson, application/json;q=0.5"], NDJSON),
    (["application/json;q=0.5", "application/x-ndjson"], NDJSON),
    (["application/json, text/csv;q=0.9"], JSON),
    (["text/csv;q=0.2, */*;q=0.1"], CSV),
    (["application/*;q=0.8, text/csv"], CSV),
    (["text/csv;q=0, application/json"], JSON),
    (["text/csv;q=1.000,application/json;Q=0.999"], CSV),
    (["application/json;q=0, */*"], CSV),
    (["*/*;q=0"], None),
    (["application/json;version=2"], None),
    (["application/json;version=2, text/csv;q=0.1"], CSV),
    (["application/json;charset=utf-8;q=0, application/json, text/*;q=0.1"], CSV),
    (["text/html,application/xhtml+xml,*/*;q=0.8"], JSON),
    (["text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"], JSON),
    (["image/png"], None),
    (["application/problem+json"], None),
    (["application/jsonx"], None),
    ([EVENT_STREAM], None),
    (['a/b;x="text/csv, application/json"'], None),
    (['a/b;x="\\", text/csv"'], None),
    # What can't be read does not count.
    (["text/csv;q=nonsense"], JSON),
    (["text/csv;q=2, application/x-ndjson;q=0.1"], NDJSON),
    (["text/csv;q=\u0661, application/x-ndjson"], NDJSON),
    ([",;"], JSON),
    (["*/json, text/csv"], CSV),
    (['text/csv, a/b;x="'], CSV),
    (['"' * 30_000], JSON),
]


@pytest.mark.parametrize(
    ("accept", "expected"), PREFERENCES, ids=[" + ".join(lines)[:60] for lines, _ in PREFERENCES]
)
def test_the_caller_s_preference_decides(accept: list[str], expected: str | None) -> None:
    assert preferred(accept, (JSON, CSV, NDJSON)) == expected


@pytest.fixture
def many(log: PostgresLog) -> None:
    codec = EventCodec()
    users = [User.register(uuid4(), by()) for _ in range(MANY)]
    log.insert_events(
        [codec.to_stored_event(event) for user in users for event in user.collect_events()]
    )


def test_a_long_history_is_complete_up_to_the_head_that_it_began_with(many: None, api: Api) -> None:
    with api.stream("GET", "/v1/history", headers={"Accept": NDJSON}) as response:
        lines = response.iter_lines()
        positions = [json.loads(next(lines))["position"]]
        api.post("/v1/users", headers={"Prefer": "respond-async"})
        positions += [json.loads(line)["position"] for line in lines]
    assert positions == list(range(1, MANY + 1))
    assert position(response) == MANY


def test_a_stream_that_fails_is_cut_off_and_not_ended(
    many: None, api: Api, connection: Connection[Any]
) -> None:
    with api.stream("GET", "/v1/history", headers={"Accept": CSV}) as response:
        assert response.status_code == 200
        chunks = response.iter_bytes()
        next(chunks)
        connection.execute("ALTER TABLE log.events RENAME TO away")
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            list(chunks)
    connection.execute("ALTER TABLE log.away RENAME TO events")


def test_streams_that_nobody_reads_hold_nobody_up(
    many: None, api: Api, connection: Connection[Any]
) -> None:
    clients = [httpx.Client(base_url=api.base_url, timeout=30) for _ in range(20)]
    stalled = [
        client.send(
            client.build_request("GET", "/v1/history", headers={"Accept": NDJSON}), stream=True
        )
        for client in clients
    ]
    try:
        assert len(api.read("/v1/history", limit=1000)["items"]) == 1000
        busy = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state "
            "LIKE 'idle in%'"
        )
        eventually(lambda: connection.execute(busy).fetchone() == (0,))
    finally:
        for response, client in zip(stalled, clients, strict=True):
            response.close()
            client.close()

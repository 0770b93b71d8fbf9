"""No request stops the others, whatever it sends.

The event loop goes on, and the answer is no larger than it has to be.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from rosterlog.api.http.server import spare_the_collector
from rosterlog.api.ops.embedded import EmbeddedPostgres
from tests.api.client import Api, done, problem
from tests.api.conftest import serving
from tests.conftest import TEMPLATE, fresh_database

JSON_TYPE = {"Content-Type": "application/json"}
BODY, BULK = 256 * 1024 - 100, 4 * 1024 * 1024 - 100
TIMES_IDLE = 10
TICK = 0.002


class Ticking:
    """An application in whose event loop a clock ticks.

    `longest` is the longest work that kept the clock from its turn.

    Work is counted, not time: how long the machine did something else says nothing about us.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.longest = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self._task = asyncio.get_running_loop().create_task(self._tick())
        await self._app(scope, receive, send)

    async def _tick(self) -> None:
        while True:
            began = time.process_time()
            await asyncio.sleep(TICK)
            self.longest = max(self.longest, time.process_time() - began)


class Watched(NamedTuple):
    api: Api
    clock: Ticking
    idle: float
    class_: str


@pytest.fixture(scope="module")
def _collected() -> Iterator[None]:
    """Collect garbage as the server does."""
    before = gc.get_threshold()
    spare_the_collector()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.fixture(scope="module")
def watched(server: EmbeddedPostgres, _collected: None) -> Iterator[Watched]:
    clocks: list[Ticking] = []

    def wrap(app: ASGIApp) -> ASGIApp:
        clocks.append(Ticking(app))
        return clocks[0]

    with fresh_database(server, TEMPLATE) as database, serving(database, wrap=wrap) as api:
        class_id = api.new_class()
        clocks[0].longest = 0.0
        time.sleep(1)
        # A thread that works in Python gives way to the loop after the interpreter's switch
        # interval: that is idle, too.
        yield Watched(api, clocks[0], max(clocks[0].longest, sys.getswitchinterval()), class_id)


def ids(count: int) -> list[str]:
    return [str(UUID(int=number)) for number in range(count)]


def listed(field: str, item: str, count: int) -> bytes:
    return f'{{"{field}":[{",".join([item] * count)}]}}'.encode()


WRONG = '{"a":1,"b":2,"c":3,"d":4,"e":5,"f":"' + "x" * 150 + '"}'
MANY_FIELDS = json.dumps({f"{number:x}": 0 for number in range(22_000)})
BODIES: dict[str, tuple[str, str, bytes]] = {
    "10,000 empty items": ("POST", "/v1/enrolments", listed("items", "{}", 10_000)),
    "10,000 wrong items": ("POST", "/v1/enrolments?atomic=true", listed("items", WRONG, 10_000)),
    "10,000 unknown things": (
        "POST",
        "/v1/enrolments",
        json.dumps(
            {"items": [{"class_id": one, "user_id": one, "role": "student"} for one in ids(10_000)]}
        ).encode(),
    ),
    "10,000 registrations of one": (
        "POST",
        "/v1/users/batch",
        listed("items", f'{{"id":"{UUID(int=7)}"}}', 10_000),
    ),
    "a roster in wrong form": (
        "PUT",
        "/v1/classes/{class_}/members",
        listed("members", WRONG, 10_000),
    ),
    "a roster of unknown users": (
        "PUT",
        "/v1/classes/{class_}/members",
        json.dumps(
            {"members": [{"user_id": one, "role": "student"} for one in ids(10_000)]}
        ).encode(),
    ),
    "one item of many fields": ("POST", "/v1/enrolments", f'{{"items":[{MANY_FIELDS}]}}'.encode()),
    "an item that is long": (
        "POST",
        "/v1/enrolments",
        f'{{"items":[{{"class_id":"{"x" * 4_000_000}"}}]}}'.encode(),
    ),
    "small numbers": ("POST", "/v1/enrolments", listed("items", "1", BULK // 2 - 20)),
    "long numbers": ("POST", "/v1/enrolments", listed("items", "1" * 4000, 1000)),
    "floats": ("POST", "/v1/enrolments", listed("items", f"0.{'0' * 50}1e-9", 69_000)),
    "numbers that vanish": ("POST", "/v1/enrolments", listed("items", "1e-999", 69_000)),
    "empty lists": ("POST", "/v1/enrolments", listed("items", "[]", BULK // 3 - 20)),
    "brackets": ("POST", "/v1/users/batch", b"[" * BULK),
    "objects in objects": ("POST", "/v1/users/batch", b'{"a":' * (BULK // 5)),
    "many names": (
        "POST",
        "/v1/users/batch",
        json.dumps({f"{number:050x}": 1 for number in range(69_000)}).encode(),
    ),
    "a name twice at the end": (
        "POST",
        "/v1/users/batch",
        listed("items", '{"id":1}', 34_000)[:-2] + b',{"a":1,"a":2}]}',
    ),
    "a long name in the way": (
        "POST",
        "/v1/users/batch",
        b'{"' + b"n" * 3_000_000 + b'":[' + b"1," * 60_000 + b'{"a":1,"a":2}]}',
    ),
    "escapes": ("POST", "/v1/users/batch", b'{"items":"' + rb"\u0061" * (BULK // 6 - 20) + b'"}'),
    "no UTF-8": ("POST", "/v1/users/batch", b'{"items":"' + b"x" * (BULK - 100) + b'\xff"}'),
    "unknown fields": ("POST", "/v1/groups", MANY_FIELDS.encode()[:-1] + b',"name":"x"}'),
    "large settings": (
        "PATCH",
        "/v1/classes/{class_}",
        b'{"settings":' + listed("a", "0", 65_000) + b"}",
    ),
    "settings below a long name": (
        "PATCH",
        "/v1/classes/{class_}",
        b'{"settings":' + listed("k" * 100_000, "0", 60_000) + b"}",
    ),
    "settings of floats": (
        "PATCH",
        "/v1/classes/{class_}",
        b'{"settings":' + listed("a", "5e-324", 30_000) + b"}",
    ),
    "a long text": ("POST", "/v1/groups", b'{"name":"' + b"x" * (BODY - 100) + b'"}'),
    "a long text of blanks": ("POST", "/v1/groups", b'{"name":"' + b" " * (BODY - 100) + b'"}'),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_stops_no_others(watched: Watched, name: str) -> None:
    method, path, body = BODIES[name]
    assert len(body) <= BULK + 100
    pauses = []
    for _ in range(3):
        watched.clock.longest = 0.0
        answer = watched.api.request(
            method, path.format(class_=watched.class_), content=body, headers=JSON_TYPE
        )
        pauses.append(watched.clock.longest)
        assert answer.status_code in {200, 409, 422}, answer.text[:500]
        assert len(answer.content) < 64 * 1024 or (
            "10,000" in name and len(answer.content) < 10_000 * 600
        )
        if pauses[-1] < TIMES_IDLE * watched.idle:
            return
    pytest.fail(
        f"the event loop stood still for {min(pauses):.3f} s, idle for {watched.idle:.3f} s"
    )


HEADERS: dict[str, tuple[str, dict[str, str]]] = {
    "parameters": ("/v1/classes?" + "&".join(["a"] * 20_000), {}),
    "a cursor": ("/v1/classes?cursor=" + "W" * 50_000, {}),
    "a filter": ("/v1/classes?name=" + "%C3%A9" * 8_000, {}),
    "a time": ("/v1/history?since=2026-09-01T08:00:00." + "1" * 50_000 + "Z", {}),
    "entity tags": ("/v1/classes", {"If-None-Match": '"a",' * 12_000}),
    "separators": ("/v1/classes", {"If-None-Match": "," * 50_000 + "x"}),
    "quotes": ("/v1/classes", {"If-None-Match": '"' * 50_000}),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_head_stops_no_others(watched: Watched, name: str) -> None:
    path, headers = HEADERS[name]
    watched.clock.longest = 0.0
    assert watched.api.get(path, headers=headers).status_code in {200, 422}
    assert watched.clock.longest < TIMES_IDLE * watched.idle


COMMAND_HEADERS = {
    "Roster-Reason": "%c3%a9" * 8_000, "Prefer": 'a="",' * 10_000,
    "Idempotency-Key": '"a"' + ";a" * 20_000, "If-Match": '"1",' * 12_000,
}  # fmt: skip


@pytest.mark.parametrize("name", COMMAND_HEADERS)
def test_a_header_of_a_command_stops_no_others(watched: Watched, name: str) -> None:
    watched.clock.longest = 0.0
    answer = watched.api.patch(
        f"/v1/classes/{watched.class_}",
        json={"name": "Mathematics 7b"},
        headers={name: COMMAND_HEADERS[name]},
    )
    assert answer.status_code in {200, 412, 422}, answer.text
    assert watched.clock.longest < TIMES_IDLE * watched.idle


def test_a_problem_names_a_hundred_errors_and_says_how_many_there_are(watched: Watched) -> None:
    path = f"/v1/classes/{watched.class_}/members"
    found = problem(
        watched.api.put(path, content=listed("members", "{}", 250), headers=JSON_TYPE),
        422,
        "invalid-request",
    )
    assert (len(found["errors"]), found["errors_count"]) == (100, 500)
    assert found["detail"].startswith("The request breaks 500 rules: members/0/user_id")
    assert found["detail"].endswith("and 495 more")
    members = [{"user_id": one, "role": "student"} for one in ids(160)[10:]]
    found = problem(watched.api.put(path, json={"members": members}), 409, "members-refused")
    assert (len(found["errors"]), found["errors_count"]) == (100, 150)
    found = problem(
        watched.api.post("/v1/groups", json={f"f{number}": 1 for number in range(99)}),
        422,
        "invalid-request",
    )
    assert (len(found["errors"]), found["errors_count"]) == (100, 100)


def test_the_items_of_one_answer_name_a_hundred_errors_together(watched: Watched) -> None:
    found = done(
        watched.api.post("/v1/enrolments", content=listed("items", "{}", 50), headers=JSON_TYPE),
        200,
    ).json()
    problems = [one["problem"] for one in found["items"]]
    assert sum(len(one["errors"]) for one in problems) == 100
    assert {one["errors_count"] for one in problems} == {3}
    assert problems[0]["errors"][0]["pointer"] == "/items/0/class_id"
    assert "class_id: Field required" in problems[-1]["detail"]


def test_what_an_item_names_is_repeated_only_if_it_can_be_an_id(watched: Watched) -> None:
    items = [
        {"class_id": "\ud800", "user_id": ["x"], "role": "x"},
        {"class_id": "x" * 101, "user_id": "no id", "role": "x"},
    ]
    answer = watched.api.post(
        "/v1/enrolments", content=json.dumps({"items": items}), headers=JSON_TYPE
    )
    found = done(answer, 200).json()["items"]
    assert [(one["class_id"], one["user_id"]) for one in found] == [(None, None), (None, "no id")]

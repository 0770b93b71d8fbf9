"""Each request leaves one line, with the request and the actor it belongs to.

Nobody can forge a line, and no secret gets in.
"""

import asyncio
import io
import json
import logging
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from psycopg.conninfo import make_conninfo

from rosterlog.api.app import Part, create_app
from rosterlog.api.http.negotiation import JSON
from rosterlog.api.http.policy import Policy
from rosterlog.api.ops import logs
from rosterlog.api.ops.database import DatabaseUnusable
from rosterlog.api.ops.database import database as using
from rosterlog.api.settings import Settings
from tests.api.client import Api, done, problem, unknown_id
from tests.api.conftest import serving
from tests.api.processes import started
from tests.domain.threads import eventually
from tests.serving import free_port

Lines = Callable[[], list[dict[str, Any]]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """Return what was logged since it was last asked for."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.split("\n")[:-1]]


@pytest.fixture
def configured(lines: Lines) -> Iterator[Lines]:
    """Log as the command line does."""
    before = logging.root.handlers[:], logging.root.level
    logs.configure()
    yield lines
    logging.root.handlers[:], logging.root.level = before


def test_every_request_leaves_one_line_with_route_status_duration_id_and_actor(
    lines: Lines, database: str
) -> None:
    with serving(database) as api:
        answer = done(api.post("/v1/users", headers={"Roster-Actor": "registrar-7"}), 201)
        api.head(f"/v1/users/{answer.json()['id']}")
        api.get("/nowhere")
    created, read, unknown = lines()
    assert created | {"timestamp": "", "duration_ms": 0.0} == {
        "event": "request",
        "level": "info",
        "timestamp": "",
        "method": "POST",
        "route": "/v1/users",
        "path": "/v1/users",
        "status": 201,
        "duration_ms": 0.0,
        "request_id": answer.headers["X-Request-Id"],
        "actor": "registrar-7",
    }
    assert created["duration_ms"] > 0
    assert (read["route"], read["status"], read["actor"]) == ("/v1/users/{user_id}", 200, None)
    assert (unknown["route"], unknown["status"], unknown["path"]) == ("none", 404, "/nowhere")


def test_without_the_access_log_nothing_is_written(lines: Lines, database: str) -> None:
    with serving(database, Settings(access_log=False)) as api:
        api.new_user()
    assert lines() == []


def test_an_error_of_the_service_is_logged_with_the_request_id_that_the_answer_has(
    configured: Lines,
) -> None:
    router = APIRouter()

    @router.get("/broken", operation_id="break", include_in_schema=False)
    async def broken() -> None:
        password = "open " + "sesame"
        raise RuntimeError(f"broken by {len(password)}")

    open_to_all = Policy(None, confinable=True, offers=(JSON,), body=0)
    app = create_app(lambda: "", None, Part([router], {"break": open_to_all}))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost"
        ) as client:
            return await client.get("/broken")

    answer = asyncio.run(ask())
    assert "broken" not in answer.text
    request_id = answer.headers["X-Request-Id"]
    assert answer.json()["request_id"] == request_id
    access, failed = sorted(
        (line for line in configured() if line["event"].startswith("request")),
        key=lambda line: str(line["event"]),
    )
    assert (access["status"], access["request_id"], failed["request_id"]) == (
        500,
        request_id,
        request_id,
    )
    assert "RuntimeError: broken" in failed["exception"]
    assert "open sesame" not in json.dumps(failed)


def log_request(path: str) -> None:
    async def log() -> None:
        lines = logs.RequestLines()
        scope = {"method": "GET", "path": path, "state": {"request_id": "7"}}
        lines.add(scope, "none", 404, 0.001)
        lines.flush()

    asyncio.run(log())


class Pipe(io.StringIO):
    """Keeps what each write brought."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        return len(text)


def test_lines_of_one_turn_are_written_together_and_never_more_than_a_pipe_takes_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe = Pipe()
    monkeypatch.setattr(sys, "stderr", pipe)
    lines = logs.RequestLines()

    async def serve() -> None:
        for number in range(100):
            state = {"request_id": str(number)}
            path = "/ä" * (number % 90)
            lines.add({"method": "GET", "path": path, "state": state}, "none", 404, 0.001)
        assert pipe.written == []
        await asyncio.sleep(0)

    asyncio.run(serve())
    found = [json.loads(line) for line in "".join(pipe.written).splitlines()]
    assert [one["request_id"] for one in found] == [str(number) for number in range(100)]
    assert 1 < len(pipe.written) < 50
    for part in pipe.written:
        assert part.endswith("\n")
        assert len(part.encode()) <= select.PIPE_BUF


FORGED = 'x\n{"level":"info","event":"forged"}\r\x1b[31m\u2028\x00'


def test_in_json_nobody_ends_a_line_but_the_log(configured: Lines) -> None:
    logging.getLogger("test").warning("refused %s", FORGED)
    logging.getLogger("test").warning("half a character: %s", "\ud800")
    log_request(FORGED)
    refused, half, request = configured()
    assert (refused["event"], half["event"], request["path"]) == (
        f"refused {FORGED}",
        "half a character: \ud800",
        FORGED,
    )


def test_in_a_terminal_nobody_ends_or_colours_a_line_but_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    before = logging.root.handlers[:], logging.root.level
    try:
        logs.configure()
        logging.getLogger("test").warning("refused %s", FORGED)
        log_request(FORGED)
        logging.getLogger("test").error("failed", exc_info=ValueError(FORGED))
    finally:
        logging.root.handlers[:], logging.root.level = before
    lines = terminal.getvalue().splitlines()
    assert "\x1b[31m\\" not in terminal.getvalue()
    assert "\x00" not in terminal.getvalue()
    unindented = [line for line in lines if not line.startswith("    ")]
    assert len(unindented) == 3, lines
    assert all("forged" not in line or "\\n" in line for line in unindented)


def test_no_secret_gets_into_the_log(database: str) -> None:
    url = make_conninfo(database, password="open sesame")
    port = str(free_port())
    with started("serve", stderr=subprocess.PIPE, DATABASE_URL=url, PORT=port) as process:
        with Api(base_url=f"http://127.0.0.1:{port}", timeout=30) as api:
            eventually(lambda: is_up(api))
            problem(
                api.get(
                    f"/v1/users/{unknown_id()}",
                    headers={"Authorization": "Bearer sesame", "Cookie": "sesame"},
                ),
                404,
                "user-unknown",
            )
        process.terminate()
        shown = process.communicate()[1].decode()
    assert "password=***" in shown
    assert "/v1/users/{user_id}" in shown
    assert "sesame" not in shown
    for line in shown.splitlines():
        assert json.loads(line)["level"]


def test_what_can_not_connect_says_so_without_the_password(
    monkeypatch: pytest.MonkeyPatch, configured: Lines
) -> None:
    monkeypatch.setattr("rosterlog.api.ops.database.WAIT_SECONDS", 0)
    settings = Settings(database_url="postgresql://u:sesame@127.0.0.1:1/x?connect_timeout=1")
    with pytest.raises(DatabaseUnusable, match="did not answer") as refused, using(settings):
        pass
    assert "sesame" not in str(refused.value)
    assert "sesame" not in json.dumps(configured())


def is_up(api: Api) -> bool:
    try:
        return api.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False

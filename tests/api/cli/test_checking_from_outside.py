"""The program in docs/events.md, run as it is printed: it checks the chain with what the API shows, and nothing else."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg import Connection

from rosterlog.domain.roster import Roster
from rosterlog.projections.verify.log_check import verify_log
from tests.api.client import Api
from tests.conftest import by
from tests.projections.tables import CLASS, GROUP, record_everything

EVENTS = (Path(__file__).parents[3] / "docs" / "events.md").read_text(encoding="utf-8")
(PROGRAM,) = re.findall(r"```python\n(.*?)```", EVENTS, re.DOTALL)

EVERY_CHARACTER = "".join(map(chr, [*range(1, 0x100), 0x2028, 0x2029, 0xFFFE, 0xFFFF, 0x1F393]))
SETTINGS: dict[str, Any] = {
    "numbers": [
        0,
        -0.0,
        1,
        -1,
        1.0,
        0.1,
        1e-7,
        1.5e-300,
        5e-324,
        123456.789e3,
        2**53,
        -(2**53),
        9007199254740991.0,
        1e15,
        1e16 / 3,
    ],
    EVERY_CHARACTER: [EVERY_CHARACTER, {"": [[], {}, None, True, False]}],
    "z": 1,
    "a": {"b": 2, "A": 3},
}

Check = Callable[[], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def check(api: Api, tmp_path: Path) -> Check:
    program = tmp_path / "check.py"
    program.write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, "-I", str(program), str(api.base_url)]
    return lambda: subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def recorded(roster: Roster) -> int:
    """Record every kind of event, with all that can be difficult in its values."""
    record_everything(roster)
    roster.change_class(CLASS, by(reason=EVERY_CHARACTER.strip()), settings=SETTINGS)
    return roster.rename_group(GROUP, f"ü{EVERY_CHARACTER[30:120]}", by("ünder-taker")).position


def test_the_program_computes_the_head_that_verify_prints(
    check: Check, recorded: int, connection: Connection[Any]
) -> None:
    done = check()
    assert done.stdout.strip() == str(verify_log(connection)), done.stderr


def test_an_empty_log_has_a_head_too(check: Check, connection: Connection[Any]) -> None:
    assert check().stdout.strip() == str(verify_log(connection))


def test_the_program_finds_what_the_service_shows_otherwise(
    check: Check, recorded: int, connection: Connection[Any]
) -> None:
    changes = (
        (
            7,
            "state = convert_to(replace(convert_from(state, 'UTF8'), 'Maths', 'Mathematics'), 'UTF8')",
        ),
        (6, "recorded_at = recorded_at + interval '1 microsecond'"),
        (5, "actor = 'forger'"),
        (4, "topic = 'UserRemoved'"),
        (3, "digest = sha256(digest)"),
        (2, "originator_version = 7"),
    )
    connection.execute("ALTER TABLE log.events DISABLE TRIGGER ALL")
    for position, change in changes:
        connection.execute(
            f"UPDATE log.events SET {change} WHERE notification_id = {position}".encode()
        )
        done = check()
        assert (done.returncode, done.stderr.strip()) == (
            1,
            f"position {position} does not show what was recorded there",
        )


def test_every_entry_of_every_history_shows_the_digest_of_its_position(
    api: Api, recorded: int, connection: Connection[Any]
) -> None:
    digests = dict(
        connection.execute(
            "SELECT notification_id, encode(digest, 'hex') FROM log.events"
        ).fetchall()
    )
    for path in (
        "/v1/events",
        "/v1/history",
        f"/v1/classes/{CLASS}/history",
        f"/v1/groups/{GROUP}/history",
    ):
        entries = api.read(path, limit=1000)["items"]
        assert entries
        assert all(entry["digest"] == digests[entry["position"]] for entry in entries)
        assert "skipped" not in entries[0]
    lines = api.get("/v1/history", headers={"Accept": "text/csv"}).text.splitlines()
    assert lines[0].endswith(",digest,skipped")
    assert digests[1] in lines[1]

"""Importing from files on the command line."""

import json
import subprocess
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from psycopg import Connection
from typer.testing import CliRunner

from rosterlog.api.cli import rows_of_files as importing
from rosterlog.api.cli.main import cli
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from tests.api.processes import PROGRAM, environment, rosterlog, succeeds
from tests.conftest import by

GROUP, CLASS, ANNA, BEN = (UUID(int=number) for number in range(1, 5))


@pytest.fixture
def school(roster: Roster) -> Roster:
    """A class of Anna; Ben is registered: positions 1 to 5."""
    roster.create_group(GROUP, "North", by())
    roster.create_class(CLASS, GROUP, "Maths", {}, by())
    roster.register_user(ANNA, by())
    roster.register_user(BEN, by())
    roster.enrol(CLASS, ANNA, Role.TEACHER, by())
    return roster


def head(roster: Roster) -> int | None:
    return roster.recorder.max_notification_id()


def test_users_come_from_csv_and_the_source_names_the_import(
    school: Roster, database: str, tmp_path: Path, connection: Connection
) -> None:
    file = tmp_path / "users.csv"
    file.write_text("\ufeffid\r\n" + "".join(f"{uuid4()}\r\n" for _ in range(2500)) + f"{ANNA}\r\n")
    shown = succeeds(
        "register",
        str(file),
        "--import-id",
        "2026-09",
        "--actor",
        "sis",
        "--reason",
        "term start",
        DATABASE_URL=database,
    )
    assert "registered 2500, unchanged 1, refused 0; position 2505" in shown
    found = connection.execute(
        "SELECT DISTINCT source, actor FROM log.events WHERE notification_id > 5"
    ).fetchall()
    assert found == [("import:2026-09", "sis")]


def test_refused_lines_are_named_and_the_others_recorded_unless_all_or_nothing(
    school: Roster, database: str, tmp_path: Path
) -> None:
    file = tmp_path / "enrolments.csv"
    rows = [
        f"{CLASS},{BEN},student,2026-09-01",
        f"{CLASS},{BEN},janitor,",
        f"{CLASS},{uuid4()},student,",
        f"{CLASS},{ANNA},teacher,",
    ]
    file.write_text("\n".join(["class_id,user_id,role,effective_on", *rows]))
    ended = rosterlog("enrol", str(file), "--atomic", DATABASE_URL=database)
    assert (ended.returncode, head(school)) == (1, 5)
    assert "refused 2; nothing was recorded" in ended.stdout
    ended = rosterlog("enrol", str(file), DATABASE_URL=database)
    assert (ended.returncode, head(school)) == (1, 6)
    assert "enrolled 1, unchanged 1, refused 2; position 6" in ended.stdout
    assert "line 3: invalid-request: 1 rule: role: " in ended.stderr
    assert "line 4: user-unknown: There is no user" in ended.stderr
    assert "4 of 4 items" in ended.stderr


def test_ndjson_is_read_from_standard_input(school: Roster, database: str) -> None:
    lines = [{"class_id": str(CLASS), "user_id": str(BEN), "role": "student"}]
    given = "\n\n".join(json.dumps(line) for line in lines)
    command = [PROGRAM, "enrol", "-"]
    settings = environment({"DATABASE_URL": database})
    ended = subprocess.run(
        command, input=given, env=settings, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, head(school)) == (0, 6), ended.stderr


def test_a_roster_is_set_by_a_file_once_a_dry_run_looked_right(
    school: Roster, database: str, tmp_path: Path
) -> None:
    file = tmp_path / "roster.csv"
    file.write_text(f"user_id,role\n{BEN},student\n")
    command = ["roster", str(CLASS), str(file), "--max-withdrawals"]
    ended = rosterlog(*command, "0", DATABASE_URL=database)
    assert (ended.returncode, "is it complete" in ended.stderr) == (1, True)
    shown = succeeds(*command, "1", "--dry-run", DATABASE_URL=database)
    assert (f"{ANNA} withdrawn: teacher" in shown, head(school)) == (True, 5)
    assert "enrolled 1, role_changed 0, withdrawn 1, unchanged 0; position 7" in succeeds(
        *command, "1", DATABASE_URL=database
    )
    file.write_text(f"user_id,role\n{BEN},student\n{uuid4()},student\n")
    assert "line 3: user-unknown" in rosterlog(*command, "1", DATABASE_URL=database).stderr
    file.write_text(f"user_id,role\n{BEN},janitor\n")
    assert "line 2: members/0/role" in rosterlog(*command, "1", DATABASE_URL=database).stderr
    assert head(school) == 7


def test_a_file_that_empties_half_of_a_class_needs_permission(
    school: Roster, database: str, tmp_path: Path
) -> None:
    file, command = tmp_path / "roster.csv", ["roster", str(CLASS), str(tmp_path / "roster.csv")]
    file.write_text("user_id,role\n")
    ended = rosterlog(*command, DATABASE_URL=database)
    assert (ended.returncode, "--allow" in ended.stderr, head(school)) == (1, True, 5), ended.stderr
    file.write_text(f"user_id,role\n{BEN},student\n")
    ended = rosterlog(*command, "--dry-run", DATABASE_URL=database)
    assert (ended.returncode, "withdraw 1 of 1 members" in ended.stderr, head(school)) == (
        1,
        True,
        5,
    ), ended.stderr
    assert "withdrawn 1" in succeeds(*command, "--allow", DATABASE_URL=database)
    file.write_text("user_id,role\n")
    assert "withdrawn 1" in succeeds(*command, "--allow", DATABASE_URL=database)
    assert "withdrawn 0" in succeeds(*command, DATABASE_URL=database)


FILES = {
    "cut in a name": (
        b"user_id,role\n%s,student\n%s,stu" % (str(ANNA).encode(), str(BEN).encode()),
        "line 3",
    ),
    "cut in an id": (
        b"user_id,role\n%s,student\n%s" % (str(ANNA).encode(), str(BEN).encode()[:20]),
        "is the file complete?",
    ),
    "cut in quotes": (b'user_id,role\n"%s","stud' % str(ANNA).encode(), "unexpected end of data"),
    "a column twice": (
        b"user_id,role,role\n%s,student,teacher\n" % str(ANNA).encode(),
        "a column twice",
    ),
    "a field too many": (
        b"user_id,role\n%s,student,x\n" % str(ANNA).encode(),
        "line 2 has 3 fields",
    ),
    "UTF-16": ("user_id,role\n".encode("utf-16"), "is not in UTF-8"),
    "Latin-1": ("user_id,role\nJosé,student\n".encode("latin-1"), "is not in UTF-8"),
    "semicolons": (b"user_id;role\n", "the first line names the columns"),
    "a name twice": (
        b'{"user_id":"x","role":"student","role":"teacher"}',
        "line 1 is no JSON: /role: the name stands twice",
    ),
    "no number": (b'{"user_id":NaN}', "line 1 is no JSON"),
    "empty": (b"", "the first line names the columns"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_whole_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    content, why = FILES[name]
    file = tmp_path / "roster"
    file.write_bytes(content)
    ended = CliRunner().invoke(cli, ["roster", str(CLASS), str(file)])
    assert ended.exit_code == 1
    assert why in f"{ended.output} {ended.exception}"


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_and_begin_as_spreadsheets_write_them(
    tmp_path: Path, mark: str, end: str
) -> None:
    file = tmp_path / "roster.csv"
    file.write_bytes(
        end.join([f"{mark}user_id,role", f"{ANNA},teacher", "", f'"{BEN}",student']).encode()
    )
    found = importing.read(file, {"user_id": True, "role": True})
    assert [(line.number, line.item["user_id"]) for line in found] == [
        (2, str(ANNA)),
        (4, str(BEN)),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("id,name\n1,Anna\n", "the first line names the columns: id"),
        ("", "the first line names the columns: id"),
        ('{"id": 1}\n{"id"\n', "line 2 is no JSON"),
    ],
)
def test_a_file_of_another_form_is_refused_before_anything_is_recorded(
    school: Roster, database: str, tmp_path: Path, text: str, why: str
) -> None:
    file = tmp_path / "users"
    file.write_text(text)
    ended = rosterlog("register", str(file), DATABASE_URL=database)
    assert (ended.returncode, why in ended.stderr, head(school)) == (1, True, 5), ended.stderr
    assert "No such file" in rosterlog("register", "nowhere.csv", DATABASE_URL=database).stderr

"""A command with a wrong argument does not pass the type checker, and names the streams of its ids."""

import subprocess
import sys
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from rosterlog.domain.items import Enrolment, Items
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from tests.conftest import by

TOP = Path(__file__).parents[3]
CLASS, USER, GROUP = UUID(int=1), UUID(int=2), UUID(int=3)

RIGHT = "roster.enrol.prepared(uuid4(), uuid4(), Role.STUDENT, by, effective_on=date.today())"
WRONG = {
    'roster.enrol.prepared("no uuid", uuid4(), Role.STUDENT, by)': "[arg-type]",
    "roster.enrol.prepared(uuid4(), uuid4(), 3, by)": "[arg-type]",
    "roster.enrol.prepared(uuid4(), uuid4(), rolle=Role.STUDENT, by=by)": "[call-arg]",
    "roster.enrol.prepared(uuid4(), uuid4(), Role.STUDENT)": "[call-arg]",
    "roster.enrol(uuid4(), uuid4(), Role.STUDENT, by, expected='2')": "[arg-type]",
    "roster.enrol_many.prepared(uuid4(), [uuid4()], by)": "[arg-type]",
    "commands.roster.enroll": "[attr-defined]",
    "_ = commands.give(roster.enrol)": "[arg-type]",
}


def test_a_wrong_argument_of_a_command_fails_the_type_checker(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "\n".join(
            [
                "from datetime import date",
                "from uuid import uuid4",
                "from rosterlog.api.rest.commands import Commands",
                "from rosterlog.domain.roster import Roster",
                "from rosterlog.domain.values import Provenance, Role",
                "def give(roster: Roster, commands: Commands, by: Provenance) -> None:",
                *(f"    {line}" for line in (RIGHT, *WRONG)),
            ]
        )
    )
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", program],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line for line in checked.stdout.splitlines() if ": error:" in line]
    assert len(found) == len(WRONG), checked.stdout + checked.stderr
    for line, (call, kind) in zip(found, WRONG.items(), strict=True):
        assert line.endswith(kind), (call, line)


@pytest.mark.parametrize("by_name", [False, True])
def test_a_command_names_the_streams_of_its_ids(roster: Roster, *, by_name: bool) -> None:
    enrol, create = roster.enrol, roster.create_class
    if by_name:
        command = enrol.prepared(class_id=CLASS, user_id=USER, role=Role.STUDENT, by=by())
    else:
        command = enrol.prepared(CLASS, USER, Role.STUDENT, by())
    assert command.streams == {CLASS, USER}
    assert create.prepared(CLASS, GROUP, "Maths", {}, by()).streams == {CLASS, GROUP}
    assert roster.change_class.prepared(CLASS, by(), name="Art").streams == {CLASS}
    assert roster.change_class.prepared(CLASS, by(), group_id=GROUP).streams == {CLASS, GROUP}


def test_the_id_of_a_request_about_many_things_names_no_stream(roster: Roster) -> None:
    items = Items([Enrolment(CLASS, USER, Role.STUDENT)])
    assert roster.enrol_many.prepared(uuid4(), items, by()).streams == {CLASS, USER}

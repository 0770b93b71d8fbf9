"""Container file and systemd unit name programs, settings and paths that exist.

They leave a service the time that it needs to end.
"""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import typer

from rosterlog.api.cli.main import cli
from rosterlog.api.http.server import GRACE_SECONDS
from rosterlog.api.rest.policy import POLICIES
from rosterlog.api.settings import Settings

TOP = Path(__file__).parents[3]
CONTAINER = (TOP / "docs" / "operations" / "Containerfile").read_text()
UNIT = TOP / "docs" / "operations" / "rosterlog.service"
PROGRAM = "/opt/rosterlog/bin/rosterlog"


def commands() -> set[str]:
    return set(typer.main.get_command(cli).commands)  # type: ignore[attr-defined]


def directives() -> dict[str, str]:
    """Return the unit's directives; of those that are there several times, the last."""
    return dict(
        line.split("=", 1)
        for line in UNIT.read_text().splitlines()
        if line and not line.startswith(("#", "["))
    )


def test_the_container_runs_a_command_that_exists_with_settings_that_exist() -> None:
    assert re.findall(r"^ENTRYPOINT (.*)$", CONTAINER, re.MULTILINE) == ['["rosterlog"]']
    assert set(re.findall(r'^CMD \["(\w+)"\]$', CONTAINER, re.MULTILINE)) <= commands()
    settings = {name.lower() for name in re.findall(r"ROSTERLOG_(\w+)=", CONTAINER)}
    assert settings
    assert settings <= Settings.model_fields.keys()
    assert re.findall(r"http://127\.0\.0\.1:8000(/\w+)", CONTAINER) == ["/healthz"]
    assert POLICIES["isAlive"].scope is None


def test_the_container_runs_as_nobody_in_particular_and_gets_the_signal_that_drains() -> None:
    assert re.findall(r"^USER (\d+)$", CONTAINER, re.MULTILINE)[-1] not in {"", "0"}
    assert "STOPSIGNAL SIGTERM" in CONTAINER


def test_what_the_container_is_built_from_is_all_that_the_distribution_is_made_of() -> None:
    let_in = {
        line[1:]
        for line in (TOP / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    packages = set(project["tool"]["setuptools"]["package-dir"].values())
    assert let_in == packages | {
        "pyproject.toml",
        "requirements.lock",
        project["project"]["readme"],
        "LICENSE",
    }
    assert all((TOP / name).exists() for name in let_in)


def test_the_unit_starts_a_command_that_exists_and_waits_for_its_end() -> None:
    unit = directives()
    program, command = unit["ExecStart"].split()
    assert (program, command in commands()) == (PROGRAM, True)
    assert int(unit["TimeoutStopSec"]) > GRACE_SECONDS * 2
    operations = (TOP / "docs" / "operations.md").read_text()
    assert unit["EnvironmentFile"] in operations
    assert program.removesuffix("/bin/rosterlog") in operations


def test_systemd_takes_the_unit_where_it_is_there_to_be_asked(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, "/bin/true"))
    analyze = shutil.which("systemd-analyze")
    if analyze:
        asked = subprocess.run(
            [analyze, "verify", unit], capture_output=True, text=True, check=False
        )
        assert unit.name not in asked.stderr

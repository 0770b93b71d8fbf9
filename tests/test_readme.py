"""The README's tour, run as it is written, against a service that knows nothing yet."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import folder
from tests.serving import Serving, serving

ROOT = Path(__file__).parent.parent
TOUR = (
    (ROOT / "README.md")
    .read_text(encoding="utf-8")
    .partition("## A tour with curl")[2]
    .partition("## The command line")[0]
)
STEPS = re.findall(r"```sh\n(.*?)```(?:\s*```json\n(.*?)```)?", TOUR, re.DOTALL)


@pytest.fixture
def service() -> Iterator[Serving]:
    with folder() as data_dir, serving(data_dir) as running:
        yield running


def run(commands: str, service: Serving, tools: Path) -> str:
    script = commands.replace("http://127.0.0.1:8000", service.url).replace(
        ".venv/bin/rosterlog", "rosterlog"
    )
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", script],
        env={**service.environment, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def last_document(output: str) -> object:
    decoder, place, found = json.JSONDecoder(), 0, None
    while place < len(output.rstrip()):
        found, place = decoder.raw_decode(output, place)
        place += len(output[place:]) - len(output[place:].lstrip())
    return found


def agrees(shown: object, found: object) -> bool:
    """Tell whether what the README shows is what was answered, where `…` stands for anything."""
    if shown == "…":
        return True
    if isinstance(shown, dict) and isinstance(found, dict):
        return shown.keys() == found.keys() and all(agrees(shown[key], found[key]) for key in shown)
    if isinstance(shown, list) and isinstance(found, list):
        return len(shown) == len(found) and all(map(agrees, shown, found))
    return shown == found


def test_the_tour_runs_as_written_and_answers_what_it_shows(
    service: Serving, tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        (tmp_path / "curl").symlink_to(ROOT / "tests" / "small_curl.py")
    assert len(STEPS) >= 10
    for commands, shown in STEPS:
        output = run(commands, service, tmp_path)
        if shown:
            found = last_document(output)
            assert agrees(json.loads(shown), found), (
                f"{commands}\nshows\n{shown}\nbut answers\n{json.dumps(found)}"
            )


def test_the_small_curl_takes_the_tour_too(service: Serving, tmp_path: Path) -> None:
    (tmp_path / "curl").symlink_to(ROOT / "tests" / "small_curl.py")
    for commands, _ in STEPS:
        run(commands, service, tmp_path)


def test_every_command_of_the_command_line_stands_in_the_readme() -> None:
    help_text = subprocess.run(
        [str(Path(sys.executable).parent / "rosterlog"), "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    commands = re.findall(r"^  ([a-z]+) ", help_text.partition("Commands:")[2], re.MULTILINE)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert commands
    assert [command for command in commands if f"| `{command}` |" not in readme] == []

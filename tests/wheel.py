"""Install the built wheel into an empty environment, and use it there: `make wheel`."""

import json
import os
import subprocess
import sys
import urllib.request
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

from tests.conftest import folder
from tests.serving import serving

SOURCES = Path(__file__).parents[1]
FOLDERS = ("api", "domain", "examples", "migrations", "projections")
CALL = ("curl", "--silent", "--show-error", "--fail", "--header", "Content-Type: application/json")


def main() -> None:
    (wheel,) = (Path(name) for name in sys.argv[1:])
    has_all_sources(wheel)
    with folder() as place:
        program = installed(wheel, place / "environment")
        elsewhere = place / "elsewhere"
        elsewhere.mkdir()
        said = subprocess.run(
            [program, "--version"], cwd=elsewhere, stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        assert said == f"rosterlog {version('rosterlog')}\n", said
        with serving(place / "data", program, elsewhere) as service:
            makes_a_group(service.url)
    print(f"{wheel.name} installs, serves and answers")


def has_all_sources(wheel: Path) -> None:
    """Check that the wheel has what the repository has in the folders that are installed, and py.typed in the packages."""
    listed = subprocess.run(
        ["git", "ls-files", *FOLDERS], cwd=SOURCES, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    # The examples of clients are programs of their own, which a reader copies.
    needed = {
        f"rosterlog/{name}"
        for name in listed
        if not name.startswith(("examples/python/", "examples/typescript/"))
    }
    with zipfile.ZipFile(wheel) as archive:
        has = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert has == needed, (
        f"missing: {sorted(needed - has)}, more than the sources: {sorted(has - needed)}"
    )
    assert {f"rosterlog/{folder}/py.typed" for folder in FOLDERS if folder != "examples"} <= has


def installed(wheel: Path, environment: Path) -> Path:
    """Install the wheel and what it asks for, at the pinned versions, and nothing else; return its program."""
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    quiet = (
        "--quiet",
        "--disable-pip-version-check",
        "--constraint",
        str(SOURCES / "requirements.lock"),
    )
    # Nothing of the sources may be found by their folder or by a variable.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [python, "-m", "pip", "install", *quiet, wheel.absolute()],
        cwd=environment,
        env=clean,
        check=True,
    )
    return environment / "bin" / "rosterlog"


def makes_a_group(url: str) -> None:
    """Give one command over curl and read what it made."""
    command = [*CALL, "--data", json.dumps({"name": "Lincoln Elementary"}), f"{url}/v1/groups"]
    made = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    with urllib.request.urlopen(f"{url}/v1/groups/{made['id']}", timeout=30) as answer:
        assert json.load(answer)["name"] == "Lincoln Elementary"


if __name__ == "__main__":
    main()

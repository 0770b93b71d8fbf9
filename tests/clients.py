"""Run the example programs against a service, and hold what they print against what they are to do: `make client`."""

import re
import subprocess
from pathlib import Path

from tests.conftest import folder
from tests.serving import serving

EXAMPLES = Path(__file__).parents[1] / "examples"
PROGRAMS = {
    "python": [str(EXAMPLES / "python" / ".venv" / "bin" / "python"), "roster.py"],
    "typescript": ["node", "build/roster.js"],
}
ID = "[0-9a-f-]{36}"
SAYS = rf"""Physics 2, version 1
Physics 2, version 1
4 enrolled, 0 refused
teacher {ID}, enrolled .+
(student {ID}, enrolled .+
){{4}}MemberEnrolled by example-1: teacher
4 members before
Refused, as it should be: 409 Enrolled in other role: User {ID} is already enrolled as teacher: .+
"""


def main() -> None:
    with folder() as data, serving(data) as service:
        for name, command in PROGRAMS.items():
            said = subprocess.run(
                [*command, service.url],
                cwd=EXAMPLES / name,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout
            assert re.fullmatch(SAYS, said), said
            print(f"examples/{name} runs")


if __name__ == "__main__":
    main()

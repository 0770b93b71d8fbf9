"""The demo: a semester of a made-up district, loaded into an empty service.

Its file names things as people do. As with ids of a student information system, they become ours by
UUIDv5 over a private namespace.
"""

import json
from collections.abc import Callable
from datetime import date
from importlib.resources import files
from typing import Any
from uuid import UUID, uuid5

from rosterlog.domain.deciding.outcome import Outcome
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Provenance, Role

NAMESPACE = UUID("3d9a2f5e-1c47-4b0d-9e6a-7f2b8c4d5e10")
"""The private namespace of the demo's ids."""

_SOURCE = "import:demo"


class NotEmpty(Exception):
    """The log holds events already.

    It is no problem of a request, so it is none of `DomainError`.
    """

    def __init__(self) -> None:
        super().__init__("The demo is for an empty service, and this log holds events already.")


def demo_id(name: str) -> UUID:
    """Return the id of what the demo's file calls `name`."""
    return uuid5(NAMESPACE, name)


def load(roster: Roster, on_progress: Callable[[int, int], None] = lambda *_: None) -> int:
    """Give every command of the demo and return the position of the last event.

    Raises `NotEmpty`.
    """
    if roster.recorder.max_notification_id():
        raise NotEmpty
    lines = (
        files("rosterlog.examples")
        .joinpath("district.ndjson")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    position = 0
    for done, line in enumerate(lines, start=1):
        position = _give(roster, json.loads(line)).position
        on_progress(done, len(lines))
    return position


def _give(roster: Roster, line: dict[str, Any]) -> Outcome:
    """Give the command of one line: ids by name, the day it happened as `effective_on` where the command takes one."""
    verb = line.pop("do")
    command: Callable[..., Outcome] = getattr(roster, verb)
    by = Provenance(line.pop("actor"), source=_SOURCE, reason=line.pop("reason", None))
    day = date.fromisoformat(line.pop("on"))
    arguments: dict[str, Any] = {
        f"{kind}_id": demo_id(line.pop(kind)) for kind in ("class", "group", "user") if kind in line
    }
    if {"class_id", "user_id"} <= arguments.keys():
        arguments["effective_on"] = day
    if "role" in line:
        arguments["role"] = Role(line.pop("role"))
    if verb == "create_class":
        arguments["settings"] = line.pop("settings", {})
    stream = arguments.pop(_STREAM[verb])
    return command(stream, by=by, **arguments, **line)


_STREAM = {
    **dict.fromkeys(("create_group", "rename_group", "delete_group"), "group_id"),
    **dict.fromkeys(("register_user", "remove_user"), "user_id"),
    **dict.fromkeys(("create_class", "change_class", "archive_class", "restore_class"), "class_id"),
    **dict.fromkeys(("enrol", "change_role", "withdraw"), "class_id"),
}

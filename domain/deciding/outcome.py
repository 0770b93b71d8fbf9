"""What becomes of a command."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class Result:
    """What a command about many things decided.

    `id` names the thing that they belong to, at `version`. Where they belong to no one thing, `id`
    names the command itself, and there is no version. `each` says what became of each, as plain
    JSON.
    """

    id: UUID
    version: int | None
    each: dict[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a command.

    `id` and `version` are those of the thing that it was about, as in `Result`. `position` is that
    of the command's own last event; of a command that `changed` nothing, the head when it was
    decided. `result` is what became of each of many things. `replayed` tells that an earlier
    request with the same key came to it. `recorded_at` is the time of what the command recorded.
    """

    id: UUID
    version: int | None
    position: int
    changed: bool
    result: dict[str, Any] | None = None
    replayed: bool = False
    recorded_at: datetime | None = field(default=None, compare=False)

"""Moments of the past: a time or a position, and the position of the log that it means."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from rosterlog.domain.errors import InvalidValue
from rosterlog.domain.log.event_store import APPEND_LOCK
from rosterlog.projections.reading import queries


class MomentAhead(InvalidValue):
    """A moment that has not come yet."""


@dataclass(frozen=True)
class Moment:
    """A time or a position as a caller gave it, with the names of the two parameters."""

    time: datetime | None
    position: int | None
    names: tuple[str, str] = ("as_of", "at_position")

    def __post_init__(self) -> None:
        """Refuse a moment that is given twice."""
        if self.time is not None and self.position is not None:
            raise InvalidValue(
                f"parameter:{self.names[0]}",
                "one-moment",
                f"{' and '.join(self.names)} can't be given both",
            )

    @property
    def given(self) -> bool:
        """Tell whether there is a moment at all."""
        return self.time is not None or self.position is not None

    async def resolve(self, connection: AsyncConnection[Any]) -> int:
        """Return the position that the moment means, the head where none is given.

        Raises `MomentAhead`.
        """
        async with connection.transaction():
            if self.time is not None:
                # An append under way may have a time before this moment: it must be in, so that the
                # answer is the same for ever.
                await connection.execute(queries.WAIT_FOR_APPENDS, {"lock": APPEND_LOCK})
            head, now = await (await connection.execute(queries.HEAD_NOW)).fetchone() or (0, None)
            if self.time is None:
                return self._reached(head)
            if now is None or self.time >= now:
                raise MomentAhead(
                    f"parameter:{self.names[0]}", "past", f"{self.names[0]} lies in the future"
                )
            row = await (
                await connection.execute(queries.RECORDED_BY, {"moment": self.time})
            ).fetchone()
        return int(row[0]) if row else 0

    def _reached(self, head: int) -> int:
        if self.position is not None and self.position > head:
            raise MomentAhead(
                f"parameter:{self.names[1]}",
                "head",
                f"position {self.position} is past the head of the log, {head}",
            )
        return head if self.position is None else self.position

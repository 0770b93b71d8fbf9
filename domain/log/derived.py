"""The columns of the log that follow from its events: what history is asked by.

The digest does not cover them.
"""

from typing import Any
from uuid import UUID

from rosterlog.domain.log.event_codec import EventCodec


class Derivation:
    """Derives the columns of events that are given one after the other, from the first of the log on."""

    def __init__(self) -> None:
        """Begin before the first event."""
        self._codec = EventCodec()
        self._group_of: dict[UUID, UUID | None] = {}

    def columns(self, stream: UUID, topic: str, state: bytes) -> list[Any]:
        """Return the columns of the next event, in the order of `event_codec.INDEX`.

        Raises `UndecodableEvent`.

        An event of a class is of the group that the class is in then, by the last event that names
        one.
        """
        class_id, user_id, group_id, *rest = self._codec.index_of(topic, stream, state)
        if class_id is not None:
            group_id = self._group_of[class_id] = group_id or self._group_of.get(class_id)
        return [class_id, user_id, group_id, *rest]

"""A log in memory that refuses what the log on PostgreSQL refuses: for rules that need no database."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from eventsourcing.persistence import IntegrityError, StoredEvent
from eventsourcing.popo import POPOApplicationRecorder


class MemoryLog(POPOApplicationRecorder):
    def _assert_uniqueness(
        self, stored_events: Sequence[StoredEvent], *, relied_on: Mapping[UUID, int] | None = None, **kwargs: Any
    ) -> None:
        for stream, version in (relied_on or {}).items():
            last = self.select_events(stream, desc=True, limit=1)
            if not last or last[0].originator_version != version:
                raise IntegrityError(f"{stream} is not at version {version}")
        super()._assert_uniqueness(stored_events, **kwargs)

"""A made-up district's log of any size, written row by row with its right digests.

It has enrolments, role changes, withdrawals and removals.

A class, a user and a group have as many events in a small log as in a large one; a large one has
more of them.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

import msgspec

from rosterlog.domain.log import digest, endings, fence, sessions
from rosterlog.domain.log.event_codec import INDEX, EventCodec

EVENTS_PER_GROUP, EVENTS_PER_CLASS, EVENTS_PER_USER, CLASS_SIZE, ACTORS = 1500, 60, 10, 30, 200
BATCH = 100_000
FIRST = datetime(2025, 9, 1, tzinfo=UTC)
STEP = timedelta(milliseconds=5)

_COLUMNS = (
    "notification_id",
    "originator_id",
    "originator_version",
    "topic",
    "state",
    "recorded_at",
    "digest",
    *INDEX,
)
_TYPES = (
    "int8",
    "uuid",
    "int8",
    "text",
    "bytea",
    "timestamptz",
    "bytea",
    *["uuid"] * 4,
    "text",
    "text",
)
_COPY = f"COPY log.events ({', '.join(_COLUMNS)}) FROM STDIN (FORMAT BINARY)"


class District:
    """Draws events, the same for the same size."""

    def __init__(self, events: int) -> None:
        self._draw = random.Random(events)
        self._left = events
        self._codec = EventCodec()
        self._version: dict[UUID, int] = {}
        self._group_of: dict[UUID, UUID] = {}
        self._position, self._digest = 0, digest.BEFORE_FIRST
        self.groups = [self._id() for _ in range(events // EVENTS_PER_GROUP)]
        self.users = [self._id() for _ in range(events // EVENTS_PER_USER)]
        self.classes = [self._id() for _ in range(events // EVENTS_PER_CLASS)]
        self.removed: set[UUID] = set()
        self._members: dict[UUID, dict[UUID, str]] = {class_id: {} for class_id in self.classes}

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of the log, creations first."""
        for group in self.groups:
            yield self._row(group, "GroupCreated", name="Lincoln Elementary")
        for user in self.users:
            yield self._row(user, "UserRegistered")
        for class_id in self.classes:
            self._group_of[class_id] = self._draw.choice(self.groups)
            yield self._row(
                class_id,
                "ClassCreated",
                group_id=self._group_of[class_id],
                name="Mathematics 7b",
                settings={"room": "2.14"},
            )
        while self._left:
            yield self._change(self._draw.choice(self.classes))

    def _change(self, class_id: UUID) -> tuple[Any, ...]:
        members, chance = self._members[class_id], self._draw.random()
        user = self._draw.choice(self.users if chance < 0.7 or not members else list(members))
        if user in self.removed or (
            chance < 0.7 and (user in members or len(members) >= CLASS_SIZE)
        ):
            members.pop(user, None)
            return self._row(
                class_id, "ClassRenamed", name="Mathematics 7c", previous_name="Mathematics 7b"
            )
        if user not in members:
            members[user] = "student"
            return self._row(
                class_id, "MemberEnrolled", user_id=user, role="student", effective_on=None
            )
        if chance < 0.85:
            before, members[user] = (
                members[user],
                "teacher" if members[user] == "student" else "student",
            )
            return self._row(
                class_id,
                "RoleChanged",
                user_id=user,
                role=members[user],
                previous_role=before,
                effective_on=None,
            )
        if chance < 0.99:
            return self._row(
                class_id, "MemberWithdrawn", user_id=user, role=members.pop(user), effective_on=None
            )
        self.removed.add(user)
        return self._row(user, "UserRemoved")

    def _row(self, stream: UUID, topic: str, **own: Any) -> tuple[Any, ...]:
        provenance = {
            "actor": f"office-{self._draw.randrange(ACTORS)}",
            "reason": None,
            "source": "api",
            "request_id": "4b7f0f7e-12fd-4a51-9c55-0f6f4a3f9e10",
        }
        state = msgspec.json.encode(provenance | own)
        class_id, user_id, group_id, *rest = self._codec.index_of(topic, stream, state)
        self._left -= 1
        self._position += 1
        self._version[stream] = self._version.get(stream, 0) + 1
        at = FIRST + self._position * STEP
        event = (self._position, stream, self._version[stream], topic)
        self._digest = digest.link(self._digest, *event, at, state)
        return (
            *event,
            state,
            at,
            self._digest,
            class_id,
            user_id,
            group_id or self._group_of.get(stream),
            *rest,
        )

    def _id(self) -> UUID:
        return UUID(int=self._draw.getrandbits(128), version=4)


def fill(conninfo: str, events: int) -> District:
    """Write a district's log of so many events into an empty database."""
    district = District(events)
    rows = district.rows()
    with sessions.connect(conninfo) as connection:
        while batch := list(islice(rows, BATCH)):
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute(fence.DECLARATION)
                with cursor.copy(_COPY) as copy:
                    copy.set_types(_TYPES)
                    for row in batch:
                        copy.write_row(row)
                endings.index(connection, batch[0][0], batch[-1][0])
        connection.execute("VACUUM ANALYZE log.events")
        connection.execute("VACUUM ANALYZE log.endings")
    return district

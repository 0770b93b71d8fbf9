"""A log of a district's rosters, decided by the aggregates themselves.

It has enrolments, role changes, withdrawals, renames and removals.
"""

import random
from collections.abc import Iterator
from itertools import islice
from uuid import UUID

from rosterlog.domain.classes import Class
from rosterlog.domain.events import RosterAggregate, RosterEvent
from rosterlog.domain.groups import Group
from rosterlog.domain.log.event_codec import EventCodec, IndexedEvent
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.users import User
from rosterlog.domain.values import Provenance, Role

BY = Provenance("benchmark", source="api")
GROUPS, USERS_PER_CLASS, CLASS_SIZE = 200, 3, 30
APPEND = 20_000


class District:
    """Classes, their users, and an endless stream of what happens to them.

    It is the same for the same seed.
    """

    def __init__(self, classes: int) -> None:
        self._draw = random.Random(1)
        groups = [Group.create(self._id(), f"School {number}", BY) for number in range(GROUPS)]
        self.users = [User.register(self._id(), BY) for _ in range(classes * USERS_PER_CLASS)]
        self.classes = [
            Class.create(self._id(), self._draw.choice(groups).id, f"Class {n}", {"room": n}, BY)
            for n in range(classes)
        ]
        self._created: list[RosterAggregate] = [*groups, *self.users, *self.classes]
        self._removed = set[UUID]()

    def events(self) -> Iterator[RosterEvent]:
        for thing in self._created:
            yield from self._collected(thing)
        while True:
            chance, class_ = self._draw.random(), self._draw.choice(self.classes)
            if chance < 0.005:
                yield from self._remove_somebody()
            elif chance < 0.02:
                class_.rename(f"Class {self._draw.randrange(10**9)}", BY)
            else:
                self._change_member(class_)
            yield from self._collected(class_)

    def _change_member(self, class_: Class) -> None:
        user = self._draw.choice(self.users).id
        if user not in class_.members and (
            len(class_.members) < CLASS_SIZE or self._draw.random() < 0.5
        ):
            class_.enrol(user, Role.TEACHER if self._draw.random() < 0.1 else Role.STUDENT, BY)
            return
        member, role = self._draw.choice(list(class_.members.items()))
        if member in self._removed:
            return
        if self._draw.random() < 0.5:
            class_.change_role(member, Role.TEACHER if role == Role.STUDENT else Role.STUDENT, BY)
        else:
            class_.withdraw(member, BY)

    def _remove_somebody(self) -> Iterator[RosterEvent]:
        index = self._draw.randrange(len(self.users))
        self.users[index], removed = self.users[-1], self.users[index]
        self.users.pop()
        self._removed.add(removed.id)
        removed.remove(BY)
        yield from self._collected(removed)

    def _id(self) -> UUID:
        return UUID(int=self._draw.getrandbits(128), version=4)

    @staticmethod
    def _collected(thing: RosterAggregate) -> Iterator[RosterEvent]:
        for event in thing.collect_events():
            assert isinstance(event, RosterEvent)
            yield event


def record(conninfo: str, events: Iterator[RosterEvent], count: int) -> None:
    """Append the next `count` events, in large appends."""
    log, codec = PostgresLog(conninfo), EventCodec()
    stored: Iterator[IndexedEvent] = (
        codec.to_stored_event(event) for event in islice(events, count)
    )
    while batch := list(islice(stored, APPEND)):
        log.insert_events(batch)
    log.close()

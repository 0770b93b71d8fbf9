"""The requests of a district's programs: changes of rosters, and many more reads of them."""

import json
import random
from collections.abc import Callable
from uuid import UUID, uuid4

from benchmarks.open_loop import Request, encoded

Seat = tuple[UUID, UUID]
"""A user's place in a class, taken or not."""


class Traffic:
    """Requests that keep to the rules, in whatever order they are answered.

    A seat has one command under way at most.
    """

    def __init__(
        self, group: UUID, classes: list[UUID], users: list[UUID], seats: list[Seat]
    ) -> None:
        """Change and read these rosters, which are all empty yet."""
        self._draw = random.Random(1)
        self._group, self._classes, self._users = group, classes, users
        self._idle = list(seats)
        self.roles: dict[Seat, str] = {}
        self.acknowledged = 0
        self._past = 1 + len(classes) + len(users)
        self._reads: tuple[tuple[float, str, Callable[[], str]], ...] = (
            (0.45, "roster", lambda: f"/v1/classes/{self._class()}/members"),
            (0.20, "class", lambda: f"/v1/classes/{self._class()}"),
            (
                0.15,
                "memberships",
                lambda: f"/v1/users/{self._draw.choice(self._users)}/memberships",
            ),
            (0.10, "classes of a group", lambda: f"/v1/groups/{self._group}/classes?limit=20"),
            (0.05, "history", lambda: f"/v1/classes/{self._class()}/history?order=desc&limit=20"),
            (
                0.05,
                "roster at a position",
                lambda: f"/v1/classes/{self._class()}/members?at_position={self._past}",
            ),
        )

    def read(self, due: float) -> Request:
        """Return the next read."""
        _, kind, path = self._draw.choices(self._reads, [share for share, *_ in self._reads])[0]
        return Request(f"read {kind}", encoded("GET", path()), due)

    def command(self, due: float) -> Request:
        """Return the next command: mostly about seats, now and then a new user or class."""
        drawn = self._draw.random()
        if drawn < 0.02 or not self._idle:
            return Request(
                "register", _json("POST", "/v1/users", {"id": str(uuid4())}), due, self._note
            )
        if drawn < 0.03:
            body = {"id": str(uuid4()), "group_id": str(self._group), "name": "Benchmark"}
            return Request("create class", _json("POST", "/v1/classes", body), due, self._note)
        return self._about_seat(due)

    def _about_seat(self, due: float) -> Request:
        place = self._draw.randrange(len(self._idle))
        seat, self._idle[place] = self._idle[place], self._idle[-1]
        self._idle.pop()
        class_id, user = seat
        role = self.roles.get(seat)
        path = f"/v1/classes/{class_id}/members"
        if role is None:
            return Request(
                "enrol",
                _json("POST", path, {"user_id": str(user), "role": "student"}),
                due,
                self._became(seat, "student"),
            )
        if self._draw.random() < 0.8:
            return Request(
                "withdraw", encoded("DELETE", f"{path}/{user}"), due, self._became(seat, None)
            )
        other = "teacher" if role == "student" else "student"
        return Request(
            "change role",
            _json("PATCH", f"{path}/{user}", {"role": other}),
            due,
            self._became(seat, other),
        )

    def _became(self, seat: Seat, role: str | None) -> Callable[[int], None]:
        def note(status: int) -> None:
            self._note(status)
            if status < 400:
                self._idle.append(seat)
                if role is None:
                    del self.roles[seat]
                else:
                    self.roles[seat] = role

        return note

    def _note(self, status: int) -> None:
        self.acknowledged += status < 400

    def _class(self) -> UUID:
        return self._draw.choice(self._classes)


def _json(method: str, path: str, body: dict[str, str]) -> bytes:
    return encoded(method, path, json.dumps(body).encode())

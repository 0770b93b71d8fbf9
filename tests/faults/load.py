"""Callers who change rosters all the time, repeat what was not acknowledged, and read what was."""

import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import httpx

from tests.domain.threads import PATIENCE_SECONDS, eventually
from tests.faults.ledger import Command, Ledger

WORKERS = 4
GIVE_UP_SECONDS = 120
"""How long a caller repeats a command: longer than any fault lasts, shorter than a test may take."""
PAUSE_SECONDS = 0.1
"""Before a command is repeated."""
IMPATIENT = 1 / 4
"""The share of commands whose answer is to come as soon as they are recorded."""
SILENT_SECONDS = 0.5
"""Without any answer: silence. Commands otherwise take some hundredths of it."""

UNAVAILABLE = {"store-unavailable", "outcome-unknown", "too-busy", "read-tables-behind"}


class Load:
    """Callers in threads of their own, each with a class of its own and all with one class in common."""

    def __init__(self, urls: list[str]) -> None:
        """Call the services at `urls`."""
        self.ledger = Ledger()
        self._urls = urls
        self._stopping = threading.Event()
        self._giving_up = threading.Event()
        self._common = uuid4()
        self._group = uuid4()
        self._threads = [
            threading.Thread(target=self._run, args=[number], name=f"caller {number}")
            for number in range(WORKERS)
        ]

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Call until the context ends, and then, where it ended well, until every command under way is acknowledged."""
        first = self._caller("first")
        first.give("POST", "/v1/groups", {"id": str(self._group), "name": "Lincoln Elementary"})
        first.give(
            "POST",
            "/v1/classes",
            {"id": str(self._common), "group_id": str(self._group), "name": "Choir"},
        )
        first.close()
        for thread in self._threads:
            thread.start()
        try:
            yield self
        except BaseException:
            self._giving_up.set()
            raise
        finally:
            self._stopping.set()
            for thread in self._threads:
                thread.join(GIVE_UP_SECONDS + PATIENCE_SECONDS)

    def flows(self, commands: int = 20) -> None:
        """Wait until so many more commands are acknowledged."""
        aim = self.ledger.acknowledged + commands
        eventually(lambda: self.ledger.lies or self.ledger.acknowledged >= aim)
        assert not self.ledger.lies, self.ledger.lies

    def falls_silent(self) -> None:
        """Wait until no command is acknowledged any more."""

        def is_silent() -> bool:
            before = self.ledger.acknowledged
            self._stopping.wait(SILENT_SECONDS)
            return self.ledger.acknowledged == before

        eventually(is_silent)

    def meets(self, answer: str, times: int = 1) -> None:
        """Wait until callers got an answer so many times more."""
        aim = self.ledger.answers[answer] + times
        eventually(lambda: self.ledger.lies or self.ledger.answers[answer] >= aim)
        assert not self.ledger.lies, self.ledger.lies

    def _caller(self, name: str) -> "_Caller":
        return _Caller(name, self._urls, self.ledger, self._giving_up)

    def _run(self, number: int) -> None:
        caller = self._caller(f"caller-{number}")
        try:
            for _ in self._story(caller):
                if self._stopping.is_set():
                    return
        except Exception as wrong:  # whatever ends a caller must fail the test
            self.ledger.lie(f"{caller.name}: {wrong!r}")
        finally:
            caller.close()

    def _story(self, caller: "_Caller") -> Iterator[None]:
        """Yield between changes that each record one event, and that can each be repeated."""
        own = uuid4()
        caller.give(
            "POST",
            "/v1/classes",
            {"id": str(own), "group_id": str(self._group), "name": caller.name},
        )
        for turn in itertools.count():
            yield
            user = uuid4()
            caller.register(user)
            yield
            for class_id in (own, self._common):
                caller.enrol(class_id, user, "student")
                yield
            caller.change_role(own, user, "teacher")
            yield
            if turn % 2:
                caller.withdraw(own, user)
                yield
            if turn % 3 == 0:
                caller.give("PATCH", f"/v1/classes/{own}", {"name": f"{caller.name} {turn}"})
                yield
            if turn % 4 == 3:
                caller.remove(user)


class _Caller:
    """One caller: gives a command to any of the services until it is acknowledged, and notes every answer."""

    def __init__(
        self, name: str, urls: list[str], ledger: Ledger, giving_up: threading.Event
    ) -> None:
        self.name = name
        self._ledger = ledger
        self._giving_up = giving_up
        self._numbers = itertools.count(1)
        self._draw = random.Random(name)
        self._clients = [httpx.Client(base_url=url, timeout=30) for url in urls]

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def register(self, user: UUID) -> None:
        self.give("POST", "/v1/users", {"id": str(user)})
        self._ledger.users.add(user)

    def remove(self, user: UUID) -> None:
        self.give("DELETE", f"/v1/users/{user}")
        self._ledger.users.discard(user)
        for class_id, member in list(self._ledger.members):
            if member == user:
                del self._ledger.members[class_id, member]

    def enrol(self, class_id: UUID, user: UUID, role: str) -> None:
        answer = self.give(
            "POST", f"/v1/classes/{class_id}/members", {"user_id": str(user), "role": role}
        )
        self._became(class_id, user, role, answer)

    def change_role(self, class_id: UUID, user: UUID, role: str) -> None:
        answer = self.give("PATCH", f"/v1/classes/{class_id}/members/{user}", {"role": role})
        self._became(class_id, user, role, answer)

    def withdraw(self, class_id: UUID, user: UUID) -> None:
        self.give("DELETE", f"/v1/classes/{class_id}/members/{user}")
        del self._ledger.members[class_id, user]

    def give(self, method: str, path: str, body: dict[str, str] | None = None) -> httpx.Response:
        """Repeat a command until it is acknowledged."""
        command = Command(f"{self.name}-{next(self._numbers)}", method, path, body)
        self._ledger.open(command)
        for _ in range(int(GIVE_UP_SECONDS / PAUSE_SECONDS)):
            command.attempts += 1
            # Some don't wait until a change is visible: then nothing but the append itself can have
            # made it durable.
            prefer = {"Prefer": "respond-async"} if self._draw.random() < IMPATIENT else {}
            answer = self._send(method, path, body, {"Roster-Reason": command.reason, **prefer})
            if answer is not None and answer.is_success:
                self._ledger.close(command, int(answer.headers["Roster-Position"]))
                return answer
            if self._giving_up.wait(PAUSE_SECONDS):
                break
        raise AssertionError(f"{command} was never acknowledged")

    def _became(self, class_id: UUID, user: UUID, role: str, answer: httpx.Response) -> None:
        """Read what was acknowledged: at once where the answer says that it is visible, waiting for it where not."""
        self._ledger.members[class_id, user] = role
        wait = (
            f"?min_position={answer.headers['Roster-Position']}"
            if answer.status_code == 202
            else ""
        )
        read = self._send("GET", f"/v1/classes/{class_id}/members/{user}{wait}", None, {})
        if read is not None and read.is_success and read.json()["role"] != role:
            raise AssertionError(f"{user} is {role} in {class_id}, but was read as {read.json()}")

    def _send(
        self, method: str, path: str, body: dict[str, str] | None, headers: dict[str, str]
    ) -> httpx.Response | None:
        """Return the answer, None where none came; whatever is neither a success nor a well-formed 503 ends the caller."""
        try:
            answer = self._draw.choice(self._clients).request(
                method, path, json=body, headers=headers
            )
        except httpx.TransportError:
            self._ledger.count("none")
            return None
        self._ledger.count(
            str(answer.status_code), "" if answer.is_success else f"{method} {path}: {answer.text}"
        )
        if not answer.is_success and not _is_unavailable(answer):
            raise AssertionError(
                f"{method} {path} {body}: {answer.status_code} {answer.headers} {answer.text}"
            )
        return answer


def _is_unavailable(answer: httpx.Response) -> bool:
    return (
        answer.status_code == 503
        and int(answer.headers["Retry-After"]) > 0
        and answer.json()["type"].split("/")[-1] in UNAVAILABLE
    )

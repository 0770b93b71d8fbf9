"""A caller of the API: an HTTP client that makes what a test needs, and reads problems strictly."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx

MEMBERS = {"type", "title", "status", "detail", "request_id", "errors", "errors_count"}


class Api(httpx.Client):
    """Makes things over HTTP and returns their ids."""

    def new_group(self, name: str = "Lincoln Elementary") -> str:
        return self._created("/v1/groups", {"name": name})

    def new_user(self) -> str:
        return self._created("/v1/users", {})

    def new_users(self, count: int) -> list[str]:
        return [self.new_user() for _ in range(count)]

    def new_class(
        self, group_id: str | None = None, name: str = "Mathematics 7b", **fields: object
    ) -> str:
        return self._created(
            "/v1/classes", {"group_id": group_id or self.new_group(), "name": name, **fields}
        )

    def enrol(
        self, class_id: str, user_id: str | None = None, role: str = "student", **fields: object
    ) -> str:
        """Enrol a user, a new one where none is given, and return the user's id."""
        user_id = user_id or self.new_user()
        done(
            self.post(
                f"/v1/classes/{class_id}/members", json={"user_id": user_id, "role": role, **fields}
            ),
            201,
        )
        return user_id

    def read(self, path: str, **parameters: Any) -> Any:
        return done(self.get(path, params=parameters), 200).json()

    def items(self, path: str, **parameters: Any) -> list[Any]:
        """Return what is on one page that must be the only one."""
        page = self.read(path, **parameters)
        assert page["next_cursor"] is None
        items: list[Any] = page["items"]
        return items

    def pages(self, path: str, **parameters: Any) -> Iterator[list[Any]]:
        """Follow the cursors of a list to its end."""
        page = self.read(path, **parameters)
        yield page["items"]
        while page["next_cursor"] is not None:
            page = self.read(path, **parameters, cursor=page["next_cursor"])
            yield page["items"]

    def all(self, path: str, **parameters: Any) -> list[Any]:
        return [item for page in self.pages(path, **parameters) for item in page]

    @property
    def log_head(self) -> int:
        return int(self.read("/v1/projections")["head"])

    @contextmanager
    def nothing_recorded(self) -> Iterator[None]:
        head = self.log_head
        yield
        assert self.log_head == head

    def _created(self, path: str, body: dict[str, Any]) -> str:
        return str(done(self.post(path, json=body), 201).json()["id"])


def done(response: httpx.Response, status: int) -> httpx.Response:
    assert response.status_code == status, response.text
    return response


def position(response: httpx.Response) -> int:
    return int(response.headers["Roster-Position"])


def problem(response: httpx.Response, status: int, rule: str) -> dict[str, Any]:
    """Return a problem that is complete, of this status and with a `type` that ends in `rule`."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    found: dict[str, Any] = response.json()
    assert found.keys() == MEMBERS
    assert (response.status_code, found["status"], found["type"]) == (
        status,
        status,
        f"/problems/{rule}",
    ), response.text
    assert found["title"]
    assert found["detail"]
    assert found["request_id"] == response.headers["x-request-id"]
    return found


def error(response: httpx.Response) -> dict[str, Any]:
    """Return the one thing that is wrong with an invalid request."""
    (found,) = problem(response, 422, "invalid-request")["errors"]
    assert found["rule"]
    assert found["detail"]
    assert len(found) == 3
    assert len(found.keys() & {"pointer", "parameter", "header"}) == 1
    return dict(found)


def unknown_id() -> str:
    return str(uuid4())

"""What every program with a generated client needs, and no generator makes.

Copy this file into your own program.
"""

from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Protocol, TypeVar

from rosterlog_client.models import Problem
from rosterlog_client.types import UNSET, Unset

Answer = TypeVar("Answer")
Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


class Refused(Exception):
    """A refused request: `problem.type_` names the rule, `problem.detail` says what that means here."""

    def __init__(self, problem: Problem) -> None:
        """Keep the problem."""
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem = problem


class Response(Protocol):
    """What a generated call with `_detailed` in its name returns."""

    @property
    def status_code(self) -> HTTPStatus:
        """The status of the answer."""

    @property
    def content(self) -> bytes:
        """The body as it came."""

    @property
    def parsed(self) -> object:
        """The body as what it is by its status."""


def done(response: Response, kind: type[Answer]) -> Answer:
    """Return the answer of a response.

    Raises `Refused` for a problem, and `TypeError` for an answer of another kind.
    """
    if isinstance(response.parsed, kind):
        return response.parsed
    if isinstance(response.parsed, Problem):
        raise Refused(response.parsed)
    raise TypeError(
        f"{response.status_code} is no answer with {kind.__name__}: {response.content[:200]!r}"
    )


class Page(Protocol[Item_co]):
    """One page of a list, whatever it is a list of."""

    @property
    def items(self) -> Sequence[Item_co]:
        """What is on the page."""

    @property
    def next_cursor(self) -> str | None:
        """Where the next page begins, None on the last one."""


def pages(read: Callable[[str | Unset], Page[Item]]) -> Iterator[Item]:
    """Yield every item of a list; `read` asks for the page at a cursor, and for the first one at `UNSET`."""
    cursor: str | Unset | None = UNSET
    while cursor is not None:
        page = read(cursor)
        yield from page.items
        cursor = page.next_cursor

"""What one operation asks of a request, and what it gives."""

from dataclasses import dataclass

from pydantic import BaseModel

BODY_BYTES = 256 * 1024
"""Most bytes of a request's body."""
BULK_BODY_BYTES = 4 * 1024 * 1024
"""Most bytes of the body of a command about many things."""


@dataclass(frozen=True)
class Policy:
    """What one operation asks and gives."""

    scope: str | None
    """The scope that a token needs; None where no token is needed."""
    confinable: bool
    """Whether a token that is confined to groups may use the operation.

    An operation about things that belong to no single group is closed to such tokens.
    """
    offers: tuple[str, ...]
    """The media types of the answer, the usual one first.

    Empty where the answer has no content, or has the media type of a file.
    """
    body: int
    """Most bytes of the request's body; 0 where the operation takes none."""
    query: type[BaseModel] | None = None
    """The form of the query; None where the operation takes none."""
    versioned: bool = False
    """Whether If-Match may name the version of a thing that the change relies on."""

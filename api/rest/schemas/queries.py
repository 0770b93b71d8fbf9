"""What a caller asks for in a query."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from rosterlog.api.rest.schemas.fields import (
    Bound,
    EffectiveOn,
    EventType,
    Flag,
    Id,
    Integer,
    Moment,
    Order,
    Position,
    storable,
    trimmed,
)
from rosterlog.domain import values
from rosterlog.domain.values import Role


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Reading(_Query):
    """How to read: wait for a position of your own first."""

    min_position: Position | None = Field(
        None, description="Wait, at most 5 seconds, until the answer reflects this position."
    )


class ReadingAsOf(Reading):
    """How to read: now, or as of a moment of the past."""

    as_of: Moment | None = Field(
        None,
        description="The state at this time, inclusive, by recorded time.",
        examples=["2026-09-01T08:00:00Z"],
    )
    at_position: Position | None = Field(None, description="The state at this position of the log.")


class _Paged(_Query):
    limit: Integer = Field(100, ge=1, le=1000, description="Most items of a page.")
    cursor: str | None = Field(
        None, max_length=2000, description="`next_cursor` of the page before."
    )


class Page(Reading, _Paged):
    """Which page of a list."""


class PageAsOf(ReadingAsOf, _Paged):
    """Which page of a list, now or as of a moment of the past."""


class ClassPage(Page):
    """Which classes."""

    group_id: Id | None = None
    name: Annotated[str, AfterValidator(trimmed)] | None = None
    archived: Flag | None = Field(
        None, description="Only archived ones, or only those that are not; without it both."
    )


class MemberPage(PageAsOf):
    """Which members."""

    role: Role | None = None


class _HistoryPage(Reading, _Paged):
    type: EventType | None = Field(None, examples=["RoleChanged"])
    actor: Annotated[str, AfterValidator(trimmed)] | None = Field(
        None, max_length=values.ACTOR_LENGTH
    )
    source: Annotated[str, AfterValidator(storable)] | None = Field(None, max_length=100)
    since: Bound | None = Field(None, description="Recorded at this time or later.")
    until: Bound | None = Field(None, description="Recorded before this time.")
    order: Order = "asc"


class _OfClass(BaseModel):
    class_id: Id | None = Field(None, description="Entries with this `class_id`.")


class _OfUser(BaseModel):
    user_id: Id | None = Field(None, description="Entries with this `user_id`.")


class _OfGroup(BaseModel):
    group_id: Id | None = Field(None, description="Entries with this `group_id`.")


class HistoryPage(_OfGroup, _OfUser, _OfClass, _HistoryPage):
    """Which entries of the history of everything."""


# What the path names is no parameter, too: given twice, one of the two would have to count.
class ClassHistoryPage(_OfGroup, _OfUser, _HistoryPage):
    """Which entries of the history of a class."""


class UserHistoryPage(_OfGroup, _OfClass, _HistoryPage):
    """Which entries of the history of a user."""


class GroupHistoryPage(_OfUser, _OfClass, _HistoryPage):
    """Which entries of the history of a group."""


AnyHistoryPage = HistoryPage | ClassHistoryPage | UserHistoryPage | GroupHistoryPage


class FeedQuery(Reading):
    """What comes after which position."""

    after: Position = Field(
        0, description="The position of the last event that was seen; 0 for none."
    )
    limit: Integer = Field(
        100,
        ge=1,
        le=1000,
        description="Most events of a page; a stream of server-sent events has no pages.",
    )


class DiffQuery(Reading):
    """Between which moments: each a time or a position, the second being now where none is given."""

    from_: Moment | None = Field(
        None, alias="from", description="The first moment as a time, inclusive."
    )
    from_position: Position | None = Field(
        None, description="The first moment as a position of the log."
    )
    to: Moment | None = Field(None, description="The second moment as a time, inclusive.")
    to_position: Position | None = Field(
        None, description="The second moment as a position of the log."
    )


class Withdrawal(_Query):
    """From when a withdrawal counts, for the record."""

    effective_on: EffectiveOn | None = None

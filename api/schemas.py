"""What goes in and comes out over HTTP. The rules for values are the domain's; here they get their places in the OpenAPI document."""

import re
from datetime import date, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from domain import values
from domain.errors import InvalidValue
from domain.values import Role
from projections.projector import KNOWN_TOPICS

MATH, SCHOOL, ANNA = "5b6a1f0e-7c2d-4e8f-9a3b-1c2d3e4f5a6b", "0f9e8d7c-6b5a-4938-a7b6-c5d4e3f2a1b0", "a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d"
_TIME = "2026-09-01T08:00:00+00:00"

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,6})?([Zz]|[+-]\d{2}:\d{2})")


def _only_a_date(value: object) -> object:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise InvalidValue("effective_on", "date", "effective_on is a date such as 2026-09-01")
    return value


def _only_rfc3339(value: object) -> object:
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        return value
    hint = " (write + as %2B in a URL, or use Z)" if isinstance(value, str) and " " in value else ""
    raise InvalidValue("moment", "rfc3339", f"a time with seconds and offset is needed, such as 2026-09-01T08:00:00Z{hint}")


def _known_topic(value: str) -> str:
    if value not in KNOWN_TOPICS:
        raise InvalidValue("type", "one-of", f"type is one of {', '.join(KNOWN_TOPICS)}")
    return value


def _storable(value: str) -> str:
    return values.text(value, "value")


Name = Annotated[
    str, AfterValidator(values.name), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": values.NAME_LENGTH, "pattern": r"\S"})
]
SettingsObject = Annotated[dict[str, Any], AfterValidator(values.settings)]
EffectiveOn = Annotated[date, BeforeValidator(_only_a_date)]
Moment = Annotated[datetime, BeforeValidator(_only_rfc3339)]
Position = Annotated[int, Field(ge=0, le=2**63 - 1)]


class _Input(BaseModel):
    """What a caller sends: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


def _example(**fields: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [fields]})


_ABSENT: Any = Field(default_factory=lambda: None)


class Nothing(_Input):
    """No fields: the path says it all."""


class NewGroup(_Input):
    """A group to create. With an `id` of your own the request can be repeated safely."""

    model_config = _example(id=SCHOOL, name="Lincoln Elementary")
    id: UUID | None = None
    name: Name


class GroupChange(_Input):
    """A group's new name."""

    model_config = _example(name="Lincoln Elementary School")
    name: Name


class NewUser(_Input):
    """A user to register: an id, and nothing about the person."""

    model_config = _example(id=ANNA)
    id: UUID | None = None


class NewClass(_Input):
    """A class to create in a group. `settings` is any JSON object, at most 64 KiB and 32 levels."""

    model_config = _example(id=MATH, group_id=SCHOOL, name="Mathematics 7b", settings={"room": "2.14"})
    id: UUID | None = None
    group_id: UUID
    name: Name
    settings: SettingsObject = Field(default_factory=dict)


class ClassChange(_Input):
    """What to change of a class; what is not given stays. `settings` are replaced whole."""

    model_config = _example(name="Mathematics 7b (advanced)")
    # Absent is no change, null is refused: defaults are not validated, and what was given is read from `model_fields_set`.
    name: Name = _ABSENT
    settings: SettingsObject = _ABSENT
    group_id: UUID = _ABSENT


class NewClassMember(_Input):
    """A user to enrol in a class."""

    model_config = _example(user_id=ANNA, role="student")
    user_id: UUID
    role: Role
    effective_on: EffectiveOn | None = None


class RoleChange(_Input):
    """A member's new role."""

    model_config = _example(role="teacher")
    role: Role
    effective_on: EffectiveOn | None = None


class Group(BaseModel):
    """A group of classes: a school, a department."""

    model_config = _example(id=SCHOOL, name="Lincoln Elementary", created_at=_TIME, updated_at=_TIME, version=1)
    id: UUID
    name: str
    created_at: datetime
    updated_at: datetime
    version: int


class User(BaseModel):
    """Somebody who can be enrolled."""

    model_config = _example(id=ANNA, created_at=_TIME, version=1)
    id: UUID
    created_at: datetime
    version: int


class Class(BaseModel):
    """A class. `deleted_at` says since when it is archived; `updated_at` does not follow its roster, `version` does."""

    model_config = _example(
        id=MATH, group_id=SCHOOL, name="Mathematics 7b", settings={"room": "2.14"},
        created_at=_TIME, updated_at=_TIME, deleted_at="2027-06-30T12:00:00+00:00", version=4,
    )  # fmt: skip
    id: UUID
    group_id: UUID
    name: str
    settings: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    version: int


class ClassMember(BaseModel):
    """A membership as its class sees it. `created_at` is the time of the latest enrolment."""

    model_config = _example(id="b7e6d5c4-b3a2-8190-8f7e-6d5c4b3a2918", class_id=MATH, user_id=ANNA, role="student", created_at=_TIME)
    id: UUID
    class_id: UUID
    user_id: UUID
    role: Role
    created_at: datetime


class Membership(BaseModel):
    """A membership as its user sees it."""

    model_config = _example(class_id=MATH, class_name="Mathematics 7b", group_id=SCHOOL, role="student", created_at=_TIME)
    class_id: UUID
    class_name: str
    group_id: UUID
    role: Role
    created_at: datetime


class Skipped(BaseModel):
    """Why an event has no effect on the read tables, who decided that, and when."""

    reason: str
    actor: str
    at: datetime


class Event(BaseModel):
    """One entry of a history. `before` and `after` hold the fields that the event changed; `skipped` is there only where it is."""

    model_config = _example(
        position=5, version=2, recorded_at=_TIME, type="MemberEnrolled", actor="registrar-1", reason="moved here", source="api",
        request_id="0b0c6a3e-58ab-4f0e-8d51-0d7f8a8f3c11", class_id=MATH, user_id=ANNA, group_id=SCHOOL, effective_on="2026-09-01",
        before={}, after={"role": "student"},
    )  # fmt: skip
    position: int
    version: int
    recorded_at: datetime
    type: str
    actor: str
    reason: str | None
    source: str
    request_id: str | None
    class_id: UUID | None
    user_id: UUID | None
    group_id: UUID | None
    effective_on: date | None
    before: dict[str, Any]
    after: dict[str, Any]
    skipped: Skipped | None = None


class RosterRow(BaseModel):
    """A member of a class of a group; an empty class has one row without user, role and time."""

    model_config = _example(class_id=MATH, class_name="Mathematics 7b", user_id=ANNA, role="student", enrolled_at=_TIME)
    class_id: UUID
    class_name: str
    user_id: UUID | None
    role: Role | None
    enrolled_at: datetime | None


class DiffMember(BaseModel):
    """A membership that is there at one of the two moments only."""

    class_id: UUID
    user_id: UUID
    role: Role


class DiffRole(BaseModel):
    """A membership whose role is another one; `from` and `to` are roles."""

    class_id: UUID
    user_id: UUID
    from_: Role = Field(alias="from")
    to: Role


class DiffValue(BaseModel):
    """A value at the two moments; null where the class, or the class in the group, is not there."""

    from_: Any = Field(alias="from")
    to: Any


class DiffClass(BaseModel):
    """A class with its fields that differ: `group_id`, `name`, `settings`, `archived`."""

    class_id: UUID
    changes: dict[str, DiffValue]


class Diff(BaseModel):
    """What differs between two moments. Applied to the state at the first, it gives the state at the second."""

    model_config = _example(
        enrolled=[{"class_id": MATH, "user_id": ANNA, "role": "student"}], withdrawn=[], role_changed=[],
        classes=[{"class_id": MATH, "changes": {"name": {"from": "Mathematics 7b", "to": "Mathematics 7b (advanced)"}}}],
    )  # fmt: skip
    enrolled: list[DiffMember]
    withdrawn: list[DiffMember]
    role_changed: list[DiffRole]
    classes: list[DiffClass]


Item = TypeVar("Item")


class _List(BaseModel, Generic[Item]):
    items: list[Item]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last one.")


class GroupList(_List[Group]):
    """A page of groups, by name."""


class UserList(_List[User]):
    """A page of users, by id."""


class ClassList(_List[Class]):
    """A page of classes, by name."""


class ClassMemberList(_List[ClassMember]):
    """A page of a roster: teachers first, then by time of enrolment."""


class MembershipList(_List[Membership]):
    """A page of a user's memberships, by name of class."""


class EventList(_List[Event]):
    """A page of a history, by position."""


class RosterList(_List[RosterRow]):
    """All rosters of a group, by name of class, each teachers first; `next_cursor` is always null."""


class Feed(BaseModel):
    """A page of the feed. `after` is what to ask next, even when nothing came; `head` is the last position of the log."""

    items: list[Event]
    after: int
    head: int


class Accepted(BaseModel):
    """Recorded, and not yet visible in the reads: they will be at this `position` (see `min_position`)."""

    position: int
    id: UUID


class Skip(BaseModel):
    """An event that an operator told every projection to leave out, and what it failed with."""

    position: int
    topic: str
    reason: str
    actor: str
    skipped_at: datetime
    error: str


class Projections(BaseModel):
    """Where the projection stands, in positions of the log. `lag` is how many events it is behind; `skips` are left out."""

    head: int
    checkpoint: int
    lag: int
    leader: str | None
    state: Literal["following", "catching-up", "leaderless", "stalled"]
    progressed_at: datetime
    failing_position: int | None
    failing_since: datetime | None
    failure: str | None
    seconds_without_progress: float
    skips: list[Skip]


class RebuildStarted(BaseModel):
    """A rebuild that has begun."""

    id: UUID


class RebuildProgress(BaseModel):
    """Where the newest rebuild stands, in events."""

    id: UUID | None
    state: Literal["idle", "running", "done", "failed", "cancelled"]
    done: int
    total: int
    per_second: float | None
    seconds_left: float | None
    error: str | None


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Reading(_Query):
    """How to read: wait for a position of your own first."""

    min_position: Position | None = Field(None, description="Wait, at most 5 seconds, until the answer reflects this position.")


class ReadingAsOf(Reading):
    """How to read: now, or as of a moment of the past."""

    as_of: Moment | None = Field(
        None, description="The state at this time, inclusive, by recorded time.", examples=["2026-09-01T08:00:00Z"]
    )
    at_position: Position | None = Field(None, description="The state at this position of the log.")


class _Paged(_Query):
    limit: int = Field(100, ge=1, le=1000, description="Most items of a page.")
    cursor: str | None = Field(None, max_length=2000, description="`next_cursor` of the page before.")


class Page(Reading, _Paged):
    """Which page of a list."""


class PageAsOf(ReadingAsOf, _Paged):
    """Which page of a list, now or as of a moment of the past."""


class ClassPage(Page):
    """Which classes."""

    group_id: UUID | None = None
    name: Annotated[str, AfterValidator(_storable)] | None = None
    archived: bool | None = Field(None, description="Only archived ones, or only those that are not; without it both.")


class MemberPage(PageAsOf):
    """Which members."""

    role: Role | None = None


class HistoryPage(Reading, _Paged):
    """Which entries of a history."""

    type: Annotated[str, AfterValidator(_known_topic)] | None = Field(None, examples=["RoleChanged"])
    actor: Annotated[str, AfterValidator(_storable)] | None = Field(None, max_length=values.ACTOR_LENGTH)
    source: Annotated[str, AfterValidator(_storable)] | None = Field(None, max_length=100)
    class_id: UUID | None = Field(None, description="Entries with this `class_id`.")
    user_id: UUID | None = Field(None, description="Entries with this `user_id`.")
    group_id: UUID | None = Field(None, description="Entries with this `group_id`.")
    since: Moment | None = Field(None, description="Recorded at this time or later.")
    until: Moment | None = Field(None, description="Recorded before this time.")
    order: Literal["asc", "desc"] = "asc"


class FeedQuery(Reading):
    """What comes after which position."""

    after: Position = Field(0, description="The position of the last event that was seen; 0 for none.")
    limit: int = Field(100, ge=1, le=1000, description="Most events of a page; a stream of server-sent events has no pages.")


class DiffQuery(Reading):
    """Between which moments: each a time or a position, the second being now where none is given."""

    from_: Moment | None = Field(None, alias="from", description="The first moment as a time, inclusive.")
    from_position: Position | None = Field(None, description="The first moment as a position of the log.")
    to: Moment | None = Field(None, description="The second moment as a time, inclusive.")
    to_position: Position | None = Field(None, description="The second moment as a position of the log.")


class Withdrawal(_Query):
    """From when a withdrawal counts, for the record."""

    effective_on: EffectiveOn | None = None

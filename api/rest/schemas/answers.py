"""What the service answers."""

from datetime import date, datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, Field

from rosterlog.api.rest.schemas.fields import ABSENT, ANNA, MATH, SCHOOL, TIME, EventType, example
from rosterlog.domain.values import Role


class Group(BaseModel):
    """A group of classes: a school, a department."""

    model_config = example(
        id=SCHOOL, name="Lincoln Elementary", created_at=TIME, updated_at=TIME, version=1
    )
    id: UUID
    name: str
    created_at: datetime
    updated_at: datetime
    version: int


class User(BaseModel):
    """Somebody who can be enrolled."""

    model_config = example(id=ANNA, created_at=TIME, version=1)
    id: UUID
    created_at: datetime
    version: int


class Class(BaseModel):
    """A class.

    `deleted_at` says since when it is archived; `updated_at` does not follow its roster, `version`
    does.
    """

    model_config = example(
        id=MATH, group_id=SCHOOL, name="Mathematics 7b", settings={"room": "2.14"},
        created_at=TIME, updated_at=TIME, deleted_at="2027-06-30T12:00:00+00:00", version=4,
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

    model_config = example(
        id="b7e6d5c4-b3a2-8190-8f7e-6d5c4b3a2918",
        class_id=MATH,
        user_id=ANNA,
        role="student",
        created_at=TIME,
    )
    id: UUID
    class_id: UUID
    user_id: UUID
    role: Role
    created_at: datetime


class Membership(BaseModel):
    """A membership as its user sees it."""

    model_config = example(
        class_id=MATH, class_name="Mathematics 7b", group_id=SCHOOL, role="student", created_at=TIME
    )
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


class EventFields(BaseModel):
    """The fields that an event changed: each is there only where the event changed it."""

    group_id: UUID | None = Field(
        default_factory=lambda: None,
        description="Null for a group that the caller, confined to others, may not see.",
    )
    name: str = ABSENT
    settings: dict[str, Any] = ABSENT
    archived: bool = ABSENT
    role: Role = ABSENT


class Event(BaseModel):
    """One entry of a history.

    `before` and `after` hold the fields that the event changed; `skipped` is there only where it
    is.

    `digest` is the hash over the event and all those before it, in hexadecimal; docs/events.md says
    how to check it.
    """

    model_config = example(
        position=5, version=2, recorded_at=TIME, type="MemberEnrolled", actor="registrar-1", reason="moved here", source="api",
        request_id="0b0c6a3e-58ab-4f0e-8d51-0d7f8a8f3c11", class_id=MATH, user_id=ANNA, group_id=SCHOOL, effective_on="2026-09-01",
        before={}, after={"role": "student"}, digest="5f0c2b7a9d1e4c38a6b0f7d2e95c14738b6ad0fe21c94757d3e8f06ab92c1d40",
    )  # fmt: skip
    position: int
    version: int
    recorded_at: datetime
    type: EventType
    actor: str
    reason: str | None
    source: str
    request_id: str | None
    class_id: UUID | None
    user_id: UUID | None
    group_id: UUID | None
    effective_on: date | None
    before: EventFields
    after: EventFields
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    skipped: Skipped = ABSENT


class RosterRow(BaseModel):
    """A member of a class of a group; an empty class has one row without user, role and time."""

    model_config = example(
        class_id=MATH, class_name="Mathematics 7b", user_id=ANNA, role="student", enrolled_at=TIME
    )
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


Value = TypeVar("Value")


class _DiffOf(BaseModel, Generic[Value]):
    from_: Value | None = Field(alias="from")
    to: Value | None


class DiffId(_DiffOf[UUID]):
    """An id at the two moments; null where the class, or the class in the group, is not there."""


class DiffText(_DiffOf[str]):
    """A text at the two moments; null where the class, or the class in the group, is not there."""


class DiffObject(_DiffOf[dict[str, Any]]):
    """An object at the two moments; null where the class, or the class in the group, is not there."""


class DiffFlag(_DiffOf[bool]):
    """True or false at the two moments; null where the class, or the class in the group, is not there."""


class DiffFields(BaseModel):
    """The fields of a class that differ."""

    group_id: DiffId = ABSENT
    name: DiffText = ABSENT
    settings: DiffObject = ABSENT
    archived: DiffFlag = ABSENT


class DiffClass(BaseModel):
    """A class with its fields that differ."""

    class_id: UUID
    changes: DiffFields


class Diff(BaseModel):
    """What differs between two moments.

    Applied to the state at the first, it gives the state at the second.
    """

    model_config = example(
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
    next_cursor: str | None = Field(
        description="Give it as `cursor` for the next page; null on the last one."
    )


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
    """A page of the feed.

    `after` is what to ask next, even when nothing came; `head` is the last position of the log.
    """

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
    """Where the projection stands, in positions of the log.

    `lag` is how many events it is behind; `skips` are left out.
    """

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


class Ready(BaseModel):
    """Whether this process serves, where the projection stands, and what is not as it should be."""

    model_config = example(status="ready", state="following", degraded=[])
    status: Literal["ready"]
    state: Literal["following", "catching-up", "leaderless", "stalled", "unknown"]
    degraded: list[
        Literal[
            "reads-unavailable",
            "writes-unavailable",
            "release-outdated",
            "state-unknown",
            "projection-stalled",
            "projection-leaderless",
            "replica-unavailable",
            "keys-unreadable",
        ]
    ]


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


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"]


class Start(BaseModel):
    """Where to go from here: paths."""

    service: Literal["rosterlog"]
    api: str
    openapi: str
    health: str
    ready: str
    metrics: str
    classes: str

"""What goes in and comes out of commands about many things, and how an item whose form is wrong is refused without its neighbours."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, TypeAdapter, ValidationError

from api import problems
from api.problems import Problem
from api.schemas.fields import ABSENT, ANNA, MATH, EffectiveOn
from domain.bulk import MOST_ITEMS, Enrolment, Items, Member, Refused, Registration
from domain.errors import InvalidValue
from domain.values import Role

_INPUT = ConfigDict(extra="forbid")


class NewEnrolment(BaseModel):
    """A user to enrol in a class."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"class_id": MATH, "user_id": ANNA, "role": "student"}]})
    class_id: UUID
    user_id: UUID
    role: Role
    effective_on: EffectiveOn | None = None


class NewRegistration(BaseModel):
    """A user to register."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"id": ANNA}]})
    id: UUID


class RosterMember(BaseModel):
    """A member of a roster to be."""

    model_config = _INPUT
    user_id: UUID
    role: Role


class NewEnrolments(BaseModel):
    """Up to 10,000 enrolments. An item that is wrong is refused alone."""

    model_config = _INPUT
    items: Annotated[list[SkipValidation[NewEnrolment]], Field(max_length=MOST_ITEMS)]


class NewRegistrations(BaseModel):
    """Up to 10,000 users. An item that is wrong is refused alone."""

    model_config = _INPUT
    items: Annotated[list[SkipValidation[NewRegistration]], Field(max_length=MOST_ITEMS)]


class Roster(BaseModel):
    """All members that a class is to have; whoever is not named is withdrawn."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"members": [{"user_id": ANNA, "role": "student"}]}]})
    members: Annotated[list[RosterMember], Field(max_length=MOST_ITEMS)]


class Atomic(BaseModel):
    """All or nothing, or each item for itself."""

    model_config = _INPUT
    atomic: bool = Field(default=False, description="Record nothing where one item is refused.")


class RosterOptions(BaseModel):
    """How to set a roster."""

    model_config = _INPUT
    dry_run: bool = Field(default=False, description="Show what would change, and record nothing.")
    max_withdrawals: int | None = Field(None, ge=0, le=2**31, description="Refuse a roster that would withdraw more members than this.")


class RosterChange(BaseModel):
    """One change of a membership."""

    user_id: UUID
    change: Literal["enrolled", "role_changed", "withdrawn"]
    role: Role | None
    previous_role: Role | None


class RosterChanges(BaseModel):
    """What setting a roster changed, or would change: how many, and each in order."""

    enrolled: int
    role_changed: int
    withdrawn: int
    unchanged: int
    changes: list[RosterChange]
    position: int


class EnrolmentOutcome(BaseModel):
    """What became of one item, with what it named."""

    index: int
    class_id: Any
    user_id: Any
    outcome: Literal["enrolled", "unchanged", "refused"]
    problem: Problem = ABSENT


class EnrolmentOutcomes(BaseModel):
    """What became of each item, in order."""

    position: int
    enrolled: int
    unchanged: int
    refused: int
    items: list[EnrolmentOutcome]


class RegistrationOutcome(BaseModel):
    """What became of one item, with what it named."""

    index: int
    id: Any
    outcome: Literal["registered", "unchanged", "refused"]
    problem: Problem = ABSENT


class RegistrationOutcomes(BaseModel):
    """What became of each item, in order."""

    position: int
    registered: int
    unchanged: int
    refused: int
    items: list[RegistrationOutcome]


_ENROLMENTS, _REGISTRATIONS = TypeAdapter(NewEnrolment), TypeAdapter(NewRegistration)
_Form = TypeVar("_Form", NewEnrolment, NewRegistration)
_Item = TypeVar("_Item", Enrolment, Registration)


def members(roster: Roster) -> Items[Member]:
    """Return the members to be. Raises `InvalidValue` for one who is named twice."""
    named: set[UUID] = set()
    for index, member in enumerate(roster.members):
        if member.user_id in named:
            raise InvalidValue(f"members/{index}/user_id", "unique", f"user {member.user_id} is named twice")
        named.add(member.user_id)
    return Items([Member(member.user_id, member.role) for member in roster.members])


def enrolments(given: Sequence[Any]) -> Items[Enrolment]:
    """Return what to enrol; an item whose form is wrong is refused, and the others go on."""
    return _items(given, _ENROLMENTS, lambda form: Enrolment(form.class_id, form.user_id, form.role, form.effective_on))


def registrations(given: Sequence[Any]) -> Items[Registration]:
    """Return whom to register; an item whose form is wrong is refused, and the others go on."""
    return _items(given, _REGISTRATIONS, lambda form: Registration(form.id))


def _items(given: Sequence[Any], form: TypeAdapter[_Form], make: Callable[[_Form], _Item]) -> Items[_Item]:
    def item(index: int, one: Any) -> _Item | Refused:
        try:
            return make(form.validate_python(one))
        except ValidationError as wrong:
            detail = problems.summary(problems.errors_of(wrong.errors(), "body"))
            return Refused("invalid-request", detail, problems.errors_of(wrong.errors(), "body", "items", index))

    return Items([item(index, one) for index, one in enumerate(given)])


def enrolled(given: Sequence[Any], outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how many items came to what, and each item's outcome beside what it named."""
    return {**_counts(outcomes, "enrolled"), "items": _answered(given, outcomes, "class_id", "user_id")}


def registered(given: Sequence[Any], outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how many items came to what, and each item's outcome beside what it named."""
    return {**_counts(outcomes, "registered"), "items": _answered(given, outcomes, "id")}


def _counts(outcomes: Sequence[Mapping[str, Any]], success: str) -> dict[str, int]:
    counts = Counter(one["outcome"] for one in outcomes)
    return {kind: counts[kind] for kind in (success, "unchanged", "refused")}


def _answered(given: Sequence[Any], outcomes: Sequence[Mapping[str, Any]], *named: str) -> list[dict[str, Any]]:
    answers = []
    for index, (item, outcome) in enumerate(zip(given, outcomes, strict=True)):
        fields = item if isinstance(item, Mapping) else {}
        answer = {"index": index, **{name: fields.get(name) for name in named}, "outcome": outcome["outcome"]}
        if outcome["outcome"] == "refused":
            answer["problem"] = problems.document(outcome["rule"], None, outcome["detail"], outcome.get("errors", ()))
        answers.append(answer)
    return answers

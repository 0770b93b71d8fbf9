"""What goes in and comes out of commands about many things, and how an item whose form is wrong is refused without its neighbours."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, TypeAdapter, ValidationError

from rosterlog.api.http import problems
from rosterlog.api.http.endpoints import refuse_many_fields
from rosterlog.api.http.problems import MOST_ERRORS, InvalidForm, Problem
from rosterlog.api.http.strict_json import BadJson
from rosterlog.api.rest.schemas.fields import ABSENT, ANNA, MATH, EffectiveOn, Flag, Id, Integer
from rosterlog.domain.bulk import outcomes
from rosterlog.domain.items import MOST_ITEMS, Enrolment, Items, Member, Refused, Registration
from rosterlog.domain.values import Role

_INPUT = ConfigDict(extra="forbid")
_ECHO_LENGTH = 100
"""Most characters of an id in any spelling, with room to spare: what is longer is not repeated in an answer."""


class NewEnrolment(BaseModel):
    """A user to enrol in a class."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"class_id": MATH, "user_id": ANNA, "role": "student"}]},
    )
    class_id: Id
    user_id: Id
    role: Role
    effective_on: EffectiveOn | None = None


class NewRegistration(BaseModel):
    """A user to register."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"id": ANNA}]})
    id: Id


class RosterMember(BaseModel):
    """A member of a roster to be."""

    model_config = _INPUT
    user_id: Id
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

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"members": [{"user_id": ANNA, "role": "student"}]}]},
    )
    members: Annotated[list[SkipValidation[RosterMember]], Field(max_length=MOST_ITEMS)]


class Atomic(BaseModel):
    """All or nothing, or each item for itself."""

    model_config = _INPUT
    atomic: Flag = Field(default=False, description="Record nothing where one item is refused.")


class RosterOptions(BaseModel):
    """How to set a roster."""

    model_config = _INPUT
    dry_run: Flag = Field(default=False, description="Show what would change, and record nothing.")
    max_withdrawals: Integer | None = Field(
        None,
        ge=0,
        le=2**31,
        description="Refuse a roster that would withdraw more members than this. Without it, an empty roster is refused, "
        "and five or more withdrawals that are over half of the members.",
    )


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
    """What became of one item, with what it named; null where that can't be an id."""

    index: int
    class_id: str | None
    user_id: str | None
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
    """What became of one item, with what it named; null where that can't be an id."""

    index: int
    id: str | None
    outcome: Literal["registered", "unchanged", "refused"]
    problem: Problem = ABSENT


class RegistrationOutcomes(BaseModel):
    """What became of each item, in order."""

    position: int
    registered: int
    unchanged: int
    refused: int
    items: list[RegistrationOutcome]


_ENROLMENTS, _REGISTRATIONS, _MEMBERS = (
    TypeAdapter(NewEnrolment),
    TypeAdapter(NewRegistration),
    TypeAdapter(RosterMember),
)
_Form = TypeVar("_Form", NewEnrolment, NewRegistration, RosterMember)
_Item = TypeVar("_Item", Enrolment, Registration)


def members(given: Sequence[Any], pointer: str = "/members") -> Items[Member]:
    """Return the members to be.

    Raises `InvalidForm`, which names those whose form is wrong, or who are named twice.

    `pointer` is where they stand.
    """
    found: list[Member] = []
    named: set[UUID] = set()
    errors: list[Mapping[str, Any]] = []
    count = 0
    for index, one in enumerate(given):
        member = _formed(one, _MEMBERS, pointer, index)
        if isinstance(member, RosterMember) and member.user_id in named:
            detail = f"user {member.user_id} is named twice"
            member = InvalidForm(
                [{"pointer": f"{pointer}/{index}/user_id", "rule": "unique", "detail": detail}]
            )
        if isinstance(member, InvalidForm):
            count += member.count
            errors += member.errors if len(errors) < MOST_ERRORS else ()
        else:
            named.add(member.user_id)
            found.append(Member(member.user_id, member.role))
    if errors:
        raise InvalidForm(errors, count)
    return Items(found)


def enrolments(given: Sequence[Any]) -> Items[Enrolment]:
    """Return what to enrol; an item whose form is wrong is refused, and the others go on."""
    return _items(
        given,
        _ENROLMENTS,
        lambda form: Enrolment(form.class_id, form.user_id, form.role, form.effective_on),
    )


def registrations(given: Sequence[Any]) -> Items[Registration]:
    """Return whom to register; an item whose form is wrong is refused, and the others go on."""
    return _items(given, _REGISTRATIONS, lambda form: Registration(form.id))


def _items(
    given: Sequence[Any], form: TypeAdapter[_Form], make: Callable[[_Form], _Item]
) -> Items[_Item]:
    items: list[_Item | Refused] = []
    shown = 0
    for index, one in enumerate(given):
        formed = _formed(one, form, "/items", index)
        if isinstance(formed, InvalidForm):
            # All items together name so many errors as one answer may; the others say how many
            # there are.
            errors = formed.errors[: MOST_ERRORS - shown]
            shown += len(errors)
            items.append(Refused("invalid-request", _summary(formed, index), errors, formed.count))
        else:
            items.append(make(formed))
    made = Items(items)
    _ = made.streams  # found here, apart from the event loop, and remembered
    return made


def _formed(one: Any, form: TypeAdapter[_Form], pointer: str, index: int) -> _Form | InvalidForm:
    """Return an item in its form, or what is wrong with it."""
    try:
        refuse_many_fields(one)
        return form.validate_python(one)
    except BadJson as wrong:
        return InvalidForm(
            [{"pointer": f"{pointer}/{index}", "rule": wrong.rule, "detail": wrong.detail}]
        )
    except ValidationError as wrong:
        return InvalidForm(problems.errors_of(wrong, "body", *pointer.split("/")[1:], index))


def _summary(wrong: InvalidForm, index: int) -> str:
    """Return what is wrong with an item, in words that do not repeat its place."""
    own = [
        {**error, "detail": error["detail"].removeprefix(f"items/{index}/")}
        for error in wrong.errors
    ]
    return problems.summary(own, wrong.count)


def enrolled(
    given: Sequence[Any], items: Items[Enrolment], result: Mapping[str, Any]
) -> dict[str, Any]:
    """Return how many items came to what, and each item's outcome beside what it named."""
    return _answered(given, outcomes(items, result), "enrolled", "class_id", "user_id")


def registered(
    given: Sequence[Any], items: Items[Registration], result: Mapping[str, Any]
) -> dict[str, Any]:
    """Return how many items came to what, and each item's outcome beside what it named."""
    return _answered(given, outcomes(items, result), "registered", "id")


def _answered(
    given: Sequence[Any], found: Sequence[Mapping[str, Any]], success: str, *named: str
) -> dict[str, Any]:
    counts = Counter(one["outcome"] for one in found)
    answers = []
    for index, (item, outcome) in enumerate(zip(given, found, strict=True)):
        fields = item if isinstance(item, Mapping) else {}
        answer = {
            "index": index,
            **{name: _echo(fields.get(name)) for name in named},
            "outcome": outcome["outcome"],
        }
        if outcome["outcome"] == "refused":
            answer["problem"] = problems.document(
                outcome["rule"],
                None,
                outcome["detail"],
                outcome.get("errors", ()),
                count=outcome.get("count"),
            )
        answers.append(answer)
    return {**{kind: counts[kind] for kind in (success, "unchanged", "refused")}, "items": answers}


def _echo(value: object) -> str | None:
    """Return what an item named if it can be an id in some spelling; an answer repeats no others, of whatever length."""
    return (
        value if isinstance(value, str) and len(value) <= _ECHO_LENGTH and value.isascii() else None
    )

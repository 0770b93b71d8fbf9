"""Deciding about many things in one command: a whole roster, many enrolments, many users.

What comes of it is plain JSON, so that it can be kept and given again. It is kept small: what a
request says itself is not repeated, because whoever asks again for what came of a request sends the
same one.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from rosterlog.domain.classes import Class
from rosterlog.domain.deciding.outcome import Result
from rosterlog.domain.deciding.unit_of_work import UnitOfWork
from rosterlog.domain.errors import (
    DomainError,
    IdTaken,
    ItemsRefused,
    MembersRefused,
    TooManyWithdrawals,
    UserUnknown,
)
from rosterlog.domain.items import Enrolment, Item, Items, Member, Refused, Registration
from rosterlog.domain.users import User
from rosterlog.domain.values import Provenance

FEW_WITHDRAWALS = 4
"""Withdrawals that need no permission (design: five or more that are over half of a roster are not allowed without)."""

ENROLLED, REGISTERED, UNCHANGED, REFUSED = "enrolled", "registered", "unchanged", "refused"


def enrol_all(
    work: UnitOfWork, batch: UUID, enrolments: Items[Enrolment], by: Provenance, *, atomic: bool
) -> Result:
    """Decide about each enrolment on what those before it left.

    Raises `ItemsRefused` where `atomic` and one is refused.
    """

    def enrol(item: Enrolment) -> str:
        class_ = work.class_(item.class_id)
        work.check_user(item.user_id)
        class_.enrol(item.user_id, item.role, by, item.effective_on)
        return ENROLLED if work.record(class_) else UNCHANGED

    return _each(batch, enrolments, enrol, atomic=atomic)


def register_all(
    work: UnitOfWork,
    batch: UUID,
    registrations: Items[Registration],
    by: Provenance,
    *,
    atomic: bool,
) -> Result:
    """Decide about each user. Raises `ItemsRefused` where `atomic` and one is refused."""

    def register(item: Registration) -> str:
        if work.exists(item.user_id):
            work.look(User, item.user_id, IdTaken)
            work.check_user(item.user_id)
            return UNCHANGED
        work.record(User.register(item.user_id, by))
        return REGISTERED

    return _each(batch, registrations, register, atomic=atomic)


def _each(
    batch: UUID, items: Items[Item], decide: Callable[[Item], str], *, atomic: bool
) -> Result:
    kinds: dict[tuple[str, ...], int] = {}
    came_to = [kinds.setdefault(_kind(item, decide), len(kinds)) for item in items.items]
    found = [list(kind) for kind in kinds]
    result = {"kinds": found, "items": came_to}
    refused = sum(found[kind][0] == REFUSED for kind in came_to)
    if atomic and refused:
        raise ItemsRefused(result, refused, len(came_to))
    return Result(batch, None, result)


def _kind(item: Item | Refused, decide: Callable[[Item], str]) -> tuple[str, ...]:
    """Return what an item comes to: its outcome; of a refused one the rule, too, and the sentence with places for what the item names."""
    if isinstance(item, Refused):
        return REFUSED, item.rule
    try:
        return (decide(item),)
    except DomainError as refused:
        sentence = str(refused)
        for index, stream in enumerate(item.streams):
            sentence = sentence.replace(str(stream), _PLACE.format(index))
        return REFUSED, refused.rule, sentence


_PLACE = "{{{}}}"
"""Where a sentence names what its item names first (`{0}`), second (`{1}`)."""


def outcomes(items: Items[Item], result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what became of each item, as `outcome`, and of a refused one as `rule`, `detail`, `errors` and `count`.

    `items` are those of the request, `result` is what its command came to, now or when it was first
    given.
    """
    kinds = result.get("kinds", ())
    # Kept by a release before this one, at most 24 hours ago, an item is written out.
    return [
        one if isinstance(one, dict) else _outcome(item, kinds[one])
        for item, one in zip(items.items, result["items"], strict=True)
    ]


def _outcome(item: Item | Refused, kind: Sequence[str]) -> dict[str, Any]:
    if isinstance(item, Refused):
        return {
            "outcome": REFUSED,
            "rule": item.rule,
            "detail": item.detail,
            "errors": item.errors,
            "count": item.count,
        }
    if kind[0] != REFUSED:
        return {"outcome": kind[0]}
    detail = kind[2]
    for index, stream in enumerate(item.streams):
        detail = detail.replace(_PLACE.format(index), str(stream))
    return {"outcome": REFUSED, "rule": kind[1], "detail": detail, "errors": (), "count": 0}


@dataclass(frozen=True)
class RosterRules:
    """How a roster is set: really or as a dry run, and how many withdrawals are allowed at most.

    Without `max_withdrawals`, it is half of the roster, but so many as are `few` in any case; and
    none where nobody is to stay.
    """

    dry_run: bool = False
    max_withdrawals: int | None = None
    few: int = FEW_WITHDRAWALS

    def allowed(self, present: int, wanted: int) -> int:
        """Return how many of the `present` members may be withdrawn for a roster of `wanted` ones."""
        if self.max_withdrawals is not None:
            return self.max_withdrawals
        return max(self.few, present // 2) if wanted else 0


def set_roster(
    work: UnitOfWork, class_: Class, members: Items[Member], by: Provenance, rules: RosterRules
) -> Result:
    """Decide on the fewest events that lead to these members.

    Raises `MembersRefused`, naming each that can't be a member, `TooManyWithdrawals`,
    `ClassArchived`.
    """
    _refuse_unfit(work, members.items)
    wanted = {member.user_id: member.role for member in members.items if isinstance(member, Member)}
    work.fetch(class_.members)
    present = [user for user in class_.members if not work.look(User, user, UserUnknown).removed]
    withdrawn = [user for user in present if user not in wanted]
    version = work.version(class_)
    for user in withdrawn:
        class_.withdraw(user, by)
    for user, role in wanted.items():
        class_.change_role(user, role, by) if user in class_.members else class_.enrol(
            user, role, by
        )
    allowed = rules.allowed(len(present), len(wanted))
    if len(withdrawn) > allowed:
        raise TooManyWithdrawals(withdrawals=len(withdrawn), members=len(present), allowed=allowed)
    changes = [_change(event) for event in class_.pending_events]
    if not rules.dry_run:
        work.record(class_)
        version = work.version(class_)
    kinds = Counter(change["change"] for change in changes)
    counts = {kind: kinds[kind] for kind in ("enrolled", "role_changed", "withdrawn")}
    unchanged = len(wanted) - kinds["enrolled"] - kinds["role_changed"]
    return Result(class_.id, version, {**counts, "unchanged": unchanged, "changes": changes})


def _refuse_unfit(work: UnitOfWork, members: Sequence[Member | Refused]) -> None:
    refused = []
    for index, member in enumerate(members):
        try:
            if isinstance(member, Member):
                work.check_user(member.user_id)
        except DomainError as unfit:
            refused.append(
                {"pointer": f"/members/{index}", "rule": unfit.rule, "detail": str(unfit)}
            )
    if refused:
        raise MembersRefused(refused)


def _change(event: Any) -> dict[str, Any]:
    role, previous = event.role, None
    match event:
        case Class.MemberWithdrawn():
            kind, role, previous = "withdrawn", None, event.role
        case Class.RoleChanged():
            kind, previous = "role_changed", event.previous_role
        case _:
            kind = "enrolled"
    return {"user_id": str(event.user_id), "change": kind, "role": role, "previous_role": previous}

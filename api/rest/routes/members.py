"""The roster of a class."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from rosterlog.api.http.bodies import apart
from rosterlog.api.rest import answers, memberships
from rosterlog.api.rest import bulk_items as bulk
from rosterlog.api.rest.bulk_items import Roster, RosterChanges, RosterOptions
from rosterlog.api.rest.commands import Command, CommandRoute, Serving
from rosterlog.api.rest.openapi import documented
from rosterlog.api.rest.schemas.answers import ClassMember, ClassMemberList
from rosterlog.api.rest.schemas.bodies import NewClassMember, RoleChange
from rosterlog.api.rest.schemas.fields import Id
from rosterlog.api.rest.schemas.queries import MemberPage, ReadingAsOf, Withdrawal
from rosterlog.domain.bulk import RosterRules
from rosterlog.domain.deciding.outcome import Outcome
from rosterlog.projections.reading import queries

router = APIRouter(
    prefix="/v1/classes/{class_id}/members", tags=["members"], route_class=CommandRoute
)


async def _answer(
    command: Command,
    outcome: Outcome,
    class_id: UUID,
    user_id: UUID,
    *,
    location: str | None = None,
) -> Response:
    return await command.answer(
        outcome, queries.MEMBER_BY_ID, {"class_id": class_id, "user_id": user_id}, location=location
    )


@router.post(
    "",
    operation_id="enrolMember",
    response_model=ClassMember,
    status_code=201,
    responses=documented.command(404, 410, 412, success=(200, 201)),
)
async def enrol_member(class_id: Id, new: NewClassMember, command: Command) -> Response:
    """Enrol a user.

    One who is enrolled so already stays so, with 200; one in another role is refused: change the
    role.
    """
    outcome = await command.give(
        command.roster.enrol.prepared(
            class_id,
            new.user_id,
            new.role,
            command.by,
            effective_on=new.effective_on,
            expected=command.expected,
        )
    )
    location = f"/v1/classes/{class_id}/members/{new.user_id}"
    if outcome.recorded_at is None:
        return await _answer(command, outcome, class_id, new.user_id, location=location)
    return await command.answer_created(
        outcome,
        memberships.enrolled(class_id, new.user_id, new.role, outcome.recorded_at),
        location,
    )


@router.put(
    "",
    operation_id="setMembers",
    response_model=RosterChanges,
    responses=documented.command_on_many(RosterChanges, 404, 410, 412),
)
async def set_members(
    class_id: Id, roster: Roster, options: Annotated[RosterOptions, Query()], command: Command
) -> Response:
    """Set the whole roster by the fewest changes, in one append.

    `dry_run` shows them; `max_withdrawals` refuses half a roster.

    Without `max_withdrawals`, an empty roster is refused, and five or more withdrawals that are
    over half of the members.
    """
    command = command.unkept() if options.dry_run else command
    outcome = await command.give(
        command.roster.set_members.prepared(
            class_id,
            await apart(bulk.members, roster.members),
            command.by,
            rules=RosterRules(options.dry_run, options.max_withdrawals),
            expected=command.expected,
        )
    )
    return await command.answer_many(outcome, outcome.result or {}, version=outcome.version)


@router.patch(
    "/{user_id}",
    operation_id="changeRole",
    response_model=ClassMember,
    responses=documented.command(404, 410, 412),
)
async def change_role(class_id: Id, user_id: Id, change: RoleChange, command: Command) -> Response:
    """Give a member another role; the membership stays the same."""
    outcome = await command.give(
        command.roster.change_role.prepared(
            class_id,
            user_id,
            change.role,
            command.by,
            effective_on=change.effective_on,
            expected=command.expected,
        )
    )
    return await _answer(command, outcome, class_id, user_id)


@router.delete(
    "/{user_id}",
    operation_id="withdrawMember",
    status_code=204,
    responses=documented.command(404, 412, success=(204,)),
)
async def withdraw_member(
    class_id: Id, user_id: Id, withdrawal: Annotated[Withdrawal, Query()], command: Command
) -> Response:
    """Withdraw a user from the class; one who is no member stays none."""
    outcome = await command.give(
        command.roster.withdraw.prepared(
            class_id,
            user_id,
            command.by,
            effective_on=withdrawal.effective_on,
            expected=command.expected,
        )
    )
    return await command.answer_ended(outcome)


@router.get(
    "",
    operation_id="listMembers",
    response_model=ClassMemberList,
    responses=documented.read(404, 410),
)
async def list_members(
    request: Request, class_id: Id, page: Annotated[MemberPage, Query()], service: Serving
) -> Response:
    """Read the roster of a class, teachers first, now or as of a moment of the past."""
    return await answers.roster(request, service.listings(page), class_id, page)


@router.get(
    "/{user_id}",
    operation_id="getMember",
    response_model=ClassMember,
    responses=documented.read(404, 410),
)
async def get_member(
    request: Request,
    class_id: Id,
    user_id: Id,
    reading: Annotated[ReadingAsOf, Query()],
    service: Serving,
) -> Response:
    """Read one membership, now or as of a moment of the past."""
    return await answers.thing(
        request,
        service.reads,
        queries.MEMBER_BY_ID,
        {"class_id": class_id, "user_id": user_id},
        reading,
    )

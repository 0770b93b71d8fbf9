"""Many things in one command, each with its own outcome."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from rosterlog.api.http import problems
from rosterlog.api.http.bodies import apart
from rosterlog.api.rest import bulk_items as bulk
from rosterlog.api.rest.bulk_items import (
    Atomic,
    EnrolmentOutcomes,
    NewEnrolments,
    NewRegistrations,
    RegistrationOutcomes,
)
from rosterlog.api.rest.commands import Command, CommandRoute
from rosterlog.api.rest.openapi import documented
from rosterlog.domain.errors import ItemsRefused

router = APIRouter(prefix="/v1", tags=["bulk"], route_class=CommandRoute)


@router.post(
    "/enrolments",
    operation_id="enrolMany",
    response_model=EnrolmentOutcomes,
    responses=documented.command_on_items(EnrolmentOutcomes),
)
async def enrol_many(
    new: NewEnrolments, options: Annotated[Atomic, Query()], command: Command
) -> Response:
    """Enrol up to 10,000 users in any classes, in one append.

    Each item has its own outcome; with `atomic` it is all or nothing.
    """
    items = await apart(bulk.enrolments, new.items)
    try:
        outcome = await command.give(
            command.roster.enrol_many.prepared(command.id, items, command.by, atomic=options.atomic)
        )
    except ItemsRefused as refused:
        more = await apart(bulk.enrolled, new.items, items, refused.result)
        return problems.refuse(command.request, refused, more)
    return await command.answer_many(
        outcome, await apart(bulk.enrolled, new.items, items, outcome.result or {})
    )


@router.post(
    "/users/batch",
    operation_id="registerMany",
    response_model=RegistrationOutcomes,
    responses=documented.command_on_items(RegistrationOutcomes),
)
async def register_many(
    new: NewRegistrations, options: Annotated[Atomic, Query()], command: Command
) -> Response:
    """Register up to 10,000 users, in one append.

    Each item has its own outcome; with `atomic` it is all or nothing.
    """
    items = await apart(bulk.registrations, new.items)
    try:
        outcome = await command.give(
            command.roster.register_many.prepared(
                command.id, items, command.by, atomic=options.atomic
            )
        )
    except ItemsRefused as refused:
        more = await apart(bulk.registered, new.items, items, refused.result)
        return problems.refuse(command.request, refused, more)
    return await command.answer_many(
        outcome, await apart(bulk.registered, new.items, items, outcome.result or {})
    )

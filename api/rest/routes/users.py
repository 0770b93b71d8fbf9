"""Users, their memberships and their history."""

from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from rosterlog.api.rest import answers
from rosterlog.api.rest.commands import Command, CommandRoute, Serving
from rosterlog.api.rest.openapi import documented
from rosterlog.api.rest.schemas.answers import EventList, MembershipList, User, UserList
from rosterlog.api.rest.schemas.bodies import NewUser
from rosterlog.api.rest.schemas.fields import Id
from rosterlog.api.rest.schemas.queries import Page, PageAsOf, ReadingAsOf, UserHistoryPage
from rosterlog.projections.reading import history, queries

router = APIRouter(prefix="/v1/users", tags=["users"], route_class=CommandRoute)


@router.post(
    "",
    operation_id="registerUser",
    response_model=User,
    status_code=201,
    responses=documented.command(success=(200, 201)),
)
async def register_user(new: NewUser, command: Command) -> Response:
    """Register a user. Again with the same `id` it answers 200."""
    outcome = await command.give(
        command.roster.register_user.prepared(new.id or uuid4(), command.by)
    )
    return await command.answer(
        outcome, queries.USER_BY_ID, {"user_id": outcome.id}, location=f"/v1/users/{outcome.id}"
    )


@router.delete(
    "/{user_id}",
    operation_id="removeUser",
    status_code=204,
    responses=documented.command(404, 412, success=(204,)),
)
async def remove_user(user_id: Id, command: Command) -> Response:
    """Remove a user for good, with all memberships."""
    return await command.answer_ended(
        await command.give(
            command.roster.remove_user.prepared(user_id, command.by, expected=command.expected)
        )
    )


@router.get("", operation_id="listUsers", response_model=UserList, responses=documented.read())
async def list_users(
    request: Request, page: Annotated[Page, Query()], service: Serving
) -> Response:
    """List the users, by id."""
    return await answers.listing(request, service.reads, queries.USERS, {}, page)


@router.get(
    "/{user_id}", operation_id="getUser", response_model=User, responses=documented.read(404, 410)
)
async def get_user(
    request: Request, user_id: Id, reading: Annotated[ReadingAsOf, Query()], service: Serving
) -> Response:
    """Read a user, now or as of a moment of the past."""
    return await answers.thing(
        request, service.reads, queries.USER_BY_ID, {"user_id": user_id}, reading
    )


@router.get(
    "/{user_id}/memberships",
    operation_id="listMemberships",
    response_model=MembershipList,
    responses=documented.read(404, 410),
)
async def list_memberships(
    request: Request, user_id: Id, page: Annotated[PageAsOf, Query()], service: Serving
) -> Response:
    """List the classes that a user is a member of, now or as of a moment of the past."""
    return await answers.listing(
        request, service.listings(page), queries.MEMBERSHIPS, {"user_id": user_id}, page
    )


@router.get(
    "/{user_id}/history",
    operation_id="getUserHistory",
    response_model=EventList,
    responses=documented.history(404),
)
async def get_user_history(
    request: Request, user_id: Id, page: Annotated[UserHistoryPage, Query()], service: Serving
) -> Response:
    """Read what happened to a user: every membership, its changes and its end, with actor and reason."""
    return await service.histories.answer(
        request, history.USER, page, queries.USER_BY_ID, {"user_id": user_id}
    )

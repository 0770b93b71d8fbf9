"""Groups, and the classes of a group."""

from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from rosterlog.api.rest import answers, diffs
from rosterlog.api.rest import group_rosters as rosters
from rosterlog.api.rest.commands import Command, CommandRoute, Serving
from rosterlog.api.rest.openapi import documented
from rosterlog.api.rest.schemas.answers import (
    ClassList,
    Diff,
    EventList,
    Group,
    GroupList,
    RosterList,
)
from rosterlog.api.rest.schemas.bodies import GroupChange, NewGroup
from rosterlog.api.rest.schemas.fields import Id
from rosterlog.api.rest.schemas.queries import (
    DiffQuery,
    GroupHistoryPage,
    Page,
    PageAsOf,
    ReadingAsOf,
)
from rosterlog.projections.reading import history, queries

router = APIRouter(prefix="/v1/groups", tags=["groups"], route_class=CommandRoute)


@router.post(
    "",
    operation_id="createGroup",
    response_model=Group,
    status_code=201,
    responses=documented.command(success=(200, 201)),
)
async def create_group(new: NewGroup, command: Command) -> Response:
    """Create a group.

    Again with the same `id` and content it answers 200 with the group as it is now.
    """
    outcome = await command.give(
        command.roster.create_group.prepared(new.id or uuid4(), new.name, command.by)
    )
    return await command.answer(
        outcome, queries.GROUP_BY_ID, {"group_id": outcome.id}, location=f"/v1/groups/{outcome.id}"
    )


@router.patch(
    "/{group_id}",
    operation_id="renameGroup",
    response_model=Group,
    responses=documented.command(404, 410, 412),
)
async def rename_group(group_id: Id, change: GroupChange, command: Command) -> Response:
    """Give a group another name."""
    outcome = await command.give(
        command.roster.rename_group.prepared(
            group_id, change.name, command.by, expected=command.expected
        )
    )
    return await command.answer(outcome, queries.GROUP_BY_ID, {"group_id": group_id})


@router.delete(
    "/{group_id}",
    operation_id="deleteGroup",
    status_code=204,
    responses=documented.command(404, 412, success=(204,)),
)
async def delete_group(group_id: Id, command: Command) -> Response:
    """Delete a group for good, with its classes and their memberships."""
    return await command.answer_ended(
        await command.give(
            command.roster.delete_group.prepared(group_id, command.by, expected=command.expected)
        )
    )


@router.get("", operation_id="listGroups", response_model=GroupList, responses=documented.read())
async def list_groups(
    request: Request, page: Annotated[Page, Query()], service: Serving
) -> Response:
    """List the groups, by name."""
    return await answers.listing(request, service.reads, queries.GROUPS, {}, page)


@router.get(
    "/{group_id}",
    operation_id="getGroup",
    response_model=Group,
    responses=documented.read(404, 410),
)
async def get_group(
    request: Request, group_id: Id, reading: Annotated[ReadingAsOf, Query()], service: Serving
) -> Response:
    """Read a group, now or as of a moment of the past."""
    return await answers.thing(
        request, service.reads, queries.GROUP_BY_ID, {"group_id": group_id}, reading
    )


@router.get(
    "/{group_id}/classes",
    operation_id="listGroupClasses",
    response_model=ClassList,
    responses=documented.read(404, 410),
)
async def list_group_classes(
    request: Request, group_id: Id, page: Annotated[PageAsOf, Query()], service: Serving
) -> Response:
    """List the classes of a group, by name, now or as of a moment of the past."""
    return await answers.listing(
        request, service.listings(page), queries.GROUP_CLASSES, {"group_id": group_id}, page
    )


@router.get(
    "/{group_id}/history",
    operation_id="getGroupHistory",
    response_model=EventList,
    responses=documented.history(404),
)
async def get_group_history(
    request: Request, group_id: Id, page: Annotated[GroupHistoryPage, Query()], service: Serving
) -> Response:
    """Read what happened to a group, its classes and their rosters, with actor and reason."""
    return await service.histories.answer(
        request, history.GROUP, page, queries.GROUP_BY_ID, {"group_id": group_id}
    )


@router.get(
    "/{group_id}/rosters",
    operation_id="getGroupRosters",
    response_model=RosterList,
    responses=documented.history(404, 410),
)
async def get_group_rosters(
    request: Request, group_id: Id, reading: Annotated[ReadingAsOf, Query()], service: Serving
) -> Response:
    """Read every class of a group, archived ones included, with its members, now or as of a moment of the past; streamed whole."""
    return await rosters.answer(request, service.expensive, group_id, reading)


@router.get(
    "/{group_id}/diff",
    operation_id="diffGroup",
    response_model=Diff,
    responses=documented.read(404, 410),
)
async def diff_group(
    request: Request, group_id: Id, query: Annotated[DiffQuery, Query()], service: Serving
) -> Response:
    """Compare the classes of a group and their rosters at two moments."""
    return await diffs.answer(
        request, service.expensive, queries.GROUP_BY_ID, {"group_id": group_id}, query
    )

"""Classes and their history."""

from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from rosterlog.api.rest import answers, diffs
from rosterlog.api.rest.commands import Command, CommandRoute, Serving
from rosterlog.api.rest.openapi import documented
from rosterlog.api.rest.schemas.answers import Class, ClassList, Diff, EventList
from rosterlog.api.rest.schemas.bodies import ClassChange, NewClass, Nothing
from rosterlog.api.rest.schemas.fields import Id
from rosterlog.api.rest.schemas.queries import ClassHistoryPage, ClassPage, DiffQuery, ReadingAsOf
from rosterlog.domain.deciding.outcome import Outcome
from rosterlog.projections.reading import history, queries

router = APIRouter(prefix="/v1/classes", tags=["classes"], route_class=CommandRoute)


async def _answer(
    command: Command, outcome: Outcome, class_id: UUID, *, location: str | None = None
) -> Response:
    return await command.answer(
        outcome, queries.CLASS_BY_ID, {"class_id": class_id}, location=location
    )


@router.post(
    "",
    operation_id="createClass",
    response_model=Class,
    status_code=201,
    responses=documented.command(success=(200, 201)),
)
async def create_class(new: NewClass, command: Command) -> Response:
    """Create a class in a group.

    Again with the same `id` and content it answers 200 with the class as it is now.
    """
    outcome = await command.give(
        command.roster.create_class.prepared(
            new.id or uuid4(), new.group_id, new.name, new.settings, command.by
        )
    )
    return await _answer(command, outcome, outcome.id, location=f"/v1/classes/{outcome.id}")


@router.patch(
    "/{class_id}",
    operation_id="changeClass",
    response_model=Class,
    responses=documented.command(404, 410, 412),
)
async def change_class(class_id: Id, change: ClassChange, command: Command) -> Response:
    """Rename a class, replace its settings, or move it to another group."""
    changes = {name: getattr(change, name) for name in change.model_fields_set}
    outcome = await command.give(
        command.roster.change_class.prepared(
            class_id, command.by, expected=command.expected, **changes
        )
    )
    return await _answer(command, outcome, class_id)


@router.post(
    "/{class_id}/archive",
    operation_id="archiveClass",
    response_model=Class,
    responses=documented.command(404, 410, 412),
)
async def archive_class(class_id: Id, _: Nothing, command: Command) -> Response:
    """Put a class away with its roster as it is."""
    outcome = await command.give(
        command.roster.archive_class.prepared(class_id, command.by, expected=command.expected)
    )
    return await _answer(command, outcome, class_id)


@router.post(
    "/{class_id}/restore",
    operation_id="restoreClass",
    response_model=Class,
    responses=documented.command(404, 410, 412),
)
async def restore_class(class_id: Id, _: Nothing, command: Command) -> Response:
    """Take an archived class back into use."""
    outcome = await command.give(
        command.roster.restore_class.prepared(class_id, command.by, expected=command.expected)
    )
    return await _answer(command, outcome, class_id)


@router.delete(
    "/{class_id}",
    operation_id="deleteClass",
    status_code=204,
    responses=documented.command(404, 412, success=(204,)),
)
async def delete_class(class_id: Id, command: Command) -> Response:
    """Delete a class for good, with its memberships. Its history and past rosters stay."""
    return await command.answer_ended(
        await command.give(
            command.roster.delete_class.prepared(class_id, command.by, expected=command.expected)
        )
    )


@router.get("", operation_id="listClasses", response_model=ClassList, responses=documented.read())
async def list_classes(
    request: Request, page: Annotated[ClassPage, Query()], service: Serving
) -> Response:
    """List the classes, by name, archived ones included unless `archived` says otherwise."""
    filters = {"group_id": page.group_id, "name": page.name, "archived": page.archived}
    return await answers.listing(request, service.reads, queries.CLASSES, {}, page, filters)


@router.get(
    "/{class_id}",
    operation_id="getClass",
    response_model=Class,
    responses=documented.read(404, 410),
)
async def get_class(
    request: Request, class_id: Id, reading: Annotated[ReadingAsOf, Query()], service: Serving
) -> Response:
    """Read a class, now or as of a moment of the past."""
    return await answers.thing(
        request, service.reads, queries.CLASS_BY_ID, {"class_id": class_id}, reading
    )


@router.get(
    "/{class_id}/history",
    operation_id="getClassHistory",
    response_model=EventList,
    responses=documented.history(404),
)
async def get_class_history(
    request: Request, class_id: Id, page: Annotated[ClassHistoryPage, Query()], service: Serving
) -> Response:
    """Read what happened to a class and its roster, with actor and reason."""
    return await service.histories.answer(
        request, history.CLASS, page, queries.CLASS_BY_ID, {"class_id": class_id}
    )


@router.get(
    "/{class_id}/diff",
    operation_id="diffClass",
    response_model=Diff,
    responses=documented.read(404, 410),
)
async def diff_class(
    request: Request, class_id: Id, query: Annotated[DiffQuery, Query()], service: Serving
) -> Response:
    """Compare a class and its roster at two moments."""
    return await diffs.answer(
        request, service.expensive, queries.CLASS_BY_ID, {"class_id": class_id}, query
    )

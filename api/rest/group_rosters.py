"""Answering with the rosters of a whole group, as it was at one moment, streamed."""

from collections.abc import AsyncIterator
from uuid import UUID

from fastapi import Request
from starlette.responses import Response

from rosterlog.api.access.confinement import groups_of
from rosterlog.api.http.negotiation import media_type_of
from rosterlog.api.http.streams import Items, streamed
from rosterlog.api.reading.expensive import ExpensiveConnections, ExpensiveReads
from rosterlog.api.reading.spools import Pages
from rosterlog.api.rest import answers, headers
from rosterlog.api.rest.schemas.queries import ReadingAsOf
from rosterlog.projections.reading import queries, rosters

CLASSES_AT_ONCE = 20
"""How many rosters a stream reads at once: some hundred rows, for classes of a usual size."""


async def answer(
    request: Request, reads: ExpensiveReads, group_id: UUID, reading: ReadingAsOf
) -> Response:
    """Answer with all rosters of a group. Raises that the group is unknown or gone."""
    await reads.wait_for(reading.min_position)
    at = await reads.position(answers.moment_of(reading))
    await reads.found(queries.GROUP_BY_ID, {"group_id": group_id}, at, groups_of(request))
    classes = await reads.rows(rosters.CLASSES, {"group_id": group_id, "at": at})
    first = await _rosters(reads.connections, classes[:CLASSES_AT_ONCE], at)

    async def pages() -> AsyncIterator[Items]:
        with first:
            for page in first:
                yield page
        later = reads.connections.later()
        for start in range(CLASSES_AT_ONCE, len(classes), CLASSES_AT_ONCE):
            with await _rosters(later, classes[start : start + CLASSES_AT_ONCE], at) as found:
                for page in found:
                    yield page

    return streamed(
        media_type_of(request), rosters.COLUMNS, pages(), headers.answered(at), f"rosters-{at}"
    )


async def _rosters(
    connections: ExpensiveConnections, classes: list[tuple[UUID, str]], at: int
) -> Pages:
    """Return the rosters of some classes, in pages that take little time to write.

    They wait in a spool: some classes are large, and some callers slow.
    """
    parameters = {
        "ids": [row[0] for row in classes],
        "names": [row[1] for row in classes],
        "at": at,
    }
    found = Pages()
    async for rows in connections.pages(rosters.ROSTERS, parameters):
        found.add([rosters.item(row) for row in rows])
    return found

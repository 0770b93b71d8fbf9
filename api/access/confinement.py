"""To which groups a caller is confined: what is of others is to them as if it did not exist.

A token's claim says so (`rosterlog.api.access.tokens`). Reads pass the groups on to their
statements, each of whose sources knows which of its rows belong to them
(`rosterlog.projections.reading.queries`, `rosterlog.projections.reading.history`); commands to
their decision, to which all else is unknown (`rosterlog.domain.deciding.unit_of_work`).
"""

from starlette.requests import Request

from rosterlog.domain.values import Confinement


def groups_of(request: Request) -> Confinement:
    """Return the groups that the caller of a request is confined to, None where to none."""
    principal = getattr(request.state, "principal", None)
    groups: Confinement = principal.groups if principal is not None else None
    return groups

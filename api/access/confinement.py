"""The groups that a caller is confined to: for this caller, things of other groups do not exist.

The claim of a token names the groups (`rosterlog.api.access.tokens`). A read passes them on to its
statement, whose sources know which rows belong to the groups
(`rosterlog.projections.reading.queries`, `rosterlog.projections.reading.history`). A command passes
them on to its decision, to which all other groups are unknown
(`rosterlog.domain.deciding.unit_of_work`).
"""

from starlette.requests import Request

from rosterlog.domain.values import Confinement


def groups_of(request: Request) -> Confinement:
    """Return the groups that the caller is confined to; None where the caller is not confined."""
    principal = getattr(request.state, "principal", None)
    groups: Confinement = principal.groups if principal is not None else None
    return groups

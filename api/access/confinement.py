"""The groups that a caller is confined to: for this caller, things of other groups do not exist.

The claim of a token names the groups (`rosterlog.api.access.tokens`). A read passes them on to its
statement, whose sources know which rows belong to the groups
(`rosterlog.projections.reading.queries`, `rosterlog.projections.reading.history`). A command passes
them on to its decision, to which all other groups are unknown
(`rosterlog.domain.deciding.decision`).
"""

from typing import Any

from starlette.requests import Request

from rosterlog.domain.values import Confinement


def groups_of(request: Request) -> Confinement:
    """Return the groups that the caller is confined to; None where the caller is not confined."""
    principal = getattr(request.state, "principal", None)
    groups: Confinement = principal.groups if principal is not None else None
    return groups


def parameters(groups: Confinement) -> dict[str, Any]:
    """Return the groups as a parameter of a statement.

    A statement for callers who are not confined has no such parameter.
    """
    return {} if groups is None else {"groups": list(groups)}


def question(groups: Confinement) -> tuple[str, ...]:
    """Return the groups as a part of a question that is gathered with others.

    See `rosterlog.projections.reading.many`.
    """
    return () if groups is None else (f"{{{','.join(map(str, groups))}}}",)

"""The groups that a caller is confined to, as parameters of statements."""

from typing import Any

from rosterlog.domain.values import Confinement


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

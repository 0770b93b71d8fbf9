"""The SQL that more than one room of the projections needs."""

from typing import Any

from psycopg import Connection

from rosterlog.domain.events import RosterEvent
from rosterlog.domain.log.log_sql import topics
from rosterlog.projections.tables import SCHEMA

CHECKPOINT_OF = "SELECT position FROM {schema}.checkpoint"
"""The SELECT of the position that the tables of `schema` reflect."""
CHECKPOINT = CHECKPOINT_OF.format(schema=SCHEMA)
"""The SELECT of the position that the read tables reflect."""


def position_of(connection: Connection[Any], select: str) -> int:
    """Return the one position that `select` selects, 0 where it selects none."""
    row = connection.execute(select).fetchone()
    return row[0] if row else 0


PROJECTED_CHANNEL = "rosterlog_projected"
"""Notification channel: the read tables reflect the log up to the position in the payload."""

_LAST = "(array_agg({field} ORDER BY notification_id DESC) FILTER (WHERE topic IN ({topics}){where}))[1]"


def last(field: str, *events: type[RosterEvent], where: str = "") -> str:
    """Return the SQL of `field` in the last of a thing's events of these classes.

    It is null where there is none. `where` is a further condition on the events that count.
    """
    return _LAST.format(field=field, topics=topics(*events), where=f" AND {where}" if where else "")

"""Loading empty tables with the log: the projector's own folds, but that the events of members are set aside and folded all at once.

Members are the mass of any log, and in tables that are read, each range has to look for the rows that it changes. Nobody reads these tables
yet. So each range only reads its events of members into a table beside, and when the last range is in, the same fold that follows the log
live makes every membership once. That takes neither an index to look rows up by, nor rows that a later range deletes.
"""

from typing import Any

from psycopg import Connection

from projections import skips
from projections.statements import CHANGE_MEMBERS, ENDINGS, MEMBER_CHANGES, MEMBER_EVENTS, THINGS, Fold

_ASIDE = "{schema}.member_events"
_BEGIN = f"CREATE UNLOGGED TABLE {_ASIDE} AS {MEMBER_EVENTS} WITH NO DATA"
_FOLD_MEMBERS = CHANGE_MEMBERS.format(events=_ASIDE)
_DROP = f"DROP TABLE IF EXISTS {_ASIDE} CASCADE"

# A table for each range, because PostgreSQL reads with several processes for a new table, and for an INSERT with one.
FOLDS = (
    *THINGS,
    Fold.of(MEMBER_CHANGES, f"CREATE UNLOGGED TABLE {_ASIDE}_{{upto}} AS {MEMBER_EVENTS}"),
    Fold.of(MEMBER_CHANGES, f"ALTER TABLE {_ASIDE}_{{upto}} INHERIT {_ASIDE}"),
    *ENDINGS,
)
"""For `project`, to take in the ranges of a load; the members are not in the tables before `finish`."""

# What the foreign keys' cascades do in live tables. Rows that refer to something that never was stay, and are refused when the foreign keys
# are made.
_CASCADE = """
    WITH ended AS MATERIALIZED (
        SELECT originator_id AS id FROM log.events
        WHERE topic IN ('UserRemoved', 'ClassDeleted', 'GroupDeleted')
          AND notification_id <= (SELECT position FROM {schema}.checkpoint) AND notification_id <> ALL(%(skipped)s::bigint[])
    ),
    class_ended AS (DELETE FROM {schema}.classes USING ended WHERE classes.group_id = ended.id RETURNING classes.id)
    DELETE FROM {schema}.class_members
    WHERE user_id IN (SELECT id FROM ended) OR class_id IN (SELECT id FROM ended UNION ALL SELECT id FROM class_ended)
"""


def begin(connection: Connection[Any], schema: str) -> None:
    """Make the place where the events of members are set aside, beside empty tables."""
    connection.execute(_BEGIN.format(schema=schema), {"after": 0, "upto": 0, "skipped": []})


def finish(connection: Connection[Any], schema: str) -> None:
    """Make the memberships, and end what ended with the things it belonged to. The tables are as if projected then."""
    connection.execute(_FOLD_MEMBERS.format(schema=schema), {"void": skips.void(connection)})
    drop(connection, schema)
    connection.execute(_CASCADE.format(schema=schema), {"skipped": skips.positions(connection)})


def drop(connection: Connection[Any], schema: str) -> None:
    """Drop what is set aside, if there is anything."""
    connection.execute(_DROP.format(schema=schema))

"""Loading empty tables with the log: the projector's own folds, but that the events of members are set aside and folded all at once.

Members are the mass of any log, and in tables that are read, each range has to look for the rows
that it changes. Nobody reads these tables yet. So each range only reads its events of members into
a table beside, and when the last range is in, the same fold that follows the log live makes every
membership once. That takes neither an index to look rows up by, nor rows that a later range
deletes.
"""

from dataclasses import replace
from typing import Any

from psycopg import Connection

from rosterlog.domain.log.log_sql import ENDS, MEMBERSHIP_CHANGES
from rosterlog.projections.projector import skips
from rosterlog.projections.projector.folds import (
    ENDINGS,
    MEMBER_EVENTS,
    NOT_BY_TOPIC,
    THINGS,
    Fold,
    change_members,
)

_ASIDE = "{schema}.member_events"
_BEGIN = f"CREATE UNLOGGED TABLE {_ASIDE} AS {MEMBER_EVENTS} WITH NO DATA"
_DROP = f"DROP TABLE IF EXISTS {_ASIDE}, {{schema}}.ended CASCADE"

# A table for each range, because PostgreSQL reads with several processes for a new table, and for
# an INSERT with one.
_SET_ASIDE = (
    Fold(MEMBERSHIP_CHANGES, f"CREATE UNLOGGED TABLE {_ASIDE}_{{upto}} AS {MEMBER_EVENTS}"),
    Fold(MEMBERSHIP_CHANGES, f"ALTER TABLE {_ASIDE}_{{upto}} INHERIT {_ASIDE}"),
)
FOLDS = tuple(
    replace(fold, statement=fold.statement.replace(NOT_BY_TOPIC, ""))
    for fold in (*THINGS, *_SET_ASIDE, *ENDINGS)
)
"""For `project`, to take in the ranges of a load; the members are not in the tables before `finish`."""

# What has no memberships any more, or never had. A class ends with its group, which the foreign
# keys' cascades do in live tables. Whatever refers to something that never was is made, and refused
# when the foreign keys are.
_FIND_ENDED = f"""
    CREATE UNLOGGED TABLE {{schema}}.ended AS
    SELECT originator_id AS id FROM log.events
    WHERE topic IN ({ENDS})
      AND notification_id <= (SELECT position FROM {{schema}}.checkpoint) AND notification_id <> ALL(%(skipped)s::bigint[])
    UNION ALL SELECT unnest(%(void)s::uuid[])
"""
_END_CLASSES = """
    WITH class_ended AS (DELETE FROM {schema}.classes USING {schema}.ended WHERE group_id = ended.id RETURNING classes.id)
    INSERT INTO {schema}.ended SELECT id FROM class_ended
"""
_FOLD_MEMBERS = change_members(
    _ASIDE,
    """NOT EXISTS (SELECT FROM {schema}.ended WHERE id = class_id)
       AND NOT EXISTS (SELECT FROM {schema}.ended WHERE id = user_id)""",
)


def begin(connection: Connection[Any], schema: str) -> None:
    """Make the place where the events of members are set aside, beside empty tables."""
    connection.execute(_BEGIN.format(schema=schema), {"after": 0, "upto": 0, "skipped": []})


def finish(connection: Connection[Any], schema: str) -> None:
    """End what ended with the things it belonged to, and make the memberships.

    The tables are as if projected then.
    """
    parameters = {"skipped": skips.positions(connection), "void": skips.void(connection)}
    for statement in (_FIND_ENDED, _END_CLASSES, _FOLD_MEMBERS, _DROP):
        connection.execute(statement.format(schema=schema), parameters)


def drop(connection: Connection[Any], schema: str) -> None:
    """Drop what is set aside, if there is anything."""
    connection.execute(_DROP.format(schema=schema))

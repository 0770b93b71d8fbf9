"""The read tables as text, and a log filled with a bit of everything."""

from typing import Any
from uuid import UUID

from psycopg import Connection

from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from rosterlog.projections.projector.projector import project
from rosterlog.projections.tables import SCHEMA
from tests.conftest import by

GROUP, OTHER_GROUP, DELETED_GROUP = UUID(int=1), UUID(int=2), UUID(int=3)
USER, OTHER_USER, REMOVED_USER = UUID(int=11), UUID(int=12), UUID(int=13)
CLASS, OTHER_CLASS, DELETED_CLASS, LOST_CLASS = (
    UUID(int=21),
    UUID(int=22),
    UUID(int=23),
    UUID(int=24),
)

READ_TABLES = ("groups", "users", "classes", "class_members")


def rows(connection: Connection[Any], schema: str = SCHEMA) -> dict[str, list[str]]:
    """Return every row of every read table as PostgreSQL writes it, in the order of ids."""
    return {
        table: [
            row[0]
            for row in connection.execute(f"SELECT t::text FROM {schema}.{table} AS t ORDER BY id")
        ]
        for table in READ_TABLES
    }


def checkpoint(connection: Connection[Any], schema: str = SCHEMA) -> int:
    row = connection.execute(f"SELECT position FROM {schema}.checkpoint").fetchone()
    assert row is not None
    return int(row[0])


def project_all(connection: Connection[Any], limit: int = 1000) -> int:
    while project(connection, SCHEMA, limit=limit).events:
        pass
    return checkpoint(connection)


def start_over(connection: Connection[Any]) -> None:
    """Empty the read tables and put the checkpoint back to the beginning."""
    connection.execute(f"TRUNCATE {', '.join(f'{SCHEMA}.{table}' for table in READ_TABLES)}")
    connection.execute(f"UPDATE {SCHEMA}.checkpoint SET position = 0")


def record_everything(roster: Roster) -> int:
    """Record events of every topic, with endings that cascade, and return the head."""
    for group, name in ((GROUP, "North"), (OTHER_GROUP, "South"), (DELETED_GROUP, "Closed")):
        roster.create_group(group, name, by())
    for user in (USER, OTHER_USER, REMOVED_USER):
        roster.register_user(user, by())
    for class_, group in (
        (CLASS, GROUP),
        (OTHER_CLASS, OTHER_GROUP),
        (DELETED_CLASS, GROUP),
        (LOST_CLASS, DELETED_GROUP),
    ):
        roster.create_class(
            class_, group, "Maths", {"room": 1, "tags": ["ü", "🎓"], "ratio": 0.1}, by()
        )
        roster.enrol(class_, USER, Role.TEACHER, by())
        roster.enrol(class_, REMOVED_USER, Role.STUDENT, by())
    roster.enrol(CLASS, OTHER_USER, Role.STUDENT, by())
    roster.withdraw(CLASS, OTHER_USER, by())
    roster.enrol(CLASS, OTHER_USER, Role.STUDENT, by())
    roster.change_role(CLASS, OTHER_USER, Role.TEACHER, by())
    for role in (Role.STUDENT, Role.STUDENT, Role.TEACHER):
        roster.withdraw(CLASS, OTHER_USER, by())
        roster.enrol(CLASS, OTHER_USER, role, by())
    # Back from teacher: the last role counts, not the highest.
    roster.change_role(CLASS, OTHER_USER, Role.STUDENT, by())
    roster.withdraw(OTHER_CLASS, USER, by())
    roster.rename_group(GROUP, "West", by())
    roster.change_class(CLASS, by(), name="Physics", settings={"b": [1, {"c": None}], "a": True})
    roster.change_class(OTHER_CLASS, by(), group_id=GROUP)
    roster.change_class(DELETED_CLASS, by(), group_id=OTHER_GROUP)
    roster.archive_class(CLASS, by())
    roster.restore_class(CLASS, by())
    roster.archive_class(OTHER_CLASS, by())
    roster.remove_user(REMOVED_USER, by())
    roster.delete_class(DELETED_CLASS, by())
    return roster.delete_group(DELETED_GROUP, by()).position

"""The read tables in the database are those of the contract, and the models relate them both ways."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection
from sqlalchemy import select
from sqlalchemy.orm import Session

from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from rosterlog.migrations import commands
from rosterlog.projections.tables import ClassMemberRow, ClassRow, GroupRow, UserRow
from tests.projections.catalog import definitions
from tests.projections.tables import (
    CLASS,
    GROUP,
    OTHER_CLASS,
    OTHER_USER,
    USER,
    project_all,
    record_everything,
)

TIME = datetime(2025, 9, 1, tzinfo=UTC)

UUID_COLUMN, TIME_COLUMN = "uuid", "timestamp with time zone"
COLUMNS: dict[str, dict[str, tuple[str, bool, str | None]]] = {
    "groups": {
        "id": (UUID_COLUMN, True, None),
        "name": ("character varying(100)", True, None),
        "created_at": (TIME_COLUMN, True, None),
        "updated_at": (TIME_COLUMN, True, None),
    },
    "users": {"id": (UUID_COLUMN, True, None), "created_at": (TIME_COLUMN, True, None)},
    "classes": {
        "id": (UUID_COLUMN, True, "gen_random_uuid()"),
        "group_id": (UUID_COLUMN, True, None),
        "name": ("character varying(100)", True, None),
        "settings": ("jsonb", True, "'{}'::jsonb"),
        "created_at": (TIME_COLUMN, True, "now()"),
        "updated_at": (TIME_COLUMN, True, "now()"),
        "deleted_at": (TIME_COLUMN, False, None),
    },
    "class_members": {
        "id": (UUID_COLUMN, True, "gen_random_uuid()"),
        "class_id": (UUID_COLUMN, True, None),
        "user_id": (UUID_COLUMN, True, None),
        "role": ("class_role", True, None),
        "created_at": (TIME_COLUMN, True, "now()"),
    },
}
CONSTRAINTS = {
    ("groups", "PRIMARY KEY (id)"),
    ("users", "PRIMARY KEY (id)"),
    ("classes", "PRIMARY KEY (id)"),
    ("classes", "FOREIGN KEY (group_id) REFERENCES groups(id) ON DELETE CASCADE"),
    ("class_members", "PRIMARY KEY (id)"),
    ("class_members", "FOREIGN KEY (class_id) REFERENCES classes(id) ON DELETE CASCADE"),
    ("class_members", "FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE"),
    ("class_members", "UNIQUE (class_id, user_id)"),
}
INDEXES = {
    "classes_group_id_idx": "ON classes USING btree (group_id)",
    "class_members_class_id_idx": "ON class_members USING btree (class_id)",
    "class_members_user_id_idx": "ON class_members USING btree (user_id)",
}


@pytest.fixture
def session(database: str) -> Iterator[Session]:
    with Session(commands.engine(database)) as opened:
        yield opened


def insert(connection: Connection[Any], table: str, **values: Any) -> UUID:
    columns, marks = ", ".join(values), ", ".join(["%s"] * len(values))
    row = connection.execute(
        f"INSERT INTO roster.{table} ({columns}) VALUES ({marks}) RETURNING id",
        list(values.values()),
    ).fetchone()
    assert row is not None
    id_: UUID = row[0]
    return id_


@pytest.fixture
def class_id(connection: Connection[Any]) -> UUID:
    """A group with a class, both by hand, with nothing given that has a default."""
    group = insert(
        connection, "groups", id=uuid4(), name="North", created_at=TIME, updated_at=TIME, version=1
    )
    return insert(connection, "classes", group_id=group, name="Maths")


def new_user(connection: Connection[Any]) -> UUID:
    return insert(connection, "users", id=uuid4(), created_at=TIME, version=1)


@pytest.mark.parametrize("table", COLUMNS)
def test_columns_have_their_types_defaults_and_not_null(
    connection: Connection[Any], table: str
) -> None:
    found = {
        row[2]: (row[3], row[4], row[6])
        for row in definitions(connection, "roster")["columns"]
        if row[0] == table
    }
    assert {name: found[name] for name in COLUMNS[table]} == COLUMNS[table]


def test_constraints_and_indexes_are_those_of_the_contract(connection: Connection[Any]) -> None:
    found = definitions(connection, "roster")
    assert {(row[0], row[3]) for row in found["constraints"]} >= CONSTRAINTS
    indexes = {row[1]: row[2] for row in found["indexes"]}
    for name, definition in INDEXES.items():
        assert indexes[name] == f"CREATE INDEX {name} {definition}"


def test_the_roles_are_an_enum_in_public(connection: Connection[Any]) -> None:
    row = connection.execute("SELECT enum_range(NULL::public.class_role)::text[]").fetchone()
    assert row == ([role.value for role in (Role.TEACHER, Role.STUDENT)],)


def test_defaults_fill_what_is_not_given(connection: Connection[Any], class_id: UUID) -> None:
    columns = (
        "settings, created_at = updated_at, created_at > now() - interval '1 hour', deleted_at"
    )
    row = connection.execute(
        f"SELECT {columns} FROM roster.classes WHERE id = %s", [class_id]
    ).fetchone()
    assert row == ({}, True, True, None)
    member = insert(
        connection, "class_members", class_id=class_id, user_id=new_user(connection), role="student"
    )
    row = connection.execute(
        "SELECT created_at > now() - interval '1 hour' FROM roster.class_members WHERE id = %s",
        [member],
    ).fetchone()
    assert row == (True,)


def test_a_user_is_at_most_once_in_a_class(connection: Connection[Any], class_id: UUID) -> None:
    user = new_user(connection)
    insert(connection, "class_members", class_id=class_id, user_id=user, role="student")
    with pytest.raises(psycopg.errors.UniqueViolation, match="class_members_class_id_user_id_key"):
        insert(connection, "class_members", class_id=class_id, user_id=user, role="teacher")


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"class_id": None}, psycopg.errors.NotNullViolation),
        ({"user_id": None}, psycopg.errors.NotNullViolation),
        ({"role": None}, psycopg.errors.NotNullViolation),
        ({"role": "janitor"}, psycopg.errors.InvalidTextRepresentation),
        ({"class_id": UUID(int=99)}, psycopg.errors.ForeignKeyViolation),
        ({"user_id": UUID(int=99)}, psycopg.errors.ForeignKeyViolation),
    ],
)
def test_a_membership_that_breaks_a_constraint_is_refused(
    connection: Connection[Any], class_id: UUID, values: dict[str, Any], error: type[Exception]
) -> None:
    row = {"class_id": class_id, "user_id": new_user(connection), "role": "student", **values}
    with pytest.raises(error):
        insert(connection, "class_members", **row)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"group_id": None}, psycopg.errors.NotNullViolation),
        ({"group_id": UUID(int=99)}, psycopg.errors.ForeignKeyViolation),
        ({"name": None}, psycopg.errors.NotNullViolation),
        ({"name": "x" * 101}, psycopg.errors.StringDataRightTruncation),
        ({"settings": None}, psycopg.errors.NotNullViolation),
        ({"created_at": None}, psycopg.errors.NotNullViolation),
        ({"updated_at": None}, psycopg.errors.NotNullViolation),
    ],
)
def test_a_class_that_breaks_a_constraint_is_refused(
    connection: Connection[Any], class_id: UUID, values: dict[str, Any], error: type[Exception]
) -> None:
    group = connection.execute("SELECT group_id FROM roster.classes").fetchone()
    assert group is not None
    with pytest.raises(error):
        insert(connection, "classes", **{"group_id": group[0], "name": "Art", **values})


@pytest.mark.parametrize(
    ("table", "left"),
    [("groups", (0, 0, 0, 1)), ("classes", (1, 0, 0, 1)), ("users", (1, 1, 0, 0))],
)
def test_deleting_cascades_to_what_belongs_to_it_and_no_further(
    connection: Connection[Any], class_id: UUID, table: str, left: tuple[int, ...]
) -> None:
    insert(
        connection, "class_members", class_id=class_id, user_id=new_user(connection), role="student"
    )
    connection.execute(f"DELETE FROM roster.{table}")
    tables = ("groups", "classes", "class_members", "users")
    assert (
        tuple(len(connection.execute(f"SELECT FROM roster.{name}").fetchall()) for name in tables)
        == left
    )


def test_relations_lead_both_ways(
    roster: Roster, connection: Connection[Any], session: Session
) -> None:
    record_everything(roster)
    project_all(connection)
    group = session.get_one(GroupRow, GROUP)
    assert {class_.id for class_ in group.classes} == {CLASS, OTHER_CLASS}
    class_ = session.get_one(ClassRow, CLASS)
    assert class_.group is group
    assert {member.user_id: member.role for member in class_.members} == {
        USER: Role.TEACHER,
        OTHER_USER: Role.STUDENT,
    }
    user = session.get_one(UserRow, USER)
    (membership,) = user.memberships
    assert membership.class_ is class_
    assert membership.user is user
    assert membership in class_.members
    assert class_ in group.classes


def test_the_orm_deletes_by_cascade_of_the_database(
    roster: Roster, connection: Connection[Any], session: Session
) -> None:
    record_everything(roster)
    project_all(connection)
    session.delete(session.get_one(GroupRow, GROUP))
    session.flush()
    assert session.scalars(select(ClassRow)).all() == []
    assert session.scalars(select(ClassMemberRow)).all() == []
    assert len(session.scalars(select(UserRow)).all()) == 2

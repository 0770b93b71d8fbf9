"""The read tables, as SQLAlchemy models with their relations both ways.

Alembic makes them (see `migrations/`); a test proves that models and migrations are equal. A
rebuild makes its shadow tables from here. The projector never relies on the defaults: ids and times
come from the events.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ENUM, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from rosterlog.domain.values import NAME_LENGTH, Role

SCHEMA = "roster"
"""Where readers find the tables."""
SHADOW = "roster_shadow"
"""Where a rebuild makes new ones before it switches."""

CLASS_ROLE = ENUM(
    Role,
    name="class_role",
    schema="public",
    create_type=False,
    values_callable=lambda roles: [role.value for role in roles],
)
"""Stays outside the schemas that are switched, so that prepared statements keep their result types."""

_NOW = func.now()
_NAME = String(NAME_LENGTH, collation="C")


class Table(DeclarativeBase):
    """Base of all read tables."""

    metadata = MetaData(
        schema=SCHEMA,
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
        },
    )
    type_annotation_map = {datetime: TIMESTAMP(timezone=True), int: BigInteger}  # noqa: RUF012


class GroupRow(Table):
    """A group that is not deleted."""

    __tablename__ = "groups"
    __table_args__ = (Index("groups_name_id_idx", "name", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(_NAME)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    version: Mapped[int]

    classes: Mapped[list["ClassRow"]] = relationship(back_populates="group", passive_deletes=True)


class UserRow(Table):
    """A user who is not removed."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    version: Mapped[int]

    memberships: Mapped[list["ClassMemberRow"]] = relationship(
        back_populates="user", passive_deletes=True
    )


class ClassRow(Table):
    """A class that is not deleted; `deleted_at` says since when it is archived."""

    __tablename__ = "classes"
    __table_args__ = (
        Index("classes_group_id_idx", "group_id"),
        Index("classes_name_id_idx", "name", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    group_id: Mapped[UUID] = mapped_column(ForeignKey(GroupRow.id, ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(_NAME)
    settings: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    deleted_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))

    group: Mapped[GroupRow] = relationship(back_populates="classes")
    members: Mapped[list["ClassMemberRow"]] = relationship(
        back_populates="class_", passive_deletes=True
    )


class ClassMemberRow(Table):
    """A membership that has not ended."""

    __tablename__ = "class_members"
    __table_args__ = (
        UniqueConstraint("class_id", "user_id"),
        Index("class_members_class_id_idx", "class_id"),
        Index("class_members_user_id_idx", "user_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    class_id: Mapped[UUID] = mapped_column(ForeignKey(ClassRow.id, ondelete="CASCADE"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey(UserRow.id, ondelete="CASCADE"))
    role: Mapped[Role] = mapped_column(CLASS_ROLE)
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)

    class_: Mapped[ClassRow] = relationship(back_populates="members")
    user: Mapped[UserRow] = relationship(back_populates="memberships")


class CheckpointRow(Table):
    """One row: how far these tables are projected, and what is wrong where they get no further."""

    __tablename__ = "checkpoint"
    __table_args__ = (CheckConstraint("singleton", name="checkpoint_singleton_check"),)

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    position: Mapped[int]
    progressed_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    failing_position: Mapped[int | None]
    failing_since: Mapped[datetime | None]
    failure: Mapped[str | None] = mapped_column(Text)

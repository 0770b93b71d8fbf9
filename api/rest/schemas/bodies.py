"""What a caller sends in a body."""

from pydantic import BaseModel, ConfigDict, Field

from rosterlog.api.rest.schemas.fields import (
    ABSENT,
    ANNA,
    MATH,
    SCHOOL,
    EffectiveOn,
    Id,
    Name,
    SettingsObject,
    example,
)
from rosterlog.domain.values import Role


class _Input(BaseModel):
    """What a caller sends: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Nothing(_Input):
    """No fields: the path says it all."""


class NewGroup(_Input):
    """A group to create. With an `id` of your own the request can be repeated safely."""

    model_config = example(id=SCHOOL, name="Lincoln Elementary")
    id: Id | None = None
    name: Name


class GroupChange(_Input):
    """A group's new name."""

    model_config = example(name="Lincoln Elementary School")
    name: Name


class NewUser(_Input):
    """A user to register: an id, and nothing about the person."""

    model_config = example(id=ANNA)
    id: Id | None = None


class NewClass(_Input):
    """A class to create in a group. `settings` is any JSON object, at most 64 KiB and 32 levels."""

    model_config = example(
        id=MATH, group_id=SCHOOL, name="Mathematics 7b", settings={"room": "2.14"}
    )
    id: Id | None = None
    group_id: Id
    name: Name
    settings: SettingsObject = Field(default_factory=dict)


class ClassChange(_Input):
    """What to change of a class; what is not given stays. `settings` are replaced whole."""

    model_config = example(name="Mathematics 7b (advanced)")
    # Absent is no change, null is refused: defaults are not validated, and what was given is read
    # from `model_fields_set`.
    name: Name = ABSENT
    settings: SettingsObject = ABSENT
    group_id: Id = ABSENT


class NewClassMember(_Input):
    """A user to enrol in a class."""

    model_config = example(user_id=ANNA, role="student")
    user_id: Id
    role: Role
    effective_on: EffectiveOn | None = None


class RoleChange(_Input):
    """A member's new role."""

    model_config = example(role="teacher")
    role: Role
    effective_on: EffectiveOn | None = None

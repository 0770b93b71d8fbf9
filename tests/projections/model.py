"""The rules of the roster once more, as plainly as possible: dictionaries, and a command answers whether it was accepted."""

from dataclasses import dataclass, field
from typing import Any

from rosterlog.domain.values import Role


@dataclass
class ModelClass:
    group_id: str
    name: str
    settings: dict[str, Any]
    archived: bool = False
    members: dict[str, Role] = field(default_factory=dict)


@dataclass
class Model:
    """What there is by id; `ended` holds the ids of what is gone, `created` with which content each thing began."""

    groups: dict[str, str] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)
    classes: dict[str, ModelClass] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    created: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def create_group(self, id_: str, name: str) -> bool:
        if id_ in self.created:
            return self._again(id_, ("group", name))
        self.created[id_] = ("group", name)
        self.groups[id_] = name
        return True

    def rename_group(self, id_: str, name: str) -> bool:
        if id_ in self.groups:
            self.groups[id_] = name
        return id_ in self.groups

    def delete_group(self, id_: str) -> bool:
        if self.groups.pop(id_, None) is not None:
            self.ended.add(id_)
            for class_id in [
                class_id for class_id, class_ in self.classes.items() if class_.group_id == id_
            ]:
                self.delete_class(class_id)
        return self._was(id_, "group")

    def register_user(self, id_: str) -> bool:
        if id_ in self.created:
            return self._again(id_, ("user",))
        self.created[id_] = ("user",)
        self.users.add(id_)
        return True

    def remove_user(self, id_: str) -> bool:
        if id_ in self.users:
            self.users.remove(id_)
            self.ended.add(id_)
            for class_ in self.classes.values():
                class_.members.pop(id_, None)
        return self._was(id_, "user")

    def create_class(self, id_: str, group: str, name: str, settings: dict[str, Any]) -> bool:
        if id_ in self.created:
            return self._again(id_, ("class", group, name, settings))
        if group not in self.groups:
            return False
        self.created[id_] = ("class", group, name, settings)
        self.classes[id_] = ModelClass(group, name, settings)
        return True

    def change_class(self, id_: str, change: dict[str, Any]) -> bool:
        class_ = self.classes.get(id_)
        if class_ is None or change.get("group_id", class_.group_id) not in self.groups:
            return False
        differs = any(getattr(class_, key) != value for key, value in change.items())
        if differs and class_.archived:
            return False
        for key, value in change.items():
            setattr(class_, key, value)
        return True

    def archive_class(self, id_: str) -> bool:
        if id_ in self.classes:
            self.classes[id_].archived = True
        return id_ in self.classes

    def restore_class(self, id_: str) -> bool:
        if id_ in self.classes:
            self.classes[id_].archived = False
        return id_ in self.classes

    def delete_class(self, id_: str) -> bool:
        if self.classes.pop(id_, None) is not None:
            self.ended.add(id_)
        return self._was(id_, "class")

    def enrol(self, id_: str, user: str, role: Role) -> bool:
        class_ = self.classes.get(id_)
        if class_ is None or user not in self.users:
            return False
        if user in class_.members:
            return class_.members[user] == role
        if not class_.archived:
            class_.members[user] = role
        return not class_.archived

    def change_role(self, id_: str, user: str, role: Role) -> bool:
        class_ = self.classes.get(id_)
        if class_ is None or user not in class_.members:
            return False
        if class_.members[user] != role and class_.archived:
            return False
        class_.members[user] = role
        return True

    def withdraw(self, id_: str, user: str) -> bool:
        class_ = self.classes.get(id_)
        if class_ is None:
            return self._was(id_, "class")
        if class_.archived and user in class_.members:
            return False
        class_.members.pop(user, None)
        return True

    def _again(self, id_: str, content: tuple[Any, ...]) -> bool:
        return id_ not in self.ended and bool(self.created[id_] == content)

    def _was(self, id_: str, kind: str) -> bool:
        return id_ in self.created and bool(self.created[id_][0] == kind)

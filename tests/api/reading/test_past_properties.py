"""Whatever several actors did: every past position's rosters, every history and every diff are those of a plain model."""

from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.domain.errors import DomainError
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from tests.api.client import Api, done
from tests.api.conftest import serving
from tests.conftest import TEMPLATE, by, fresh_database
from tests.projections.model import Model
from tests.projections.test_properties import (
    CLASSES,
    GROUPS,
    IDS,
    PATIENT,
    PHASES,
    START,
    USERS,
    Command,
    commands,
    real,
)

NAMES = {str(id_): name for name, id_ in IDS.items()}
TYPES = {
    "create_group": "GroupCreated", "rename_group": "GroupRenamed", "delete_group": "GroupDeleted",
    "register_user": "UserRegistered", "remove_user": "UserRemoved",
    "create_class": "ClassCreated", "archive_class": "ClassArchived", "restore_class": "ClassRestored", "delete_class": "ClassDeleted",
    "enrol": "MemberEnrolled", "change_role": "RoleChanged", "withdraw": "MemberWithdrawn",
}  # fmt: skip
CHANGES = {"name": "ClassRenamed", "settings": "ClassSettingsChanged", "group_id": "ClassMoved"}
ARCHIVING = {"archive_class": (False, True), "restore_class": (True, False)}


@dataclass(frozen=True)
class Recorded:
    """A command that recorded an event, and the model before and after it."""

    position: int
    actor: str
    command: Command
    before: Model
    after: Model

    @property
    def entry(self) -> dict[str, Any]:
        """Return the event as a history shows it."""
        verb, id_, *arguments = self.command
        entry = {
            "position": self.position,
            "actor": self.actor,
            "type": TYPES.get(verb),
            "before": {},
            "after": {},
        }
        about: dict[str, Any] = {"class_id": None, "user_id": None, "group_id": None}
        if verb.endswith("group"):
            about["group_id"] = id_
            if verb != "delete_group":
                entry["after"] = {"name": self.after.groups[id_]}
            if verb == "rename_group":
                entry["before"] = {"name": self.before.groups[id_]}
            return entry | about
        if verb.endswith("user"):
            return entry | about | {"user_id": id_}
        before = self.before.classes.get(id_)
        class_ = self.after.classes.get(id_) or self.before.classes[id_]
        about |= {"class_id": id_, "group_id": class_.group_id}
        if verb == "create_class":
            entry["after"] = {
                "group_id": arguments[0],
                "name": arguments[1],
                "settings": arguments[2],
            }
        elif verb == "change_class":
            ((field, value),) = arguments[0].items()
            entry |= {
                "type": CHANGES[field],
                "before": {field: getattr(before, field)},
                "after": {field: value},
            }
        elif verb in ARCHIVING:
            was, is_ = ARCHIVING[verb]
            entry |= {"before": {"archived": was}, "after": {"archived": is_}}
        elif verb != "delete_class":
            user = about["user_id"] = arguments[0]
            roles = [model.classes[id_].members.get(user) for model in (self.before, self.after)]
            entry["before"], entry["after"] = (
                {} if role is None else {"role": role.value} for role in roles
            )
        return entry | about

    def ended(self) -> Iterator[dict[str, Any]]:
        """Return an entry for each membership that it ended, and for each class that ended with its group."""
        verb, ended, *_ = self.command
        if verb not in {"remove_user", "delete_class", "delete_group"}:
            return
        entry = {"position": self.position, "actor": self.actor, "type": TYPES[verb], "after": {}}
        for class_id, class_ in self.before.classes.items():
            about = {"class_id": class_id, "group_id": class_.group_id}
            if verb == "delete_group" and class_.group_id == ended:
                yield entry | about | {"user_id": None, "before": {}}
            for user, role in class_.members.items():
                if ended in {user, class_id, class_.group_id}:
                    yield entry | about | {"user_id": user, "before": {"role": role.value}}


def give(roster: Roster, model: Model, past: list[Command]) -> Iterator[Recorded]:
    """Give the commands to roster and model, one field at a time, and yield those that recorded something."""
    for number, (verb, *arguments) in enumerate(past):
        split = (
            [(arguments[0], {key: value}) for key, value in arguments[1].items()]
            if verb == "change_class"
            else [tuple(arguments)]
        )
        for single in split:
            before = deepcopy(model)
            accepted = getattr(model, verb)(*single)
            positional = [real(argument) for argument in single]
            change = positional.pop() if verb == "change_class" else {}
            actor = f"actor-{number % 3}"
            try:
                outcome = getattr(roster, verb)(
                    *positional, by(actor), **{key: real(value) for key, value in change.items()}
                )
            except DomainError:
                assert not accepted
                continue
            if outcome.changed:
                yield Recorded(outcome.position, actor, (verb, *single), before, deepcopy(model))


def named(fields: dict[str, Any]) -> dict[str, Any]:
    """Put the model's names in the place of ids."""
    return {
        name: NAMES.get(value, value) if isinstance(value, str) else value
        for name, value in fields.items()
    }


def brief(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the model knows of entries."""
    known = ("position", "actor", "type", "class_id", "user_id", "group_id")
    return [
        named({name: e[name] for name in known})
        | {"before": named(e["before"]), "after": named(e["after"])}
        for e in entries
    ]


def in_order(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(
        entries,
        key=lambda e: (
            e["position"],
            *(str(IDS[e[k]]) if e[k] else "" for k in ("class_id", "user_id")),
        ),
    )


def check_histories(api: Api, recorded: list[Recorded]) -> None:
    events = [one.entry for one in recorded]
    ended = [entry for one in recorded for entry in one.ended()]
    left = [
        (one.entry, one.entry["before"].get("group_id"))
        for one in recorded
        if one.entry["type"] == "ClassMoved"
    ]
    assert brief(api.all("/v1/history", limit=7)) == events
    assert brief(api.all("/v1/history", limit=7, order="desc")) == events[::-1]
    assert brief(api.items("/v1/history", actor="actor-1")) == [
        event for event in events if event["actor"] == "actor-1"
    ]
    for kind, things, others in (
        ("class", CLASSES, [e for e in ended if e["type"] != "ClassDeleted"]),
        ("user", USERS, [e for e in ended if e["user_id"] is not None]),
        ("group", GROUPS, [e for e in ended if e["type"] == "UserRemoved"]),
    ):
        own = f"{kind}_id"
        path = {"class": "classes", "user": "users", "group": "groups"}[kind]
        for thing in things:
            assert brief(api.items("/v1/history", **{own: str(IDS[thing])})) == [
                event for event in events if event[own] == thing
            ]
            if not any(event[own] == thing for event in events):
                continue
            moved = [event for event, group in left if kind == "group" and group == thing]
            expected = in_order(
                [entry for entry in (*events, *others) if entry[own] == thing] + moved
            )
            # The event itself stands before what it ended.
            expected.sort(key=lambda entry: (entry["position"], entry not in events))
            found = api.all(f"/v1/{path}/{IDS[thing]}/history", limit=3)
            assert brief(found) == expected, (kind, thing)
            assert api.all(f"/v1/{path}/{IDS[thing]}/history", limit=3, order="desc") == found[::-1]


def rosters(model: Model, group: str) -> set[tuple[Any, ...]]:
    nobody: list[tuple[Any, Any]] = [(None, None)]
    return {
        (class_id, class_.name, user, role)
        for class_id, class_ in model.classes.items()
        if class_.group_id == group
        for user, role in [(user, role.value) for user, role in class_.members.items()] or nobody
    }


def check_states(api: Api, one: Recorded) -> None:
    at, model = {"at_position": one.position}, one.after
    for group in GROUPS:
        answer = api.get(f"/v1/groups/{IDS[group]}/rosters", params=at)
        assert answer.status_code == (
            200 if group in model.groups else 410 if group in model.ended else 404
        )
        if group in model.groups:
            rows = [
                (row["class_id"], row["class_name"], row["user_id"], row["role"])
                for row in answer.json()["items"]
            ]
            assert {
                tuple(NAMES.get(str(value), value) for value in row) for row in rows
            } == rosters(model, group)
            assert len(rows) == len(set(rows))
    for user in USERS:
        answer = api.get(f"/v1/users/{IDS[user]}/memberships", params=at)
        assert answer.status_code == (
            200 if user in model.users else 410 if user in model.ended else 404
        )
        if user in model.users:
            found = {
                (NAMES[item["class_id"]], item["class_name"], NAMES[item["group_id"]], item["role"])
                for item in answer.json()["items"]
            }
            assert found == {
                (id_, class_.name, class_.group_id, class_.members[user].value)
                for id_, class_ in model.classes.items()
                if user in class_.members
            }


def state(model: Model, scope: dict[str, str]) -> tuple[dict[str, Any], dict[tuple[str, str], str]]:
    """Return the classes that a diff is about, with their fields, and the roles in them."""
    classes = {
        id_: class_
        for id_, class_ in model.classes.items()
        if scope in ({"class": id_}, {"group": class_.group_id})
    }
    fields = {
        id_: {
            "group_id": c.group_id,
            "name": c.name,
            "settings": c.settings,
            "archived": c.archived,
        }
        for id_, c in classes.items()
    }
    return fields, {
        (id_, user): role.value
        for id_, class_ in classes.items()
        for user, role in class_.members.items()
    }


def applied(diff: dict[str, Any], before: Model, scope: dict[str, str]) -> Any:
    fields, members = state(before, scope)
    for gone in diff["withdrawn"]:
        assert members.pop((NAMES[gone["class_id"]], NAMES[gone["user_id"]])) == gone["role"]
    for changed in diff["role_changed"]:
        assert (
            members[NAMES[changed["class_id"]], NAMES[changed["user_id"]]]
            == changed["from"]
            != changed["to"]
        )
        members[NAMES[changed["class_id"]], NAMES[changed["user_id"]]] = changed["to"]
    for new in diff["enrolled"]:
        assert (
            members.setdefault((NAMES[new["class_id"]], NAMES[new["user_id"]]), new["role"])
            is new["role"]
        )
    for class_ in diff["classes"]:
        of_class = fields.setdefault(NAMES[class_["class_id"]], {})
        for field, change in class_["changes"].items():
            if field != "group_id":
                assert of_class.get(field) == change["from"]
            of_class[field] = (
                NAMES.get(change["to"], change["to"]) if field == "group_id" else change["to"]
            )
    there = {
        id_: of
        for id_, of in fields.items()
        if of["group_id"] is not None and scope in ({"class": id_}, {"group": of["group_id"]})
    }
    return there, members


def check_diff(api: Api, first: Recorded, last: Recorded) -> None:
    moments = {"from_position": first.position, "to_position": last.position}
    for kind, path, things in (("class", "classes", CLASSES), ("group", "groups", GROUPS)):
        for thing in things:
            answer = api.get(f"/v1/{path}/{IDS[thing]}/diff", params=moments)
            there = [thing in getattr(model, path) for model in (first.after, last.after)]
            assert answer.status_code == (
                200 if any(there) else 410 if thing in last.after.ended else 404
            ), answer.text
            if any(there):
                assert applied(done(answer, 200).json(), first.after, {kind: thing}) == state(
                    last.after, {kind: thing}
                )


@settings(
    max_examples=8,
    deadline=None,
    phases=PHASES,
    suppress_health_check=PATIENT,
    report_multiple_bugs=False,
)
@given(past=st.lists(commands(), min_size=25, max_size=45), data=st.data())
def test_the_past_is_what_it_was(
    server: EmbeddedPostgres, past: list[Command], data: st.DataObject
) -> None:
    with fresh_database(server, TEMPLATE) as database, serving(database) as api:
        with closing(PostgresLog(database, pool_size=1)) as log:
            recorded = list(give(Roster(log), Model(), [*START, *past]))
        check_histories(api, recorded)
        for one in recorded:
            check_states(api, one)
        for _ in range(8):
            first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(recorded) - 1)] * 2)))
            check_diff(api, recorded[first], recorded[last])

"""Whatever the commands: the read tables say what a plain model says, and a rebuild makes the same tables byte for byte."""

from contextlib import closing
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import psycopg
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import Connection

from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.domain.errors import DomainError
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from rosterlog.projections.projector.projector import project
from rosterlog.projections.rebuild.rebuilding import Rebuild
from rosterlog.projections.tables import SCHEMA
from rosterlog.projections.verify.log_check import verify_log
from tests.conftest import TEMPLATE, by, fresh_database
from tests.projections.model import Model
from tests.projections.tables import project_all, rows, start_over

GROUPS, USERS, CLASSES = ["g1", "g2", "g3"], ["u1", "u2", "u3"], ["c1", "c2", "c3"]

groups = st.sampled_from(["g1", "g1", "g2", "g2", "g3", "u1"])
users = st.sampled_from(["u1", "u1", "u2", "u2", "u3", "c1"])
classes = st.sampled_from(["c1", "c1", "c1", "c2", "c2", "c3", "g1"])
names, roles = st.sampled_from(["Maths", "Art", "ü🎓"]), st.sampled_from(Role)
contents = st.sampled_from([{}, {"room": 1}, {"b": [None, 0.5], "a": {"ü": "x"}}])
changes = st.fixed_dictionaries(
    {}, optional={"name": names, "settings": contents, "group_id": groups}
)

ARGUMENTS: dict[str, tuple[st.SearchStrategy[Any], ...]] = {
    "create_group": (groups, names),
    "rename_group": (groups, names),
    "delete_group": (groups,),
    "register_user": (users,),
    "remove_user": (users,),
    "create_class": (classes, groups, names, contents),
    "change_class": (classes, changes),
    "archive_class": (classes,),
    "restore_class": (classes,),
    "delete_class": (classes,),
    "enrol": (classes, users, roles),
    "change_role": (classes, users, roles),
    "withdraw": (classes, users),
}
OFTEN = (
    ["enrol"] * 12
    + ["withdraw"] * 8
    + ["change_role"] * 6
    + ["change_class"] * 4
    + ["restore_class"] * 2
)
VERBS = [*ARGUMENTS, *OFTEN]

Command = tuple[Any, ...]


@st.composite
def commands(draw: st.DrawFn) -> Command:
    verb = draw(st.sampled_from(VERBS))
    return (verb, *[draw(argument) for argument in ARGUMENTS[verb]])


START: list[Command] = [
    ("create_group", "g1", "Maths"),
    ("create_group", "g2", "Art"),
    ("create_class", "c1", "g1", "Maths", {}),
    ("create_class", "c2", "g2", "Art", {}),
    ("register_user", "u1"),
    ("register_user", "u2"),
]


IDS = {name: uuid5(NAMESPACE_URL, name) for name in (*GROUPS, *USERS, *CLASSES)}


def real(value: Any) -> Any:
    """Return the id for a name of the model, and anything else as it is."""
    return IDS.get(value, value) if isinstance(value, str) else value


def accepted(roster: Roster, verb: str, *arguments: Any) -> bool:
    """Give the command to the roster as the model knows it, and tell whether it was accepted."""
    positional = [real(argument) for argument in arguments]
    change = positional.pop() if verb == "change_class" else {}
    try:
        getattr(roster, verb)(
            *positional, by(), **{key: real(value) for key, value in change.items()}
        )
    except DomainError:
        return False
    return True


def expected(model: Model) -> dict[str, set[tuple[Any, ...]]]:
    return {
        "groups": {(IDS[id_], name) for id_, name in model.groups.items()},
        "users": {(IDS[id_],) for id_ in model.users},
        "classes": {
            (IDS[id_], IDS[c.group_id], c.name, str(c.settings), c.archived)
            for id_, c in model.classes.items()
        },
        "class_members": {
            (IDS[id_], IDS[user], role.value)
            for id_, class_ in model.classes.items()
            for user, role in class_.members.items()
        },
    }


def found(connection: Connection[Any]) -> dict[str, set[tuple[Any, ...]]]:
    classes = connection.execute(
        "SELECT id, group_id, name, settings, deleted_at IS NOT NULL FROM roster.classes"
    ).fetchall()
    return {
        "groups": set(connection.execute("SELECT id, name FROM roster.groups").fetchall()),
        "users": set(connection.execute("SELECT id FROM roster.users").fetchall()),
        "classes": {
            (id_, group, name, canonical(content), archived)
            for id_, group, name, content, archived in classes
        },
        "class_members": set(
            connection.execute(
                "SELECT class_id, user_id, role::text FROM roster.class_members"
            ).fetchall()
        ),
    }


def canonical(content: dict[str, Any]) -> str:
    """Write settings in the order that the test gives them: PostgreSQL keeps another one."""
    return str({key: content[key] for key in ("room", "b", "a") if key in content})


# Without shrinking, which would take many minutes of databases: a failing example is printed as it
# was found.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
# How long it takes to make an example says something about the machine alone.
PATIENT = (HealthCheck.too_slow,)


@settings(
    max_examples=40,
    deadline=None,
    phases=PHASES,
    suppress_health_check=PATIENT,
    report_multiple_bugs=False,
)
@given(
    past=st.lists(commands(), min_size=15, max_size=60),
    limits=st.lists(st.integers(1, 12), min_size=1, max_size=8),
)
def test_tables_follow_the_model_and_a_rebuild_makes_them_again(
    server: EmbeddedPostgres, past: list[Command], limits: list[int]
) -> None:
    model = Model()
    with fresh_database(server, TEMPLATE) as database:
        with closing(PostgresLog(database, pool_size=1)) as log:
            roster = Roster(log)
            for command in [*START, *past]:
                verb, *arguments = command
                assert accepted(roster, *command) is getattr(model, verb)(*arguments), command
        with psycopg.connect(database, autocommit=True) as connection:
            turn = 0
            while project(connection, SCHEMA, limit=limits[turn % len(limits)]).events:
                turn += 1
            assert found(connection) == expected(model)
            live = rows(connection)
            assert Rebuild(database).run().state == "done"
            assert rows(connection) == live
            for limit in (1, 2, 3, 5):
                start_over(connection)
                project_all(connection, limit)
                assert rows(connection) == live
            verify_log(connection)

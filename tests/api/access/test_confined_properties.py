"""A caller confined to groups sees a plain model that is restricted to these groups.

So it is at every position, whatever several actors did.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from tests.api.client import Api
from tests.api.conftest import serving
from tests.api.identity import Provider, bearer, trusting
from tests.api.reading.test_past_properties import (
    Recorded,
    brief,
    check_diff,
    check_states,
    give,
    in_order,
)
from tests.conftest import TEMPLATE, fresh_database
from tests.domain.threads import eventually
from tests.projections.model import Model
from tests.projections.test_properties import (
    CLASSES,
    GROUPS,
    IDS,
    PHASES,
    START,
    USERS,
    Command,
    commands,
)

Groups = frozenset[str]


def restricted(model: Model, groups: Groups, last_group: dict[str, str]) -> Model:
    """Return the part of the model that belongs to the groups.

    `last_group` says in which group each class is, or was when it ended.
    """
    classes = {id_: class_ for id_, class_ in model.classes.items() if class_.group_id in groups}
    return Model(
        groups={id_: name for id_, name in model.groups.items() if id_ in groups},
        users={user for class_ in classes.values() for user in class_.members},
        classes=classes,
        ended={id_ for id_ in model.ended if last_group.get(id_, id_) in groups},
    )


def restrict(recorded: list[Recorded], groups: Groups) -> Iterator[Recorded]:
    """Restrict the model before and after each command."""
    last_group: dict[str, str] = {}
    before = Model()
    for one in recorded:
        last_group |= {id_: class_.group_id for id_, class_ in one.after.classes.items()}
        after = restricted(one.after, groups, last_group)
        yield replace(one, before=before, after=after)
        before = after


def seen(entries: list[dict[str, Any]], groups: Groups) -> list[dict[str, Any]]:
    """Return the entries of the groups.

    A class that came from another group comes without its former group.
    """
    own = [entry for entry in entries if entry["group_id"] in groups]
    elsewhere = [
        entry["type"] == "ClassMoved" and entry["before"]["group_id"] not in groups for entry in own
    ]
    return [
        entry | {"before": {"group_id": None}} if came else entry
        for entry, came in zip(own, elsewhere, strict=True)
    ]


def check_histories(api: Api, recorded: list[Recorded], groups: Groups) -> None:
    events = [one.entry for one in recorded]
    ended = seen([entry for one in recorded for entry in one.ended()], groups)
    removed = {entry["position"] for entry in ended if entry["type"] == "UserRemoved"}
    everything = [
        entry for entry in events if entry["position"] in removed or entry["group_id"] in groups
    ]
    everything = [
        entry if entry["position"] in removed else seen([entry], groups)[0] for entry in everything
    ]
    assert brief(api.all("/v1/history", limit=3)) == everything
    assert brief(api.all("/v1/history", limit=3, order="desc")) == everything[::-1]
    assert brief(api.items("/v1/history", actor="actor-1")) == [
        entry for entry in everything if entry["actor"] == "actor-1"
    ]
    assert brief(api.items("/v1/history", type="UserRemoved")) == [
        entry for entry in everything if entry["type"] == "UserRemoved"
    ]
    assert brief(followed(api)) == everything
    own = seen(events, groups)
    for kind, path, things, others in (
        ("class", "classes", CLASSES, [e for e in ended if e["type"] != "ClassDeleted"]),
        ("user", "users", USERS, [e for e in ended if e["user_id"] is not None]),
        ("group", "groups", GROUPS, [e for e in ended if e["type"] == "UserRemoved"]),
    ):
        for thing in things:
            name = f"{kind}_id"
            assert brief(api.items("/v1/history", **{name: str(IDS[thing])})) == [
                entry for entry in everything if entry[name] == thing
            ]
            left = [
                e
                for e in own
                if e["type"] == "ClassMoved"
                and kind == "group"
                and e["before"]["group_id"] == thing
            ]
            expected = in_order([entry for entry in (*own, *others) if entry[name] == thing] + left)
            expected.sort(key=lambda entry: (entry["position"], entry not in own))
            read = f"/v1/{path}/{IDS[thing]}/history"
            if expected:
                assert brief(api.all(read, limit=2)) == expected, (kind, thing)
                assert brief(api.all(read, limit=2, order="desc")) == expected[::-1]
                assert api.items(read, actor="nobody") == []
            else:
                assert (
                    api.get(read).status_code
                    == api.get(read, params={"actor": "nobody"}).status_code
                    == 404
                ), (kind, thing)


def followed(api: Api) -> list[Any]:
    """Return what the pages of the feed lead to."""
    items, after = list[Any](), 0
    while True:
        page = api.read("/v1/events", after=after, limit=3)
        items += page["items"]
        if page["after"] == page["head"]:
            return items
        after = page["after"]


def check_lists(api: Api, model: Model) -> None:
    """Check the lists of the read tables as they are."""
    for path, there in (
        ("groups", model.groups),
        ("users", model.users),
        ("classes", model.classes),
    ):
        assert {item["id"] for item in api.all(f"/v1/{path}", limit=2)} == {
            str(IDS[id_]) for id_ in there
        }
        for id_ in {"groups": GROUPS, "users": USERS, "classes": CLASSES}[path]:
            expected = 200 if id_ in there else 410 if id_ in model.ended else 404
            assert api.get(f"/v1/{path}/{IDS[id_]}").status_code == expected, id_
    for id_ in CLASSES:
        roster = api.get(f"/v1/classes/{IDS[id_]}/members")
        assert roster.status_code == (
            200 if id_ in model.classes else 410 if id_ in model.ended else 404
        )
        members = model.classes[id_].members if id_ in model.classes else {}
        assert {item["user_id"] for item in roster.json().get("items", ())} == {
            str(IDS[user]) for user in members
        }


@pytest.fixture(scope="module")
def keys(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "jwks.json"
    provider.write(path)
    return path


@settings(
    max_examples=6,
    deadline=None,
    phases=PHASES,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    past=st.lists(commands(), min_size=30, max_size=50),
    groups=st.sampled_from(
        [frozenset({"g1"}), frozenset({"g2"}), frozenset({"g1", "g2"}), frozenset({"g2", "g3"})]
    ),
    data=st.data(),
)
def test_who_is_confined_sees_what_is_of_the_groups(
    server: EmbeddedPostgres,
    provider: Provider,
    keys: Path,
    past: list[Command],
    groups: Groups,
    data: st.DataObject,
) -> None:
    with fresh_database(server, TEMPLATE) as database, serving(database, trusting(keys)) as api:
        api.headers.update(
            bearer(provider.token(roster_groups=[str(IDS[group]) for group in groups]))
        )
        with closing(PostgresLog(database, pool_size=1)) as log:
            recorded = list(give(Roster(log), Model(), [*START, *past]))
        check_histories(api, recorded, groups)
        confined = list(restrict(recorded, groups))
        for one in confined:
            check_states(api, one)
        for _ in range(8):
            first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(recorded) - 1)] * 2)))
            check_diff(api, confined[first], confined[last])
        eventually(
            lambda: (
                api.get("/v1/groups", params={"min_position": recorded[-1].position}).status_code
                == 200
            )
        )
        check_lists(api, confined[-1].after)

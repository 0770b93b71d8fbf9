"""An event of a known kind whose state lacks what the tables need stalls the projector there; it never leaves the old value in silence."""

import json
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.roster import Roster
from rosterlog.projections.projector.projector import EventFails, project
from rosterlog.projections.rebuild import rebuilding as rebuild
from rosterlog.projections.rebuild.rebuilding import Rebuild
from rosterlog.projections.tables import SCHEMA
from tests.domain.samples import samples
from tests.projections.forging import insert_event
from tests.projections.tables import (
    CLASS,
    GROUP,
    USER,
    checkpoint,
    project_all,
    record_everything,
    rows,
)

NEEDED = [
    ("GroupCreated", "name"),
    ("GroupRenamed", "name"),
    ("ClassCreated", "name"),
    ("ClassCreated", "settings"),
    ("ClassRenamed", "name"),
    ("ClassSettingsChanged", "settings"),
    ("MemberEnrolled", "role"),
    ("RoleChanged", "role"),
    ("MemberWithdrawn", "role"),
]


def forge(connection: Connection[Any], topic: str, state: dict[str, Any]) -> int:
    """Chain on an event about things that there are."""
    about = {
        "group_id": GROUP,
        "class_id": None if topic == "ClassCreated" else CLASS,
        "user_id": USER,
    }
    stream = GROUP if topic == "GroupRenamed" else None
    return insert_event(
        connection, topic, EventCodec(), json.dumps(state).encode(), stream, **about
    )


@pytest.mark.parametrize("null", [False, True], ids=["missing", "null"])
@pytest.mark.parametrize(("topic", "field"), NEEDED)
def test_it_stalls_live_and_in_a_rebuild_even_where_a_later_event_replaces_the_value(
    roster: Roster, connection: Connection[Any], database: str, topic: str, field: str, null: bool
) -> None:
    head = record_everything(roster)
    project_all(connection)
    live = rows(connection)
    whole: dict[str, Any] = json.loads(EventCodec().to_stored_event(samples()[topic]).state)
    lacking = {name: value for name, value in whole.items() if name != field} | (
        {field: None} if null else {}
    )
    bad = forge(connection, topic, lacking)
    if not topic.endswith("Created"):
        forge(connection, topic, whole)
    for limit in (1, 1000):
        with pytest.raises(psycopg.Error):
            project(connection, SCHEMA, limit=limit)
        assert (checkpoint(connection), rows(connection)) == (head, live)
    with pytest.raises(EventFails) as failed:
        Rebuild(database).run()
    assert failed.value.position == bad
    assert f"Position {bad} " in str(rebuild.state(connection).error)


@pytest.mark.parametrize("topic", ["MemberEnrolled", "RoleChanged", "MemberWithdrawn"])
@pytest.mark.parametrize("column", ["class_id", "user_id"])
def test_so_does_a_change_of_a_membership_that_does_not_say_whose(
    roster: Roster, connection: Connection[Any], database: str, topic: str, column: str
) -> None:
    head = record_everything(roster)
    class_id, user_id = (None, USER) if column == "class_id" else (CLASS, None)
    bad = insert_event(connection, topic, EventCodec(), class_id=class_id, user_id=user_id)
    with pytest.raises(psycopg.Error):
        project_all(connection, 1)
    assert checkpoint(connection) == head
    with pytest.raises(EventFails) as failed:
        Rebuild(database).run()
    assert failed.value.position == bad

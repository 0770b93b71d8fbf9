"""A rolling deploy: the newer release records a version of an event that this one does not know."""

from typing import Any

import pytest
from psycopg import Connection

from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.roster import Roster
from rosterlog.projections.projector.projector import UnknownEvent, project
from rosterlog.projections.tables import SCHEMA
from rosterlog.projections.verify.log_check import LogAltered, verify_log
from tests.domain.samples import samples
from tests.projections.forging import insert_event
from tests.projections.tables import checkpoint, project_all, record_everything, rows


def test_a_newer_version_stops_the_projector_before_it_with_the_tables_as_they_were(
    roster: Roster, connection: Connection[Any]
) -> None:
    head = record_everything(roster)
    project_all(connection)
    before = rows(connection)
    state = EventCodec().to_stored_event(samples()["MemberEnrolled"]).state
    newer = insert_event(connection, "MemberEnrolled.2", EventCodec(), state)
    insert_event(connection, "UserRegistered", EventCodec())
    for limit in (1, 1000):
        with pytest.raises(
            UnknownEvent,
            match=rf"Position {newer} holds a MemberEnrolled\.2, which this release does not know",
        ):
            project(connection, SCHEMA, limit=limit)
        assert checkpoint(connection) == head
        assert rows(connection) == before
    with pytest.raises(
        LogAltered, match=rf"Position {newer}: MemberEnrolled\.2: this release knows no such event"
    ):
        verify_log(connection)

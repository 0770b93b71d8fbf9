"""A skip that hides an event for no reason is found; one that an operator had to make is not."""

from typing import Any

import pytest
from psycopg import Connection

from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.roster import Roster
from rosterlog.projections.verify.skips_check import verify_skips
from tests.api.processes import rosterlog, succeeds
from tests.projections.forging import append_unknown, insert_event
from tests.projections.projector.test_skips import skip_failing, skip_recorded
from tests.projections.tables import CLASS, GROUP, USER, project_all, record_everything, rows


def found(database: str) -> list[tuple[int, str]]:
    return [(skip.position, skip.what) for skip in verify_skips(database)]


def test_skips_that_had_to_be_are_right_and_nothing_stays_of_the_trial(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    head = record_everything(roster)
    assert found(database) == []
    states = (b"{", b'{"role":"principal"}', b"\xff")
    bad = []
    for state in states:
        bad.append(
            insert_event(
                connection, "RoleChanged", EventCodec(), state, class_id=CLASS, user_id=USER
            )
        )
        assert skip_failing(connection) == bad[-1]
        project_all(connection)
    bad.append(append_unknown(connection))
    # Made twice: the second contradicts the row that is there.
    assert skip_failing(connection) == bad[-1]
    project_all(connection)
    bad.append(insert_event(connection, "GroupCreated", EventCodec(), stream=GROUP))
    assert skip_failing(connection) == bad[-1] == head + 5
    project_all(connection)
    before = rows(connection)
    assert found(database) == []
    assert rows(connection) == before
    assert connection.execute(
        "SELECT count(*) FROM log.skips WHERE taken_back_at IS NULL"
    ).fetchone() == (5,)
    assert (
        connection.execute(
            "SELECT FROM pg_class WHERE relnamespace = 'roster_shadow'::regnamespace"
        ).fetchall()
        == []
    )


def test_every_event_that_can_be_projected_is_no_event_to_skip(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    head = record_everything(roster)
    skip_recorded(connection, *range(1, head + 1))
    assert [position for position, what in found(database) if "can be projected" in what] == list(
        range(1, head + 1)
    )


@pytest.mark.parametrize(
    ("forgery", "what"),
    [
        ("position = 4711", "there is no such event"),
        ("topic = 'RoleChanged'", "another one"),
        ("version = 4711", "another one"),
        ("stream = gen_random_uuid()", "another one"),
        ("reason = ''", "reason needs 1 to 500 characters"),
        ("actor = 'a@b'", "actor must be an opaque id"),
    ],
)
def test_a_record_that_does_not_agree_with_its_event_is_found(
    connection: Connection[Any], database: str, forgery: str, what: str
) -> None:
    append_unknown(connection)
    skip_failing(connection)
    assert found(database) == []
    connection.execute(f"UPDATE log.skips SET {forgery}".encode())
    ((_, said),) = found(database)
    assert what in said


def test_a_forged_skip_fails_the_verification_and_one_that_is_taken_back_does_not(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    record_everything(roster)
    withdrawn = connection.execute(
        "SELECT max(notification_id) FROM log.events WHERE topic = 'MemberWithdrawn'"
    ).fetchone()
    assert withdrawn is not None
    skip_recorded(connection, withdrawn[0])
    project_all(connection)
    for options in ([], ["--tables"]):
        ended = rosterlog("verify", *options, DATABASE_URL=database)
        assert ended.returncode == 1
        assert (
            f"the skip of position {withdrawn[0]} (MemberWithdrawn): the event can be projected"
            in ended.stdout
        )
    succeeds("project", "--unskip", str(withdrawn[0]), DATABASE_URL=database)
    succeeds("rebuild", DATABASE_URL=database)
    assert "skipped" not in succeeds("verify", DATABASE_URL=database)

"""An older version of an event is read as if it were of today, from its own golden file, wherever events are read in Python."""

from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from eventsourcing.utils import get_topic

from rosterlog.domain.classes import Class
from rosterlog.domain.log.event_codec import EventCodec, RecordedEvent, UndecodableEvent, Upcaster
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Role
from tests.conftest import by
from tests.domain.log.test_event_codec import RECORDED_AT
from tests.domain.samples import CLASS, GROUP, USER, samples

OLDER = "MemberEnrolled.0"
GOLDEN = Path(__file__).parent / "older" / f"{OLDER}.json"


class EnrolledBefore(msgspec.Struct, forbid_unknown_fields=True):
    """An enrolment as it would have been stored before there were effective dates, when teachers were called instructors."""

    actor: str
    reason: str | None
    source: str
    request_id: str | None
    student: UUID
    role: str


def today(old: EnrolledBefore) -> dict[str, Any]:
    fields = msgspec.structs.asdict(old)
    role = "teacher" if fields.pop("role") == "instructor" else "student"
    return fields | {"user_id": fields.pop("student"), "role": Role(role), "effective_on": None}


UPCASTERS = {OLDER: Upcaster("MemberEnrolled", EnrolledBefore, today)}
codec = EventCodec(UPCASTERS)


def stored(state: bytes) -> RecordedEvent:
    return RecordedEvent(CLASS, 2, OLDER, state, RECORDED_AT)


def test_an_older_version_is_read_as_an_event_of_today() -> None:
    event = codec.to_domain_event(stored(GOLDEN.read_bytes()))
    assert type(event) is Class.MemberEnrolled
    assert (event.user_id, event.role, event.effective_on, event.timestamp) == (
        USER,
        Role.TEACHER,
        None,
        RECORDED_AT,
    )
    assert (event.actor, event.originator_id, event.originator_version) == ("registrar-7", CLASS, 2)
    assert codec.index_of(OLDER, CLASS, GOLDEN.read_bytes()) == [
        CLASS,
        USER,
        None,
        None,
        "registrar-7",
        "api",
    ]


def test_an_older_version_is_read_and_never_recorded() -> None:
    assert OLDER in codec.readable
    assert OLDER not in codec.topics
    event = samples()["MemberEnrolled"]
    assert codec.to_stored_event(event).topic == get_topic(type(event)) == "MemberEnrolled"


@pytest.mark.parametrize(
    "state",
    [
        b"{}",
        b'{"actor":"a","reason":null,"source":"api","request_id":null,"student":"no-uuid","role":"student"}',
        b"[",
    ],
)
def test_an_older_version_is_as_strictly_checked(state: bytes) -> None:
    with pytest.raises(UndecodableEvent, match=rf"{OLDER}, version 2 of"):
        codec.to_domain_event(stored(state))


def test_a_release_without_the_upcaster_refuses_it_by_name() -> None:
    with pytest.raises(UndecodableEvent, match=rf"{OLDER}.*knows no such event"):
        EventCodec().to_domain_event(stored(GOLDEN.read_bytes()))


def test_commands_decide_on_what_older_versions_say(
    log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rosterlog.domain.deciding.command.EventCodec", lambda: codec)
    roster = Roster(log)
    roster.create_group(GROUP, "North", by())
    roster.register_user(USER, by())
    roster.create_class(CLASS, GROUP, "Art", {}, by())
    older = EventCodec().to_stored_event(samples()["MemberEnrolled"])
    vars(older).update(topic=OLDER, state=GOLDEN.read_bytes(), originator_version=2)
    log.insert_events([older])
    assert not roster.enrol(CLASS, USER, Role.TEACHER, by()).changed
    assert roster.change_role(CLASS, USER, Role.STUDENT, by()).version == 3

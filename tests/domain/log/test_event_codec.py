"""What the log stores of an event, and how it is read back."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from eventsourcing.persistence import StoredEvent

from rosterlog.domain.classes import Class
from rosterlog.domain.log.event_codec import EventCodec, RecordedEvent, UndecodableEvent
from tests.domain.samples import CLASS, GROUP, OTHER_GROUP, USER, samples

GOLDEN = Path(__file__).parent / "golden"
RECORDED_AT = datetime(2025, 9, 1, 8, 30, tzinfo=UTC)

codec = EventCodec()


def golden(topic: str) -> bytes:
    return (GOLDEN / f"{topic}.json").read_bytes()


def recorded(topic: str, state: bytes) -> RecordedEvent:
    return RecordedEvent(CLASS, 1, topic, state, RECORDED_AT)


def altered(topic: str, **fields: Any) -> RecordedEvent:
    return recorded(topic, json.dumps({**json.loads(golden(topic)), **fields}).encode())


def test_every_topic_has_a_golden_file_and_every_golden_file_a_topic() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == sorted(codec.topics)


def test_the_topics_are_those_of_the_contract() -> None:
    assert set(codec.topics) == {
        *("GroupCreated", "GroupRenamed", "GroupDeleted", "UserRegistered", "UserRemoved"),
        *(
            "ClassCreated",
            "ClassRenamed",
            "ClassSettingsChanged",
            "ClassMoved",
            "ClassArchived",
            "ClassRestored",
            "ClassDeleted",
        ),
        *("MemberEnrolled", "RoleChanged", "MemberWithdrawn"),
    }


@pytest.mark.parametrize("topic", codec.topics)
def test_what_was_written_before_is_read_as_the_same_event(topic: str) -> None:
    expected = vars(samples()[topic])
    stored = RecordedEvent(
        expected["originator_id"], expected["originator_version"], topic, golden(topic), RECORDED_AT
    )
    event = codec.to_domain_event(stored)
    assert type(event).__name__ == type(samples()[topic]).__name__
    assert vars(event) == {**expected, "timestamp": RECORDED_AT}


@pytest.mark.parametrize("topic", codec.topics)
def test_an_event_is_written_byte_for_byte_as_before(topic: str) -> None:
    event = samples()[topic]
    stored = codec.to_stored_event(event)
    assert (stored.topic, stored.state) == (topic, golden(topic))
    assert (stored.originator_id, stored.originator_version) == (
        event.originator_id,
        event.originator_version,
    )
    assert codec.to_stored_event(
        codec.to_domain_event(recorded(topic, golden(topic)))
    ).state == golden(topic)


@pytest.mark.parametrize("topic", codec.topics)
def test_an_unknown_field_is_refused(topic: str) -> None:
    with pytest.raises(UndecodableEvent, match="surprise"):
        codec.to_domain_event(altered(topic, surprise=1))


@pytest.mark.parametrize(
    ("topic", "field"),
    [(topic, field) for topic in codec.topics for field in json.loads(golden(topic))],
)
def test_a_missing_field_is_refused(topic: str, field: str) -> None:
    fields = json.loads(golden(topic))
    del fields[field]
    with pytest.raises(UndecodableEvent, match=field):
        codec.to_domain_event(recorded(topic, json.dumps(fields).encode()))


@pytest.mark.parametrize(
    ("topic", "fields"),
    [
        ("ClassCreated", {"group_id": "no-uuid"}),
        ("ClassCreated", {"name": 1}),
        ("ClassCreated", {"settings": []}),
        ("ClassRenamed", {"previous_name": None}),
        ("MemberEnrolled", {"role": "janitor"}),
        ("MemberEnrolled", {"effective_on": "1.9.2025"}),
        ("MemberEnrolled", {"user_id": None}),
        ("UserRemoved", {"actor": None}),
        ("UserRemoved", {"reason": 1}),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(topic: str, fields: dict[str, Any]) -> None:
    with pytest.raises(UndecodableEvent, match=rf"{topic}.*\$\.{next(iter(fields))}"):
        codec.to_domain_event(altered(topic, **fields))


@pytest.mark.parametrize("state", [b"", b"[]", b"null", b"{", b"\xff"])
def test_what_is_no_json_object_is_refused(state: bytes) -> None:
    with pytest.raises(UndecodableEvent, match="UserRemoved, version 1 of"):
        codec.to_domain_event(recorded("UserRemoved", state))


def test_an_unknown_topic_is_refused_by_name() -> None:
    with pytest.raises(UndecodableEvent, match=r"ClassPainted.*knows no such event"):
        codec.to_domain_event(StoredEvent(CLASS, 1, "ClassPainted", b"{}"))


def test_an_event_that_could_not_be_read_back_is_not_written() -> None:
    event = samples()["MemberEnrolled"]
    vars(event)["role"] = "janitor"
    with pytest.raises(Exception, match="janitor"):
        codec.to_stored_event(event)


@pytest.mark.parametrize(
    ("topic", "index"),
    [
        ("GroupDeleted", (None, None, GROUP, None)),
        ("UserRemoved", (None, USER, None, None)),
        ("ClassCreated", (CLASS, None, GROUP, None)),
        ("ClassMoved", (CLASS, None, OTHER_GROUP, GROUP)),
        ("ClassArchived", (CLASS, None, None, None)),
        ("MemberEnrolled", (CLASS, USER, None, None)),
    ],
)
def test_an_event_is_indexed_by_the_things_it_is_about(topic: str, index: tuple[Any, ...]) -> None:
    stored = codec.to_stored_event(samples()[topic])
    assert (stored.class_id, stored.user_id, stored.group_id, stored.previous_group_id) == index
    event = samples()[topic]
    assert (stored.actor, stored.source) == (event.actor, event.source)


def test_replayed_golden_files_make_the_aggregate_that_recorded_them() -> None:
    topics = [topic for topic in codec.topics if topic.startswith(("Class", "Member", "Role"))]
    stored = [codec.to_stored_event(samples()[topic]) for topic in topics]
    class_: Class | None = None
    for event in map(
        codec.to_domain_event, sorted(stored, key=lambda event: event.originator_version)
    ):
        class_ = event.mutate(class_)
    assert class_ is not None
    assert (class_.name, class_.settings, class_.group_id, class_.members) == (
        "Physics",
        {},
        OTHER_GROUP,
        {},
    )
    assert (class_.archived, class_.deleted, class_.version) == (False, True, 10)

"""What programs generated from the OpenAPI document rely on.

Each kind of fault that makes callers cast, for all operations.
"""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from rosterlog.api.app import create_app
from rosterlog.api.http.problems import explanations
from rosterlog.api.ops.readiness import DEGRADED, UNKNOWN
from rosterlog.api.rest.openapi.document import TAGS
from rosterlog.api.rest.schemas.answers import DiffFields, EventFields
from rosterlog.domain.events import RosterEvent
from rosterlog.domain.log.event_codec import AGGREGATES, EventCodec
from rosterlog.projections.reading import diff
from tests.api.client import Api, done, problem, unknown_id

DOCUMENT: dict[str, Any] = create_app(lambda: "").openapi()
SCHEMAS: dict[str, dict[str, Any]] = DOCUMENT["components"]["schemas"]
OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: operation
    for methods in DOCUMENT["paths"].values()
    for operation in methods.values()
}
NULL = {"type": "null"}
FREE = {
    "Class.settings",
    "NewClass.settings",
    "ClassChange.settings",
    "EventFields.settings",
    "DiffObject.from",
    "DiffObject.to",
}
"""Objects whose fields are up to the caller."""
ANY_TEXT = {
    "ClassList.next_cursor", "ClassMemberList.next_cursor", "EventList.next_cursor",
    "GroupList.next_cursor",
    "MembershipList.next_cursor", "RosterList.next_cursor", "UserList.next_cursor",
    "Class.name", "DiffText.from", "DiffText.to", "EventFields.name", "Group.name",
    "Membership.class_name", "RosterRow.class_name",
    "Event.actor", "Event.reason", "Event.source", "Event.request_id",
    "Problem.title", "Problem.detail", "Problem.request_id",
    "ProblemError.pointer", "ProblemError.parameter", "ProblemError.header", "ProblemError.rule",
    "ProblemError.detail",
    "Skipped.reason", "Skipped.actor", "Skip.reason", "Skip.actor", "Skip.error",
    "Projections.leader", "Projections.failure", "RebuildProgress.error",
    "Start.api", "Start.openapi", "Start.health", "Start.ready", "Start.metrics", "Start.classes",
    # Of an event that this release may not know, from the log itself.
    "Skip.topic",
    # More rules come with releases, and an older client shall still read why it was refused:
    # ProblemType lists those of this one.
    "Problem.type",
    # What the caller wrote, where it may be an id.
    "EnrolmentOutcome.class_id", "EnrolmentOutcome.user_id", "RegistrationOutcome.id",
}  # fmt: skip
"""Texts that may be anything; all others are ids, times, dates, of a pattern, or one of a list."""


def properties() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, schema in SCHEMAS.items():
        for field, value in schema.get("properties", {}).items():
            yield f"{name}.{field}", value


def kinds(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a value may be, besides null; of a list, its items."""
    found = [kind for kind in schema.get("anyOf", [schema]) if kind != NULL]
    return [
        inner
        for kind in found
        for inner in (kinds(kind["items"]) if kind.get("type") == "array" else [kind])
    ]


def answers() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, operation in OPERATIONS.items():
        for status, answer in operation["responses"].items():
            yield name, status, answer


def test_no_two_parameters_of_an_operation_have_one_name() -> None:
    for name, operation in OPERATIONS.items():
        counts = Counter(
            parameter["name"].replace("-", "_").lower()
            for parameter in operation.get("parameters", ())
        )
        assert not [parameter for parameter, count in counts.items() if count > 1], name


def test_no_parameter_may_be_null() -> None:
    for name, operation in OPERATIONS.items():
        for parameter in operation.get("parameters", ()):
            assert NULL not in parameter["schema"].get("anyOf", ()), (name, parameter["name"])


def test_an_answer_has_one_type_for_each_status_and_media_type_and_json_comes_first() -> None:
    for name, status, answer in answers():
        content = answer.get("content", {})
        for media_type, kind in content.items():
            schema = kind["schema"]
            assert ("$ref" in schema) == media_type.endswith("json") or schema == {
                "type": "string"
            }, (name, status, media_type)
            assert "anyOf" not in schema, (name, status, media_type)
        assert not content or len(content) == 1 or next(iter(content)) == "application/json", (
            name,
            status,
        )
        assert bool(content) == (status not in {"204", "304"}), (name, status)


def test_what_is_not_visible_yet_says_its_position_and_id_beside_all_that_is_known() -> None:
    for name, operation in OPERATIONS.items():
        content = operation["responses"].get("202", {}).get("content", {})
        if "Prefer" in [parameter["name"] for parameter in operation.get("parameters", ())]:
            accepted = SCHEMAS[content["application/json"]["schema"]["$ref"].rpartition("/")[2]]
            assert {"position", "id"} <= set(accepted["required"]), name


def test_texts_that_are_one_of_a_list_say_which() -> None:
    plain = {
        name
        for name, schema in properties()
        for kind in kinds(schema)
        if kind.get("type") == "string" and not kind.keys() & {"enum", "const", "format", "pattern"}
    }
    # What a refusal says of many things has the members of a problem.
    assert {re.sub("^Refused[A-Z][A-Za-z]+", "Problem", name) for name in plain} == ANY_TEXT


def test_event_types_are_those_that_are_recorded_and_can_be_asked_for() -> None:
    assert SCHEMAS["EventType"]["enum"] == sorted(EventCodec().topics)
    for name in ("getHistory", "getClassHistory", "getUserHistory", "getGroupHistory"):
        (asked,) = [
            parameter for parameter in OPERATIONS[name]["parameters"] if parameter["name"] == "type"
        ]
        assert (
            asked["schema"]["$ref"]
            == SCHEMAS["Event"]["properties"]["type"]["$ref"]
            == "#/components/schemas/EventType"
        )


def test_before_and_after_have_the_fields_that_events_change() -> None:
    events = [
        event
        for aggregate in AGGREGATES
        for event in vars(aggregate).values()
        if isinstance(event, type) and issubclass(event, RosterEvent)
    ]
    about = {field.name for field in fields(RosterEvent)} | {
        "originator_topic",
        "user_id",
        "effective_on",
    }
    changed = {
        field.name.removeprefix("previous_") for event in events for field in fields(event)
    } - about
    assert changed | {"archived"} == EventFields.model_fields.keys()


def test_differences_have_the_fields_that_are_compared() -> None:
    assert tuple(DiffFields.model_fields) == diff.FIELDS


def test_the_document_is_the_same_for_the_command_line_and_the_service() -> None:
    programs = ("", "import api.cli; ")
    said = {
        subprocess.run(
            [
                sys.executable,
                "-c",
                f"{first}from api.app import create_app; print(create_app(lambda: '').openapi())",
            ],
            cwd=Path(__file__).parents[4],
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for first in programs
    }
    assert len(said) == 1


def test_what_may_be_degraded_is_listed() -> None:
    words = SCHEMAS["Ready"]["properties"]["degraded"]["items"]["enum"]
    assert set(words) == DEGRADED.keys()
    assert SCHEMAS["Ready"]["properties"]["state"]["enum"] == [
        *SCHEMAS["Projections"]["properties"]["state"]["enum"],
        UNKNOWN,
    ]


def test_problem_types_are_those_that_are_explained() -> None:
    assert SCHEMAS["ProblemType"]["enum"] == [
        f"/problems/{rule}" for rule in sorted(explanations())
    ]
    assert set(SCHEMAS["Problem"]["required"]) == set(SCHEMAS["Problem"]["properties"])


def test_no_object_is_without_a_shape_but_those_that_are_the_callers() -> None:
    for name, schema in properties():
        for kind in kinds(schema):
            assert kind.keys() & {"type", "$ref"}, name
            assert kind.get("type") != "object" or name in FREE, name


def test_every_type_is_used() -> None:
    used = set(re.findall(r"#/components/schemas/(\w+)", str(DOCUMENT)))
    assert used == SCHEMAS.keys()


def test_tags_and_paths_stand_in_the_order_of_the_tour() -> None:
    assert [tag["name"] for tag in DOCUMENT["tags"]] == list(TAGS)
    assert all(len(operation["tags"]) == 1 for operation in OPERATIONS.values())
    order = [list(TAGS).index(operation["tags"][0]) for operation in OPERATIONS.values()]
    assert order == sorted(order)
    tour = (
        Path(__file__)
        .parents[4]
        .joinpath("README.md")
        .read_text(encoding="utf-8")
        .partition("## A tour with curl")[2]
    )
    calls = (
        "/v1/groups --json",
        "/v1/classes --json",
        "/v1/users --json",
        "/members ",
        "/v1/enrolments",
        "/v1/history",
        "/v1/projections",
    )
    places = [tour.index(call) for call in calls]
    assert places == sorted(places)
    assert len(calls) == len(TAGS)


def test_an_operations_title_is_its_id() -> None:
    assert OPERATIONS["getClassHistory"]["summary"] == "Get class history"


def test_a_body_may_be_left_out_where_none_of_its_fields_is_needed(shared: Api) -> None:
    optional = {
        name
        for name, operation in OPERATIONS.items()
        if operation.get("requestBody", {}).get("required") is False
    }
    assert optional == {
        "registerUser",
        "changeClass",
        "archiveClass",
        "restoreClass",
        "startRebuild",
    }
    class_id = shared.new_class()
    done(shared.post("/v1/users"), 201)
    done(shared.patch(f"/v1/classes/{class_id}"), 200)
    done(shared.post(f"/v1/classes/{class_id}/archive"), 200)
    done(shared.post(f"/v1/classes/{class_id}/restore"), 200)


@pytest.mark.parametrize(
    ("kind", "name"), [("classes", "class_id"), ("users", "user_id"), ("groups", "group_id")]
)
def test_what_the_path_names_can_not_be_given_again(shared: Api, kind: str, name: str) -> None:
    made = {"classes": shared.new_class, "users": shared.new_user, "groups": shared.new_group}[
        kind
    ]()
    for again in (made, unknown_id()):
        (wrong,) = problem(
            shared.get(f"/v1/{kind}/{made}/history", params={name: again}), 422, "invalid-request"
        )["errors"]
        assert (wrong["parameter"], wrong["rule"]) == (name, "unknown-field")


def test_headers_that_every_answer_has_are_documented_as_such(shared: Api) -> None:
    response = done(shared.post("/v1/groups", json={"name": "Lincoln Elementary"}), 201)
    documented = OPERATIONS["createGroup"]["responses"]["201"]["headers"]
    needed = {name for name, header in documented.items() if header.get("required")}
    assert needed == {"Location", "Roster-Position"}
    assert all(name in response.headers for name in needed)
    for name, status, answer in answers():
        assert status != "503" or answer["headers"]["Retry-After"]["required"], name
        assert status != "201" or answer["headers"]["Location"]["required"], name

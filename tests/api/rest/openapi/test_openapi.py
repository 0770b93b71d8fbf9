"""The OpenAPI document: complete, with examples that run and schemas that real answers keep to."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.api.client import Api, done, problem, unknown_id

OPERATIONS = {
    "createGroup": "NewGroup",
    "registerUser": "NewUser",
    "createClass": "NewClass",
    "enrolMember": "NewClassMember",
    "renameGroup": "GroupChange",
    "changeClass": "ClassChange",
    "changeRole": "RoleChange",
}
"""Those with a body, in an order in which they can be given."""
ANSWERS = {
    "getGroup": "Group",
    "listGroups": "GroupList",
    "getUser": "User",
    "listUsers": "UserList",
    "getClass": "Class",
    "listClasses": "ClassList",
    "listGroupClasses": "ClassList",
    "getMember": "ClassMember",
    "listMembers": "ClassMemberList",
    "listMemberships": "MembershipList",
    "getClassHistory": "EventList",
    "getUserHistory": "EventList",
    "getGroupHistory": "EventList",
    "getHistory": "EventList",
    "followEvents": "Feed",
}
OTHERS = {
    "deleteGroup", "removeUser", "deleteClass", "archiveClass", "restoreClass", "withdrawMember",
    "getGroupRosters", "diffClass", "diffGroup",
    "getProjections", "startRebuild", "getRebuild", "cancelRebuild", "isAlive", "isReady",
    "getStarted", "explainProblem", "getMetrics",
}  # fmt: skip
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}

MORE = {("enrolMany", "409"), ("registerMany", "409")}
"""Problems that have more members."""


class Document:
    """The document, and its operations by id."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.whole = document
        self.schemas: dict[str, Any] = document["components"]["schemas"]
        self.operations: dict[str, dict[str, Any]] = {}
        self.paths: dict[str, tuple[str, str]] = {}
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                self.operations[operation["operationId"]] = operation
                self.paths[operation["operationId"]] = (method, path)

    def example(self, schema: str) -> dict[str, Any]:
        found: dict[str, Any] = self.schemas[schema]["examples"][0]
        return found

    def check(self, value: object, schema: str) -> None:
        Draft202012Validator(
            {"$ref": f"#/components/schemas/{schema}", "components": self.whole["components"]}
        ).validate(value)


@pytest.fixture(scope="module")
def document(shared: Api) -> Document:
    return Document(shared.read("/openapi.json"))


def test_operations_and_types_have_the_names_that_programs_are_generated_from(
    document: Document,
) -> None:
    assert document.operations.keys() >= OPERATIONS.keys() | ANSWERS.keys() | OTHERS
    types = {
        "Class",
        "NewClass",
        "ClassMember",
        "NewClassMember",
        "ClassList",
        "Membership",
        "Event",
        "Problem",
    }
    assert document.schemas.keys() >= types
    for operation, schema in OPERATIONS.items():
        body = document.operations[operation]["requestBody"]["content"]["application/json"][
            "schema"
        ]
        assert body == {"$ref": f"#/components/schemas/{schema}"}
    for operation, schema in ANSWERS.items():
        answer = document.operations[operation]["responses"]["200"]["content"]["application/json"][
            "schema"
        ]
        assert answer == {"$ref": f"#/components/schemas/{schema}"}


def test_an_operation_has_one_name(document: Document) -> None:
    assert len(document.operations) == sum(
        len(methods) for methods in document.whole["paths"].values()
    )
    assert all(re.fullmatch("[a-z]+([A-Z][a-z]+)*", operation) for operation in document.operations)


def test_every_operation_says_what_it_does_and_how_it_is_refused(document: Document) -> None:
    for name, operation in document.operations.items():
        assert operation["summary"], name
        assert operation["description"].endswith("."), name
        if document.paths[name][1].startswith(("/v1/groups", "/v1/users", "/v1/classes")):
            assert operation["responses"].keys() >= {"422", "503"}, name
        assert {"413", "415"} <= operation["responses"].keys() or name not in OPERATIONS, name


def test_every_refusal_is_documented_as_a_problem(document: Document) -> None:
    for name, operation in document.operations.items():
        for status, response in operation["responses"].items():
            if status >= "400":
                assert response["content"] == PROBLEM or (name, status) in MORE, (name, status)
                assert response["description"], (name, status)


def test_answers_document_their_headers(document: Document) -> None:
    for name in ANSWERS:
        assert document.operations[name]["responses"]["200"]["headers"].keys() >= {
            "ETag",
            "Roster-Position",
        }, name
        assert document.operations[name]["responses"]["304"], name


def test_every_type_is_described_and_has_an_example_that_keeps_to_it(document: Document) -> None:
    for schema in {
        *OPERATIONS.values(),
        "Group",
        "User",
        "Class",
        "ClassMember",
        "Membership",
        "Event",
    }:
        assert document.schemas[schema]["description"]
        document.check(document.example(schema), schema)


@pytest.fixture(scope="module")
def ids(shared: Api, document: Document) -> dict[str, str]:
    """Run every example, and return the ids that it was about."""
    new_class, member = document.example("NewClass"), document.example("NewClassMember")
    ids = {
        "group_id": new_class["group_id"],
        "class_id": new_class["id"],
        "user_id": member["user_id"],
    }
    for operation, schema in OPERATIONS.items():
        method, path = document.paths[operation]
        response = shared.request(method, path.format(**ids), json=document.example(schema))
        assert response.status_code == (201 if method == "post" else 200), response.text
        answer = document.operations[operation]["responses"][str(response.status_code)]["content"][
            "application/json"
        ]["schema"]
        document.check(response.json(), answer["$ref"].rpartition("/")[2])
    return ids


def test_every_example_runs_as_it_stands(ids: dict[str, str]) -> None:
    assert all(ids.values())


@pytest.mark.parametrize(("operation", "schema"), ANSWERS.items(), ids=ANSWERS)
def test_real_answers_keep_to_the_documented_schema(
    shared: Api, document: Document, ids: dict[str, str], operation: str, schema: str
) -> None:
    _, path = document.paths[operation]
    answer = shared.read(path.format(**ids))
    document.check(answer, schema)
    assert "items" not in answer or answer["items"]
    undocumented = set(answer) - set(document.schemas[schema]["properties"])
    assert not undocumented


def test_problems_that_say_more_are_problems_too(
    shared: Api, document: Document, ids: dict[str, str]
) -> None:
    for operation, items in (
        ("enrolMany", [{"user_id": ids["user_id"]}]),
        ("registerMany", [{"id": ids["class_id"]}]),
    ):
        (content,) = document.operations[operation]["responses"]["409"]["content"].values()
        name = content["schema"]["$ref"].rpartition("/")[2]
        refusal = shared.post(
            document.paths[operation][1], json={"items": items}, params={"atomic": "true"}
        ).json()
        document.check(refusal, name)
        document.check(refusal, "Problem")
        assert refusal.keys() == document.schemas[name]["properties"].keys()


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v1/projections", "Projections"), ("/v1/projections/rebuild", "RebuildProgress"),
        ("/", "Start"), ("/healthz", "Alive"), ("/readyz", "Ready"),
    ],
)  # fmt: skip
def test_what_operators_read_keeps_to_the_documented_schema(
    shared: Api, document: Document, path: str, schema: str
) -> None:
    document.check(shared.read(path), schema)


def refusals(api: Api) -> Iterator[dict[str, Any]]:
    yield problem(api.get(f"/v1/classes/{unknown_id()}"), 404, "class-unknown")
    yield problem(api.post("/v1/classes", json={"name": "", "more": 1}), 422, "invalid-request")
    yield problem(api.get("/nothing"), 404, "not-found")


def test_real_refusals_keep_to_the_documented_schema(shared: Api, document: Document) -> None:
    for refusal in refusals(shared):
        document.check(refusal, "Problem")


def test_what_is_recorded_and_not_yet_visible_keeps_to_the_documented_schema(
    shared: Api, document: Document
) -> None:
    document.check(
        done(shared.post("/v1/users", headers={"Prefer": "respond-async"}), 202).json(), "Accepted"
    )

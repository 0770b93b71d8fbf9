"""The OpenAPI document as programs are generated from it.

It is made from the framework's description of the routes.

Each rule here holds for the whole document, for operations and types to come, too
(tests/api/rest/openapi/test_openapi.py).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rosterlog.api.http import problems

Schema = dict[str, Any]
Operation = dict[str, Any]

TAGS: Mapping[str, str] = {
    "groups": "Schools, departments: what classes belong to.",
    "classes": "Classes: now, as they were, their history, and what differs between two moments.",
    "users": "People, each an id and nothing else; their memberships and their history.",
    "members": "The roster of a class: who is in it, in which role.",
    "bulk": "Up to 10,000 things in one command, each with its own outcome.",
    "history": "Everything that happened: as a history, and as a feed for other systems.",
    "operations": "For operators: is it alive, how far are the read tables, a rebuild, metrics.",
}
"""The tags in the order of the tour in README.md, and what they are about."""

_COMPONENTS = "#/components/schemas/"
_PROBLEM_TYPE = "ProblemType"
_NULL = {"type": "null"}
_TEXT, _NUMBER = {"type": "string"}, {"type": "integer"}
_REFUSAL_HEADERS: Mapping[str, Mapping[str, Schema]] = {
    "401": {
        "WWW-Authenticate": {
            "description": "How to authenticate (RFC 6750).",
            "required": True,
            "schema": _TEXT,
        }
    },
    "403": {
        "WWW-Authenticate": {
            "description": "The scope that is needed, where one is.",
            "schema": _TEXT,
        }
    },
    "503": {
        "Retry-After": {
            "description": "Seconds after which to try again.",
            "required": True,
            "schema": _NUMBER,
        }
    },
}


def finish(document: dict[str, Any]) -> None:
    """Give the document, in place, what a generated client needs to be used without casts."""
    schemas: dict[str, Schema] = document["components"]["schemas"]
    _name_objects(schemas)
    _name_problems(schemas)
    for operation in _operations(document):
        _name_operation(operation)
        _finish_parameters(operation)
        _finish_body(operation, schemas)
        _finish_answers(operation)
    document["tags"] = [{"name": name, "description": what} for name, what in TAGS.items()]
    document["paths"] = dict(sorted(document["paths"].items(), key=_place))


def _operations(document: dict[str, Any]) -> Iterator[Operation]:
    for methods in document["paths"].values():
        yield from methods.values()


def _place(path: tuple[str, dict[str, Operation]]) -> int:
    """Return where a path stands in the tour: by its first operation's tag."""
    return list(TAGS).index(next(iter(path[1].values()))["tags"][0])


def _name_operation(operation: Operation) -> None:
    """Let the operation's id be its title: `getClassHistory` is "Get class history"."""
    operation["summary"] = re.sub(
        r"[A-Z]", lambda capital: f" {capital[0].lower()}", operation["operationId"]
    ).capitalize()


def _finish_parameters(operation: Operation) -> None:
    """Take null from parameters: a parameter that is not given is left out.

    There is no null in an address or a header.
    """
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _without_null(parameter["schema"])


def _without_null(schema: Schema) -> Schema:
    kinds: list[Schema] = [kind for kind in schema.get("anyOf", ()) if kind != _NULL]
    if len(kinds) != 1:
        return schema
    return {**{name: value for name, value in schema.items() if name != "anyOf"}, **kinds[0]}


def _finish_body(operation: Operation, schemas: Mapping[str, Schema]) -> None:
    """Let a body be left out where none of its fields is needed: an empty one means `{}`."""
    body = operation.get("requestBody")
    if body is not None:
        (content,) = body["content"].values()
        body["required"] = bool(schemas[_name_of(content["schema"])].get("required"))


def _finish_answers(operation: Operation) -> None:
    """Document the headers of refusals, and put the answers in the order of statuses."""
    answers = operation["responses"]
    for status in answers.keys() & _REFUSAL_HEADERS.keys():
        answers[status]["headers"] = _REFUSAL_HEADERS[status]
    operation["responses"] = {status: answers[status] for status in sorted(answers)}


def _name_objects(schemas: dict[str, Schema]) -> None:
    """Give each object that stands inside of a type a place of its own, by its title.

    It is one type wherever it is used.
    """
    for schema in [*schemas.values()]:
        for part in [*_parts(schema)][1:]:
            if "properties" in part and "title" in part:
                title = part["title"]
                schemas[title] = dict(part)
                part.clear()
                part["$ref"] = f"{_COMPONENTS}{title}"


def _name_problems(schemas: dict[str, Schema]) -> None:
    """List the types of problems.

    More come with releases, so that any other text is allowed; a problem has all its members.
    """
    types = [f"/problems/{rule}" for rule in sorted(problems.explanations())]
    schemas[_PROBLEM_TYPE] = {
        "type": "string",
        "enum": types,
        "title": _PROBLEM_TYPE,
        "description": "The rules that refuse.",
    }
    schemas[_PROBLEM_TYPE]["x-enum-varnames"] = [
        kind.rpartition("/")[2].replace("-", "_").upper() for kind in types
    ]
    members = problems.Problem.model_fields.keys()
    for schema in schemas.values():
        fields = schema.get("properties", {})
        if members <= fields.keys():
            fields["type"] = {
                "anyOf": [{"$ref": f"{_COMPONENTS}{_PROBLEM_TYPE}"}, {"type": "string"}]
            }
            schema["required"] = [*members]


def _name_of(reference: Schema) -> str:
    name: str = reference["$ref"].removeprefix(_COMPONENTS)
    return name


def _parts(value: object) -> Iterator[dict[str, Any]]:
    """Yield an object and all objects in it, the outer ones first."""
    if isinstance(value, dict):
        yield value
        for inner in [*value.values()]:
            yield from _parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner)

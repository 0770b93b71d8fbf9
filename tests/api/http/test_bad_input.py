"""A wrong request is refused with the place and the rule, and nothing is recorded."""

import base64
import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest

from tests.api.client import Api, done, error, problem

SETTINGS_BYTES = 64 * 1024
BODY_BYTES = 256 * 1024
JSON_TYPE = {"Content-Type": "application/json"}


class School(NamedTuple):
    """A caller, and the ids of a group, a class and two users.

    The first user is a student of the class.
    """

    api: Api
    group: str
    class_: str
    user: str
    other: str

    def path(self, template: str) -> str:
        return template.format(
            group=self.group, class_=self.class_, user=self.user, other=self.other
        )

    def raw(self, path: str, body: bytes | str, method: str = "POST") -> httpx.Response:
        return self.api.request(method, self.path(path), content=body, headers=JSON_TYPE)


@pytest.fixture(scope="module")
def made(shared: Api) -> School:
    group = shared.new_group()
    class_ = shared.new_class(group)
    return School(shared, group, class_, shared.enrol(class_), shared.new_user())


@pytest.fixture
def school(made: School) -> Iterator[School]:
    with made.api.nothing_recorded():
        yield made


def nested(levels: int) -> dict[str, Any]:
    """Return settings of so many levels."""
    inner: Any = "x"
    for _ in range(levels - 1):
        inner = [inner]
    return {"a": inner}


def sized(size: int) -> dict[str, Any]:
    """Return settings of so many bytes."""
    return {"a": "x" * (size - len('{"a":""}'))}


NO_JSON = {
    "cut off": b'{"name": "x"',
    "no value": b"name=x",
    "NaN": b'{"name": NaN}',
    "infinity": b'{"name": -Infinity}',
    "brackets": b"[" * 100_000,
    "objects": b'{"a":' * 20_000,
    "5000 digits": b'{"name": 1' + b"0" * 5000 + b"}",
    "no UTF-8": b'{"name": "\xff"}',
    "two values": b"{}{}",
}


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON.keys())
def test_a_body_that_is_no_json_is_refused(school: School, body: bytes) -> None:
    found = error(school.raw("/v1/groups", body))
    assert (found["pointer"], found["rule"]) == ("", "json")


@pytest.mark.parametrize("body", ["null", "[]", '"x"', "1", "true"])
def test_a_body_that_is_no_object_is_refused(school: School, body: str) -> None:
    assert error(school.raw("/v1/groups", body))["pointer"] == ""


@pytest.mark.parametrize("levels", [33, 500, 900, *range(940, 1000, 5), 1000, 2000])
def test_nesting_deeper_than_allowed_is_a_broken_rule_at_any_depth(
    school: School, levels: int
) -> None:
    nested = "[" * (levels - 1) + "]" * (levels - 1)
    body = f'{{"group_id":"{school.group}","name":"x","settings":{{"a":{nested}}}}}'
    assert error(school.raw("/v1/classes", body))["rule"] in {"depth", "json"}


BAD_FIELDS: dict[str, tuple[str, str, dict[str, Any], str, str]] = {
    "group, unknown field": (
        "POST",
        "/v1/groups",
        {"name": "x", "nmae": "x"},
        "/nmae",
        "unknown-field",
    ),
    "group, field with a slash": (
        "POST",
        "/v1/groups",
        {"name": "x", "a/b~c": 1},
        "/a~1b~0c",
        "unknown-field",
    ),
    "group, no name": ("POST", "/v1/groups", {}, "/name", "required"),
    "group, null name": ("POST", "/v1/groups", {"name": None}, "/name", "string-type"),
    "group, name a number": ("POST", "/v1/groups", {"name": 7}, "/name", "string-type"),
    "group, name a list": ("POST", "/v1/groups", {"name": ["x"]}, "/name", "string-type"),
    "group, empty name": ("POST", "/v1/groups", {"name": ""}, "/name", "length"),
    "group, blank name": ("POST", "/v1/groups", {"name": " \t\n\u2003"}, "/name", "length"),
    "group, long name": ("POST", "/v1/groups", {"name": "x" * 101}, "/name", "length"),
    "group, long name of wide characters": (
        "POST",
        "/v1/groups",
        {"name": "\U0001f393" * 101},
        "/name",
        "length",
    ),
    "group, NUL in the name": ("POST", "/v1/groups", {"name": "a\0b"}, "/name", "no-nul"),
    "group, surrogate in the name": ("POST", "/v1/groups", {"name": "a\ud800"}, "/name", "unicode"),
    "group, surrogate in a field": (
        "POST",
        "/v1/groups",
        {"name": "x", "\ud800": 1},
        "",
        "string-unicode",
    ),
    "group, bad id": ("POST", "/v1/groups", {"id": "x", "name": "x"}, "/id", "uuid"),
    "group, id a number": ("POST", "/v1/groups", {"id": 7, "name": "x"}, "/id", "uuid"),
    "group, id with NUL": ("POST", "/v1/groups", {"id": "\0" * 36, "name": "x"}, "/id", "uuid"),
    "rename, null": ("PATCH", "/v1/groups/{group}", {"name": None}, "/name", "string-type"),
    "rename, no name": ("PATCH", "/v1/groups/{group}", {}, "/name", "required"),
    "rename, unknown field": (
        "PATCH",
        "/v1/groups/{group}",
        {"name": "x", "id": 1},
        "/id",
        "unknown-field",
    ),
    "user, bad id": ("POST", "/v1/users", {"id": "not-a-uuid"}, "/id", "uuid"),
    "user, a name": ("POST", "/v1/users", {"name": "Anna"}, "/name", "unknown-field"),
    "class, no group": ("POST", "/v1/classes", {"name": "x"}, "/group_id", "required"),
    "class, bad group": (
        "POST",
        "/v1/classes",
        {"group_id": "x", "name": "x"},
        "/group_id",
        "uuid",
    ),
    "change, null name": ("PATCH", "/v1/classes/{class_}", {"name": None}, "/name", "string-type"),
    "change, null settings": (
        "PATCH",
        "/v1/classes/{class_}",
        {"settings": None},
        "/settings",
        "dict-type",
    ),
    "change, null group": (
        "PATCH",
        "/v1/classes/{class_}",
        {"group_id": None},
        "/group_id",
        "uuid",
    ),
    "change, unknown field": (
        "PATCH",
        "/v1/classes/{class_}",
        {"deleted_at": None},
        "/deleted_at",
        "unknown-field",
    ),
    "change, empty name": ("PATCH", "/v1/classes/{class_}", {"name": ""}, "/name", "length"),
    "archive, unknown field": (
        "POST",
        "/v1/classes/{class_}/archive",
        {"reason": "x"},
        "/reason",
        "unknown-field",
    ),
    "member, no user": (
        "POST",
        "/v1/classes/{class_}/members",
        {"role": "student"},
        "/user_id",
        "required",
    ),
    "member, null user": (
        "POST",
        "/v1/classes/{class_}/members",
        {"user_id": None, "role": "student"},
        "/user_id",
        "uuid",
    ),
    "member, no role": (
        "POST",
        "/v1/classes/{class_}/members",
        {"user_id": str(uuid4())},
        "/role",
        "required",
    ),
    "member, unknown role": (
        "POST",
        "/v1/classes/{class_}/members",
        {"user_id": str(uuid4()), "role": "head"},
        "/role",
        "one-of",
    ),
    "member, role in capitals": (
        "POST",
        "/v1/classes/{class_}/members",
        {"user_id": str(uuid4()), "role": "Student"},
        "/role",
        "one-of",
    ),
    "role, null": (
        "PATCH",
        "/v1/classes/{class_}/members/{user}",
        {"role": None},
        "/role",
        "one-of",
    ),
    "role, none": ("PATCH", "/v1/classes/{class_}/members/{user}", {}, "/role", "required"),
    "role, other user": (
        "PATCH",
        "/v1/classes/{class_}/members/{user}",
        {"role": "teacher", "user_id": "x"},
        "/user_id",
        "unknown-field",
    ),
}


@pytest.mark.parametrize(
    ("method", "path", "body", "pointer", "rule"), BAD_FIELDS.values(), ids=BAD_FIELDS.keys()
)
def test_a_bad_field_is_named_with_its_rule(
    school: School, method: str, path: str, body: dict[str, Any], pointer: str, rule: str
) -> None:
    found = error(school.raw(path, json.dumps(body), method))
    assert (found["pointer"], found["rule"]) == (pointer, rule)


BAD_SETTINGS: dict[str, tuple[str, str, str]] = {
    "a list": ("[]", "/settings", "dict-type"),
    "a text": ('"x"', "/settings", "dict-type"),
    "NUL in a value": ('{"a":[{"b":"\\u0000"}]}', "/settings/a/0/b", "no-nul"),
    "NUL in a key": ('{"a":{"\\u0000":1}}', "/settings/a", "no-nul"),
    "surrogate in a value": ('{"a":["\\udc00"]}', "/settings/a/0", "unicode"),
    "surrogate in a key": ('{"\\ud800":1}', "/settings", "unicode"),
    "33 levels": (json.dumps(nested(33)), "/settings/a" + "/0" * 31, "depth"),
    "33 levels of objects": ('{"a":' * 33 + "1" + "}" * 33, "/settings" + "/a" * 32, "depth"),
    "too large": (json.dumps(sized(SETTINGS_BYTES + 1)), "/settings", "size"),
    "too large in UTF-8": (
        json.dumps({"a": "\u00e9" * (SETTINGS_BYTES // 2)}),
        "/settings",
        "size",
    ),
    "2^53 + 1": ('{"a":{"b":9007199254740993}}', "/settings/a/b", "number"),
    "-2^53 - 1": ('{"a":-9007199254740993}', "/settings/a", "number"),
    "400 digits": ('{"a":1' + "0" * 400 + "}", "/settings/a", "number"),
    "1e400": ('{"a":1e400}', "/settings/a", "finite"),
    "key with a slash": ('{"a/b":"\\u0000"}', "/settings/a~1b", "no-nul"),
}


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(
    ("settings", "pointer", "rule"), BAD_SETTINGS.values(), ids=BAD_SETTINGS.keys()
)
def test_settings_that_break_a_rule_are_named_to_the_place(
    school: School, method: str, settings: str, pointer: str, rule: str
) -> None:
    creation = f'"group_id":"{school.group}","name":"x",' if method == "POST" else ""
    path = "/v1/classes" if method == "POST" else "/v1/classes/{class_}"
    found = error(school.raw(path, f'{{{creation}"settings":{settings}}}', method))
    assert (found["pointer"], found["rule"]) == (pointer, rule)


@pytest.mark.parametrize(
    "settings",
    [
        nested(32),
        sized(SETTINGS_BYTES),
        {"a": 2**53, "b": -(2**53), "c": 0.1, "": None, "\u00e9\U0001f393": "\u2028"},
    ],
)
def test_settings_at_the_limits_are_kept_as_they_are(
    made: School, settings: dict[str, Any]
) -> None:
    assert (
        made.api.read(f"/v1/classes/{made.api.new_class(made.group, settings=settings)}")[
            "settings"
        ]
        == settings
    )


def test_a_name_is_trimmed_and_may_have_100_characters(made: School) -> None:
    name = "\U0001f393" * 100
    assert made.api.read(f"/v1/groups/{made.api.new_group(f' {name} ')}")["name"] == name


def test_every_wrong_field_is_named_at_once(school: School) -> None:
    response = school.raw(
        "/v1/classes", json.dumps({"id": 1, "name": "", "settings": 2, "more": 3})
    )
    errors = problem(response, 422, "invalid-request")["errors"]
    assert {found["pointer"] for found in errors} == {
        "/id",
        "/name",
        "/settings",
        "/more",
        "/group_id",
    }


def test_a_body_beyond_256_kib_is_refused_whatever_it_holds(school: School) -> None:
    for body in (b" " * (BODY_BYTES - 1) + b"{}", b'{"name":"' + b"x" * 3_000_000):
        problem(school.raw("/v1/groups", body), 413, "body-too-large")
    problem(
        school.api.post("/v1/groups", content=iter([b" "] * (BODY_BYTES + 1)), headers=JSON_TYPE),
        413,
        "body-too-large",
    )


def test_a_body_of_256_kib_is_read(made: School) -> None:
    body = b'{"name":"x"}'
    done(made.raw("/v1/groups", b" " * (BODY_BYTES - len(body)) + body), 201)


@pytest.mark.parametrize(
    "media_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/merge-patch+json", "json"],
)
def test_a_body_that_is_not_declared_as_json_is_refused(school: School, media_type: str) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    problem(
        school.api.post("/v1/groups", content=b'{"name":"x"}', headers=headers),
        415,
        "unsupported-media-type",
    )


def test_json_may_be_declared_with_parameters_and_in_capitals(made: School) -> None:
    done(
        made.api.post(
            "/v1/groups",
            content=b'{"name":"x"}',
            headers={"Content-Type": "Application/JSON; charset=utf-8"},
        ),
        201,
    )


def test_an_empty_body_of_a_post_means_an_empty_object(made: School) -> None:
    done(made.api.post("/v1/users"), 201)
    done(made.api.post("/v1/users", content=b"", headers={"Content-Type": "text/plain"}), 201)
    done(made.api.post(f"/v1/classes/{made.class_}/restore"), 200)
    with made.api.nothing_recorded():
        assert error(made.api.post("/v1/groups"))["pointer"] == "/name"


@pytest.mark.parametrize(
    ("method", "path", "parameter"),
    [
        ("GET", "/v1/groups/x", "group_id"),
        ("PATCH", "/v1/groups/0", "group_id"),
        ("DELETE", "/v1/users/{user}x", "user_id"),
        ("GET", "/v1/users/x/memberships", "user_id"),
        ("GET", "/v1/users/x/history", "user_id"),
        ("POST", "/v1/classes/x/archive", "class_id"),
        ("GET", "/v1/classes/~", "class_id"),
        ("PATCH", "/v1/classes/{class_}/members/x", "user_id"),
        ("DELETE", "/v1/classes/x/members/{user}", "class_id"),
        ("GET", "/v1/classes?group_id=x", "group_id"),
    ],
)
def test_an_id_that_is_no_uuid_is_named(
    school: School, method: str, path: str, parameter: str
) -> None:
    bodies = {"/v1/groups/0": {"name": "x"}, "/v1/classes/{class_}/members/x": {"role": "teacher"}}
    found = error(school.api.request(method, school.path(path), json=bodies.get(path)))
    assert (found["parameter"], found["rule"]) == (parameter, "uuid")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/groups/{}",
        "/v1/users/{}",
        "/v1/classes/{}",
        "/v1/classes/{}/members",
        "/v1/users/{}/history",
    ],
)
@pytest.mark.parametrize("spelling", ["{0.hex}", "urn:uuid:{0}", "{{{0}}}"])
def test_an_unknown_id_in_another_spelling_is_as_unknown(
    school: School, path: str, spelling: str
) -> None:
    response = school.api.get(path.format(spelling.format(uuid4())))
    assert response.status_code in {404, 422}, response.text


BAD_HEADERS = {
    "actor with @": ("Roster-Actor", b"anna@example.org", "opaque"),
    "empty actor": ("Roster-Actor", b"", "length"),
    "long actor": ("Roster-Actor", b"x" * 201, "length"),
    "long reason": ("Roster-Reason", b"x" * 501, "length"),
    "long reason of percents": ("Roster-Reason", b"%C3%A9" * 501, "length"),
    "empty reason": ("Roster-Reason", b"", "length"),
    "NUL in the reason": ("Roster-Reason", b"a%00b", "no-nul"),
    "surrogate in the reason": ("Roster-Reason", b"%ED%A0%80", "percent-encoded"),
    "no UTF-8 in the reason": ("Roster-Reason", b"%FF", "percent-encoded"),
    "version without quotes": ("If-Match", b"7", "version"),
    "version of no number": ("If-Match", b'"seven"', "version"),
    "version of many digits": ("If-Match", b'"9999999999999999999999"', "version"),
}


@pytest.mark.parametrize(("name", "value", "rule"), BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_a_bad_header_is_named(school: School, name: str, value: bytes, rule: str) -> None:
    response = school.api.patch(
        f"/v1/classes/{school.class_}", json={"name": "Other"}, headers={name.encode(): value}
    )
    found = error(response)
    assert (found["header"], found["rule"]) == (name, rule)


def test_a_reason_may_have_500_characters(made: School) -> None:
    user = done(made.api.post("/v1/users", headers={"Roster-Reason": "%C3%A9" * 500}), 201).json()[
        "id"
    ]
    assert made.api.items(f"/v1/users/{user}/history")[0]["reason"] == "\u00e9" * 500


@pytest.mark.parametrize(
    "value",
    [
        7,
        20260901,
        1.5,
        True,
        [],
        "2026-09-01T00:00:00Z",
        "2026-09-01T00:00:00",
        "01.09.2026",
        "2026-02-30",
        "",
    ],
)
def test_effective_on_is_a_date_and_nothing_else(school: School, value: object) -> None:
    members = f"/v1/classes/{school.class_}/members"
    body = {"role": "teacher", "effective_on": value}
    assert (
        error(school.api.post(members, json={"user_id": school.other, **body}))["pointer"]
        == "/effective_on"
    )
    assert (
        error(school.api.patch(f"{members}/{school.user}", json=body))["pointer"] == "/effective_on"
    )
    given = {"effective_on": str(value)}
    assert (
        error(school.api.delete(f"{members}/{school.user}", params=given))["parameter"]
        == "effective_on"
    )


BAD_QUERIES = [
    ("/v1/classes?name=a%00b", "name", "no-nul"),
    ("/v1/classes?archived=perhaps", "archived", ""),
    ("/v1/classes?min_position=-1", "min_position", ""),
    ("/v1/classes?min_position=9223372036854775808", "min_position", ""),
    ("/v1/classes?min_position=x", "min_position", ""),
    ("/v1/classes/{class_}?at_position=-1", "at_position", ""),
    ("/v1/classes/{class_}?at_position=1.5", "at_position", ""),
    ("/v1/classes/{class_}/members?role=head", "role", "one-of"),
    ("/v1/classes/{class_}/members?role=", "role", "one-of"),
    ("/v1/classes/{class_}/history?order=up", "order", ""),
    ("/v1/classes/{class_}/history?type=a%00b", "type", "one-of"),
    ("/v1/classes/{class_}/history?type=Nothing", "type", "one-of"),
    ("/v1/classes/{class_}/history?actor=a%00b", "actor", "no-nul"),
    ("/v1/users/{user}/history?source=a%00b", "source", "no-nul"),
    ("/v1/users/{user}/history?since=2026-09-01", "since", "rfc3339"),
    ("/v1/users/{user}/history?until=1756713600", "until", "rfc3339"),
    ("/v1/groups?cursor=a%00b", "cursor", "cursor"),
    ("/v1/groups?cursor=%ED%A0%80", "cursor", "cursor"),
    ("/v1/groups?cursor=", "cursor", "cursor"),
    ("/v1/groups?cursor=" + "W" * 2001, "cursor", ""),
    ("/v1/groups?cursor=" + base64.b64encode(b"[" * 1500).decode().rstrip("="), "cursor", "cursor"),
]


@pytest.mark.parametrize(
    ("path", "parameter", "rule"), BAD_QUERIES, ids=[path[:60] for path, _, _ in BAD_QUERIES]
)
def test_a_bad_parameter_is_named(school: School, path: str, parameter: str, rule: str) -> None:
    found = error(school.api.get(school.path(path)))
    assert found["parameter"] == parameter
    assert rule in {"", found["rule"]}


@pytest.mark.parametrize(
    "key",
    [
        ["x", "not-a-uuid"],
        ["\ud800", str(uuid4())],
        ["a\0b", str(uuid4())],
        ["x"],
        ["x", 7],
        ["x", None],
        ["x", "x", "x"],
    ],
)
def test_a_cursor_that_was_tampered_with_is_refused(made: School, key: list[Any]) -> None:
    made.api.new_group("Another one")
    scope = opened(made.api.read("/v1/groups", limit=1)["next_cursor"])[0]
    assert (
        error(made.api.get("/v1/groups", params={"cursor": closed([scope, *key])}))["parameter"]
        == "cursor"
    )


@pytest.mark.parametrize("position", ["x", "\u0663", "9" * 30, "-1", "", "1.5"])
def test_a_cursor_of_a_history_that_was_tampered_with_is_refused(
    school: School, position: str
) -> None:
    path = f"/v1/classes/{school.class_}/history"
    scope, _, part = opened(school.api.read(path, limit=1)["next_cursor"])
    assert (
        error(school.api.get(path, params={"cursor": closed([scope, position, part])}))["parameter"]
        == "cursor"
    )


def opened(cursor: str) -> list[str]:
    parts: list[str] = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    return parts


def closed(parts: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/v1",
        "/v1/classes/{class_}/nothing",
        "/v1/%00",
        "/v1/groups/%00",
        "/v1/classes/%ED%A0%80",
        "/problems/nothing",
    ],
)
def test_an_unknown_path_is_a_problem(school: School, path: str) -> None:
    problem(school.api.get(school.path(path)), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/healthz", {"GET"}),
        ("GET", "/v1/classes/{class_}/archive", {"POST"}),
        ("DELETE", "/v1/groups", {"GET", "POST"}),
        ("PUT", "/v1/groups/{group}", {"GET", "PATCH", "DELETE"}),
    ],
)
def test_a_wrong_method_is_a_problem_that_says_which_ones_there_are(
    school: School, method: str, path: str, allowed: set[str]
) -> None:
    response = school.api.request(method, school.path(path))
    problem(response, 405, "method-not-allowed")
    assert set(response.headers["Allow"].split(", ")) - {"HEAD"} == allowed

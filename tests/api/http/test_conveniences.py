"""What frameworks do without being asked, each with the decision about it.

See docs/decisions/0024-one-table-of-operations.md.
"""

import json
import re
import socket
import time
from typing import Any

import pytest

from rosterlog.api.http.negotiation import CSV, EVENT_STREAM, NDJSON
from rosterlog.api.http.problems import explanations
from rosterlog.api.rest.policy import POLICIES
from rosterlog.api.rest.remedies import REMEDIES
from tests.api.client import Api, done, error, problem, unknown_id
from tests.api.rest.test_policy import by_template

JSON_TYPE = {"Content-Type": "application/json"}


def raw(api: Api, sent: bytes, cut: int = 0) -> bytes:
    """Send bytes, and return all that comes until the other side closes.

    They go in two parts where they are `cut`.
    """
    with socket.create_connection((api.base_url.host, api.base_url.port or 80), timeout=30) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if cut:
            line.sendall(sent[:cut])
            time.sleep(0.05)
        line.sendall(sent[cut:])
        parts = []
        while part := line.recv(65536):
            parts.append(part)
    return b"".join(parts)


def get(target: bytes, *headers: bytes, version: bytes = b"1.1") -> bytes:
    lines = [b"GET %b HTTP/%b" % (target, version), *headers, b"Connection: close"]
    return b"\r\n".join([*lines, b"", b""])


HOST = b"Host: localhost"
MALFORMED = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no method": b"/healthz HTTP/1.1\r\n\r\n",
    "a method in small letters": b"get /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method of another protocol": b"FETCH /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another version": b"GET /healthz HTTP/3.7\r\nHost: x\r\n\r\n",
    "a line feed in the target": get(b"/healthz\n/x", HOST),
    "a control character in the target": get(b"/v1/history\x01", HOST),
    "an escape in the target": get(b"/v1/history\x7f", HOST),
    "bytes beyond ASCII in the target": get("/v1/hist\u00f3ry".encode(), HOST),
    "a fragment in the target": get(b"/healthz#x", HOST),
    "a target that is no path": get(b"v1/history", HOST),
    "an authority as target": get(b"localhost:80", HOST),
    "a space before the colon": get(b"/healthz", b"Host : localhost"),
    "a header without a colon": get(b"/healthz", HOST, b"nonsense"),
    "a folded header": get(b"/healthz", HOST, b"X: a", b" b"),
    "NUL in a header": get(b"/healthz", HOST, b"X: a\x00b"),
    "a whole address of another scheme": get(b"ftp://localhost/healthz", HOST),
    "a whole address with a user": get(b"http://a:b@localhost/healthz", HOST),
    "a whole address without a host": get(b"http:///healthz", HOST),
    "a tunnel": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
    "a tunnel to a path": b"CONNECT /v1/groups HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no version": b"GET /healthz\r\n\r\n",
    "HTTP/0.9": get(b"/healthz", HOST, version=b"0.9"),
    "HTTP/2.0 in the words of HTTP/1.1": get(b"/healthz", HOST, version=b"2.0"),
    "no host": get(b"/healthz"),
    "two hosts": get(b"/healthz", HOST, HOST),
    "a length that is no number": get(b"/healthz", HOST, b"Content-Length: x"),
    "two lengths": get(b"/healthz", HOST, b"Content-Length: 1", b"Content-Length: 2"),
    "a length and chunks": get(
        b"/healthz", HOST, b"Content-Length: 1", b"Transfer-Encoding: chunked"
    ),
    "chunks in HTTP/1.0": get(b"/healthz", HOST, b"Transfer-Encoding: chunked", version=b"1.0")
    + b"0\r\n\r\n",
    "a coding besides chunks": get(b"/healthz", HOST, b"Transfer-Encoding: gzip, chunked")
    + b"0\r\n\r\n",
    "a coding that ends nowhere": get(b"/healthz", HOST, b"Transfer-Encoding: identity"),
    "a chunk of no size": get(b"/healthz", HOST, b"Transfer-Encoding: chunked") + b"zz\r\n",
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_http_is_answered_as_a_problem(shared: Api, sent: bytes) -> None:
    head, _, body = raw(shared, sent).partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0].startswith(b"http/1.1 400 ")
    assert {
        b"content-type: application/problem+json",
        b"connection: close",
        b"x-content-type-options: nosniff",
    } <= set(lines)
    assert any(line.startswith(b"date: ") for line in lines)
    found = json.loads(body)
    assert (found["type"], found["status"]) == ("/problems/malformed-request", 400)


def test_an_old_client_needs_no_host(shared: Api) -> None:
    assert raw(shared, get(b"/healthz", version=b"1.0")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "garbage", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000]
)
def test_what_follows_a_request_is_not_taken_for_its_answer(shared: Api, garbage: bytes) -> None:
    body = json.dumps({"name": "Pipelined"}).encode()
    head = (
        b"POST /v1/groups HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    answer = raw(shared, head % len(body) + body + garbage)
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_a_host_in_the_target_goes_before_the_header(shared: Api) -> None:
    for target in (b"http://localhost", b"HTTP://localhost?", b"https://localhost:1/"):
        assert raw(shared, get(target, b"Host: evil.example")).startswith(b"HTTP/1.1 200 ")
    assert raw(shared, get(b"http://localhost/healthz", b"Host: evil.example")).startswith(
        b"HTTP/1.1 200 "
    )
    assert raw(shared, get(b"http://evil.example/healthz", HOST)).startswith(b"HTTP/1.1 403 ")


def test_every_answer_says_that_it_is_what_it_is_called(shared: Api) -> None:
    for method, path in (
        ("GET", "/healthz"),
        ("GET", "/docs"),
        ("GET", "/docs/files/favicon.png"),
        ("GET", "/nothing"),
        ("PUT", "/"),
    ):
        assert shared.request(method, path).headers.get_list("x-content-type-options") == [
            "nosniff"
        ]


def reads(api: Api) -> dict[str, str]:
    """Return a path of every operation that reads, of things that there are, by operation id."""
    class_id = api.new_class(api.new_group())
    ids = {
        "class_id": class_id,
        "user_id": api.enrol(class_id),
        "group_id": api.read(f"/v1/classes/{class_id}")["group_id"],
    }
    paths = api.read("/openapi.json")["paths"]
    found = {
        methods["get"]["operationId"]: path for path, methods in paths.items() if "get" in methods
    }
    found |= {
        "openapi": "/openapi.json",
        "getDocs": "/docs",
        "getDocsFile": "/docs/files/favicon.png",
    }
    return {
        name: path.format(rule="not-found", **ids) + ("?from_position=1" if "diff" in name else "")
        for name, path in found.items()
    }


def test_head_is_get_without_the_body_everywhere(shared: Api) -> None:
    for name, path in reads(shared).items():
        got, head = shared.get(path), shared.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"") == (200, b""), name
        assert {*head.headers} - {"transfer-encoding"} == {*got.headers} - {"transfer-encoding"}, (
            name
        )
    assert shared.head("/v1/classes/archive").status_code == 422
    assert shared.head(f"/v1/classes/{unknown_id()}/archive").status_code == 405


@pytest.mark.parametrize("path", ["/v1/events", "/v1/history", "/v1/groups/{}/rosters"])
@pytest.mark.parametrize("media_type", [EVENT_STREAM, CSV, NDJSON])
def test_head_of_a_stream_ends(shared: Api, path: str, media_type: str) -> None:
    if (media_type == EVENT_STREAM) == (path == "/v1/events"):
        head = done(
            shared.head(path.format(shared.new_group()), headers={"Accept": media_type}), 200
        )
        assert head.headers["content-type"].startswith(media_type)
        assert head.content == b""


def test_a_media_type_that_there_is_not_is_refused_on_every_operation(shared: Api) -> None:
    with shared.nothing_recorded():
        for path, methods in shared.read("/openapi.json")["paths"].items():
            for method, operation in methods.items():
                offers = POLICIES[operation["operationId"]].offers
                refused = shared.request(
                    method.upper(),
                    by_template(path),
                    headers={"Accept": "image/png, text/html;q=0"},
                )
                if not offers:
                    assert refused.status_code != 406
                    continue
                body = refused.json()
                assert (refused.status_code, body["type"], body["offered"]) == (
                    406,
                    "/problems/not-acceptable",
                    list(offers),
                ), path
                assert refused.headers["content-type"] == "application/problem+json"


def test_a_refusal_is_a_problem_whatever_accept_says(shared: Api) -> None:
    problem(
        shared.get(f"/v1/classes/{unknown_id()}", headers={"Accept": "application/json"}),
        404,
        "class-unknown",
    )
    problem(shared.get("/nothing", headers={"Accept": "text/html"}), 404, "not-found")


def test_an_unknown_parameter_is_refused_by_name_on_every_operation(shared: Api) -> None:
    with shared.nothing_recorded():
        for path, methods in shared.read("/openapi.json")["paths"].items():
            for method, operation in methods.items():
                found = error(shared.request(method.upper(), by_template(path) + "?nmae=x"))
                assert (found["parameter"], found["rule"]) == ("nmae", "unknown-field")
                assert found["detail"].startswith(
                    f"nmae is no parameter of {operation['operationId']}: it has "
                )
        for path in (
            "/docs?x",
            "/openapi.json?x=",
            "/docs/files/favicon.png?x=1",
            "/v1/groups?LIMIT=1",
            "/v1/groups?limit%5B%5D=1",
        ):
            assert error(shared.get(path))["rule"] == "unknown-field"


def test_every_unknown_parameter_is_named(shared: Api) -> None:
    errors = problem(shared.get("/v1/groups?b=1&limit=1&a=2"), 422, "invalid-request")["errors"]
    assert [(one["parameter"], one["rule"]) for one in errors] == [
        ("b", "unknown-field"),
        ("a", "unknown-field"),
    ]


@pytest.mark.parametrize(
    "number",
    [
        "+1",
        "%201",
        "1%20",
        "1_0",
        "1.0",
        "1e1",
        "0x1",
        "%D9%A1",
        "%EF%BC%91",
        "1%00",
        "",
        "true",
        "--1",
    ],
)
def test_a_number_in_a_query_is_written_in_digits(shared: Api, number: str) -> None:
    for path in ("/v1/groups?limit=", "/v1/events?after=", "/v1/groups?min_position="):
        found = error(shared.get(path + number))
        assert (found["parameter"], found["rule"]) == (path.rpartition("?")[2][:-1], "integer")


@pytest.mark.parametrize(
    "value", ["yes", "on", "1", "0", "t", "y", "", "%20true", "true%0A", "null", "2"]
)
def test_true_and_false_are_written_so(shared: Api, value: str) -> None:
    assert error(shared.get(f"/v1/classes?archived={value}"))["rule"] == "one-of"
    assert (
        error(shared.post(f"/v1/enrolments?atomic={value}", json={"items": []}))["rule"] == "one-of"
    )


def test_true_and_false_may_have_capitals(shared: Api) -> None:
    for value in ("true", "True", "FALSE"):
        done(shared.get(f"/v1/classes?archived={value}"), 200)


SPELLINGS = ["{{{0}}}", "urn:uuid:{0}", "{0}%0A", "%20{0}", "{0}-", "{0}0"]


@pytest.mark.parametrize("spelling", [*SPELLINGS, "hex"])
def test_an_id_has_one_form(shared: Api, spelling: str) -> None:
    group = shared.new_group()
    other = group.replace("-", "") if spelling == "hex" else spelling.format(group)
    assert shared.get(f"/v1/groups/{other}").status_code in {404, 422}
    assert error(shared.get("/v1/classes?group_id=" + other))["rule"] == "uuid"
    body = other.replace("%0A", "\n").replace("%20", " ")
    assert error(shared.post("/v1/classes", json={"group_id": body, "name": "x"}))["rule"] == "uuid"
    (item,) = shared.post("/v1/users/batch", json={"items": [{"id": body}]}).json()["items"]
    assert item["problem"]["errors"][0]["rule"] == "uuid"


def test_an_id_in_capitals_is_the_same_id(shared: Api) -> None:
    group = shared.new_group()
    assert shared.read(f"/v1/groups/{group.upper()}")["id"] == group
    key = {"Idempotency-Key": unknown_id()}
    archived = shared.new_class(group.upper())
    answers = [
        shared.post(f"/v1/classes/{id_}/archive", headers=key)
        for id_ in (archived, archived.upper())
    ]
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [None, "true"]
    other = {**key, "Host": "localhost/x?"}
    assert shared.post(f"/v1/classes/{archived}/archive", headers=other).status_code in {200, 403}


@pytest.mark.parametrize("value", [1, 1.0, True, None, ["x"], {"x": 1}, b"x"])
def test_a_text_in_a_body_is_a_text(shared: Api, value: Any) -> None:
    if not isinstance(value, bytes):
        assert error(shared.post("/v1/groups", json={"name": value}))["rule"] == "string-type"
        assert (
            error(
                shared.post(
                    "/v1/groups", json={"name": "x", "id": value if value is not None else 0}
                )
            )["rule"]
            == "uuid"
        )


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/vnd.api+json"},
        {"Content-Type": "application/json, text/plain"},
        {"Content-Type": "text/json"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": "application/json", "Content-Encoding": "br"},
    ],
)
def test_a_body_is_json_in_utf_8_as_it_is(shared: Api, headers: dict[str, str]) -> None:
    with shared.nothing_recorded():
        problem(
            shared.post("/v1/groups", content=b'{"name":"x"}', headers=headers),
            415,
            "unsupported-media-type",
        )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_another_encoding_of_json_is_refused(shared: Api, encoding: str) -> None:
    found = error(
        shared.post("/v1/groups", content='{"name":"x"}'.encode(encoding), headers=JSON_TYPE)
    )
    assert (found["pointer"], found["rule"]) == ("", "json")


def test_a_body_where_there_is_none_to_give_is_refused(shared: Api) -> None:
    class_id = shared.new_class()
    user = shared.enrol(class_id)
    with shared.nothing_recorded():
        for method, path in (
            ("DELETE", f"/v1/classes/{class_id}/members/{user}"),
            ("GET", "/v1/groups"),
            ("HEAD", "/healthz"),
        ):
            for content in (b'{"effective_on":"2026-09-01"}', iter([b"{}"])):
                refused = shared.request(method, path, content=content, headers=JSON_TYPE)
                assert refused.status_code == 422
                assert refused.headers["connection"] == "close"
                assert method == "HEAD" or error(refused)["rule"] == "no-body"
    done(
        shared.request(
            "DELETE", f"/v1/classes/{class_id}/members/{user}", content=b"", headers=JSON_TYPE
        ),
        204,
    )


NAMED = b'{"name":"Whole"}'
CHUNKED = b"Transfer-Encoding: chunked"


def post(*headers: bytes, last: bool = True) -> bytes:
    """Return the head of a request that makes a group."""
    upgraded = any(header.startswith(b"Upgrade") for header in headers)
    connection = [b"Upgrade"] * upgraded + [b"close"] * last
    lines = [
        b"POST /v1/groups HTTP/1.1",
        HOST,
        b"Content-Type: application/json",
        *headers,
        b"Connection: " + b", ".join(connection),
    ]
    return b"\r\n".join([*lines, b"", b""])


UPGRADES = [
    [b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"],
    [b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"],
    [b"Upgrade: x, y"],
]


@pytest.mark.parametrize("upgrade", UPGRADES, ids=["h2c", "websocket", "others"])
@pytest.mark.parametrize(
    "cut",
    [0, 1, 40, None, -1],
    ids=["whole", "first byte", "in the head", "behind the head", "last byte"],
)
def test_a_wish_for_another_protocol_changes_nothing(
    shared: Api, upgrade: list[bytes], cut: int | None
) -> None:
    length = b"Content-Length: %d" % len(NAMED)
    for framing, body in (
        (length, NAMED),
        (CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (len(NAMED), NAMED)),
    ):
        first = post(framing, *upgrade, last=False)
        sent = first + body + get(b"/healthz", HOST, *upgrade)
        answer = raw(shared, sent, cut=len(first) if cut is None else cut)
        assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"201", b"200"]
        assert b'"name":"Whole"' in answer


def test_a_body_is_never_the_next_request(shared: Api) -> None:
    hidden = (
        b"DELETE /v1/groups/%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % shared.new_group().encode()
    )
    with shared.nothing_recorded():
        for upgrade in ([], *UPGRADES):
            head = post(b"Content-Length: %d" % len(hidden), *upgrade)
            answer = raw(shared, head + hidden, cut=len(head))
            assert (answer[:13], answer.count(b"HTTP/1.1 ")) == (b"HTTP/1.1 422 ", 1)


def test_many_wishes_for_another_protocol_are_read_one_by_one(shared: Api) -> None:
    wish = (
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    )
    assert raw(shared, wish * 1200 + get(b"/healthz", HOST)).count(b"HTTP/1.1 200 ") == 1201


def test_what_stands_behind_the_body_is_no_header(shared: Api) -> None:
    trailers = {
        b"Roster-Actor": b"trailed",
        b"Roster-Reason": b"trailed",
        b"Prefer": b"respond-async",
        b"Idempotency-Key": b"trailed",
    }
    lines = b"".join(b"%b: %b\r\n" % trailer for trailer in trailers.items())
    for _ in range(2):
        answer = raw(
            shared, post(CHUNKED) + b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(NAMED), NAMED, lines)
        )
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert b"idempotent-replayed" not in answer.lower()
        last = shared.items(
            "/v1/history", order="desc", since="2000-01-01T00:00:00Z", actor="local", limit=1000
        )[0]
        assert (last["after"], last["reason"]) == ({"name": "Whole"}, None)


def test_an_answer_names_no_server(shared: Api) -> None:
    answer = shared.get("/healthz")
    assert "server" not in answer.headers
    assert answer.headers["date"]


def test_every_problem_says_what_to_do(shared: Api) -> None:
    assert explanations().keys() == REMEDIES.keys()
    for rule, explanation in explanations().items():
        name, why, remedy = done(shared.get(f"/problems/{rule}"), 200).text.strip().split("\n\n")
        assert (name, why, remedy) == (
            rule.replace("-", " ").capitalize(),
            explanation,
            f"What to do: {REMEDIES[rule]}",
        )

"""One table decides who may do what: each operation has a row.

No other spelling of a path gets to an operation past its scope.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from rosterlog.api.app import create_app
from rosterlog.api.http.operations import Operations
from rosterlog.api.rest.policy import POLICIES, SCOPES
from rosterlog.api.rest.schemas.queries import Page
from tests.api.client import Api, done, problem, unknown_id
from tests.api.identity import Provider, bearer

AFTER = [
    "%0A", "%0D%0A", "%00", "%09", "%20", "%7F", "%85", "%E2%80%A8", "%C2%A0", "%250A",
    "%ED%A0%80", "%FF", "%zz", "%",
    "/", "//", "/.", "/..", "/%2e", "/%2E%2E", "%2F", "%5C", "\\", ";", ";a=b", "%3B", "%3F",
    "%3Flimit=1", "%23", ".json", "~", "/x",
]  # fmt: skip
"""What may follow a path."""
BEFORE = [
    "/",
    "/.",
    "/x/..",
    "/%2e",
    "/docs/..",
    "/docs/files/../..",
    "/problems/..",
    "/problems/%2e%2e",
    "/healthz/..",
    "%2F",
    "/%2F",
]
"""What may stand before it."""


def spellings(path: str) -> Iterator[str]:
    """Yield what is nearly the path, and means it to somebody."""
    yield from (path + end for end in AFTER)
    yield from (beginning + path for beginning in BEFORE)
    parts = path.split("/")
    for place in range(1, len(parts)):
        head, tail, part = "/".join(parts[:place]), "/".join(parts[place:]), parts[place]
        yield from (
            f"{head}{between}{tail}"
            for between in ("//", "/./", "/%2e/", "/x/../", "/;/", "%2F", "%2f", "%5C", "\\")
        )
        for other in (
            part.upper(),
            part.title(),
            f"%{ord(part[:1] or '/'):02X}{part[1:]}",
            f"{part};v=1",
            f"{part}%0A",
            f"{part}%00",
            f"{part}.",
        ):
            if other != part:
                yield "/".join([*parts[:place], other, *parts[place + 1 :]])


def ask(
    api: Api, method: str, target: str, token: str | None = None, **more: Any
) -> httpx.Response:
    """Send a request whose target stands on the line exactly so."""
    headers = {} if token is None else bearer(token)
    return api.request(method, "/", headers=headers, extensions={"target": target.encode()}, **more)


def operations(api: Api) -> Iterator[tuple[str, str, str | None]]:
    """Yield method, path and scope of every operation in the OpenAPI document."""
    for path, methods in api.read("/openapi.json")["paths"].items():
        for method, operation in methods.items():
            scopes = [scope for way in operation.get("security", []) for scope in way["bearer"]]
            yield method.upper(), by_template(path), scopes[0] if scopes else None


def by_template(path: str) -> str:
    return "/".join(unknown_id() if part.startswith("{") else part for part in path.split("/"))


def test_every_operation_has_a_row_and_every_row_an_operation() -> None:
    routes = create_app(lambda: "").routes
    assert {
        getattr(route, "operation_id", None) or getattr(route, "name", None) for route in routes
    } == POLICIES.keys()
    for wrong in (
        {},
        {**POLICIES, "getNothing": POLICIES["getUser"]},
        {**POLICIES, "deleteUser": POLICIES["removeUser"]},
    ):
        with pytest.raises(LookupError, match=r"api/rest/policy\.py"):
            Operations(routes, wrong)
    for operation in ("renameGroup", "getGroup"):
        with pytest.raises(LookupError, match=f"^{operation} takes a body or takes none"):
            Operations(
                routes,
                {
                    **POLICIES,
                    operation: replace(
                        POLICIES[operation], body=1 - min(POLICIES[operation].body, 1)
                    ),
                },
            )


def test_a_query_is_the_one_that_the_row_names() -> None:
    routes = create_app(lambda: "").routes
    for operation, query in (("listGroups", None), ("getGroup", Page), ("createGroup", Page)):
        policies = {**POLICIES, operation: replace(POLICIES[operation], query=query)}
        with pytest.raises(LookupError, match=f"^{operation} takes another query than its row"):
            Operations(routes, policies)


def test_a_route_that_is_no_operation_ends_the_start() -> None:
    app = create_app(lambda: "")
    app.mount("/files", app)
    with pytest.raises(TypeError, match="is no route of one path"):
        Operations(app.routes, POLICIES)


def test_a_path_is_of_an_operation_as_it_stands_or_not_at_all() -> None:
    operations = Operations(create_app(lambda: "").routes, POLICIES)
    for operation in operations.all.values():
        path = by_template(operation.template)
        assert operations.at(path)[0][operation.method] is operation
        for spelling in spellings(path):
            other = operations.at(spelling)[0].get(operation.method)
            # A text that is no id may stand in the place of one, where the operation refuses it.
            assert (
                other is not operation
                or spelling.count("/") == path.count("/") > operation.template.count("/{") > 0
            ), spelling
            assert (
                other is operation
                or other is None
                or other.policy.scope == operation.policy.scope
                or other.names
            ), spelling


def test_no_spelling_of_a_path_gets_past_the_scope_of_its_operation(
    guarded: Api, provider: Provider
) -> None:
    tokens = {scope: provider.token(scope=" ".join(set(SCOPES) - {scope})) for scope in SCOPES}
    tried = 0
    for method, path, scope in operations(guarded):
        for target in spellings(path) if scope else ():
            # One in eight of each operation's, others at each: what counts is that every operation
            # meets every kind.
            if (tried := tried + 1) % 8 == 0:
                answer = ask(guarded, method, target, tokens[str(scope)])
                assert answer.status_code in {400, 403, 404, 405, 422}, (
                    method,
                    target,
                    answer.text,
                )
    assert tried > 3000


@pytest.mark.parametrize(
    "end", ["%0A", "%0D%0A", "%00", "%20", "/", "//", ";a=b", "%2F", "%3F", "."]
)
def test_an_audit_stays_closed_to_who_may_only_read(
    guarded: Api, provider: Provider, end: str
) -> None:
    reading = provider.token(scope="roster.read")
    for operation in (
        operation for operation, policy in POLICIES.items() if policy.scope == "roster.audit"
    ):
        (path,) = (
            p
            for p, methods in guarded.read("/openapi.json")["paths"].items()
            if methods.get("get", {}).get("operationId") == operation
        )
        problem(ask(guarded, "GET", by_template(path), reading), 403, "scope-missing")
        problem(ask(guarded, "GET", by_template(path) + end, reading), 404, "not-found")


def test_what_no_operation_has_is_not_found_before_anything_else(
    guarded: Api, provider: Provider
) -> None:
    for path in ("/v1/history", "/v1/projections", "/docs"):
        for target in filter(lambda target: target.startswith("/"), spellings(path)):
            problem(ask(guarded, "GET", target, "nonsense"), 404, "not-found")
        problem(ask(guarded, "POST", path + "%0A", None, content=b"x" * 300_000), 404, "not-found")
    done(ask(guarded, "GET", "/v1/history", provider.token()), 200)


@pytest.mark.parametrize("end", ["%0A", "%0D%0A", "%00", "%20", "%2F", ";a=b", ":", "@"])
def test_what_can_stand_in_no_path_of_ours_is_no_value_of_a_parameter_either(
    guarded: Api, end: str
) -> None:
    for operation in Operations(create_app(lambda: "").routes, POLICIES).all.values():
        if operation.template.endswith("}"):
            problem(
                ask(guarded, operation.method, by_template(operation.template) + end, None),
                404,
                "not-found",
            )


def test_a_wrong_method_is_refused_before_anything_else(guarded: Api) -> None:
    for method in ("OPTIONS", "TRACE", "PUT"):
        refused = guarded.request(method, "/v1/groups", content=b"no json")
        problem(refused, 405, "method-not-allowed")
        assert refused.headers["Allow"] == "GET, HEAD, POST"
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        problem(guarded.get("/v1/history", headers={header: "OPTIONS"}), 401, "unauthenticated")


def test_what_may_be_done_follows_from_the_path_and_no_other_header(
    guarded: Api, provider: Provider
) -> None:
    reading = bearer(provider.token(scope="roster.read"))
    for name in (
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Prefix",
        "X-Forwarded-Path",
        "Forwarded",
    ):
        problem(
            guarded.get("/v1/history", headers={**reading, name: "/v1/groups"}),
            403,
            "scope-missing",
        )
    for host in ("localhost/v1/groups?", "localhost/healthz#", "localhost/docs/files/"):
        problem(guarded.get("/v1/history", headers={**reading, "Host": host}), 403, "scope-missing")


def test_a_whole_address_as_target_is_the_path_in_it(guarded: Api, provider: Provider) -> None:
    reading = provider.token(scope="roster.read")
    problem(ask(guarded, "GET", "http://localhost/v1/history", reading), 403, "scope-missing")
    problem(ask(guarded, "GET", "http://localhost//v1/history", reading), 404, "not-found")
    done(ask(guarded, "GET", "http://localhost/v1/groups", reading), 200)

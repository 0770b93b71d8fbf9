"""The page of the API: all that it loads comes from the service.

Its policy lets nothing else in.
"""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from tests.api.client import Api, done, problem
from tests.api.conftest import serving
from tests.api.identity import Provider, trusting


@pytest.fixture(scope="module")
def page(shared: Api) -> str:
    return done(shared.get("/docs"), 200).text


def directives(api: Api) -> dict[str, list[str]]:
    policy = done(api.get("/docs"), 200).headers["content-security-policy"]
    return {name: values for name, *values in (part.split() for part in policy.split(";"))}


def loaded(page: str) -> list[str]:
    return re.findall(r'(?:src|href)="([^"]*)"', page)


def test_the_page_names_no_other_host_and_has_all_that_it_loads(shared: Api, page: str) -> None:
    assert "//" not in page.replace("//<", "")
    assert len(loaded(page)) == 3
    for path in loaded(page):
        assert path.startswith("/docs/")
        assert len(done(shared.get(path), 200).content) > 1000
    assert "url: '/openapi.json'" in page
    # Swagger UI would show the document to a validator elsewhere.
    assert '"validatorUrl": null' in page


def test_only_the_pages_own_scripts_run(shared: Api, page: str) -> None:
    policy = directives(shared)
    assert (
        policy["default-src"]
        == policy["frame-ancestors"]
        == policy["base-uri"]
        == policy["form-action"]
        == ["'none'"]
    )
    (inline,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert policy["script-src"] == [
        "'self'",
        f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'",
    ]
    assert policy["connect-src"] == ["'self'"]
    assert {source for sources in policy.values() for source in sources if ":" in source} == {
        "data:"
    }
    assert not re.search(r"\son\w+=", page)


def test_each_answer_has_its_own_headers(shared: Api) -> None:
    counts = [
        len(done(shared.get("/docs"), 200).headers.get_list("x-request-id")) for _ in range(3)
    ]
    assert counts == [1, 1, 1]


def test_what_is_beside_the_pages_files_is_not_served(shared: Api) -> None:
    for path in (
        "/docs/files/",
        "/docs/files/no-such.js",
        "/docs/files/..%2fcore.py",
        "/docs/files/%2e%2e/core.py",
    ):
        problem(shared.get(path), 404, "not-found")


def test_the_page_needs_no_token(database: str, tmp_path: Path) -> None:
    provider = Provider()
    provider.write(tmp_path / "keys.json")
    with serving(database, trusting(tmp_path / "keys.json")) as anyone:
        for path in ("/docs", "/openapi.json", *loaded(anyone.get("/docs").text)):
            done(anyone.get(path), 200)
        problem(anyone.get("/v1/groups"), 401, "unauthenticated")

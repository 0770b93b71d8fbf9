"""Without authentication, no page of another site can read or change anything.

Such a page would use the browser of this machine.
"""

from pathlib import Path

import pytest

from tests.api.client import Api, done, problem
from tests.api.conftest import serving
from tests.api.identity import Provider, bearer, trusting


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "10.0.0.7"},
        {"Host": "["},
        {"Host": ""},
        {"Host": "user@evil.example"},
        {"Host": "localhost."},
        {"Host": "127.1"},
        {"Host": "0.0.0.0"},
        {"Host": "[::]"},
        {"Host": "::1"},
        {"Host": "[::1]evil.example"},
        {"Host": "localhost:80:80"},
        {"Host": "localhost/x"},
        {"Host": "localhost#evil.example"},
        {"Host": "localhost, evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": ""},
        {"Origin": "localhost"},
        {"Origin": "ftp://localhost"},
        {"Origin": "chrome-extension://localhost"},
        {"Origin": "http://localhost http://evil.example"},
        {"Origin": "http://evil.example://localhost"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "Cross-Site"},
        {"Sec-Fetch-Site": "something-new"},
        {"Sec-Fetch-Site": ""},
    ],
)
def test_what_comes_from_elsewhere_is_refused_and_changes_nothing(
    shared: Api, headers: dict[str, str]
) -> None:
    with shared.nothing_recorded():
        for method, path in (
            ("POST", "/v1/groups"),
            ("POST", "/v1/projections/rebuild"),
            ("GET", "/v1/groups"),
            ("GET", "/docs"),
        ):
            problem(shared.request(method, path, headers=headers), 403, "not-local")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:8000"},
        {"Host": "LOCALHOST"},
        {"Host": "127.0.0.1"},
        {"Host": "127.8.8.8:1"},
        {"Host": "[::1]:8000"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_what_comes_from_this_machine_is_answered(shared: Api, headers: dict[str, str]) -> None:
    done(shared.get("/v1/groups", headers=headers), 200)


def test_with_authentication_a_service_may_have_any_name(database: str, tmp_path: Path) -> None:
    provider = Provider()
    provider.write(tmp_path / "keys")
    with serving(database, trusting(tmp_path / "keys")) as api:
        headers = {"Host": "roster.example", "Origin": "https://app.example"}
        answer = done(api.get("/v1/groups", headers=bearer(provider.token()) | headers), 200)
        assert "access-control-allow-origin" not in answer.headers

"""Options of the command line that count once."""

import pytest
from typer.testing import CliRunner

from rosterlog.api.cli.main import cli

RUN = CliRunner().invoke
TOKEN = ["token", "--key", "no-such-key", "--subject", "sis"]


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["status", "--json", "--json"], "--json"),
        (["verify", "--against", "1:00", "--against=2:00"], "--against"),
        (["project", "--skip", "1", "--reason", "x", "--skip", "2"], "--skip"),
        (
            [
                "roster",
                "00000000-0000-0000-0000-000000000001",
                "x.csv",
                "--max-withdrawals",
                "1",
                "--max-withdrawals",
                "100",
            ],
            "--max-withdrawals",
        ),
        (["register", "--actor", "a", "x.csv", "--actor", "a"], "--actor"),
        ([*TOKEN, "--subject", "other", "--scope", "roster.read"], "--subject"),
    ],
)
def test_an_option_that_counts_once_is_refused_twice(arguments: list[str], option: str) -> None:
    ended = RUN(cli, arguments)
    assert (ended.exit_code, f"{option} is given twice" in ended.output) == (2, True), ended.output


def test_an_option_that_is_a_list_may_be_given_twice() -> None:
    ended = RUN(cli, [*TOKEN, "--scope", "roster.read", "--scope", "roster.write"])
    assert "ROSTERLOG_AUTH_KEYS" in ended.output


def test_help_is_shown_whatever_else_is_given() -> None:
    assert RUN(cli, ["status", "--json", "--json", "--help"]).exit_code == 0


def test_an_allowance_and_a_limit_are_two_forms_of_one() -> None:
    ended = RUN(
        cli,
        [
            "roster",
            "00000000-0000-0000-0000-000000000001",
            "x.csv",
            "--allow",
            "--max-withdrawals",
            "1",
        ],
    )
    assert (ended.exit_code, "give one of them" in ended.output) == (2, True)

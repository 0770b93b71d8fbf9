"""A process that a newer release has overtaken.

It goes on reading, records nothing, and says what to do.
"""

from typing import Any

from psycopg import Connection

from rosterlog.domain.log import fence
from rosterlog.migrations import commands
from tests.api.client import Api, done, problem
from tests.domain.threads import eventually

NEWER = (
    "CREATE OR REPLACE FUNCTION log.append_format() RETURNS integer LANGUAGE sql STABLE "
    f"AS 'SELECT {fence.FORMAT + 1}'"
)


def test_an_outdated_process_answers_reads_refuses_commands_and_says_so_to_probes(
    api: Api, connection: Connection[Any]
) -> None:
    group = api.new_group()
    connection.execute(NEWER)
    with api.nothing_recorded():
        for answer in (
            api.patch(f"/v1/groups/{group}", json={"name": "South"}),
            api.post("/v1/users/batch", json={"items": []}),
        ):
            found = problem(answer, 503, "release-outdated")
            assert "newer release" in found["detail"]
            assert "Retry-After" in answer.headers
    assert api.read(f"/v1/groups/{group}")["version"] == 1
    assert api.read("/readyz")["degraded"] == ["release-outdated"]
    assert "newer release" in done(api.get("/problems/release-outdated"), 200).text


def test_a_process_whose_database_lost_a_migration_says_so_and_goes_on_once_it_is_back(
    api: Api, database: str
) -> None:
    group = api.new_group()
    commands.downgrade(database, "0010_hash_membership_ids_once")
    found = problem(api.patch(f"/v1/groups/{group}", json={"name": "South"}), 503, "not-migrated")
    assert "rosterlog migrate" in found["detail"]
    problem(api.get("/readyz"), 503, "not-migrated")
    commands.upgrade(database)
    done(api.patch(f"/v1/groups/{group}", json={"name": "South"}), 200)
    eventually(lambda: api.get("/readyz").status_code == 200)


def test_whoever_reads_the_problem_of_an_unknown_outcome_learns_what_to_do(api: Api) -> None:
    assert (
        "repeat it with the same id or Idempotency-Key"
        in done(api.get("/problems/outcome-unknown"), 200).text
    )
    assert "Nothing was recorded" in done(api.get("/problems/store-unavailable"), 200).text

"""The database's clock is stepped, forward and back: times in the log never go back, and the past stays as it was."""

from typing import Any

import pytest
from psycopg import Connection

from tests.api.client import Api
from tests.faults.site import site

# The system's own function is replaced, in this database only: each session reads a clock that we
# set.
_STEPPED_CLOCK = """
    CREATE SCHEMA stepped;
    CREATE TABLE stepped.clock AS SELECT interval '0' AS ahead;
    SET allow_system_table_mods = on;
    ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO system_clock_timestamp;
    CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
        AS 'SELECT system_clock_timestamp() + ahead FROM stepped.clock';
    ALTER TABLE log.skips ALTER COLUMN skipped_at SET DEFAULT clock_timestamp();
"""

_FIRST_MOMENT = """SELECT to_json(max(recorded_at)) #>> '{}', min(group_id::text) FROM log.events"""

STEPS = ["1 hour", "-1 hour", "0", "1 day", "-1 day", "2 days"]


@pytest.fixture
def clock(connection: Connection[Any]) -> Connection[Any]:
    connection.execute(_STEPPED_CLOCK)
    return connection


def test_times_in_the_log_never_go_back_whatever_the_clock_does(
    database: str, clock: Connection[Any]
) -> None:
    with site(database) as running, Api(base_url=running.services[0].url, timeout=30) as api:
        moment, group = clock.execute(_FIRST_MOMENT).fetchone() or ("", "")
        running.load.flows()
        past = api.items(f"/v1/groups/{group}/classes", as_of=moment)
        for ahead in STEPS:
            clock.execute("UPDATE stepped.clock SET ahead = %s", [ahead])
            running.heals()
        assert api.items(f"/v1/groups/{group}/classes", as_of=moment) == past
    times = [
        row[0]
        for row in clock.execute("SELECT recorded_at FROM log.events ORDER BY notification_id")
    ]
    assert times == sorted(times)
    assert (times[-1] - times[0]).days == 2

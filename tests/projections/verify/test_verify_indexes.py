"""An index that lacks rows, or holds them in an order that lookups do not follow, is found."""

from typing import Any

import psycopg
import pytest
from psycopg import Connection
from psycopg.conninfo import make_conninfo

from rosterlog.domain.roster import Roster
from rosterlog.projections.verify import catalog
from rosterlog.projections.verify.indexes_check import changed_collation, verify_indexes
from tests.api.processes import rosterlog, succeeds
from tests.conftest import by
from tests.projections.tables import GROUP, project_all, record_everything


@pytest.fixture
def head(roster: Roster, connection: Connection[Any]) -> int:
    head = record_everything(roster)
    for number in range(300):
        roster.rename_group(GROUP, f"North {number}", by(f"office-{number % 50}"))
    for table in ("log.events", "log.endings", "roster.class_members"):
        connection.execute(f"ANALYZE {table}".encode())
    return project_all(connection) or head


def wrong(database: str) -> dict[str, str]:
    return {index.name: index.what for index in verify_indexes([database]).wrong}


def exchange(connection: Connection[Any], index: str, other: str) -> None:
    """Give two indexes of one table each the file of the other: what a change of the order of characters does to one of them."""
    with connection.transaction():
        files = dict(
            connection.execute(
                "SELECT oid::regclass::text, relfilenode FROM pg_class WHERE oid IN (%s::regclass, %s::regclass)",
                [index, other],
            ).fetchall()
        )
        for name, file in ((index, files[other]), (other, files[index])):
            connection.execute(
                "UPDATE pg_class SET relfilenode = %s WHERE oid = %s::regclass", [file, name]
            )


def damage(connection: Connection[Any], roster: Roster) -> None:
    """Let one index miss an event, and put another in the order of descending actors."""
    missing = (
        "UPDATE pg_index SET indisready = %s WHERE indexrelid = 'log.events_source_idx'::regclass"
    )
    connection.execute(missing, [False])
    roster.rename_group(GROUP, "South", by())
    connection.execute(missing, [True])
    connection.execute(
        "CREATE INDEX backwards ON log.events (actor DESC, (notification_id + 0) DESC)"
    )
    exchange(connection, "log.events_actor_place_idx", "log.backwards")
    connection.execute("DROP INDEX log.backwards")


def test_sound_indexes_verify_and_those_that_could_not_be_read_are_named(
    head: int, database: str
) -> None:
    steps = list[tuple[int, int]]()
    found = verify_indexes([database], lambda done, total: steps.append((done, total)))
    assert found.wrong == []
    assert steps[-1] == (len(catalog.expected()["index"]),) * 2
    assert not [name for name in found.unread if name.startswith("log.events")]


def test_an_index_that_lacks_an_entry_and_one_in_another_order_are_found_by_counting(
    head: int, roster: Roster, connection: Connection[Any], database: str
) -> None:
    damage(connection, roster)
    with psycopg.connect(database, autocommit=True) as again:
        again.execute("SET enable_seqscan = off")
        by_index = again.execute(
            "SELECT count(*) FROM log.events WHERE actor = 'office-7'"
        ).fetchone()
    assert by_index == (0,)
    found = wrong(database)
    assert found.keys() == {"log.events_source_idx", "log.events_actor_place_idx"}
    assert "entries for" in found["log.events_source_idx"]
    assert "not in order" in found["log.events_actor_place_idx"]
    for options in ([], ["--indexes"]):
        ended = rosterlog("verify", *options, DATABASE_URL=database)
        assert ended.returncode == 1
        assert "REINDEX INDEX log.events_actor_place_idx mends it" in ended.stdout
    for name in found:
        connection.execute(f"REINDEX INDEX {name}".encode())
    assert wrong(database) == {}
    assert "the indexes find what is there" in succeeds("verify", DATABASE_URL=database)


def test_amcheck_is_asked_where_it_is(
    head: int, roster: Roster, connection: Connection[Any], database: str
) -> None:
    connection.execute('CREATE SCHEMA "Tools"; CREATE EXTENSION amcheck SCHEMA "Tools"')
    assert verify_indexes([database]).unread == []
    damage(connection, roster)
    found = wrong(database)
    assert found.keys() == {"log.events_source_idx", "log.events_actor_place_idx"}
    assert all("entries" not in what for what in found.values())


def test_an_account_that_may_not_read_a_table_leaves_its_indexes_to_another(
    head: int, connection: Connection[Any], database: str
) -> None:
    connection.execute("DROP ROLE IF EXISTS counts_little")
    connection.execute("CREATE ROLE counts_little LOGIN")
    connection.execute("GRANT USAGE ON SCHEMA log TO counts_little")
    connection.execute("GRANT SELECT ON log.events TO counts_little")
    little = make_conninfo(database, user="counts_little")
    alone = verify_indexes([little])
    assert alone.wrong == []
    assert "log.idempotency_keys_pkey" in alone.unread
    assert "log.events_pkey" not in alone.unread
    assert "log.idempotency_keys_pkey" not in verify_indexes([little, database]).unread


def test_a_changed_collation_is_a_warning(connection: Connection[Any], database: str) -> None:
    assert changed_collation(connection) is None
    connection.execute(
        "UPDATE pg_database SET datcollversion = '0.0' WHERE datname = current_database()"
    )
    assert "was of version 0.0 when its indexes were made" in str(changed_collation(connection))
    ended = rosterlog("verify", "--indexes", DATABASE_URL=database)
    assert ended.returncode == 0
    assert "look at this: the database's collation was of version 0.0" in ended.stderr

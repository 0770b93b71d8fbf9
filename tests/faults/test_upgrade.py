"""An upgrade without downtime, as operations.md describes it: migrate while the old processes work, then replace one after the other."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config

from rosterlog.api.ops.database import DatabaseUnusable, migrate_to
from rosterlog.migrations import commands
from tests.api.processes import rosterlog
from tests.domain.threads import eventually
from tests.faults.site import Site, site

_OF_TOMORROW = """
from alembic import op

revision = "9999_of_tomorrow"
down_revision = "{newest}"


def upgrade():
    op.execute("ALTER TABLE log.events ADD COLUMN of_tomorrow text")
    op.execute("CREATE INDEX events_of_tomorrow_idx ON log.events (of_tomorrow)")
    op.execute("CREATE TABLE log.of_tomorrow (id uuid PRIMARY KEY)")


def downgrade():
    op.execute("DROP TABLE log.of_tomorrow")
    op.execute("ALTER TABLE log.events DROP COLUMN of_tomorrow")
"""
_MIGRATIONS_WAITING = """
    SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' AND relation = 'log.events'::regclass
"""
ANSWERS = {"200", "201", "202", "204"}
"""All that callers may get, but for none where they asked a process that had just ended."""


@pytest.fixture
def tomorrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make migrations from here those of a newer release, which has one more."""
    (tmp_path / "9999_of_tomorrow.py").write_text(_OF_TOMORROW.format(newest=commands.newest()))
    ours = commands._config

    def config(connection: object = None) -> Config:
        made = ours(connection)  # type: ignore[arg-type]
        versions = Path(commands.__file__).parent / "versions"
        made.set_main_option("path_separator", "newline")
        made.set_main_option("version_locations", f"{versions}\n{tmp_path}")
        return made

    with monkeypatch.context() as patched:
        patched.setattr(commands, "_config", config)
        commands._revisions.cache_clear()
        yield
    commands._revisions.cache_clear()


def replace(running: Site) -> None:
    """Stop each process and start another in its place, under load; an operator waits for readiness in between."""
    for service in running.services:
        assert service.stop() == 0
        running.load.flows()
        service.start()
        service.becomes_ready()
        running.load.flows()


def test_commands_go_on_while_a_migration_waits_for_a_long_transaction(
    tomorrow: None, database: str
) -> None:
    older = commands._revisions()[1]
    with (
        site(database) as running,
        psycopg.connect(database) as reader,
        psycopg.connect(database, autocommit=True) as watch,
    ):
        reader.execute("SELECT count(*) FROM log.events")
        with ThreadPoolExecutor(1) as threads:
            migration = threads.submit(migrate_to, database, "9999_of_tomorrow")
            for _ in range(2):
                eventually(lambda: watch.execute(_MIGRATIONS_WAITING).fetchone() == (1,))
                running.load.flows()
            assert not migration.done()
            reader.rollback()
            migration.result()
        assert commands.current(database) == "9999_of_tomorrow"
        commands.downgrade(database, older)
    assert not running.load.ledger.refusals


def test_a_migration_that_never_gets_its_turn_changes_nothing_and_says_what_to_do(
    tomorrow: None, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rosterlog.api.ops.database.MIGRATE_SECONDS", 0)
    before = commands.current(database)
    with psycopg.connect(database) as reader:
        reader.execute("SELECT count(*) FROM log.events")
        with pytest.raises(DatabaseUnusable, match="pg_stat_activity"):
            migrate_to(database, "9999_of_tomorrow")
    assert commands.current(database) == before


def test_nobody_is_refused_while_a_newer_release_migrates_goes_back_and_processes_are_replaced(
    tomorrow: None, database: str
) -> None:
    older = commands._revisions()[1]
    with site(database, services=2) as running:
        commands.upgrade(database)
        assert commands.current(database) == "9999_of_tomorrow"
        running.heals()
        late = rosterlog("serve", DATABASE_URL=database)
        assert (
            late.returncode,
            "a newer release has brought the database to 9999_of_tomorrow" in late.stderr,
        ) == (1, True)
        running.heals()
        commands.downgrade(database, older)
        replace(running)
    assert not running.load.ledger.refusals
    assert running.load.ledger.answers.keys() <= ANSWERS | {"none"}

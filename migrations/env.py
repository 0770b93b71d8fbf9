"""How Alembic runs our migrations: on a connection that `rosterlog.migrations.commands` gives it, or as SQL to a buffer."""

from alembic import context
from sqlalchemy import Connection, text

from rosterlog.projections.tables import Table

VERSION_SCHEMA = "public"
"""Where Alembic's own table is, whatever the search path says."""
MIGRATE_LOCK = 7_316_002
"""Key of the advisory lock that makes migrations wait for each other."""
LOCK_SECONDS = 2
"""Seconds that a migration waits for a table in use; appends wait longer (`rosterlog.domain.log.sessions`)."""


def run_on(connection: Connection) -> None:
    """Migrate over an open transaction, under a lock."""
    connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATE_LOCK})"))
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
    context.configure(
        connection=connection, target_metadata=Table.metadata, version_table_schema=VERSION_SCHEMA
    )
    with context.begin_transaction():
        context.run_migrations()


def render() -> None:
    """Write the migrations as SQL."""
    # Named parameters: with psycopg's own style every % in the SQL would come out twice.
    context.configure(
        dialect_name="postgresql",
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        version_table_schema=VERSION_SCHEMA,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    render()
else:
    run_on(context.config.attributes["connection"])

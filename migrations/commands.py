"""What can be done with migrations: bring a database up or down, say where it stands, render SQL for review."""

from io import StringIO
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

_HERE = Path(__file__).parent


def engine(conninfo: str) -> Engine:
    """Return a SQLAlchemy engine for anything that libpq takes as connection string, without a pool."""
    return create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=NullPool)


def upgrade(conninfo: str, revision: str = "head") -> None:
    """Bring the database up to a revision. Several processes may ask at once: they wait for each other."""
    with engine(conninfo).begin() as connection:
        command.upgrade(_config(connection), revision)


def downgrade(conninfo: str, revision: str) -> None:
    """Bring the database down to a revision (`base` for none). Refused by the log's migration while events exist."""
    with engine(conninfo).begin() as connection:
        command.downgrade(_config(connection), revision)


def current(conninfo: str) -> str | None:
    """Return the revision that the database is at, None before the first."""
    with engine(conninfo).connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """Return the revision that this release needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def lacks(revision: str | None) -> bool:
    """Tell whether a database at this revision lacks migrations of this release; one that a newer release migrated does not."""
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    return revision is None or revision in known - {newest()}


def render(span: str, *, down: bool = False) -> str:
    """Return the SQL of a span of revisions such as `base:head`, without touching a database."""
    buffer = StringIO()
    config = _config()
    config.output_buffer = buffer
    (command.downgrade if down else command.upgrade)(config, span, sql=True)
    return buffer.getvalue()


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_HERE))
    config.attributes["connection"] = connection
    return config

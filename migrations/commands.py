"""What can be done with migrations: bring a database up or down, say where it stands, render SQL for review."""

from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

from rosterlog.domain.log import sessions

_HERE = Path(__file__).parent


def engine(conninfo: str) -> Engine:
    """Return a SQLAlchemy engine for anything that libpq takes as connection string, without a pool."""
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: sessions.connect(conninfo, autocommit=False),
        poolclass=NullPool,
    )


def upgrade(conninfo: str, revision: str = "head") -> None:
    """Bring the database up to a revision.

    Several processes may ask at once: they wait for each other.
    """
    with engine(conninfo).begin() as connection:
        command.upgrade(_config(connection), revision)


def downgrade(conninfo: str, revision: str) -> None:
    """Bring the database down to a revision (`base` for none).

    Refused by the log's migration while events exist.
    """
    with engine(conninfo).begin() as connection:
        command.downgrade(_config(connection), revision)


def current(conninfo: str) -> str | None:
    """Return the revision that the database is at, None before the first."""
    with sessions.connect(conninfo) as connection:
        return revision(connection)


def revision(connection: psycopg.Connection[Any]) -> str | None:
    """Return the revision that the database of a connection is at, None before the first."""
    if connection.execute("SELECT to_regclass('public.alembic_version')").fetchone() == (None,):
        return None
    row = connection.execute("SELECT version_num FROM public.alembic_version").fetchone()
    return row[0] if row else None


def newest() -> str:
    """Return the revision that this release needs."""
    return _revisions()[0]


def lacks(revision: str | None) -> bool:
    """Tell whether a database at this revision lacks migrations of this release; one that a newer release migrated does not."""
    return revision is None or revision in _revisions()[1:]


def is_unknown(revision: str | None) -> bool:
    """Tell whether a database at this revision was migrated by a newer release."""
    return revision is not None and revision not in _revisions()


def is_before(one: str | None, other: str | None) -> bool:
    """Tell whether one revision of this release comes before another; None and `base` are before all, `head` is the last."""
    order = ["base", *reversed(_revisions())]
    one, other = (
        "base" if name is None else newest() if name == "head" else name for name in (one, other)
    )
    return one in order and other in order and order.index(one) < order.index(other)


@cache
def _revisions() -> tuple[str, ...]:
    """Return all revisions of this release, the newest first."""
    return tuple(
        script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()
    )


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

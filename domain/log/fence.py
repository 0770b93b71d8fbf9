"""The fence between releases: only a process that fills in all that the log needs may append to it.

An append fills in more than the event: columns and rows that follow from it. The log says which
format of append it needs, by the SQL function `log.append_format()`. A migration that makes appends
fill in more replaces that function, and this module goes with it. A process of an older release
then appends no more. It sees that by itself under the append's lock, and the database refuses
whoever does not declare the format (decision 27).
"""

from typing import Any

from psycopg import Connection

from rosterlog.domain.errors import NotMigrated, ReleaseOutdated

FORMAT = 1
"""The format in which this release appends; the newest migration that replaces `log.append_format()` names the same."""

DECLARATION = f"SET LOCAL rosterlog.append_format = '{FORMAT}'"
"""SQL that declares the format for one transaction, so that the database lets it insert events."""


def check(found: int) -> None:
    """Check the format that the log needs.

    Raises `ReleaseOutdated` for a newer one than ours, `NotMigrated` for an older one.
    """
    if found > FORMAT:
        raise ReleaseOutdated
    if found < FORMAT:
        raise NotMigrated


def is_outdated(connection: Connection[Any]) -> bool:
    """Tell whether a newer release has migrated the log so that this one must not append to it."""
    row = connection.execute("SELECT log.append_format()").fetchone()
    return row is not None and int(row[0]) > FORMAT

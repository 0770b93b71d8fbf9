"""The commands that make a database ready: `rosterlog migrate` and `roles`."""

from typing import Annotated

import typer
from rich.console import Console

from rosterlog.api.ops import roles as accounts
from rosterlog.api.ops.database import (
    database,
    known_revision,
    migrate_to,
    migrated_database,
    refuse_wrong_way,
)
from rosterlog.api.ops.embedded import NoDatabase
from rosterlog.api.service import connected
from rosterlog.api.settings import Settings
from rosterlog.migrations import commands as migrations

out = Console(highlight=False, soft_wrap=True)

To = Annotated[
    str | None,
    typer.Option(help="The revision to go to, such as 0005_create_classes; without it the newest."),
]
Down = Annotated[
    bool, typer.Option("--down", help="Go down to that revision; base: nothing is left.")
]
Sql = Annotated[
    bool,
    typer.Option("--sql", help="Print the SQL for review instead, from where the database is."),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="With --sql: print from this revision, whatever the database is at; base: from nothing. Needs no database.",
    ),
]
Apply = Annotated[
    bool,
    typer.Option(
        "--apply",
        help="Run the SQL on the database, as a superuser or its owner, instead of printing it.",
    ),
]
Prefix = Annotated[
    str,
    typer.Option(
        help="What the accounts' names begin with. Accounts are the server's own: give each database another prefix."
    ),
]


def migrate(to: To = None, down: Down = False, sql: Sql = False, from_: From = None) -> None:
    """Bring the database to the newest migration, or to another one."""
    if down and to is None:
        raise typer.BadParameter("--down needs --to: the revision to go down to, or base")
    if from_ is not None and not sql:
        raise typer.BadParameter("--from goes with --sql: a migration begins where the database is")
    if sql:
        out.print(_rendered(from_ or _where(down=down), to or "head", down=down), markup=False)
        return
    with database(Settings(), create=True) as databases:
        migrate_to(databases.main, to or "head", down=down)
        out.print(f"the database is at {migrations.current(databases.main) or 'no migration'}")


def _where(*, down: bool) -> str:
    """Return the revision that the database is at; where there is no database, the one that the way begins at."""
    try:
        with database(Settings()) as databases:
            return known_revision(databases.main) or "base"
    except NoDatabase:
        return "head" if down else "base"


def _rendered(first: str, last: str, *, down: bool) -> str:
    refuse_wrong_way(first, last, down=down)
    if first == (migrations.newest() if last == "head" else last):
        return f"-- the database is at {first}: there is nothing to do"
    return migrations.render(f"{first}:{last}", down=down)


def roles(apply: Apply = False, prefix: Prefix = accounts.PREFIX) -> None:
    """Print the SQL that makes the least-privilege database accounts: migrator, writer, projector and reader."""
    if not accounts.PREFIXES.fullmatch(prefix):
        raise typer.BadParameter(
            "up to 50 small letters, digits and underscores, a letter first", param_hint="--prefix"
        )
    if not apply:
        out.print(accounts.script(prefix), markup=False, end="")
        return
    with migrated_database(Settings()) as databases, connected(databases.main) as connection:
        accounts.apply(connection, prefix)
    out.print(f"made, with their rights: {', '.join(accounts.names(prefix))}")
